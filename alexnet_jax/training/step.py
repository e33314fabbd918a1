"""The train state and one training step.

The step runs the net under `jax.shard_map`: batches split over the mesh axis
'data', columns over 'column'. The gradient is computed outside the map.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import struct
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from alexnet_jax.network import checks, compiler, device_mesh, inference
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.inference import Array, Variables
from alexnet_jax.network.layers import Architecture, BatchNorm
from alexnet_jax.network.normalization import widened
from alexnet_jax.runtime.errors import InputError
from alexnet_jax.training import accumulation, gradient_sums, losses, optimizer, schedule
from alexnet_jax.training.protocols import PAPER, Protocol

Batch = Mapping[str, Array]
Scores = dict[str, jax.Array]


class TrainState(struct.PyTreeNode):
    """State of a training; a checkpoint stores this tree."""

    step: jax.Array  # int32, steps done
    params: Any
    batch_stats: Any  # moving means and variances of batch normalization; {} without
    momentum: optax.OptState  # of `optimizer.rule`
    plateau: schedule.PlateauState

    @property
    def variables(self) -> Variables:
        """The net's variables for an evaluation."""
        return {'params': self.params, 'batch_stats': self.batch_stats}


def create_state(net: AlexNet, seed: int, mesh: Mesh, protocol: Protocol = PAPER) -> TrainState:
    """Returns the state at step 0, placed on the mesh; its values depend only on the seed."""
    return jax.jit(
        lambda: nn.unbox(_create(net, seed, protocol)),
        out_shardings=state_shardings(net, mesh, protocol),
    )()


def state_shardings(net: AlexNet, mesh: Mesh, protocol: Protocol = PAPER) -> TrainState:
    """Returns the placement of each array of the state: a tree of `NamedSharding`."""
    return jax.tree.map(functools.partial(NamedSharding, mesh), _specs(net, protocol))


def abstract_state(net: AlexNet, mesh: Mesh, protocol: Protocol = PAPER) -> TrainState:
    """Returns shapes, types and shardings of the state's arrays, without the arrays."""
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        nn.unbox(_shapes(net, protocol)),
        state_shardings(net, mesh, protocol),
    )


def abstract_batch(net: AlexNet, mesh: Mesh, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns shapes, types and shardings of a batch's arrays, without the arrays."""
    size = net.architecture.input_size
    sharding = NamedSharding(mesh, P(device_mesh.DATA))
    return {
        name: jax.ShapeDtypeStruct((batch_size, *shape), dtype, sharding=sharding)
        for name, shape, dtype in (
            ('image', (size, size, 3), np.uint8),
            ('mirrored', (), np.bool_),
            ('color_shift', (3,), np.float32),
            ('label', (), np.int32),
            ('mask', (), np.float32),
        )
    }


def _specs(net: AlexNet, protocol: Protocol) -> TrainState:
    """Returns the mesh axes that each array of the state is split over."""
    specs = nn.get_partition_spec(_shapes(net, protocol))
    return specs.replace(**inference.variable_specs(net))


def _shapes(net: AlexNet, protocol: Protocol) -> TrainState:
    """Returns the state's shapes, boxed with the mesh axes of each array."""
    shapes = inference.boxed_shapes(net)
    start = functools.partial(start_from, protocol=protocol)
    return jax.eval_shape(start, shapes['params'], shapes['batch_stats'])


def _create(net: AlexNet, seed: int, protocol: Protocol) -> TrainState:
    size = net.architecture.input_size
    variables = net.init(jax.random.key(seed), jnp.zeros((1, size, size, 3)))
    return start_from(variables['params'], variables.get('batch_stats', {}), protocol)


def start_from(params: Any, batch_stats: Any, protocol: Protocol = PAPER) -> TrainState:
    """Returns the state at step 0 with these values."""
    return TrainState(
        step=jnp.int32(0),
        params=params,
        batch_stats=batch_stats,
        momentum=optimizer.start(params, protocol),
        plateau=schedule.start(),
    )


def score(logits: Array, labels: Array, mask: Array) -> Scores:
    """Sums loss, top-1 and top-5 errors over the images with mask 1, and counts the images.

    An image is a top-k error if k or more classes rank before its label; ties rank in the order of
    the classes. NaN logits count as errors. Sums are float32.

    Args:
      logits: float [batch, classes].
      labels: int [batch].
      mask: numbers [batch].

    Raises:
      ValueError: a shape or type is another.
    """
    checks.require_shape('logits', logits, 'batch', 'classes')
    checks.require_type('logits', logits, jnp.floating)
    checks.require_shape('labels', labels, len(logits))
    checks.require_type('labels', labels, jnp.integer)
    checks.require_shape('mask', mask, len(logits))
    checks.require_type('mask', mask, jnp.floating, jnp.integer, jnp.bool_)
    logits, mask = widened(jnp.asarray(logits)), widened(jnp.asarray(mask))
    loss = losses.softmax(logits, jnp.asarray(labels))
    of_label = jnp.take_along_axis(logits, labels[:, None], axis=1)
    earlier = jnp.arange(logits.shape[1]) < labels[:, None]
    behind = (logits < of_label) | ((logits == of_label) & ~earlier)
    place = jnp.sum(~behind, axis=1)  # the label itself does not count, unless it is NaN
    return {
        'loss': jnp.sum(loss * mask),
        'top1_error': jnp.sum((place >= 1) * mask),
        'top5_error': jnp.sum((place >= 5) * mask),
        'count': jnp.sum(mask),
    }


def _scores_over_mesh(
    net: AlexNet, mesh: Mesh, mean: Array, scale: Array | float, parts: int, loss: str
) -> Callable[..., tuple[Scores, Any]]:
    """(variables, batch, dropout_key, part) -> `score` of that part of the batch, a `parts`th
    of each device's rows, but the count of all, and the sum to minimize under 'objective' unless
    it is 'loss'; and the batch statistics, moved. Parameters may be copies, as
    `accumulation.copy_specs`."""
    specs = inference.variable_specs(net)
    copies = accumulation.takes_copies(mesh, parts)
    in_specs = specs | ({'params': accumulation.copy_specs(net)} if copies else {})
    net = net.clone(column_axis=device_mesh.COLUMN)

    def on_device(variables, batch: Batch, mean: Array, scale: Array | float, dropout_key, part):
        # From here on parameters vary over the devices: their gradients are summed over the batch
        # here. Those of copies are summed after the last part.
        params = variables['params']
        params = (
            jax.tree.map(lambda x: x[0], params)
            if copies
            else gradient_sums.for_each_shard(params, net.architecture)
        )
        count = jnp.sum(batch['mask'])
        here = len(batch['image'])
        assert here % parts == 0, (here, parts)
        first = part * (here // parts)
        batch = jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, first, here // parts), batch)
        images = inference.mirror(batch['image'], batch['mirrored'])
        images = inference.normalize(images, mean, scale, batch['color_shift'])
        examples = lax.axis_index(device_mesh.DATA) * here + first + jnp.arange(len(images))
        (logits, _), moved = net.apply(
            variables | {'params': params}, images,
            dropout_key=dropout_key, examples=examples, mutable=['batch_stats'],
        )  # fmt: skip
        sums = score(logits, batch['label'], batch['mask']) | {'count': count}
        if loss != 'softmax':
            objective = losses.LOSSES[loss](widened(logits), jnp.asarray(batch['label']))
            sums['objective'] = jnp.sum(objective * batch['mask'])
        return lax.psum(sums, device_mesh.DATA), moved.get('batch_stats', {})

    over_mesh = jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(in_specs, P(device_mesh.DATA), P(), P(), P(), P()),
        out_specs=(P(), specs['batch_stats']),
    )
    return lambda variables, batch, key, part: over_mesh(variables, batch, mean, scale, key, part)


def make_train_step(
    net: AlexNet,
    mesh: Mesh,
    mean: Array,
    scale: Array | float = 1.0,
    *,
    seed: int,
    learning_rate: float,
    clock: schedule.Clock,
    drops: int = 3,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    protocol: Protocol = PAPER,
    micro_batches: int = 1,
) -> Callable[[TrainState, Batch], tuple[TrainState, Scores]]:
    """Returns the compiled step: (state, batch) -> (state, scores); the input state is donated.

    Args:
      net: with `column_axis` None; the step sets it.
      mesh: axes 'data' and 'column'.
      mean, scale: as in `inference.normalize`.
      seed: of the dropout.
      learning_rate, drops, clock: as in `schedule.rates`.
      momentum, weight_decay: those of `optimizer.sgd`.
      micro_batches: number of sequential parts of the gradient's computation, each with a device's
        rows divided by this number; needs less memory, same result.

    The metrics are the means over the batch, {'loss', 'top1_error', 'top5_error'}, before the
    update (the loss is that of `score`, whichever the protocol minimizes). Metrics of the update
    are 'learning_rate', that of the protocol's `main_group`, and 'bias_gradients' [layers,
    columns], in the order of
    `layer_names`: 0 where the loss does not depend on any unit, not finite if a gradient in the
    layer is not.

    Raises:
      InputError: more than one part of a net with batch normalization.
    """
    require_splittable_batch(net, micro_batches)
    scores_of = _scores_over_mesh(net, mesh, mean, scale, micro_batches, protocol.loss)

    def loss_share(params, batch_stats, batch, key, part):
        """Returns the part's contribution to the batch's mean objective, and to its other means."""
        variables = {'params': params, 'batch_stats': batch_stats}
        sums, batch_stats = scores_of(variables, batch, key, part)
        count = sums.pop('count')
        shares = {name: total / count for name, total in sums.items()}
        return shares.pop('objective', shares['loss']), (shares, batch_stats)

    def gradients_of(params, state: TrainState, batch: Batch, part: Array | int):
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        return jax.grad(loss_share, has_aux=True)(params, state.batch_stats, batch, key, part)

    def update(state: TrainState, gradients, scores: Scores, batch_stats):
        rates = schedule.rates(protocol, learning_rate, drops, clock, state.step, state.plateau)
        rule = optimizer.rule(protocol, rates, momentum, weight_decay)
        updates, new_momentum = rule.update(gradients, state.momentum, state.params)
        scores |= {
            'learning_rate': rates[protocol.main_group],
            'bias_gradients': _bias_gradients(gradients, net.architecture),
        }
        new_state = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            momentum=new_momentum,
            plateau=state.plateau,
        )
        return new_state, scores

    of_state = state_shardings(net, mesh, protocol)
    if micro_batches > 1:
        shardings = of_state, _score_shardings(mesh)
        return accumulation.in_parts(net, mesh, micro_batches, *shardings, gradients_of, update)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Scores]:
        copies = accumulation.takes_copies(mesh, 1)
        params = accumulation.copies(state.params, 1) if copies else state.params
        gradients, (scores, batch_stats) = gradients_of(params, state, batch, 0)
        return update(
            state, accumulation.add_up(gradients) if copies else gradients, scores, batch_stats
        )

    return jax.jit(
        train_step,
        donate_argnums=0,
        in_shardings=(of_state, NamedSharding(mesh, P(device_mesh.DATA))),
        out_shardings=(of_state, _score_shardings(mesh)),
        compiler_options=compiler.options(mesh),
    )


def layer_names(net: Architecture) -> list[str]:
    """Returns the names of the layers with biases, from the image on."""
    return [*(layer.name for layer in net.layers), net.output.name]


def _bias_gradients(gradients: Any, net: Architecture) -> jax.Array:
    """Returns sums of absolute values, [layers, columns]; a layer that all columns share has the
    same value in each. Biases are sufficient for `health`, and cheap to sum.
    """

    # Batch normalization directly after a layer cancels its biases: its shifts are used instead.
    behind_norm = {
        row.name for row in net.layers if any(isinstance(x, BatchNorm) for x in row.then[:1])
    }

    def of_columns(layer: str) -> jax.Array:
        if layer in behind_norm:
            shifts = gradients[f'{layer}_norm']['bias']
            return jnp.sum(jnp.abs(shifts).reshape(net.columns, -1), axis=-1)
        sizes = jnp.abs(gradients[layer]['bias'])
        return jnp.broadcast_to(jnp.sum(sizes, axis=-1), (net.columns,))

    return jnp.stack([of_columns(layer) for layer in layer_names(net)])


def _score_shardings(mesh: Mesh) -> dict[str, NamedSharding]:
    """Values of columns stay on their devices, so they need no communication."""
    whole = ('loss', 'top1_error', 'top5_error', 'learning_rate')
    specs = dict.fromkeys(whole, P()) | {'bias_gradients': P(None, device_mesh.COLUMN)}
    return {name: NamedSharding(mesh, spec) for name, spec in specs.items()}


def require_splittable_batch(net: AlexNet, micro_batches: int) -> None:
    """Checks that the net can process a batch in parts.

    Raises:
      InputError: the net needs the whole batch at once.
    """
    stages = [stage for layer in net.architecture.layers for stage in layer.then]
    if micro_batches > 1 and any(isinstance(stage, BatchNorm) for stage in stages):
        raise InputError(
            f'train.micro_batches is {micro_batches}; allowed: 1 for network'
            f' {net.architecture.name}, whose batch normalization takes statistics of the'
            ' whole batch'
        )
