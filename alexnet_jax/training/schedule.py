"""The learning rate: divided by 10 when the validation error stops improving (§5)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct


class Plateau(struct.PyTreeNode):
    """What the rule remembers; scalars, part of the train state."""

    best_error: Any  # float32, lowest validation error so far
    stale: Any  # int32, validations since then, or since ε dropped
    drops: Any  # int32, how often ε was divided
    validations: Any  # int32, how many there were


def start() -> Plateau:
    """Before the first validation."""
    return Plateau(jnp.float32(jnp.inf), jnp.int32(0), jnp.int32(0), jnp.int32(0))


def observe(plateau: Plateau, error: float, validations: int, patience: int) -> Plateau:
    """The rule's memory after one more validation with the top-1 error `error`.

    After `patience` validations in a row without a new lowest error the next
    drop begins. `validations` counts this one too.
    """
    lower = np.float32(error) < plateau.best_error
    stale = 0 if lower else int(plateau.stale) + 1
    drop = stale >= patience
    return Plateau(
        best_error=np.float32(error if lower else plateau.best_error),
        stale=np.int32(0 if drop else stale),
        drops=np.int32(int(plateau.drops) + drop),
        validations=np.int32(validations),
    )


def learning_rate(plateau: Plateau, initial: float, drops: int) -> jax.Array:
    """ε: `initial` divided by 10 as often as it dropped, at most `drops` times."""
    rates = jnp.asarray([initial / 10**drop for drop in range(drops + 1)], jnp.float32)
    return rates[jnp.minimum(plateau.drops, drops)]


def finished(plateau: Plateau, drops: int) -> bool:
    """Whether the error stopped improving at the lowest rate too."""
    return int(plateau.drops) > drops
