"""The programs of a configuration, compiled from shapes alone: no image is read, no array made."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.errors import JaxRuntimeError
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from alexnet_jax.experiment import build
from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment.ahead_of_time import estimates
from alexnet_jax.experiment.defaults import Config
from alexnet_jax.network import chips, device_mesh, inference, platforms
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.chips import Chip
from alexnet_jax.training import step
from alexnet_jax.training.accumulation import StepInParts

EPOCH = 1_281_167  # images; rates alone depend on it, whose cost does not
MOST_IMAGES = 2**20  # a step


@dataclasses.dataclass(frozen=True)
class Program:
    """A program, compiled, or refused by the compiler as too large for the chip's memory.

    scope: 'step', 'forward', or of a step in parts (train.micro_batches) 'part' or 'update'.
    images: how many it takes at a time, all devices together. kind: of its products, a key of
    `Chip.products`. seconds: to compile. refusal: the compiler's first line on it.
    """

    name: str
    scope: str
    images: int
    kind: str
    seconds: float
    compiled: jax.stages.Compiled | None
    refusal: str = ''

    def fits(self, chip: Chip | None) -> bool:
        """Returns whether a device has the memory; None is a CPU, whose memory is not known."""
        if self.compiled is None:
            return False
        return chip is None or estimates.memory(self.compiled).total <= chip.memory


def net_of(config: Config, classes: int) -> AlexNet:
    """Returns the net of a configuration."""
    return AlexNet(
        configuration.network_of(config), classes, exchange=config.network.exchange
    )  # fmt: skip


# By name: scope, number of images and trace.
Traces = dict[str, tuple[str, int, jax.stages.Traced]]


def trace_train(config: Config, net: AlexNet, mesh: Mesh) -> Traces:
    """Traces the training step: one program, or one part and the update."""
    batch_size, clock = config.data.batch_size, build.clock(config, EPOCH)
    train_step = build.train_step_of(config, net, mesh, clock, _mean(net), np.ones(3, np.float32))
    protocol = configuration.protocol_of(config, net.architecture)
    state = step.abstract_state(net, mesh, protocol)
    batch = step.abstract_batch(net, mesh, batch_size)
    if not isinstance(train_step, StepInParts):
        return {'train': ('step', batch_size, train_step.trace(state, batch))}
    parts, sums = train_step.parts, jax.eval_shape(train_step.zeros)
    part = train_step.add.trace(sums, state, batch, np.int32(0))
    return {
        f'train, a part of {parts}': ('part', batch_size // parts, part),
        'train, the update': ('update', 0, train_step.update.trace(state, sums)),
    }


def trace_evaluation(config: Config, net: AlexNet, mesh: Mesh) -> Traces:
    """Traces the forward pass over a batch of crops, `eval.batch_size` on each data shard."""
    images = config.eval.batch_size * mesh.shape[device_mesh.DATA]
    traced = _forward(net.clone(compute=config.eval.compute), mesh, images)
    return {'eval': ('forward', images, traced)}


def trace_prediction(config: Config, net: AlexNet, mesh: Mesh) -> Traces:
    """Traces the forward pass over the fewest images: one a data shard."""
    images = mesh.shape[device_mesh.DATA]
    return {'predict': ('forward', images, _forward(net, mesh, images))}


TRACE: dict[str, Callable[[Config, AlexNet, Mesh], Traces]] = {
    'train': trace_train,
    'eval': trace_evaluation,
    'predict': trace_prediction,
}


def compile_programs(name: str, config: Config, net: AlexNet, mesh: Mesh) -> Iterator[Program]:
    """Compiles the programs of one of `TRACE` for the devices of the mesh."""
    with platforms.traced_for(mesh.devices.flat[0].platform):
        traces = TRACE[name](config, net, mesh)
    kinds = {
        'train': chips.product_kind(config.network.compute, config.network.precision),
        'eval': chips.product_kind(config.eval.compute, 'highest'),
    }
    for own_name, (scope, images, traced) in traces.items():
        compiled, seconds, refusal = _compile(traced)
        kind = kinds.get(name, 'highest')
        yield Program(own_name, scope, images, kind, seconds, compiled, refusal)


def _compile(traced: jax.stages.Traced) -> tuple[jax.stages.Compiled | None, float, str]:
    """Returns the compiled program, the seconds it took, and the compiler's refusal."""
    lowered = traced.lower()
    begun = time.perf_counter()
    try:
        compiled, refusal = lowered.compile(), ''
    except JaxRuntimeError as error:
        if 'RESOURCE_EXHAUSTED' not in str(error):
            raise
        compiled, refusal = None, str(error).splitlines()[0]
    return compiled, time.perf_counter() - begun, refusal


def with_larger_batches(
    config: Config, net: AlexNet, mesh: Mesh
) -> Iterator[tuple[int, list[Program]]]:
    """Compiles the training step for the configured batch, doubled again and again.

    Yields:
      the images of a batch, and the step's programs.
    """
    batch_size = config.data.batch_size
    while batch_size <= MOST_IMAGES:
        config = configuration.changed(config, {'data.batch_size': batch_size})
        yield batch_size, list(compile_programs('train', config, net, mesh))
        batch_size *= 2


def _forward(net: AlexNet, mesh: Mesh, images: int) -> jax.stages.Traced:
    forward = inference.make_forward(net, mesh, _mean(net), 1.0)
    specs = inference.variable_specs(net.clone(exchange='gather'))
    variables = jax.tree.map(
        lambda x, spec: _abstract(mesh, spec, x.shape, x.dtype),
        inference.variable_shapes(net),
        specs,
    )
    size = net.architecture.input_size
    crops = _abstract(mesh, P(device_mesh.DATA), (images, size, size, 3), np.uint8)
    return forward.trace(variables, crops)


def _mean(net: AlexNet) -> np.ndarray:
    size = net.architecture.input_size
    return np.zeros((size, size, 3), np.float32)


def _abstract(mesh: Mesh, spec: P, shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))
