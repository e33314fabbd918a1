"""Learning rates of each parameter group at each step."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from alexnet_jax.training.protocols import (
    ExponentialSteps,
    Plateau,
    Protocol,
    RampPolynomial,
    Schedule,
    Steps,
    WarmupPolynomial,
)

LAST_STEP = 2**31 - 1  # steps are counted in 32 bits


class PlateauState(struct.PyTreeNode):
    """State of the plateau rule; scalars, part of the train state."""

    best_error: Any  # float32, lowest validation error so far
    stale: Any  # int32, validations since then, or since the last drop of ε
    drops: Any  # int32, number of divisions of ε
    validations: Any  # int32, number of validations


def start() -> PlateauState:
    """Returns the state before the first validation."""
    return PlateauState(jnp.float32(jnp.inf), jnp.int32(0), jnp.int32(0), jnp.int32(0))


def observe(plateau: PlateauState, error: float, validations: int, patience: int) -> PlateauState:
    """Returns the rule's state after one more validation with the top-1 error `error`.

    After `patience` consecutive validations without a new lowest error, ε drops. `validations`
    includes this one.
    """
    lower = np.float32(error) < plateau.best_error
    stale = 0 if lower else int(plateau.stale) + 1
    drop = stale >= patience
    return PlateauState(
        best_error=np.float32(error if lower else plateau.best_error),
        stale=np.int32(0 if drop else stale),
        drops=np.int32(int(plateau.drops) + drop),
        validations=np.int32(validations),
    )


def finished(plateau: PlateauState, drops: int) -> bool:
    """Returns whether the error has stopped improving at the lowest rate."""
    return int(plateau.drops) > drops


@dataclasses.dataclass(frozen=True)
class Clock:
    """Length of a run.

    steps: maximum number of steps.
    batch_size, epoch_size: images per step, and in the training set.
    """

    steps: int
    batch_size: int
    epoch_size: int

    def epoch(self, step: int) -> float:
        """Returns the passes over the training set after `step` steps."""
        return step * self.batch_size / self.epoch_size

    def first_step(self, epochs: float) -> int:
        """Returns the number of steps after which so many epochs are complete."""
        return math.ceil(epochs * self.epoch_size / self.batch_size)


def rates(
    protocol: Protocol,
    learning_rate: float,
    drops: int,
    clock: Clock,
    step: jax.Array | int,
    plateau: PlateauState,
) -> list[jax.Array]:
    """Returns ε of each of the protocol's groups in the update after `step` steps.

    Args:
      learning_rate: that of a group with rate 1, before any schedule.
      drops: maximum number of drops of the plateau rule.
    """
    if protocol.reference_batch is not None:
        learning_rate *= clock.batch_size / protocol.reference_batch
    return [
        _rate(group.schedule, learning_rate * group.rate, drops, clock, step, plateau)
        for group in protocol.groups
    ]


def changes(schedule: Schedule, clock: Clock) -> list[int]:
    """Returns the steps at which the rate of a schedule changes abruptly."""
    match schedule:
        case Steps(drops, 'steps'):
            return [int(start) for start, _ in drops]
        case Steps(drops, _):
            return [clock.first_step(start) for start, _ in drops]
        case ExponentialSteps(count, _):
            return [math.ceil(clock.steps * part / count) for part in range(1, count)]
        case RampPolynomial(ramp_steps, _, _):
            return [ramp_steps]
    return []


def _rate(
    schedule: Schedule,
    initial: float,
    drops: int,
    clock: Clock,
    step: jax.Array | int,
    plateau: PlateauState,
) -> jax.Array:
    match schedule:
        case Plateau():
            table = [initial / 10**drop for drop in range(drops + 1)]
            return jnp.asarray(table, jnp.float32)[jnp.minimum(plateau.drops, drops)]
        case Steps(when):
            factors = [factor for _, factor in when]
            return _piecewise(initial, changes(schedule, clock), factors, step)
        case ExponentialSteps(count, total):
            factors = [total ** (-part / (count - 1)) for part in range(1, count)]
            return _piecewise(initial, changes(schedule, clock), factors, step)
        case WarmupPolynomial(warmup_epochs, power):
            warmup = clock.first_step(warmup_epochs)
            rising = (step + 1) / float(max(1, warmup))
            warmup = min(warmup, LAST_STEP)
            progress = (step - warmup) / max(1, clock.steps - warmup)
            falling = (1 - jnp.clip(progress, 0, 1)) ** power
            return jnp.float32(initial) * jnp.where(step < warmup, rising, falling)
        case RampPolynomial(ramp_steps, first, power):
            rising = first + (1 - first) * (step / ramp_steps)
            falling = ((clock.steps - step) / max(1, clock.steps)) ** power
            return jnp.float32(initial) * jnp.where(step < ramp_steps, rising, falling)
    raise TypeError(f'unknown schedule {schedule!r}')


def _piecewise(initial: float, starts: list[int], factors: list[float], step) -> jax.Array:
    """Multiplies `initial` by each factor from its start on."""
    table = jnp.asarray([initial, *(initial * factor for factor in factors)], jnp.float32)
    if not starts:
        return table[0]
    starts = [min(start, LAST_STEP) for start in starts]  # no update follows the last step
    return table[jnp.searchsorted(jnp.asarray(starts), step, side='right')]
