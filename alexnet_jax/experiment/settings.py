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
    """A row of the table of settings. A `free` setting does not change what is computed."""

    default: bool | int | float | str | tuple | dict
    rule: Rule
    meaning: str
    free: bool = False


SETTINGS: dict[str, Setting] = {
    'seed': Setting(0, SEED,
        'decides initial values, order, crops, mirrors, colours and dropout'),
    'network.name': Setting('paper', or_own(one_of(ARCHITECTURES), 'an Architecture'),
        'a table of network/architectures.py, or one of your own (docs/own_parts.md)'),
    'network.input_size': Setting(0, between(0, 4096),
        "side of the crop the net takes, pixels; 0: the table's own"),
    'network.width': Setting(1.0, WIDTH,
        'times as many features in every layer, for small runs'),
    'network.activation': Setting('', one_of(('', *ACTIVATIONS)),
        "in place of all the table's own activations (Figure 1)"),
    'network.exchange': Setting('gather', one_of(EXCHANGES),
        "how fully connected layers' columns on several devices meet: units are gathered, or"
        ' sums scattered (a little less to send)', free=True),
    'network.compute': Setting('float32', one_of(('float32', 'bfloat16')),
        'type of activations and products while training; parameters, their updates and the'
        ' output layer are float32 in either'),
    'network.precision': Setting('default', one_of(PRECISIONS),
        'precision of float32 products while training: highest is float32; on TPU default is one'
        ' bfloat16 pass, high three; on GPU both are TF32. Evaluations are always highest'),
    'start.from': Setting('', ANY_PATH,
        'a workdir, one of its checkpoints or a weight file to take initial values from; nothing:'
        ' from none'),
    'start.layers': Setting((), LAYERS,
        'which layers to take, as conv1,conv2; nothing: all that are in both'),
    'data.source': Setting('synthetic', SOURCE,
        'where images come from; a folder or a TFDS set is prepared first (python -m'
        ' alexnet_jax.data.prepare), a source of your own then or when training starts'),
    'data.dir': Setting('', ANY_PATH,
        'a set or a folder of such, or the URL of a set; nothing: ~/tensorflow_datasets/alexnet_jax',
        free=True),
    'data.record_size': Setting(256, between(1, 4096),
        'side of the stored square images, pixels (paper §2: 256)'),
    'data.resize': Setting('center_square', one_of(RESIZES),
        "how they became squares: their middle (§2), torchvision's way or Caffe's; the set"
        ' is prepared so (alexnet_jax.data.prepare --resize)'),
    'data.batch_size': Setting(128, at_least(1),
        'images a step, all devices together (§5: 128)'),
    'data.random_crop': Setting(True, BOOLEAN,
        'whether training images are cropped at random places (§4.1), or in the middle'),
    'data.mirror': Setting(True, BOOLEAN,
        'whether training images are mirrored (§4.1), and mirror images are among the ten views;'
        ' those of digits and patterns never are'),
    'data.normalization': Setting('mean_image', one_of((*NORMALIZATIONS, OF_START)),
        "subtract the mean image (§2) or each channel's mean, or subtract that and divide"
        " by each channel's standard deviation (torchvision); or normalize as the net at"
        ' start.from does'),
    'data.mean': Setting((), MEANS,
        "means of the channels on the scale of 0 to 255; nothing: the training set's"),
    'data.std': Setting((), DEVIATIONS, 'standard deviations of the channels, likewise'),
    'data.color_std': Setting(0.1, NOT_NEGATIVE,
        'standard deviation of the colour shift, in principal components (§4.1: 0.1)'),
    'data.color_scale': Setting('std', one_of(('std', 'variance')),
        "of a component: std √λ (the authors' code) or variance λ (as §4.1 prints)"),
    'data.color_epochs': Setting(0, at_least(0),
        "epochs with a colour shift; 0: all (the authors' code: 67)"),
    'data.threads': Setting(2, between(0, 1024),
        'threads that read, decode and crop; 0: none beside the training', free=True),
    'data.placement': Setting('host', one_of(('host', 'device')),
        'where images are kept: by the host, which reads and crops those of each step; or all,'
        ' decoded, in the memory of the devices, which crop them', free=True),
    'data.synthetic_examples': Setting(1280, at_least(1),
        'training images of the synthetic source; a tenth as many for validation'),
    'data.synthetic_classes': Setting(1000, between(2, 1_000_000),
        'classes of the synthetic source'),
    'optimizer.learning_rate': Setting(0.01, POSITIVE,
        'initial ε (§5: 0.01)'),
    'optimizer.layer_rates': Setting({}, FACTORS,
        'factors on the learning rates of layers; 0 keeps a layer as it is'),
    'optimizer.momentum': Setting(0.9, FRACTION,
        'what remains of the last update (§5: 0.9)'),
    'optimizer.weight_decay': Setting(5e-4, NOT_NEGATIVE,
        'the share of each weight an update takes off, times ε (§5: 0.0005)'),
    'schedule.patience': Setting(5, at_least(1),
        'validations (one an epoch) without a new lowest top-1 error before ε drops, in'
        ' protocols that watch for plateaus'),
    'schedule.drops': Setting(3, between(0, 30),
        'how often ε is divided by 10; at the next plateau training ends (§5: 3)'),
    'train.protocol': Setting('paper', or_own(one_of(PROTOCOLS), 'a Protocol'),
        'a table of training/protocols.py, or one of your own: rates by group and epoch; it brings'
        ' defaults of its own for other settings'),
    'train.epochs': Setting(90, at_least(1),
        'passes over the training set at most (§5: roughly 90); given on the command line, it'
        ' counts in place of the train.steps of a config file or workdir', free=True),
    'train.steps': Setting(0, at_least(0),
        'steps at most, in place of train.epochs; 0: as many as train.epochs gives', free=True),
    'train.micro_batches': Setting(1, at_least(1),
        'parts of a batch that are computed one after the other before the update; less memory,'
        ' the same step', free=True),
    'train.log_every_steps': Setting(1, at_least(1),
        'steps between train rows of metrics.jsonl', free=True),
    'train.print_every_steps': Setting(0, at_least(0),
        'steps between printed lines where there is no terminal; 0: about ten seconds', free=True),
    'train.log_to': Setting(('tensorboard',), some_of(BOARDS),
        'who else is shown the rows, and the kernels and histograms at every validation:'
        ' TensorBoard (files in WORKDIR/tensorboard), Weights & Biases', free=True),
    'train.profile': Setting('', SPAN,
        'steps of which a profile is written, WORKDIR/profile, as 10:15; nothing: none', free=True),
    'train.report': Setting(True, BOOLEAN,
        'whether training ends with a report, WORKDIR/report/index.html', free=True),
    'checkpoint.every_steps': Setting(0, at_least(0),
        'steps between checkpoints; 0: one an epoch', free=True),
    'checkpoint.keep': Setting(2, at_least(1),
        'how many of the last checkpoints are kept, beside the best', free=True),
    'eval.split': Setting('', one_of(('', 'train', 'val', 'test')),
        'images to evaluate on; nothing: test, or val where there is no test', free=True),
    'eval.step': Setting(0, at_least(0),
        'which checkpoint to evaluate; 0: the last', free=True),
    'eval.views': Setting(1, ONE_OR_TEN,
        'views of each test image: the middle, or the ten of §4.1', free=True),
    'eval.top_k': Setting(5, at_least(1), 'k of one more top-k error in results', free=True),
    'eval.batch_size': Setting(64, at_least(1),
        'views a device is given at a time', free=True),
    'eval.compute': Setting('float32', one_of(('float32', 'bfloat16')),
        'type of activations and products in --mode=eval; bfloat16 results stand apart', free=True),
    'eval.save': Setting('', one_of(('', 'predictions', 'views')),
        "what --mode=eval keeps of each image: its probabilities, or each view's too", free=True),
    'mesh.data': Setting(0, at_least(0),
        'devices a batch is split over; 0: as makes the devices exchange least', free=True),
    'mesh.column': Setting(0, at_least(0),
        "devices the net's columns are split over (§3.2: 2); 0: likewise", free=True),
}  # fmt: skip


# Which images: these may be others when a trained net is put to use.
IMAGES = ('data.source', 'data.synthetic_examples', 'data.synthetic_classes')
RATES = 'optimizer.layer_rates'
# Configurations written by version 0.1 have 'on' and 'off'.
BOOLEANS = {'true': True, 'false': False, '1': True, '0': False, 'on': True, 'off': False}


def is_setting(name: str) -> bool:
    """Returns whether a flag may set this: a setting, or the factor of one layer
    (`optimizer.layer_rates.conv1`)."""
    group, _, layer = name.rpartition('.')
    return name in SETTINGS or (group == RATES and layer != '')


def replaces(later: str, name: str) -> bool:
    """Returns whether a flag takes the place of an earlier one: the same, or of a part of it."""
    return later == name or name.startswith(f'{later}.')


def from_text(name: str, text: str) -> Any:
    """Returns the value of a setting that is given as text; the text itself if it is not of the
    setting's type, for `config.validate` to refuse."""
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
    """Returns a value in the type of the setting's default where that is natural: a whole number
    as a real one, a list as a tuple, and the texts of version 0.1 for booleans, tuples and
    factors. Any other value is returned as it is, for `config.validate` to refuse."""
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
        near = f'; the nearest is {nearest(value, rule.names)}'
    return f'{name} is {shown(value)}; allowed: {rule.words}{near}'
