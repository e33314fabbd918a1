"""The paper's update rule (§5), and what other protocols make of it."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from alexnet_jax.training.protocols import PAPER, Protocol


def sgd(
    protocol: Protocol,
    rates: list[Any],
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
) -> optax.GradientTransformation:
    """Stochastic gradient descent as the paper has it:

        v ← momentum · v − weight_decay · ε · w − ε · ∂L/∂w
        w ← w + v

    ε stands inside v: after ε drops, v still carries updates of the old size.
    With `rate_in_velocity` False it stands outside, as in PyTorch (and
    `optax.sgd`); the two drift apart from the first drop:

        v ← momentum · v + weight_decay · w + ∂L/∂w
        w ← w − ε · v

    With `trust`, ε of a layer's weights is multiplied by trust · ‖w‖ / ‖∂L/∂w +
    weight_decay · w‖ (LARS). Where ε is 0, w and v stay as they are.

    Args:
      rates: ε of each of the protocol's groups; may be traced: v does not depend
        on them.
    """
    inside = protocol.rate_in_velocity
    trace = optax.trace(momentum)

    def update(updates, state, params: Any = None):
        rate = _of_group(protocol, rates, params)
        to_add = updates
        for step in _before_velocity(protocol, weight_decay):
            to_add, _ = step.update(to_add, step.init(params), params)
        moves = jax.tree.map(lambda rate: rate > 0, rate)
        _, velocity = trace.update(_down(to_add, rate) if inside else to_add, state)
        velocity = jax.tree.map(jnp.where, optax.TraceState(moves), velocity, state)
        # Written once, then read: of a v computed anew for w as well, XLA keeps a copy.
        velocity = jax.lax.optimization_barrier(velocity)
        to_add = velocity.trace if inside else _down(velocity.trace, rate)
        return jax.tree.map(lambda moves, u: jnp.where(moves, u, 0), moves, to_add), velocity

    return optax.GradientTransformation(trace.init, update)


def start(params: Any) -> optax.OptState:
    """v before the first update, under any protocol."""
    return sgd(PAPER, []).init(params)


def _before_velocity(protocol: Protocol, weight_decay: float) -> list[optax.GradientTransformation]:
    """What a gradient goes through before it is added to v; none of it has a state."""

    def decay(gradients, params):
        shares = [weight_decay * group.decay for group in protocol.groups]
        shares = _of_group(protocol, shares, params)
        return jax.tree.map(lambda g, w, share: g + share * w, gradients, params, shares)

    def are_weights(params):
        return jax.tree_util.tree_map_with_path(lambda path, _: part_of(path) == 'weights', params)

    if protocol.trust is None:
        return [optax.stateless(decay)]
    adapt = optax.scale_by_trust_ratio(trust_coefficient=protocol.trust)
    return [optax.stateless(decay), optax.masked(adapt, are_weights)]


def _down(tree: Any, rate: Any) -> Any:
    """−ε times the tree."""
    return jax.tree.map(lambda x, rate: -rate * x, tree, rate)


def _of_group(protocol: Protocol, values: list[Any], params: Any) -> Any:
    """For each parameter the value of its group."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: values[group_of(protocol, path)], params
    )


def group_of(protocol: Protocol, path: tuple) -> int:
    """The number of the group that a parameter at this place of the tree is in."""
    layer = path[0].key.removesuffix('_norm')
    return next(
        number for number, group in enumerate(protocol.groups) if group.takes(layer, part_of(path))
    )


def part_of(path: tuple) -> str:
    """'weights', or 'biases': all that is no kernel."""
    return 'weights' if path[-1].key == 'kernel' else 'biases'
