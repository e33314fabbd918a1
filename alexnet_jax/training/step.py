"""The train state and one training step.

The step runs the net under `jax.shard_map`: batches split over the mesh axis
'data', columns over 'column'. The gradient is taken outside the map.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from alexnet_jax.network import columns, inference
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.inference import Array, Variables
from alexnet_jax.network.layers import Architecture
from alexnet_jax.training import optimizer, schedule
from alexnet_jax.training.protocols import PAPER, Protocol

Batch = Mapping[str, Array]
Scores = dict[str, jax.Array]


class TrainState(struct.PyTreeNode):
    """All that changes in a run; a checkpoint is this tree."""

    step: jax.Array  # int32, steps done
    params: Any
    batch_stats: Any  # moving means and variances of batch normalisation; {} without
    momentum: optax.OptState
    plateau: schedule.PlateauState

    @property
    def variables(self) -> Variables:
        """All that the net needs for an evaluation."""
        return {'params': self.params, 'batch_stats': self.batch_stats}


def create_state(net: AlexNet, seed: int, mesh: Mesh) -> TrainState:
    """The state at step 0, laid out on the mesh. The values depend on the seed
    alone."""
    return jax.jit(
        lambda: nn.unbox(_create(net.architecture, net.classes, seed)),
        out_shardings=state_shardings(net, mesh),
    )()


def state_shardings(net: AlexNet, mesh: Mesh) -> TrainState:
    """Where each array of the state lies: a tree of `NamedSharding`."""
    return jax.tree.map(functools.partial(NamedSharding, mesh), _specs(net))


def abstract_state(net: AlexNet, mesh: Mesh) -> TrainState:
    """Shapes, types and places of the state's arrays, without the arrays."""
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        nn.unbox(_shapes(net.architecture, net.classes)),
        state_shardings(net, mesh),
    )


def _specs(net: AlexNet) -> TrainState:
    """What each array of the state is split over."""
    specs = nn.get_partition_spec(_shapes(net.architecture, net.classes))
    return specs.replace(**inference.variable_specs(net))


@functools.cache
def _shapes(architecture: Architecture, classes: int) -> TrainState:
    """The state's shapes, boxed with what each array is split over."""
    return jax.eval_shape(functools.partial(_create, architecture, classes, 0))


def _create(architecture: Architecture, classes: int, seed: int) -> TrainState:
    size = architecture.input_size
    variables = AlexNet(architecture, classes).init(
        jax.random.key(seed), jnp.zeros((1, size, size, 3))
    )
    return start_from(variables['params'], variables.get('batch_stats', {}))


def start_from(params: Any, batch_stats: Any) -> TrainState:
    """The state at step 0 with these values."""
    return TrainState(
        step=jnp.int32(0),
        params=params,
        batch_stats=batch_stats,
        momentum=optimizer.start(params),
        plateau=schedule.start(),
    )


def score(logits: Array, labels: Array, mask: Array) -> Scores:
    """Sums over the images with mask 1: cross-entropy, top-1 and top-5 errors,
    and their count.

    An image is a top-k error if k classes or more come before its label, ties
    in the order of the classes. Logits that are not numbers are errors.
    """
    log_probability = jax.nn.log_softmax(logits)
    loss = -jnp.take_along_axis(log_probability, labels[:, None], axis=1)[:, 0]
    of_label = jnp.take_along_axis(logits, labels[:, None], axis=1)
    earlier = jnp.arange(logits.shape[1]) < labels[:, None]
    behind = (logits < of_label) | ((logits == of_label) & ~earlier)
    place = jnp.sum(~behind, axis=1)  # the label itself is "behind", unless it is NaN
    return {
        'loss': jnp.sum(loss * mask),
        'top1_error': jnp.sum((place >= 1) * mask),
        'top5_error': jnp.sum((place >= 5) * mask),
        'count': jnp.sum(mask),
    }


def _scores_over_mesh(
    net: AlexNet, mesh: Mesh, mean: Array, scale: Array | float
) -> Callable[..., tuple[Scores, Any]]:
    """(variables, batch, dropout_key) -> `score` of the whole batch, and the batch
    statistics, moved."""
    specs = inference.variable_specs(net)
    net = net.clone(column_axis=columns.COLUMN)

    def on_device(variables, batch: Batch, mean: Array, scale: Array | float, dropout_key):
        # From here on parameters are each device's own: this is where their
        # gradients add up over the batch.
        params = jax.tree.map(
            lambda x: lax.pcast(x, columns.DATA, to='varying'), variables['params']
        )
        images = inference.normalize(batch['image'], mean, scale, batch['color_shift'])
        examples = lax.axis_index(columns.DATA) * len(images) + jnp.arange(len(images))
        (logits, _), moved = net.apply(
            variables | {'params': params}, images,
            dropout_key=dropout_key, examples=examples, mutable=['batch_stats'],
        )  # fmt: skip
        scores = lax.psum(score(logits, batch['label'], batch['mask']), columns.DATA)
        return scores, moved.get('batch_stats', {})

    over_mesh = jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(specs, P(columns.DATA), P(), P(), P()),
        out_specs=(P(), specs['batch_stats']),
    )
    return lambda variables, batch, key: over_mesh(variables, batch, mean, scale, key)


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
) -> Callable[[TrainState, Batch], tuple[TrainState, Scores]]:
    """A compiled step: (state, batch) -> (state, scores); the old state is gone.

    Args:
      net: with `column_axis` None; the step sets it.
      mesh: axes 'data' and 'column'.
      mean, scale: as in `inference.normalize`.
      seed: of the dropout.
      learning_rate, drops, clock: as in `schedule.rates`.
      momentum, weight_decay: as in `optimizer.sgd`.

    The scores are means over the batch, {'loss', 'top1_error', 'top5_error'},
    before the update, and the update's 'learning_rate', that of the protocol's
    `main_group`.
    """
    scores_of = _scores_over_mesh(net, mesh, mean, scale)

    def mean_loss(params, batch_stats, batch, key):
        variables = {'params': params, 'batch_stats': batch_stats}
        sums, batch_stats = scores_of(variables, batch, key)
        count = sums.pop('count')
        means = {name: total / count for name, total in sums.items()}
        return means['loss'], (means, batch_stats)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Scores]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        gradients, (scores, batch_stats) = jax.grad(mean_loss, has_aux=True)(
            state.params, state.batch_stats, batch, key
        )
        rates = schedule.rates(protocol, learning_rate, drops, clock, state.step, state.plateau)
        rule = optimizer.sgd(protocol, rates, momentum, weight_decay)
        updates, new_momentum = rule.update(gradients, state.momentum, state.params)
        new_state = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            momentum=new_momentum,
            plateau=state.plateau,
        )
        return new_state, scores | {'learning_rate': rates[protocol.main_group]}

    return jax.jit(
        train_step,
        donate_argnums=0,
        in_shardings=(state_shardings(net, mesh), NamedSharding(mesh, P(columns.DATA))),
        out_shardings=(state_shardings(net, mesh), NamedSharding(mesh, P())),
    )
