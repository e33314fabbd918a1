"""Every setting, once: default, what is allowed, meaning with unit and source.

All runs on one workdir must agree on a setting unless it is `free`.
"""

import contextlib
import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.experiment.allowed import (
    HUGE,
    MOST,
    Rule,
    are_factors,
    at_least,
    between,
    can_name_a_file,
    is_source,
    is_span,
    one_of,
    or_own,
    some_of,
    three_numbers,
)
from alexnet_jax.network.architectures import ARCHITECTURES
from alexnet_jax.network.chips import PRECISIONS
from alexnet_jax.network.communication import EXCHANGES
from alexnet_jax.network.layers import ACTIVATIONS
from alexnet_jax.runtime.errors import nearest, shown
from alexnet_jax.runtime.python_files import FORM
from alexnet_jax.training.protocols import PROTOCOLS

SOURCE = Rule(
    f'digits, patterns, synthetic, folder:PATH, tfds:NAME[/config][:version] or {FORM}',
    is_source,
    own=f'{FORM} of a function of your own',
)
BOARDS = ('tensorboard', 'wandb')
RESIZES = ('center_square', 'short_side', 'squash')
NORMALIZATIONS = ('mean_image', 'channel_mean', 'standardized')
OF_START = 'start'  # the normalization of the net at start.from
# The normalizations that take numbers in place of the training set's own.
CHANNEL_KINDS = {'data.mean': NORMALIZATIONS[1:], 'data.std': NORMALIZATIONS[2:]}
SEED = between(0, MOST)
FRACTION = Rule('a number from 0 to below 1', lambda value: 0 <= value < 1)
WIDTH = Rule('a number above 0, at most 16', lambda value: 0 < value <= 16)
POSITIVE = Rule(f'a number above 0, at most {HUGE:g}', lambda value: 0 < value <= HUGE)
NOT_NEGATIVE = Rule(f'a number from 0 to {HUGE:g}', lambda value: 0 <= value <= HUGE)
ONE_OR_TEN = Rule('1 or 10', lambda value: value in (1, 10))
ANY_PATH = Rule('a folder, or nothing for the usual place', can_name_a_file)
MEANS = three_numbers('from 0 to 255', lambda number: 0 <= number <= 255)
SPAN = Rule(f'FIRST:LAST, steps from 1 to {MOST} in this order, as 10:15, or nothing', is_span)
DEVIATIONS = three_numbers('above 0, at most 255', lambda number: 0 < number <= 255)
LAYERS = Rule('names of layers, or nothing', all)
FACTORS = Rule(f'a number from 0 to {HUGE:g} for each layer, as conv1=0,fc8=10', are_factors)
BOOLEAN = Rule('true or false', lambda value: True)


@dataclasses.dataclass(frozen=True)
class Setting:
    """A row of the table of settings. A `free` setting does not change the result."""

    default: bool | int | float | str | tuple | dict
    rule: Rule
    meaning: str
    free: bool = False


SETTINGS: dict[str, Setting] = {
    'seed': Setting(0, SEED,
        'seed of initial values, order, crops, mirroring, color shifts and dropout'),
    'network.name': Setting('paper', or_own(one_of(ARCHITECTURES), 'an Architecture'),
        'a table of network/architectures.py, or one of your own (docs/own_parts.md)'),
    'network.input_size': Setting(0, between(0, 4096),
        'crop size of the net in pixels; 0: that of its table'),
    'network.width': Setting(1.0, WIDTH,
        'factor of the number of features of every layer, for small runs'),
    'network.activation': Setting('', one_of(('', *ACTIVATIONS)),
        "activation function that replaces all of the table's (Figure 1)"),
    'network.exchange': Setting('gather', one_of(EXCHANGES),
        'exchange between columns of fully connected layers on several devices: gather units, or'
        ' scatter partial sums (slightly fewer bytes)', free=True),
    'network.compute': Setting('float32', one_of(('float32', 'bfloat16')),
        'type of activations and products in training; parameters, their updates and the'
        ' output layer are always float32'),
    'network.precision': Setting('default', one_of(PRECISIONS),
        'precision of float32 products in training: highest is float32; on TPU default is one'
        ' bfloat16 pass, high three; on GPU both are TF32. Evaluations are always highest'),
    'start.from': Setting('', ANY_PATH,
        'workdir, checkpoint or weight file with initial values; empty: random initial values'),
    'start.layers': Setting((), LAYERS,
        'layers to load from start.from, for example conv1,conv2; empty: all common layers'),
    'data.source': Setting('synthetic', SOURCE,
        'source of the images; a folder or a TFDS set is prepared first (python -m'
        ' alexnet_jax.data.prepare), a source of your own then or when training starts'),
    'data.dir': Setting('', ANY_PATH,
        'a prepared set, a folder of sets, or the URL of a set; empty:'
        ' ~/tensorflow_datasets/alexnet_jax', free=True),
    'data.record_size': Setting(256, between(1, 4096),
        'side of the stored square images, pixels (paper §2: 256)'),
    'data.resize': Setting('center_square', one_of(RESIZES),
        "resize method: center square (§2), torchvision's or Caffe's; must be that of the prepared"
        ' set (alexnet_jax.data.prepare --resize)'),
    'data.batch_size': Setting(128, at_least(1),
        'images per step over all devices (§5: 128)'),
    'data.random_crop': Setting(True, BOOLEAN,
        'random crops in training (§4.1); otherwise center crops'),
    'data.mirror': Setting(True, BOOLEAN,
        'mirror training images at random (§4.1), and include mirror images in the ten views;'
        ' digits and patterns are never mirrored'),
    'data.normalization': Setting('mean_image', one_of((*NORMALIZATIONS, OF_START)),
        'mean_image: subtract the mean image (§2); channel_mean: subtract the mean of each channel;'
        ' standardized: also divide by its standard deviation (torchvision); start: the'
        ' normalization of start.from'),
    'data.mean': Setting((), MEANS,
        "means of the channels on the scale of 0 to 255; empty: the training set's"),
    'data.std': Setting((), DEVIATIONS,
        "standard deviations of the channels on the scale of 0 to 255; empty: the training set's"),
    'data.color_std': Setting(0.1, NOT_NEGATIVE,
        'standard deviation of the color shift, in principal components (§4.1: 0.1)'),
    'data.color_scale': Setting('std', one_of(('std', 'variance')),
        "scale of a component: std is √λ (the authors' code), variance is λ (printed in §4.1)"),
    'data.color_epochs': Setting(0, at_least(0),
        "epochs with a color shift; 0: all (the authors' code: 67)"),
    'data.threads': Setting(2, between(0, 1024),
        'threads that read, decode and crop; 0: the main thread does this', free=True),
    'data.placement': Setting('host', one_of(('host', 'device')),
        'memory of the images: host (the host reads and crops them for each step) or device (each'
        ' device holds all decoded images and crops them)', free=True),
    'data.synthetic_examples': Setting(1280, at_least(1),
        'training images of the synthetic source; a tenth as many for validation'),
    'data.synthetic_classes': Setting(1000, between(2, 1_000_000),
        'classes of the synthetic source'),
    'optimizer.learning_rate': Setting(0.01, POSITIVE,
        'initial learning rate ε (§5: 0.01)'),
    'optimizer.layer_rates': Setting({}, FACTORS,
        'factors of the learning rates of layers; 0 freezes a layer'),
    'optimizer.momentum': Setting(0.9, FRACTION,
        'fraction of the last update that is added to the next (§5: 0.9)'),
    'optimizer.weight_decay': Setting(5e-4, NOT_NEGATIVE,
        'weight decay; an update subtracts it times ε times the weight (§5: 0.0005)'),
    'schedule.patience': Setting(5, at_least(1),
        'validations (one per epoch) without a new lowest top-1 error before ε drops, in'
        ' protocols with the plateau rule'),
    'schedule.drops': Setting(3, between(0, 30),
        'number of divisions of ε by 10; training ends at the next plateau (§5: 3)'),
    'train.protocol': Setting('paper', or_own(one_of(PROTOCOLS), 'a Protocol'),
        'a table of training/protocols.py, or one of your own: learning rates by parameter group'
        ' and epoch, and defaults of other settings'),
    'train.epochs': Setting(90, at_least(1),
        'maximum number of epochs (§5: roughly 90); on the command line it replaces train.steps'
        ' of a configuration file or workdir', free=True),
    'train.steps': Setting(0, at_least(0),
        'maximum number of steps, which replaces train.epochs; 0: train.epochs decides', free=True),
    'train.micro_batches': Setting(1, at_least(1),
        'number of parts of a batch that are computed in sequence before the update; less memory,'
        ' the same step', free=True),
    'train.log_every_steps': Setting(1, at_least(1),
        'steps between train rows of metrics.jsonl', free=True),
    'train.print_every_steps': Setting(0, at_least(0),
        'steps between printed lines where there is no terminal; 0: about ten seconds', free=True),
    'train.log_to': Setting(('tensorboard',), some_of(BOARDS),
        'trackers that receive the rows, and kernels and histograms at every validation:'
        ' tensorboard (files in WORKDIR/tensorboard), wandb (Weights & Biases)', free=True),
    'train.profile': Setting('', SPAN,
        'steps to profile, for example 10:15, written to WORKDIR/profile; empty: none', free=True),
    'train.report': Setting(True, BOOLEAN,
        'write a report at the end of training, WORKDIR/report/index.html', free=True),
    'checkpoint.every_steps': Setting(0, at_least(0),
        'steps between checkpoints; 0: one per epoch', free=True),
    'checkpoint.keep': Setting(2, at_least(1),
        'number of latest checkpoints to keep, in addition to the best', free=True),
    'eval.split': Setting('', one_of(('', 'train', 'val', 'test')),
        'split to evaluate; empty: test, or val if there is no test', free=True),
    'eval.step': Setting(0, at_least(0),
        'step of the checkpoint to evaluate; 0: the last', free=True),
    'eval.views': Setting(1, ONE_OR_TEN,
        'views (test crops) per image: 1 is the center, 10 is ten-crop (§4.1)', free=True),
    'eval.top_k': Setting(5, at_least(1), 'k of an additional top-k error', free=True),
    'eval.batch_size': Setting(64, at_least(1),
        'views per device and batch', free=True),
    'eval.compute': Setting('float32', one_of(('float32', 'bfloat16')),
        'type of activations and products in --mode=eval; bfloat16 results have file names of their own', free=True),
    'eval.save': Setting('', one_of(('', 'predictions', 'views')),
        'values that --mode=eval saves per image: its probabilities, or also those of each view',
        free=True),
    'mesh.data': Setting(0, at_least(0),
        'devices over which a batch is split; 0: chosen for the least communication', free=True),
    'mesh.column': Setting(0, at_least(0),
        'devices over which the columns are split (§3.2: 2); 0: chosen for the least'
        ' communication', free=True),
}  # fmt: skip


# Settings of the images; they may change when a trained net is used.
IMAGES = ('data.source', 'data.synthetic_examples', 'data.synthetic_classes')
RATES = 'optimizer.layer_rates'
# Configurations written by version 0.1 have 'on' and 'off'.
BOOLEANS = {'true': True, 'false': False, '1': True, '0': False, 'on': True, 'off': False}


def is_setting(name: str) -> bool:
    """Returns whether a flag may set a name.

    It may be a setting, or the factor of one layer (`optimizer.layer_rates.conv1`).
    """
    group, _, layer = name.rpartition('.')
    return name in SETTINGS or (group == RATES and layer != '')


def replaces(later: str, name: str) -> bool:
    """Returns whether a flag takes the place of an earlier one: the same, or of a part of it."""
    return later == name or name.startswith(f'{later}.')


def from_text(name: str, text: str) -> Any:
    """Returns the value of a setting that is given as text.

    It is the text itself if it is not of the setting's type, for `config.validate` to refuse.
    """
    setting = SETTINGS[name]
    try:
        match setting.default:
            case bool():
                return BOOLEANS.get(text.lower(), text)
            case tuple():
                return tuple(setting.rule.item(item) for item in _items(text))
            case dict():
                return _factors(text)
            case default:
                return type(default)(text)
    except ValueError:
        return text


def _items(text: str) -> list[str]:
    """Returns the items of 'a,b', or of a Python tuple or list: '(1, 2)', "['a',]"."""
    if text[:1] + text[-1:] in ('()', '[]'):
        quoted = [item.strip() for item in text[1:-1].strip().removesuffix(',').split(',')]
        text = ','.join(re.sub(r'^([\'"])(.*)\1$', r'\2', item) for item in quoted)
    return [item.strip() for item in text.split(',')] if text.strip() else []


def _factors(text: str) -> dict[str, float]:
    """Returns {'conv1': 0.0} for 'conv1=0'."""
    pairs = [item.split('=') for item in _items(text)]
    factors = {layer.strip(): float(factor) for layer, factor in pairs}
    if len(factors) < len(pairs):
        raise ValueError('a layer is given twice')
    return factors


def as_text(name: str, value: Any) -> str:
    """Returns the text that `from_text` reads as this value."""
    match value:
        case bool():
            return str(value).lower()
        case tuple():
            return ','.join(str(item).removesuffix('.0') for item in value)
        case dict():
            return ','.join(
                f'{layer}={str(factor).removesuffix(".0")}' for layer, factor in value.items()
            )
        case _:
            return str(value)


def normalized(name: str, value: Any) -> Any:
    """Returns a value in the type of the setting's default where that is natural.

    It turns a whole number into a real one, a list into a tuple, and the texts of version 0.1
    into booleans, tuples and factors. Any other value is returned as it is, for `config.validate`
    to refuse.
    """
    setting = SETTINGS[name]
    if isinstance(value, ConfigDict):
        value = value.to_dict()
    match setting.default:
        case bool() | tuple() | dict() if isinstance(value, str):
            return from_text(name, value)
        case tuple() if isinstance(value, list | tuple):
            return tuple(_as_float(x) if setting.rule.item is float else x for x in value)
        case dict() if isinstance(value, Mapping):
            return {layer: _as_float(factor) for layer, factor in value.items()}
        case float():
            return _as_float(value)
        case _:
            return value


def _as_float(value: Any) -> Any:
    with contextlib.suppress(OverflowError):
        return float(value) if type(value) is int else value
    return value


def fault_of(name: str, value: Any) -> str:
    """Returns what is wrong with the value of a setting; '' for nothing."""
    rule = SETTINGS[name].rule
    right_type = type(value) is type(SETTINGS[name].default)
    if isinstance(value, tuple):
        right_type &= all(type(item) is rule.item for item in value)
    if right_type and rule.allows(value):
        return ''
    if rule.own and isinstance(value, str) and '.py' in value:
        return f'{name} is {shown(value)}; allowed: {rule.own}, or a name of this package'
    near = ''
    if isinstance(value, str) and value and rule.names:
        near = f'the nearest is {nearest(value, rule.names)}; '
    return f'{name} is {shown(value)}; {near}allowed: {rule.words}'
