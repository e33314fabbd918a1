"""Update rules: the paper's (§5), variants of it in other protocols, and AdamW."""

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
    """Returns stochastic gradient descent with momentum as in the paper (§5).

        v ← momentum · v − weight_decay · ε · w − ε · ∂L/∂w
        w ← w + v

    ε is inside v: after a drop of ε, v still has updates of the old size. With `rate_in_velocity`
    False it is outside, as in PyTorch (and `optax.sgd`); results differ from the first drop on:

        v ← momentum · v + weight_decay · w + ∂L/∂w
        w ← w − ε · v

    In a group with `trust` (LARS, arXiv:1708.03888), ε of each array of parameters is
    multiplied by `lars_factor`. Where ε is 0, w and v do not change.

    Args:
      rates: ε of each of the protocol's groups; may be traced.
    """
    inside = protocol.rate_in_velocity
    trace = optax.trace(momentum)

    def update(updates, state, params: Any = None):
        rate = _of_group(protocol, rates, params)
        to_add = _before_velocity(protocol, weight_decay, updates, params)
        moves = jax.tree.map(lambda rate: rate > 0, rate)
        _, velocity = trace.update(_down(to_add, rate) if inside else to_add, state)
        velocity = jax.tree.map(jnp.where, optax.TraceState(moves), velocity, state)
        # The barrier makes XLA compute v once; without it XLA computes v again for w and keeps a
        # copy.
        velocity = jax.lax.optimization_barrier(velocity)
        to_add = velocity.trace if inside else _down(velocity.trace, rate)
        return jax.tree.map(lambda moves, u: jnp.where(moves, u, 0), moves, to_add), velocity

    return optax.GradientTransformation(trace.init, update)


def adamw(
    protocol: Protocol, rates: list[Any], momentum: float, weight_decay: float
) -> optax.GradientTransformation:
    """Returns AdamW (arXiv:1711.05101).

    With g = ∂L/∂w, n the number of the update and β₁ the momentum:

        m ← β₁ · m + (1 − β₁) · g
        v ← β₂ · v + (1 − β₂) · g²
        w ← w − ε · (m / (1 − β₁ⁿ) / (√(v / (1 − β₂ⁿ)) + epsilon) + weight_decay · w)

    Where ε is 0, w does not change; m and v are updated, because n counts the updates of all
    parameters.

    Args:
      protocol: one with `adam`.
      rates: ε of each of the protocol's groups; may be traced.
    """
    assert protocol.adam is not None
    adam = optax.scale_by_adam(momentum, protocol.adam.beta2, protocol.adam.epsilon)

    def update(updates, state, params: Any = None):
        rate = _of_group(protocol, rates, params)
        steps, state = adam.update(updates, state)

        def decayed(path: tuple, step: jax.Array, weights: jax.Array) -> jax.Array:
            decay = weight_decay * protocol.groups[group_of(protocol, path)].decay
            return step + decay * weights

        return _down(jax.tree_util.tree_map_with_path(decayed, steps, params), rate), state

    return optax.GradientTransformation(adam.init, update)


def rule(
    protocol: Protocol, rates: list[Any], momentum: float = 0.9, weight_decay: float = 5e-4
) -> optax.GradientTransformation:
    """Returns the update rule of a protocol: `sgd` or `adamw`."""
    make = sgd if protocol.adam is None else adamw
    return make(protocol, rates, momentum, weight_decay)


def start(params: Any, protocol: Protocol = PAPER) -> optax.OptState:
    """Returns the optimizer state before the first update: v, or the moments of AdamW."""
    return rule(protocol, []).init(params)


def lars_factor(
    gradient: jax.Array, weights: jax.Array, trust: float, weight_decay: float
) -> jax.Array:
    """Returns λ = trust · ‖w‖ / (‖∂L/∂w‖ + weight_decay · ‖w‖) (arXiv:1708.03888).

    Norms are over all elements of an array. It is 1 if all of w or of its gradient is 0, as in
    nvcaffe.

    `optax.lars` divides by ‖∂L/∂w + weight_decay · w‖ instead, which is smaller if the two have
    opposite directions.
    """
    of_weights, of_gradient = (jnp.sqrt(jnp.sum(x**2)) for x in (weights, gradient))
    factor = trust * of_weights / (of_gradient + weight_decay * of_weights)
    return jnp.where((of_weights == 0) | (of_gradient == 0), 1.0, factor)


def _before_velocity(protocol: Protocol, weight_decay: float, gradients: Any, params: Any) -> Any:
    """Returns the increment of v without the factor −ε: gradients plus weight decay, times LARS's
    factor in groups that have one.
    """

    def to_add(path: tuple, gradient: jax.Array, weights: jax.Array) -> jax.Array:
        group = protocol.groups[group_of(protocol, path)]
        decay = weight_decay * group.decay
        decayed = gradient + decay * weights
        if group.trust is None:
            return decayed
        return lars_factor(gradient, weights, group.trust, decay) * decayed

    return jax.tree_util.tree_map_with_path(to_add, gradients, params)


def _down(tree: Any, rate: Any) -> Any:
    """Returns the tree multiplied by −ε."""
    return jax.tree.map(lambda x, rate: -rate * x, tree, rate)


def _of_group(protocol: Protocol, values: list[Any], params: Any) -> Any:
    """Returns the value of its group for each parameter."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: values[group_of(protocol, path)], params
    )


def group_of(protocol: Protocol, path: tuple) -> int:
    """Returns the index of a parameter's group, from its path in the tree."""
    layer = path[0].key.removesuffix('_norm')
    return next(
        number for number, group in enumerate(protocol.groups) if group.takes(layer, part_of(path))
    )


def part_of(path: tuple) -> str:
    """Returns 'weights' for kernels and 'biases' for all other parameters."""
    return 'weights' if path[-1].key == 'kernel' else 'biases'
