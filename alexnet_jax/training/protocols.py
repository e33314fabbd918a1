"""Training protocols as data: loss, and learning rates by parameter group and time.

A protocol has defaults of settings (`settings.py`) and groups of parameters. Each group has its own
schedule, and factors of the rate ε and of the weight decay. `training/schedule.py` computes rates
from it, `python -m alexnet_jax.training --config FILE` prints them.
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
    """Parameter group with common rate and decay.

    It holds the weights, the biases (with batch normalization's scale and shift), or both, of the
    named layers (none named: of all). A parameter belongs to the first group that matches it.

    rate, decay: factors of ε and of the weight decay.
    trust: coefficient of layer-wise adaptive rates (LARS, arXiv:1708.03888); None: without.
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
    """AdamW instead of SGD with momentum (arXiv:1412.6980, 1711.05101); β₁ is `optimizer.momentum`.

    beta2: decay of the mean squared gradient per step.
    epsilon: added to its square root.
    """

    beta2: float = 0.999
    epsilon: float = 1e-8


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How a net is trained.

    source: its reference.
    groups: parameter groups, which together contain all parameters.
    settings: defaults of settings that replace those of `settings.SETTINGS`.
    rate_in_velocity: ε inside the velocity as in the paper, or outside as in PyTorch
      (`optimizer.py`).
    reference_batch: batch size that ε is stated for; ε grows in proportion to the batch. None: ε
      does not depend on the batch.
    loss: one of `losses.LOSSES`.
    adam: parameters of AdamW; None: the rule of §5.
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
        """Whether rates depend on the length of the run."""
        to_the_end = ExponentialSteps | WarmupPolynomial | RampPolynomial
        return any(isinstance(group.schedule, to_the_end) for group in self.groups)

    @property
    def main_group(self) -> int:
        """The group whose rate is in `metrics.jsonl`: weights, without named layers."""
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

# For comparisons of runs of equal length, because the time of a plateau depends on noise.
LINEAR = Protocol(
    name='linear',
    source='§5, with the schedule of arXiv:1905.04753',
    groups=(Group('all', WarmupPolynomial(warmup_epochs=0, power=1)),),
)

_Factors = tuple[tuple[float, float], ...]  # factors of ε, each from an epoch on


def _diary(
    name: str, net: str, *, epochs: int, color_epochs: int,
    weights: _Factors, conv1: _Factors, fc8: _Factors = (),
) -> Protocol:  # fmt: skip
    """Returns the rates of the notes at the end of one of the authors' parameter files,
    layer-params-NET.cfg. The notes set the rates of weights. The rate of biases is always 0.02, as
    in the final version of most files (docs/protocols.md); that of conv1's biases ends when its
    weights are frozen.

    Args:
      epochs, color_epochs: epochs of the run, and with a color shift (0: all).
      weights, conv1, fc8: rates of all layers, and differences for conv1 and fc8.
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


# In net 146-2012-2011 the rate of fc8 rose after 300 of the authors' data batches of 1,024 images.
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

# The mean image is subtracted (the default) in training and testing (`mean_file` in
# train_val.prototxt).
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

# All other settings are the paper's. Crops are cut from the stored squares; those of torchvision
# have random size and shape.
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

# First commit of its repository, as in arXiv:1404.5997; since 2014-07-16 it uses a softmax.
ONE_WEIRD_TRICK = Protocol(
    name='one_weird_trick',
    source='cuda-convnet2, layer-params-223-ce2-1gpu.cfg',
    groups=weights_and_biases(
        ExponentialSteps(count=4, total=250.0), biases=ExponentialSteps(count=2, total=10.0)
    ),
    loss='logistic',
)

# Large batches after You et al.; the numbers are ours. LARS adapts only weights; biases have a rate
# of 0.01 where weights have 0.25.
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
    2017): batches of `thousands` · 1024 images, a ramp from a rate of 1, and LARS and weight decay
    for all parameters, separately for each array."""
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

# No crops, mirroring or color shifts; the weight decay of the last layer is 250 times as large.
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

# No regularization, and one constant rate (Figure 1).
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

# For teaching, as an alternative to the paper's update: PyTorch's defaults, no decay of biases.
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
    """Returns the protocol with the rates of some layers multiplied by `rates`.

    A factor of 0 freezes a layer.
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
      InputError: the first name that is not.
    """
    for number, name in enumerate(names):
        if name not in layers:
            raise InputError(
                f'{setting} names layer {shown(name)}; the nearest is {nearest(name, layers)};'
                f' the net has: {", ".join(layers)}'
            )
        if name in names[:number]:
            raise InputError(f'{setting} names layer {shown(name)} twice; allowed: once')
