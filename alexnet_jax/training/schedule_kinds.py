"""Learning-rate schedules as data; `schedule.py` computes rates from them."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Plateau:
    """ε divided by 10 when the validation error stops improving (§5).

    See `schedule.patience` and `schedule.drops`.
    """


@dataclasses.dataclass(frozen=True)
class Steps:
    """ε times `factor` from each `start` on: ((start, factor), ...), in ascending order.

    Starts are numbers of finished epochs, or of steps.
    """

    drops: tuple[tuple[float, float], ...] = ()
    unit: Literal['epochs', 'steps'] = 'epochs'


@dataclasses.dataclass(frozen=True)
class ExponentialSteps:
    """`count` rates of equal duration; each is the previous one times a constant factor.

    The last rate is 1 / `total` of the first (cuda-convnet2's `dexp`).
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

    It rises from `start` · ε and falls as (1 − progress)^`power`. The progress includes the steps
    of the ramp, so the rate drops abruptly at its end (nvcaffe's `rampup_interval` and `poly`).
    """

    ramp_steps: int
    start: float
    power: float
