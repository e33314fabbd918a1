"""Training protocols, as data: which loss is minimized, and how fast which parameters learn when.

A protocol gives defaults for settings (`settings.py`), and groups of parameters,
each with a share of the rate ε and of the weight decay and a schedule of its
own. `training/schedule.py` computes rates from it, `python -m
alexnet_jax.training --config FILE` prints them.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from alexnet_jax.runtime.errors import InputError, nearest, shown
from alexnet_jax.training.schedule_kinds import (
    ExponentialSteps,
    Plateau,
    RampPolynomial,
    Steps,
    WarmupPolynomial,
)

Schedule = Plateau | Steps | ExponentialSteps | WarmupPolynomial | RampPolynomial
CONSTANT = Steps()


@dataclasses.dataclass(frozen=True)
class Group:
    """Parameters that learn alike.

    They are of these layers (none named: of all): the weights, the biases (with batch
    normalization's scale and shift), or both. A parameter is in the first group that takes it.

    rate, decay: times ε, times the weight decay.
    trust: of layer-wise adaptive rates (LARS, arXiv:1708.03888); None: without them.
    """

    name: str
    schedule: Schedule
    part: Literal['weights', 'biases', 'both'] = 'both'
    layers: tuple[str, ...] = ()
    rate: float = 1.0
    decay: float = 1.0
    trust: float | None = None

    def takes(self, layer: str, part: str) -> bool:
        """Returns whether the group holds a part ('weights', 'biases') of a layer."""
        return (not self.layers or layer in self.layers) and self.part in (part, 'both')


@dataclasses.dataclass(frozen=True)
class Adam:
    """AdamW in place of momentum alone (arXiv:1412.6980, 1711.05101); β₁ is `optimizer.momentum`.

    beta2: what remains of the mean squared gradient in a step.
    epsilon: is added to its square root.
    """

    beta2: float = 0.999
    epsilon: float = 1e-8


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How a net is trained.

    source: where it is written.
    groups: their parameters; together all there are.
    settings: defaults of settings, in place of those of `settings.SETTINGS`.
    rate_in_velocity: ε inside the velocity, as the paper has it, or outside as in
      PyTorch (`optimizer.py`).
    reference_batch: ε is meant for that many images a step and grows with the
      batch; None: it is taken as it is.
    loss: what is minimized, one of `losses.LOSSES`.
    adam: updates as AdamW makes them; None: as §5 does.
    """

    name: str
    source: str
    groups: tuple[Group, ...]
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    rate_in_velocity: bool = True
    reference_batch: int | None = None
    loss: Literal['softmax', 'logistic'] = 'softmax'
    adam: Adam | None = None

    @property
    def watches_plateaus(self) -> bool:
        """Whether any schedule depends on validation errors."""
        return any(isinstance(group.schedule, Plateau) for group in self.groups)

    @property
    def depends_on_length(self) -> bool:
        """Whether rates depend on how long the run is to be."""
        to_the_end = ExponentialSteps | WarmupPolynomial | RampPolynomial
        return any(isinstance(group.schedule, to_the_end) for group in self.groups)

    @property
    def main_group(self) -> int:
        """The group whose rate `metrics.jsonl` has: of weights, in no layer by name."""
        return next(
            number
            for number, group in enumerate(self.groups)
            if group.part != 'biases' and not group.layers
        )


def weights_and_biases(schedule: Schedule, biases: Schedule | None = None) -> tuple[Group, Group]:
    """Returns two groups as in Caffe and the authors' code.

    Biases have twice the rate and are not decayed.
    """
    return (
        Group('weights', schedule, 'weights'),
        Group('biases', biases or schedule, 'biases', rate=2.0, decay=0.0),
    )


PAPER = Protocol('paper', '§5', (Group('all', Plateau()),))

# For runs of equal length that are compared: a plateau comes sooner or later by noise.
LINEAR = Protocol(
    name='linear',
    source='§5, with the schedule of arXiv:1905.04753',
    groups=(Group('all', WarmupPolynomial(warmup_epochs=0, power=1)),),
)

_Factors = tuple[tuple[float, float], ...]  # of ε, each from an epoch on


def _diary(
    name: str, net: str, *, epochs: int, color_epochs: int,
    weights: _Factors, conv1: _Factors, fc8: _Factors = (),
) -> Protocol:  # fmt: skip
    """Returns the diary beneath one of the authors' parameter files, layer-params-NET.cfg. Its
    entries set the rates of weights. Biases stay at 0.02, as most files were left
    (docs/protocols.md), and those of conv1 until its weights are frozen.

    Args:
      epochs, color_epochs: of the run, and those with a color shift (0: all).
      weights, conv1, fc8: those of all layers, and where conv1's and fc8's differ from them.
    """
    alike = tuple(factor for factor in weights if factor[0] < conv1[0][0])
    frozen = tuple(factor for factor in conv1 if factor[1] == 0)
    return Protocol(
        name,
        source=f"the authors' code, net {net}",
        groups=(
            Group('conv1 weights', Steps(alike + conv1), 'weights', ('conv1',)),
            Group('conv1 biases', Steps(frozen), 'biases', ('conv1',), rate=2.0, decay=0.0),
            *([Group('fc8 weights', Steps(fc8), 'weights', ('fc8',))] if fc8 else []),
            *weights_and_biases(Steps(weights), biases=CONSTANT),
        ),
        settings={'train.epochs': epochs, 'data.color_epochs': color_epochs},
    )


# Net 146-2012-2011 waited 300 of the authors' data batches, of 1,024 images each, before fc8 sped up.
_FC8_WAITS = 300 * 1024 / 1_281_167
DIARIES = (
    _diary('diary', '145', epochs=91, color_epochs=67,
           weights=((25, 0.1), (51, 0.01), (79, 0.001)), conv1=((67, 0.001), (72, 0.0))),
    _diary('diary_half', '145-half', epochs=96, color_epochs=66,
           weights=((20, 0.1), (48, 0.01)), conv1=((66, 0.001), (72, 0.0))),
    _diary('diary_no_lrn', '148', epochs=97, color_epochs=69,
           weights=((22, 0.1), (44, 0.01), (86, 0.001)), conv1=((69, 0.001), (73, 0.0))),
    _diary('diary_non_overlapping', '147', epochs=90, color_epochs=0,
           weights=((23, 0.1), (51, 0.01), (79, 0.001)), conv1=((79, 0.0),)),
    _diary('diary_no_communication', '150', epochs=92, color_epochs=66,
           weights=((25, 0.1), (49, 0.01), (79, 0.001)), conv1=((66, 0.001), (72, 0.0))),
    _diary('diary_six_conv', '146-2012-2011', epochs=54, color_epochs=38,
           weights=((0, 0.1), (22, 0.01), (42, 0.001)),
           conv1=((0, 0.01), (5, 0.001), (7, 0.0)),
           fc8=((0, 0.1), (_FC8_WAITS, 1.0), (9, 0.1), (22, 0.01), (42, 0.001))),
)  # fmt: skip
DIARY = DIARIES[0]

# Images less the mean image, the default, in training and testing (`mean_file` in train_val.prototxt).
CAFFE = Protocol(
    name='caffe',
    source='BVLC Caffe, models/bvlc_alexnet/solver.prototxt',
    groups=weights_and_biases(
        Steps(((100_000, 1e-1), (200_000, 1e-2), (300_000, 1e-3), (400_000, 1e-4)), unit='steps')
    ),
    settings={
        'data.batch_size': 256,
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

# Of the first commit of its repository, as in arXiv:1404.5997; a softmax since 2014-07-16.
ONE_WEIRD_TRICK = Protocol(
    name='one_weird_trick',
    source='cuda-convnet2, layer-params-223-ce2-1gpu.cfg',
    groups=weights_and_biases(
        ExponentialSteps(count=4, total=250.0), biases=ExponentialSteps(count=2, total=10.0)
    ),
    loss='logistic',
)

# Large batches in the manner of You et al.; the numbers are ours. LARS adapts weights
# alone: biases, without it, learn at 0.01 where weights have 0.25.
LARGE_BATCH = Protocol(
    name='large_batch',
    source='arXiv:1708.03888',
    groups=(
        Group('weights', WarmupPolynomial(warmup_epochs=5, power=2), 'weights', trust=0.001),
        Group('biases', WarmupPolynomial(warmup_epochs=5, power=2), 'biases', rate=0.04, decay=0.0),
    ),
    settings={
        'data.batch_size': 4096,
        'optimizer.learning_rate': 0.25,
        'train.epochs': 100,
    },
    reference_batch=256,
)


def _alexnet_bn(thousands: int, file: str, rate: float, ramp_steps: int) -> Protocol:
    """Returns the protocol of a solver of nvcaffe's models/alexnet_bn (commit b66e1ede, September
    2017): batches of `thousands` · 1024 images, a ramp that begins at a rate of 1, and LARS and
    weight decay for all parameters, each array by itself."""
    return Protocol(
        f'alexnet_bn_{thousands}k',
        source=f'nvcaffe, models/alexnet_bn/{file}',
        groups=(Group('all', RampPolynomial(ramp_steps, 1 / rate, power=2), trust=0.001),),
        settings={
            'data.batch_size': thousands * 1024,
            'data.color_std': 0.0,
            'optimizer.learning_rate': rate,
            'train.epochs': 100,
        },
    )


ALEXNET_BN = (
    _alexnet_bn(8, 'solver_8K.prototxt', rate=10.0, ramp_steps=600),
    _alexnet_bn(16, 'solver_16k.prototxt', rate=24.0, ramp_steps=400),
    _alexnet_bn(32, 'solver_32k.prototxt', rate=32.0, ramp_steps=400),
)

# No crops, mirrors or color shifts; the last layer is decayed 250 times as hard.
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

# No regularization of any kind, one rate throughout (Figure 1).
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

# For lessons, beside the paper's update: PyTorch's defaults, biases not decayed.
ADAMW = Protocol(
    name='adamw',
    source='arXiv:1711.05101',
    groups=(Group('weights', CONSTANT, 'weights'), Group('biases', CONSTANT, 'biases', decay=0.0)),
    settings={'optimizer.learning_rate': 0.001, 'optimizer.weight_decay': 0.01},
    adam=Adam(),
)

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        PAPER, LINEAR, *DIARIES, CAFFE, TORCHVISION, ONE_WEIRD_TRICK, LARGE_BATCH, *ALEXNET_BN, CIFAR18,
        CONSTANT_RATE, ADAMW,
    )
}  # fmt: skip


def with_layer_rates(protocol: Protocol, rates: Mapping[str, float]) -> Protocol:
    """Returns the protocol, the parameters of some layers at `rates` times their rate.

    A factor of 0 keeps a layer as it is.
    """
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
