"""A configuration made into objects, and run on a workdir.

The one place, with `main.py`, that reads configurations; everything it builds
takes plain arguments.
"""

import dataclasses
import functools
import hashlib
import math
import platform
from collections.abc import Callable, Collection
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
from alexnet_jax.errors import InputError
from alexnet_jax.evaluation import evaluate
from alexnet_jax.evaluation.tally import Tally
from alexnet_jax.network import columns, inference, traffic
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.layers import Architecture
from alexnet_jax.training import loop, start, step
from alexnet_jax.training.checkpoint import Checkpoints
from alexnet_jax.training.metrics_log import MetricsLog
from alexnet_jax.training.progress import Reporter
from alexnet_jax.training.protocols import Protocol
from alexnet_jax.training.schedule import Clock
from alexnet_jax.weights.files import Layers

# Settings that may differ between the processes of a run.
OWN = ('data.dir', 'data.threads')
LIBRARIES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'tensorflow-datasets')


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
    """Trains, from the workdir's last checkpoint if it has one, and evaluates the
    result. Returns whether the run came to its end; False if it was stopped.

    Raises:
      InputError: as `build`, `held_out_split`, `claim_workdir` and `start.take`; before
        training, and before anything is written.
    """
    with processes.together():
        experiment = build(config)
        held_out = held_out_split(config, experiment.images)
        refuse_other(workdir, config)
        resuming = has_checkpoint(workdir)
        taken = None if resuming else _start_values(config)
    state, told = None, ''
    if not resuming:
        state, told = _initial_state(experiment, taken)
    with processes.together():
        if processes.is_first():
            claim_workdir(workdir, experiment.config)
    processes.require_shared(workdir)
    images = experiment.images
    if processes.is_first():
        model.describe(workdir, images.classes, images.mirror, *experiment.normalization)
    checkpoints = Checkpoints(workdir / 'checkpoints', config['checkpoint.keep'])
    if state is None:
        state = checkpoints.restore(step.abstract_state(experiment.net, experiment.mesh))
    first_step = int(state.step)
    evaluate_split = _evaluator(experiment)
    log = MetricsLog(workdir / 'metrics.jsonl' if processes.is_first() else None, first_step)
    reporter = Reporter(experiment.plan.steps, first_step, silent=not processes.is_first())

    def record(row: loop.Row) -> None:
        log.write(row)
        (reporter.train if row['split'] == 'train' else reporter.evaluation)(row)

    reporter.say(_opening(experiment, workdir, first_step))
    if told:
        reporter.say(told)
    batches = _train_batches(experiment, first_step)
    try:
        state, stopped = loop.train(
            state,
            experiment.plan,
            train_step=_train_step(experiment),
            batches=batches,
            validate=lambda variables: evaluate_split('val', 1, variables).scores(),
            save=lambda state, error: checkpoints.save(state, configuration.nest(config), error),
            log=record,
            stop_requested=functools.partial(processes.stop_agreed, stop_requested),
        )
        if stopped:
            reporter.say(f'stopped after step {int(state.step)}; run the same command to go on')
            return False
        alive.slow(f'evaluating {held_out}')
        tally = evaluate_split(held_out, config['eval.views'], state.variables)
        at_step = int(state.step)
        if held_out == 'test':
            log.write(loop.evaluation_row('test', at_step, experiment.plan, tally.scores()))
        if processes.is_first():
            about = results.about(config, held_out, at_step)
            reporter.say(results.keep(workdir, about, tally, images.classes))
    finally:
        batches.close()
        reporter.close()
        log.close()
        checkpoints.close()
    return True


def facts(config: Config, workdir: Path) -> dict[str, Any]:
    """What has to be the same in all processes of a run."""
    return {
        **{name: config[name] for name in config if name not in OWN},
        'the last checkpoint of --workdir': _last_checkpoint(workdir),
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


def claim_workdir(workdir: Path, config: Config) -> None:
    """Makes the folder if need be and writes config.json.

    Raises:
      InputError: it cannot be written, or holds a run of another configuration.
    """
    refuse_other(workdir, config)
    versions = {name: metadata.version(name) for name in LIBRARIES}
    about = {'versions': versions, 'processes': processes.count()}
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        results.write_json(workdir / 'config.json', configuration.nest(config) | about)
    except OSError as error:
        raise InputError(f'--workdir {workdir} cannot be written: {error.strerror}') from error


def has_checkpoint(workdir: Path) -> bool:
    """Whether a run was saved there, without touching the folder."""
    return _last_checkpoint(workdir) is not None


def _last_checkpoint(workdir: Path) -> int | None:
    folder = workdir / 'checkpoints'
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return max((int(name) for name in names if name.isdecimal()), default=None)


def refuse_other(workdir: Path, config: Config, but: Collection[str] = ()) -> None:
    """Lets pass a workdir that is new, or holds a run of this configuration; settings in
    `but` do not count.

    Raises:
      InputError: the workdir's config.json computes something else.
    """
    kept = workdir / 'config.json'
    if kept.exists():
        differences = configuration.differences(config, configuration.read_workdir(kept), but)
        if differences:
            raise InputError(
                f'--workdir {workdir} holds a run of another configuration: '
                + '; '.join(differences)
                + '; take another --workdir, or those settings'
            )


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


def _evaluator(experiment: Experiment) -> Callable[[str, int, Any], Tally]:
    """(split, views, variables of the net) -> its errors over the split."""
    config, mesh = experiment.config, experiment.mesh
    forward = inference.make_forward(experiment.net, mesh, *experiment.normalization)

    def evaluate_split(split: str, views: int, variables: Any) -> Tally:
        variables = inference.place_variables(experiment.net, mesh, variables)
        reading = reading_of(config, experiment.crop_size, mesh, views)
        outputs = evaluate.run(forward, variables, experiment.images, split, reading)
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
