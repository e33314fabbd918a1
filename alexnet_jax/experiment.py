"""A configuration made into objects, and run on a workdir.

The one place, with `main.py`, that reads configurations; everything it builds
takes plain arguments.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import platform
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from alexnet_jax import alive, model, processes, results, settings
from alexnet_jax import config as configuration
from alexnet_jax.config import Config
from alexnet_jax.data import pipeline, prepare
from alexnet_jax.data.prepared import ImageSet
from alexnet_jax.data.synthetic import synthetic_set
from alexnet_jax.errors import InputError, NotFiniteError, StopRequestedError, StorageError
from alexnet_jax.evaluation import evaluate
from alexnet_jax.evaluation.tally import Tally
from alexnet_jax.network import columns, inference, traffic
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.layers import Architecture
from alexnet_jax.training import checkpoint, loop, start, step
from alexnet_jax.training.checkpoint import Checkpoints
from alexnet_jax.training.health import Health
from alexnet_jax.training.metrics_log import MetricsLog
from alexnet_jax.training.progress import Reporter
from alexnet_jax.training.protocols import Protocol
from alexnet_jax.training.schedule import Clock
from alexnet_jax.weights.files import Layers
from alexnet_jax.workdir import LIBRARIES, claim, last_checkpoint, locked, refuse_other

# Settings that may differ between the processes of a run.
OWN = ('data.dir', 'data.threads')


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What a configuration stands for."""

    config: Config
    images: ImageSet
    net: AlexNet
    mesh: Mesh
    protocol: Protocol
    plan: loop.Plan

    @property
    def crop_size(self) -> int:
        return self.net.architecture.input_size

    @property
    def normalization(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and scale, as in `pipeline.normalization`."""
        config = self.config
        mean, std = (settings.channels(config[name]) for name in ('data.mean', 'data.std'))
        kind = config['data.normalization']
        return pipeline.normalization(self.images, self.crop_size, kind, mean, std)


def build(config: Config) -> Experiment:
    """Images, net, mesh and plan of a configuration; its own says which mesh.

    Raises:
      InputError: more devices asked for than there are; the images cannot be had.
    """
    images = open_images(config)
    architecture = configuration.network_of(config)
    data, column = mesh_shape(config, architecture, len(images.classes))
    config = config | {'mesh.data': data, 'mesh.column': column}
    mesh = columns.make_mesh(data, column)
    protocol = configuration.protocol_of(config, architecture)
    plan = loop.Plan(
        **dataclasses.asdict(clock(config, len(images.splits['train']))),
        patience=config['schedule.patience'],
        drops=config['schedule.drops'] if protocol.watches_plateaus else None,
        log_every=config['train.log_every_steps'],
        save_every=config['checkpoint.every_steps'],
    )
    net = AlexNet(architecture, len(images.classes), exchange=config['network.exchange'])
    step.require_parts_suffice(net, config['train.micro_batches'])
    return Experiment(config, images, net, mesh, protocol, plan)


def mesh_shape(config: Config, net: Architecture, classes: int) -> tuple[int, int]:
    """(data, column): as configured; what is not, so that as many of the devices as can be
    have work, and these exchange the fewest bytes."""
    asked = (config['mesh.data'], config['mesh.column'])
    devices = len(jax.devices()) if any(asked) else columns.devices_to_use()
    return traffic.best_mesh(
        net, classes, devices, config['data.batch_size'], config['network.exchange'],
        config['train.micro_batches'], asked,
    )  # fmt: skip


def clock(config: Config, epoch_size: int) -> Clock:
    """How long a run on so many training images is."""
    batch_size = config['data.batch_size']
    steps = config['train.steps'] or math.ceil(config['train.epochs'] * epoch_size / batch_size)
    return Clock(steps, batch_size, epoch_size)


def training_examples(config: Config) -> int:
    """How many training images the configuration's set has.

    Raises:
      InputError: the images cannot be had.
    """
    return len(open_images(config).splits['train'])


def train(config: Config, workdir: Path, stop_requested: Callable[[], bool]) -> bool:
    """Trains, from the workdir's last whole checkpoint if it has one, and evaluates the
    result. Returns whether the run came to its end; False if it was stopped.

    Raises:
      InputError: as `build`, `held_out_split`, `workdir.locked`, `workdir.claim`,
        `checkpoint.newest_whole` and `start.take`; before training.
      NotFiniteError, StorageError: as `loop.train`.
    """
    with processes.together():
        experiment = build(config)
        held_out_split(config, experiment.images)
        refuse_other(workdir, config)
        taken = _start_values(config) if last_checkpoint(workdir) is None else None
    with contextlib.ExitStack() as stack:
        with processes.together():
            if processes.is_first():
                stack.enter_context(locked(workdir))
        return _train_there(experiment, workdir, taken, processes.agreed(stop_requested))


def _train_there(
    experiment: Experiment, workdir: Path, taken: Layers | None, stop_requested: Callable[[], bool]
) -> bool:
    """`train`, in a workdir that is ours."""
    config, images, net = experiment.config, experiment.images, experiment.net
    at, told = _starting_point(workdir)
    if at is None:
        state, of_start = _initial_state(experiment, taken)
        told = [of_start] if of_start else []
    with processes.together():
        if processes.is_first():
            claim(workdir, config)
            model.describe(workdir, images.classes, images.mirror, *experiment.normalization)
    processes.require_shared(workdir)
    with contextlib.ExitStack() as stack:
        checkpoints = stack.enter_context(
            contextlib.closing(Checkpoints(workdir / 'checkpoints', config['checkpoint.keep']))
        )
        if at is not None:
            checkpoints.set_aside_after(at)
            state = checkpoints.restore(at, step.abstract_state(net, experiment.mesh))
        first_step = int(state.step)
        reporter = stack.enter_context(
            contextlib.closing(
                Reporter(experiment.plan.steps, first_step, silent=not processes.is_first())
            )
        )
        for line in [_opening(experiment, workdir, first_step), *told]:
            reporter.say(line)
        metrics = workdir / 'metrics.jsonl' if processes.is_first() else None
        log = stack.enter_context(contextlib.closing(MetricsLog(metrics, first_step)))
        try:
            _run(experiment, workdir, state, checkpoints, log, reporter, stop_requested)
        except StopRequestedError:
            at = last_checkpoint(workdir)
            reporter.say(f'stopped; step {at} is saved; run the same command to go on')
            return False
        except NotFiniteError as error:
            with contextlib.suppress(StorageError):
                checkpoints.wait()  # or its last would not be told of
            raise _with_records(experiment, workdir, error) from error
    return True


def _run(
    experiment: Experiment,
    workdir: Path,
    state: step.TrainState,
    checkpoints: Checkpoints,
    log: MetricsLog,
    reporter: Reporter,
    stop_requested: Callable[[], bool],
) -> None:
    """From a state to the end of the plan, and the evaluation of what is held out.

    Raises:
      StopRequestedError: before the end, but all is saved.
    """
    config, plan = experiment.config, experiment.plan
    evaluate_split = _evaluator(experiment, stop_requested)

    def record(row: loop.Row) -> None:
        log.write(row)
        (reporter.train if row['split'] == 'train' else reporter.evaluation)(row)

    with contextlib.closing(_train_batches(experiment, int(state.step))) as batches:
        state, stopped = loop.train(
            state,
            plan,
            train_step=_train_step(experiment),
            batches=batches,
            validate=lambda variables: evaluate_split('val', 1, variables).scores(),
            saves=_Saves(checkpoints, configuration.nest(config)),
            log=record,
            health=Health(
                step.layer_names(state.params), len(experiment.images.classes), reporter.say
            ),
            stop_requested=stop_requested,
        )
    if stopped:
        raise StopRequestedError
    held_out, at_step = held_out_split(config, experiment.images), int(state.step)
    alive.slow(f'evaluating {held_out}')
    tally = evaluate_split(held_out, config['eval.views'], state.variables)
    if held_out == 'test':
        log.write(loop.evaluation_row('test', at_step, plan, tally.scores()))
    if processes.is_first():
        about = results.about(config, held_out, at_step)
        reporter.say(results.keep(workdir, about, tally, experiment.images.classes))


@dataclasses.dataclass(frozen=True)
class _Saves:
    """Checkpoints of one configuration."""

    checkpoints: Checkpoints
    settings: dict[str, Any]

    def save(self, state: step.TrainState, error: float | None) -> None:
        self.checkpoints.save(state, self.settings, error)

    def check(self) -> None:
        self.checkpoints.check()

    def wait(self) -> None:
        self.checkpoints.wait()


def _starting_point(workdir: Path) -> tuple[int | None, list[str]]:
    """The step to go on from, the same in all processes, and lines on checkpoints after it that
    are damaged.

    Raises:
      InputError: as `checkpoint.newest_whole`.
    """
    found: tuple[int | None, list[str]] = None, []
    with processes.together():
        if processes.is_first():
            at, passed = checkpoint.newest_whole(workdir / 'checkpoints')
            found = at, [f'warning: {line}' for line in passed]
    at, told = json.loads(processes.everyones(json.dumps(found))[0])
    return at, told


def _with_records(experiment: Experiment, workdir: Path, error: NotFiniteError) -> NotFiniteError:
    """The error with the images of its step, all of them in WORKDIR/not_finite.json."""
    kept, path = last_checkpoint(workdir), workdir / 'not_finite.json'
    ids = pipeline.record_ids(
        experiment.images, experiment.config['seed'], experiment.config['data.batch_size'],
        error.step,
    )  # fmt: skip
    if processes.is_first():
        results.write_json(path, {'step': error.step, 'fault': str(error), 'records': ids})
    more = f' and {len(ids) - 3} more, in {path}' if len(ids) > 3 else ''
    saved = (
        'nothing was saved yet' if kept is None else f'what was saved up to step {kept} is whole'
    )
    return NotFiniteError(
        f'{error}; the images of that step: {", ".join(ids[:3])}{more}\n'
        f'Nothing of it is saved, {saved}; a lower optimizer.learning_rate may help',
        error.step,
    )


def facts(config: Config, workdir: Path) -> dict[str, Any]:
    """What has to be the same in all processes of a run."""
    return {
        **{name: config[name] for name in config if name not in OWN},
        'the last checkpoint of --workdir': last_checkpoint(workdir),
        'python': '.'.join(platform.python_version_tuple()[:2]),
        **{name: metadata.version(name) for name in LIBRARIES},
        'the source of alexnet_jax': source_digest(Path(__file__).parent),
    }


def source_digest(folder: Path) -> str:
    """Of the program itself, whose version may be one where its source is not."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob('*.py')):
        digest.update(f'{path.relative_to(folder)}\0'.encode() + path.read_bytes() + b'\0')
    return digest.hexdigest()[:12]


def held_out_split(config: Config, images: ImageSet) -> str:
    """The split to evaluate on: as configured, or test, or val.

    Raises:
      InputError: the set has no such split.
    """
    splits = images.splits
    split = config['eval.split'] or ('test' if 'test' in splits else 'val')
    if split not in splits:
        source = config['data.source']
        raise InputError(f'eval.split is {split!r}; {source} has: {", ".join(splits)}')
    return split


def _start_values(config: Config) -> Layers | None:
    """What another run has for this one to start from; None: nothing is to be taken."""
    return start.read(Path(config['start.from'])) if config['start.from'] else None


def _initial_state(experiment: Experiment, taken: Layers | None) -> tuple[step.TrainState, str]:
    """The state at step 0; if it starts from other values, a line on what it took."""
    config, net = experiment.config, experiment.net
    state = step.create_state(net, config['seed'], experiment.mesh)
    if taken is None:
        return state, ''
    named = configuration.start_layers(config, net.architecture)
    return start.take(state, taken, named, Path(config['start.from']))


def open_images(config: Config) -> ImageSet:
    """
    Raises:
      InputError: the images cannot be had.
    """
    source, size = config['data.source'], config['data.record_size']
    if source == 'synthetic':
        examples, classes = config['data.synthetic_examples'], config['data.synthetic_classes']
        return synthetic_set(examples, classes, size, config['seed'])
    if source == 'digits':
        return prepare.digits(size, config['data.dir'] or None)
    return prepare.stored(source, size, config['data.dir'] or None, config['data.resize'])


def _train_step(experiment: Experiment) -> Callable:
    config = experiment.config
    return step.make_train_step(
        experiment.net.clone(compute=config['network.compute']),
        experiment.mesh,
        *experiment.normalization,
        seed=config['seed'],
        learning_rate=config['optimizer.learning_rate'],
        clock=experiment.plan,
        drops=config['schedule.drops'],
        momentum=config['optimizer.momentum'],
        weight_decay=config['optimizer.weight_decay'],
        protocol=experiment.protocol,
        micro_batches=config['train.micro_batches'],
    )


def _train_batches(experiment: Experiment, first_step: int):
    config, mesh = experiment.config, experiment.mesh
    batches = pipeline.train_batches(
        experiment.images,
        size=experiment.crop_size,
        batch_size=config['data.batch_size'],
        seed=config['seed'],
        color=pipeline.ColorShift(
            config['data.color_std'], config['data.color_scale'], config['data.color_epochs']
        ),
        mirror=config['data.mirror'] == 'on',
        first_step=first_step,
        rows=columns.rows_here(mesh, config['data.batch_size']),
        threads=config['data.threads'],
    )
    return pipeline.ahead(batches, functools.partial(columns.place_batch, mesh))


def _evaluator(
    experiment: Experiment, stop_requested: Callable[[], bool]
) -> Callable[[str, int, Any], Tally]:
    """(split, views, variables of the net) -> its errors over the split; raises
    StopRequestedError between two batches."""
    config, mesh = experiment.config, experiment.mesh
    forward = inference.make_forward(experiment.net, mesh, *experiment.normalization)

    def evaluate_split(split: str, views: int, variables: Any) -> Tally:
        variables = inference.place_variables(experiment.net, mesh, variables)
        reading = reading_of(config, experiment.crop_size, mesh, views)
        outputs = evaluate.run(forward, variables, experiment.images, split, reading)
        outputs = processes.until_stopped(outputs, stop_requested)
        return evaluate.evaluate(outputs, len(experiment.images.classes))

    return evaluate_split


def reading_of(config: Config, size: int, mesh: Mesh, views: int) -> evaluate.Reading:
    """How a configuration has a split read, in crops of `size` pixels."""
    return evaluate.Reading(size, mesh, views, config['eval.batch_size'], config['data.threads'])


def _opening(experiment: Experiment, workdir: Path, first_step: int) -> str:
    config, mesh = experiment.config, experiment.mesh
    devices = f'{mesh.shape["data"]}×{mesh.shape["column"]} {jax.devices()[0].platform} devices'
    if processes.count() > 1:
        devices += f' of {processes.count()} processes'
    doing = f'resuming after step {first_step}' if first_step else 'training'
    return (
        f'{doing}: {config["network.name"]} on {config["data.source"]}'
        f' ({experiment.plan.epoch_size} images), up to step {experiment.plan.steps},'
        f' {devices} (data×column), workdir {workdir}'
    )


def result(config: Config, workdir: Path) -> dict[str, Any]:
    """What `train` kept of its held-out images when it came to its end."""
    split = held_out_split(config, open_images(config))
    return results.read(workdir, split, config['eval.views'])
