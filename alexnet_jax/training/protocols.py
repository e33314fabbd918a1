"""Training protocols, as data: how fast which parameters learn, and when.

A protocol gives defaults for settings (`settings.py`), and groups of parameters,
each with a share of the rate ε and of the weight decay and a schedule of its
own. `training/schedule.py` computes rates from it, `python -m
alexnet_jax.training --config FILE` prints them.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from alexnet_jax.runtime.errors import InputError, nearest, shown


@dataclasses.dataclass(frozen=True)
class Plateau:
    """ε divided by 10 when the validation error stops improving (§5), as
    `schedule.patience` and `schedule.drops` say."""


@dataclasses.dataclass(frozen=True)
class Steps:
    """ε times `factor` from each `start` on: ((start, factor), ...), starts ascending,
    counted in finished epochs or in steps."""

    drops: tuple[tuple[float, float], ...] = ()
    unit: Literal['epochs', 'steps'] = 'epochs'


@dataclasses.dataclass(frozen=True)
class ExponentialSteps:
    """`count` rates, equally long, each the same factor below the last; the lowest is
    1 / `total` of the first (cuda-convnet2's `dexp`)."""

    count: int
    total: float


@dataclasses.dataclass(frozen=True)
class WarmupPolynomial:
    """Rises linearly for `warmup_epochs`, then falls as (1 − progress)^`power` to 0."""

    warmup_epochs: float
    power: float


Schedule = Plateau | Steps | ExponentialSteps | WarmupPolynomial
CONSTANT = Steps()


@dataclasses.dataclass(frozen=True)
class Group:
    """Parameters that learn alike: of these layers (none named: of all), the weights,
    the biases (with batch normalisation's scale and shift), or both. A parameter is
    in the first group that takes it.

    rate, decay: times ε, times the weight decay.
    """

    name: str
    schedule: Schedule
    part: Literal['weights', 'biases', 'both'] = 'both'
    layers: tuple[str, ...] = ()
    rate: float = 1.0
    decay: float = 1.0

    def takes(self, layer: str, part: str) -> bool:
        return (not self.layers or layer in self.layers) and self.part in (part, 'both')


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How a net is trained.

    source: where it is written.
    groups: their parameters; together all there are.
    settings: defaults of settings, in place of those of `settings.SETTINGS`.
    rate_in_velocity: ε inside the velocity, as the paper has it, or outside as in
      PyTorch (`optimizer.py`).
    trust: of layer-wise adaptive rates (LARS, arXiv:1708.03888), for weights;
      None: without them.
    reference_batch: ε is meant for that many images a step and grows with the
      batch; None: it is taken as it is.
    """

    name: str
    source: str
    groups: tuple[Group, ...]
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    rate_in_velocity: bool = True
    trust: float | None = None
    reference_batch: int | None = None

    @property
    def watches_plateaus(self) -> bool:
        return any(isinstance(group.schedule, Plateau) for group in self.groups)

    @property
    def looks_at_length(self) -> bool:
        """Whether rates depend on how long the run is to be."""
        return any(
            isinstance(group.schedule, ExponentialSteps | WarmupPolynomial) for group in self.groups
        )

    @property
    def main_group(self) -> int:
        """The group whose rate `metrics.jsonl` has: of weights, in no layer by name."""
        return next(
            number
            for number, group in enumerate(self.groups)
            if group.part != 'biases' and not group.layers
        )


def weights_and_biases(schedule: Schedule, biases: Schedule | None = None) -> tuple[Group, Group]:
    """As Caffe and the authors' code have it: biases at twice the rate, not decayed."""
    return (
        Group('weights', schedule, 'weights'),
        Group('biases', biases or schedule, 'biases', rate=2.0, decay=0.0),
    )


PAPER = Protocol('paper', '§5', (Group('all', Plateau()),))

# The diary beneath the authors' parameter file of net 145 (layer-params-145.cfg).
# Its entries set the rates of weights alone: the file as it was left has biases
# at 0.02 still, and those of conv1 at 0 with its weights.
DIARY = Protocol(
    name='diary',
    source="the authors' code, net 145",
    groups=(
        Group('conv1 weights', Steps(((25, 0.1), (51, 0.01), (67, 0.001), (72, 0.0))),
              'weights', ('conv1',)),
        Group('conv1 biases', Steps(((72, 0.0),)), 'biases', ('conv1',), rate=2.0, decay=0.0),
        *weights_and_biases(Steps(((25, 0.1), (51, 0.01), (79, 0.001))), biases=CONSTANT),
    ),
    settings={'train.epochs': 91, 'data.color_epochs': 67},
)  # fmt: skip

CAFFE = Protocol(
    name='caffe',
    source='BVLC Caffe, models/bvlc_alexnet/solver.prototxt',
    groups=weights_and_biases(
        Steps(((100_000, 1e-1), (200_000, 1e-2), (300_000, 1e-3), (400_000, 1e-4)), unit='steps')
    ),
    settings={
        'data.batch_size': 256,
        'data.normalization': 'channel_mean',
        'data.color_std': 0.0,
        'train.steps': 450_000,
    },
)

# All that is not said here is as in the paper; crops are of the stored squares, not
# of random size and shape as torchvision's.
TORCHVISION = Protocol(
    name='torchvision',
    source="torchvision's reference training",
    groups=(Group('all', Steps(((30, 0.1), (60, 0.01)))),),
    settings={
        'data.batch_size': 256,
        'data.normalization': 'standardized',
        'data.color_std': 0.0,
        'optimizer.weight_decay': 1e-4,
    },
    rate_in_velocity=False,
)

ONE_WEIRD_TRICK = Protocol(
    name='one_weird_trick',
    source='cuda-convnet2, layer-params-223-ce2-1gpu.cfg',
    groups=weights_and_biases(
        ExponentialSteps(count=4, total=250.0), biases=ExponentialSteps(count=2, total=10.0)
    ),
)

# Large batches in the manner of You et al.; the numbers are ours. LARS adapts weights
# alone: biases, without it, learn at 0.01 where weights have 0.25.
LARGE_BATCH = Protocol(
    name='large_batch',
    source='arXiv:1708.03888',
    groups=(
        Group('weights', WarmupPolynomial(warmup_epochs=5, power=2), 'weights'),
        Group('biases', WarmupPolynomial(warmup_epochs=5, power=2), 'biases', rate=0.04, decay=0.0),
    ),
    settings={
        'data.batch_size': 4096,
        'optimizer.learning_rate': 0.25,
        'train.epochs': 100,
    },
    trust=0.001,
    reference_batch=256,
)

# No crops, mirrors or colour shifts; the last layer is decayed 250 times as hard.
_CIFAR_STEPS = Steps(((120, 0.1), (130, 0.01)))
CIFAR18 = Protocol(
    name='cifar18',
    source="the authors' code, layer-params-18pct.cfg",
    groups=(
        Group('fc10 weights', _CIFAR_STEPS, 'weights', ('fc10',), decay=250.0),
        *weights_and_biases(_CIFAR_STEPS),
    ),
    settings={
        'data.mirror': False,
        'data.color_std': 0.0,
        'optimizer.learning_rate': 0.001,
        'optimizer.weight_decay': 0.004,
        'train.epochs': 140,
    },
)

# No regularisation of any kind, one rate throughout (Figure 1).
CONSTANT_RATE = Protocol(
    name='constant',
    source='Figure 1',
    groups=(Group('all', CONSTANT),),
    settings={
        'data.mirror': False,
        'data.color_std': 0.0,
        'optimizer.weight_decay': 0.0,
    },
)

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        PAPER, DIARY, CAFFE, TORCHVISION, ONE_WEIRD_TRICK, LARGE_BATCH, CIFAR18, CONSTANT_RATE,
    )
}  # fmt: skip


def with_layer_rates(protocol: Protocol, rates: Mapping[str, float]) -> Protocol:
    """The same protocol, the parameters of some layers at `rates` times the rate they
    had; 0 keeps a layer as it is."""
    groups = []
    for layer, factor in rates.items():
        for part in ('weights', 'biases'):
            group = next(group for group in protocol.groups if group.takes(layer, part))
            groups.append(
                dataclasses.replace(
                    group, name=f'{layer} {part}', part=part, layers=(layer,),
                    rate=group.rate * factor,
                )
            )  # fmt: skip
    return dataclasses.replace(protocol, groups=(*groups, *protocol.groups))


def require_layers(setting: str, names: Sequence[str], layers: Collection[str]) -> None:
    """Checks that each name is a layer of the net and is given once.

    Raises:
      InputError: the first that is not.
    """
    for number, name in enumerate(names):
        if name not in layers:
            raise InputError(
                f'{setting} names layer {shown(name)}; the nearest is {nearest(name, layers)};'
                f' the net has: {", ".join(layers)}'
            )
        if name in names[:number]:
            raise InputError(f'{setting} names layer {shown(name)} twice; allowed: once')
