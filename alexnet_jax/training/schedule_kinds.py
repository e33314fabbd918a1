"""Schedules of rates, as data; `schedule.py` computes rates from them."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Plateau:
    """ε divided by 10 when the validation error stops improving (§5).

    See `schedule.patience` and `schedule.drops`.
    """


@dataclasses.dataclass(frozen=True)
class Steps:
    """ε times `factor` from each `start` on: ((start, factor), ...), starts ascending.

    They are counted in finished epochs or in steps.
    """

    drops: tuple[tuple[float, float], ...] = ()
    unit: Literal['epochs', 'steps'] = 'epochs'


@dataclasses.dataclass(frozen=True)
class ExponentialSteps:
    """`count` rates, equally long, each the same factor below the last.

    The lowest is 1 / `total` of the first (cuda-convnet2's `dexp`).
    """

    count: int
    total: float


@dataclasses.dataclass(frozen=True)
class WarmupPolynomial:
    """Rises linearly for `warmup_epochs`, then falls as (1 − progress)^`power` to 0."""

    warmup_epochs: float
    power: float


@dataclasses.dataclass(frozen=True)
class RampPolynomial:
    """Rises linearly for `ramp_steps` steps and falls polynomially afterwards.

    It rises from `start` · ε, and falls as (1 − progress)^`power`, with the ramp's steps in the
    progress: the rate jumps down where the ramp ends (nvcaffe's `rampup_interval` and `poly`).
    """

    ramp_steps: int
    start: float
    power: float
