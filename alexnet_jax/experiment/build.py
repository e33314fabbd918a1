"""Builds objects from a configuration.

Only this package and the commands read configurations; the objects take plain arguments.
"""

import dataclasses
import functools
import hashlib
import platform
from collections.abc import Callable, Generator
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from alexnet_jax.data import pipeline
from alexnet_jax.data.image_set import ImageSet
from alexnet_jax.data.own_source import is_own
from alexnet_jax.data.patterns import patterns_set
from alexnet_jax.data.prepare import stored
from alexnet_jax.data.synthetic import synthetic_set
from alexnet_jax.evaluation import evaluate
from alexnet_jax.evaluation.tally import Tally
from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment import donors, placement, settings
from alexnet_jax.experiment.defaults import Config
from alexnet_jax.experiment.identity import Identity, network_digest
from alexnet_jax.experiment.workdir import last_checkpoint
from alexnet_jax.network import communication, device_mesh, inference
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.layers import Architecture
from alexnet_jax.runtime import heartbeat, multihost
from alexnet_jax.runtime.errors import InputError, counted, shown
from alexnet_jax.runtime.provenance import LIBRARIES
from alexnet_jax.training import loop, step, warm_start
from alexnet_jax.training.protocols import Protocol
from alexnet_jax.training.schedule import Clock
from alexnet_jax.weights.files import Layers

# Settings that may differ between the processes of a run.
OWN = ('data.dir', 'data.threads')
Normalization = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Objects built from a configuration.

    normalization: mean and scale, as in `pipeline.normalization`.
    """

    config: Config
    images: ImageSet
    net: AlexNet
    mesh: Mesh
    protocol: Protocol
    plan: loop.Plan
    normalization: Normalization

    @property
    def crop_size(self) -> int:
        """Side of the net's input crops, in pixels."""
        return self.net.architecture.input_size

    @functools.cached_property
    def identity(self) -> Identity:
        """Identity that binds a workdir to this run."""
        images = self.images
        return Identity(
            self.config, images.classes, images.mirror, *self.normalization, images.identity
        )


def build(config: Config, start: Normalization | None = None) -> Experiment:
    """Returns the images, net, mesh, plan and normalization of a configuration.

    The configuration of the result includes the mesh.

    Args:
      start: the normalization of the net at `start.from`, if `data.normalization` is that.

    Raises:
      InputError: more devices are configured than exist; the images are not available.
    """
    config = configuration.settled(config)
    images = training_images(config)
    architecture = configuration.network_of(config)
    shape = mesh_shape(config, architecture, len(images.classes))
    config = configuration.changed(config, {'mesh.data': shape[0], 'mesh.column': shape[1]})
    mesh = device_mesh.make_mesh(*shape)
    protocol = configuration.protocol_of(config, architecture)
    plan = loop.Plan(
        **dataclasses.asdict(clock(config, len(images.splits['train']))),
        patience=config.schedule.patience,
        drops=config.schedule.drops if protocol.watches_plateaus else None,
        log_every=config.train.log_every_steps,
        save_every=config.checkpoint.every_steps,
    )
    net = AlexNet(architecture, len(images.classes), exchange=config.network.exchange)
    step.require_splittable_batch(net, config.train.micro_batches)
    data = config.data
    normalization = start or pipeline.normalization(
        images, architecture.input_size, data.normalization, data.mean, data.std
    )
    return Experiment(config, images, net, mesh, protocol, plan, normalization)


def mesh_shape(config: Config, net: Architecture, classes: int) -> tuple[int, int]:
    """Returns (data, column) of the mesh as configured.

    Other sizes are chosen so that most devices have work, and exchange the fewest bytes.
    """
    asked = (config.mesh.data, config.mesh.column)
    devices = len(jax.devices()) if any(asked) else device_mesh.devices_to_use()
    return communication.best_mesh(
        net, classes, devices, config.data.batch_size, config.network.exchange,
        config.train.micro_batches, asked,
    )  # fmt: skip


def clock(config: Config, epoch_size: int) -> Clock:
    """Returns the length of a run for this number of training images.

    Raises:
      InputError: steps, or passes over the images, exceed 32 bits.
    """
    batch_size, epochs, most = config.data.batch_size, config.train.epochs, settings.MOST
    steps = config.train.steps or -(-epochs * epoch_size // batch_size)
    if steps > most:
        raise InputError(
            f'train.epochs is {epochs}, which is {steps} steps: the set has'
            f' {counted(epoch_size, "training image")} and data.batch_size is {batch_size};'
            f' allowed: at most {most} steps, or {counted(most * batch_size // epoch_size, "epoch")}'
        )
    if steps * batch_size > most * epoch_size:
        raise InputError(
            f'train.steps is {steps}, which with data.batch_size {batch_size} is more than {most}'
            f" passes over the set's {counted(epoch_size, 'training image')}; allowed: at most"
            f' {counted(most * epoch_size // batch_size, "step")}'
        )
    return Clock(steps, batch_size, epoch_size)


def profile_span(config: Config, steps: int) -> tuple[int, int] | None:
    """Returns the first and last step to profile in a run of `steps` steps; None for no profile.

    Raises:
      InputError: the run ends before the first.
    """
    if not config.train.profile:
        return None
    first, last = map(int, config.train.profile.split(':'))
    if first > steps:
        raise InputError(
            f'train.profile is {shown(config.train.profile)}; allowed: steps that the run has, up to'
            f' {steps}'
        )
    return first, last


def training_examples(config: Config) -> int:
    """Returns the number of training images of the configuration's set.

    Raises:
      InputError: the images cannot be had.
    """
    return len(training_images(config).splits['train'])


def facts(config: Config, workdir: Path) -> dict[str, Any]:
    """Returns the values that must be equal in all processes of a run."""
    return {
        **{name: value for name, value in configuration.flat(config).items() if name not in OWN},
        'the table of the net': network_digest(config),
        'the last checkpoint of --workdir': last_checkpoint(workdir),
        'python': '.'.join(platform.python_version_tuple()[:2]),
        **{name: metadata.version(name) for name in LIBRARIES},
        'the source of alexnet_jax': source_digest(Path(__file__).parents[1]),
    }


def source_digest(folder: Path) -> str:
    """Returns a digest of the program's source, which may change without its version."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob('*.py')):
        digest.update(f'{path.relative_to(folder)}\0'.encode() + path.read_bytes() + b'\0')
    return digest.hexdigest()[:12]


def held_out_split(config: Config, images: ImageSet) -> str:
    """Returns the split to evaluate on: as configured, or test, or val.

    Raises:
      InputError: the set has no such split.
    """
    splits = images.splits
    split = config.eval.split or ('test' if 'test' in splits else 'val')
    if split not in splits:
        source = config.data.source
        raise InputError(f'eval.split is {split!r}; {source} has: {", ".join(splits)}')
    return split


def start_values(experiment: Experiment, workdir: Path) -> tuple[Layers, list[str]]:
    """Returns the initial values from another net, and lines about them.

    They are {} without `start.from`.

    Raises:
      InputError: they cannot be read, or do not fit the run, as `warm_start.choose`.
    """
    config, net = experiment.config, experiment.net
    if not config.start['from']:
        return {}, []
    donor = donors.read_donor(config.start['from'], workdir)
    own = warm_start.Facts(net.architecture, experiment.images.classes, *experiment.normalization)
    return warm_start.choose(own, donor, configuration.start_layers(config, net.architecture))


def initial_state(experiment: Experiment, values: Layers) -> step.TrainState:
    """Returns the state at step 0, with its values replaced by `values`."""
    state = step.create_state(
        experiment.net, experiment.config.seed, experiment.mesh, experiment.protocol
    )
    return warm_start.put(state, values)


def training_images(config: Config) -> ImageSet:
    """Opens the configured images, to train on them.

    Raises:
      InputError: the images cannot be had, or there are none for training.
    """
    images = open_images(config)
    stored.require_training_images(config.data.source, images.splits)
    return images


def open_images(config: Config) -> ImageSet:
    """Opens the configured images.

    Raises:
      InputError: the images cannot be had.
    """
    source, size = config.data.source, config.data.record_size
    if source == 'synthetic':
        examples, classes = config.data.synthetic_examples, config.data.synthetic_classes
        return synthetic_set(examples, classes, size, config.seed)
    if source == 'patterns':
        return patterns_set(size)
    if source == 'digits':
        return stored.digits(size, config.data.dir or None)
    return stored.of_source(source, size, config.data.dir or None, config.data.resize)


def prepare_own_source(config: Config) -> None:
    """Prepares a user's own source, if it is not prepared yet; executes its file.

    This is only for the user's own configuration; a workdir's may be untrusted.

    Raises:
      InputError: as `stored.prepare_own`.
    """
    source, size = config.data.source, config.data.record_size
    if is_own(source):
        heartbeat.slow('preparing images')
        say = functools.partial(print, flush=True)
        stored.prepare_own(source, size, config.data.dir or None, config.data.resize, say)


def train_step(experiment: Experiment) -> Callable:
    """Builds the compiled training step of an experiment, see `step.make_train_step`."""
    config, net, mesh = experiment.config, experiment.net, experiment.mesh
    return train_step_of(config, net, mesh, experiment.plan, *experiment.normalization)


def train_step_of(
    config: Config, net: AlexNet, mesh: Mesh, clock: Clock, mean: np.ndarray, scale: np.ndarray
) -> Callable:
    """Returns the compiled training step of a configuration, as `step.make_train_step`."""
    return step.make_train_step(
        net.clone(compute=config.network.compute, precision=config.network.precision),
        mesh, mean, scale, seed=config.seed, clock=clock, drops=config.schedule.drops,
        learning_rate=config.optimizer.learning_rate, momentum=config.optimizer.momentum,
        weight_decay=config.optimizer.weight_decay,
        protocol=configuration.protocol_of(config, net.architecture),
        micro_batches=config.train.micro_batches,
    )  # fmt: skip


def train_batches(experiment: Experiment, first_step: int):
    """Returns the batches from `first_step` on, on the devices.

    `data.placement` selects whether all images are already in device memory.
    """
    config, mesh, size = experiment.config, experiment.mesh, experiment.crop_size
    place, labels = functools.partial(device_mesh.place_batch, mesh), None
    if config.data.placement == 'device':
        place, labels = placement.on_devices(config, experiment.images, mesh, size)
    batches = pipeline.train_batches(
        experiment.images,
        size=size,
        batch_size=config.data.batch_size,
        seed=config.seed,
        color=pipeline.ColorShift(
            config.data.color_std, config.data.color_scale, config.data.color_epochs
        ),
        random_crop=config.data.random_crop,
        mirror=config.data.mirror,
        first_step=first_step,
        rows=device_mesh.rows_here(mesh, config.data.batch_size),
        threads=config.data.threads,
        labels=labels,
    )
    return pipeline.ahead(batches, place)


def evaluator(
    experiment: Experiment, stop_requested: Callable[[], bool]
) -> Callable[[str, int, Any], Tally]:
    """Returns a function (split, views, variables of the net) -> its errors over the split.

    The function raises StopRequestedError between two batches.
    """
    config, mesh, images = experiment.config, experiment.mesh, experiment.images
    forward = inference.make_forward(experiment.net, mesh, *experiment.normalization)

    def read(split: str, views: int) -> Generator[dict[str, Any]]:
        return evaluate.read(images, split, reading_of(config, experiment.crop_size, mesh, views))

    batches = placement.held_validation(read) if config.data.placement == 'device' else read

    def evaluate_split(split: str, views: int, variables: Any) -> Tally:
        variables = inference.place_variables(experiment.net, mesh, variables)
        count = len(images.splits[split])
        outputs = evaluate.run(forward, variables, batches(split, views), split, count)
        outputs = multihost.until_stopped(outputs, stop_requested)
        return evaluate.evaluate(outputs, len(images.classes))

    return evaluate_split


def reading_of(config: Config, size: int, mesh: Mesh, views: int) -> evaluate.Reading:
    """Returns how a configuration reads a split, in crops of `size` pixels."""
    crops, data = config.eval.batch_size, config.data
    return evaluate.Reading(size, mesh, views, data.mirror, crops, data.threads)
