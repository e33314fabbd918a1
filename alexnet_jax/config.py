"""Every setting, once: default, what is allowed, meaning with unit and source.

A configuration is a flat dictionary from a setting's name to its value. A file
in `configs/` holds, under `config`, what differs from the defaults here; the
command line overrides with `--config.NAME=VALUE`. Only `main.py` and
`experiment.py` read configurations: everything below takes plain arguments.
"""

import dataclasses
import json
import math
import re
import runpy
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from alexnet_jax.errors import InputError, nearest
from alexnet_jax.network import shapes
from alexnet_jax.network.architectures import ARCHITECTURES, architecture
from alexnet_jax.network.layers import ACTIVATIONS, Architecture
from alexnet_jax.training import protocols
from alexnet_jax.training.protocols import PROTOCOLS, Protocol

Config = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Rule:
    """Which values are allowed: in words, and as a test; `names` if they are words."""

    words: str
    allows: Callable[[Any], bool]
    names: tuple[str, ...] = ()


def at_least(least: int) -> Rule:
    return Rule(f'a whole number of at least {least}', lambda value: value >= least)


SOURCE = Rule(
    'digits, synthetic, folder:PATH or tfds:NAME[/config][:version]',
    lambda value: (
        value in ('digits', 'synthetic') or bool(re.fullmatch('(folder|tfds):[^\0]+', value))
    ),
)


def one_of(names: Collection[str]) -> Rule:
    words = ', '.join(name or 'nothing' for name in names)
    return Rule(f'one of {words}', lambda value: value in names, tuple(filter(None, names)))


def channels(text: str) -> tuple[float, ...]:
    """'123,117,104' -> its numbers; '' -> none.

    Raises:
      ValueError: they are no numbers.
    """
    return tuple(map(float, text.split(','))) if text else ()


def three_numbers(words: str, allows: Callable[[float], bool]) -> Rule:
    """For a text of one number a channel, or of none."""

    def allows_text(text: str) -> bool:
        try:
            numbers = channels(text)
        except ValueError:
            return False
        return len(numbers) in (0, 3) and all(map(allows, numbers))

    return Rule(f'three numbers {words}, as R,G,B, or nothing', allows_text)


RESIZES = ('center_square', 'short_side', 'squash')
NORMALIZATIONS = ('mean_image', 'channel_mean', 'standardized')
# The normalizations that take numbers in place of the training set's own.
CHANNEL_KINDS = {'data.mean': NORMALIZATIONS[1:], 'data.std': NORMALIZATIONS[2:]}
SEED = Rule('a whole number from 0 to 2147483647', lambda value: 0 <= value < 2**31)
FRACTION = Rule('a number from 0 to below 1', lambda value: 0 <= value < 1)
WIDTH = Rule('a number above 0, at most 16', lambda value: 0 < value <= 16)
POSITIVE = Rule('a finite number above 0', lambda value: 0 < value < math.inf)
NOT_NEGATIVE = Rule('a finite number of at least 0', lambda value: 0 <= value < math.inf)
ONE_OR_TEN = Rule('1 or 10', lambda value: value in (1, 10))
ANY_PATH = Rule('a folder, or nothing for the usual place', lambda value: '\0' not in value)
MEANS = three_numbers('from 0 to 255', lambda number: 0 <= number <= 255)
DEVIATIONS = three_numbers('above 0, at most 255', lambda number: 0 < number <= 255)
ANY_TEXT = Rule('see its meaning', lambda value: '\0' not in value)


@dataclasses.dataclass(frozen=True)
class Setting:
    """One row of the table. All runs on one workdir must agree on a setting
    unless it is `free`: one that changes nothing of what is computed."""

    default: int | float | str
    rule: Rule
    meaning: str
    free: bool = False


SETTINGS: dict[str, Setting] = {
    'seed': Setting(0, SEED,
        'decides initial values, order, crops, mirrors, colours and dropout'),
    'network.name': Setting('paper', one_of(ARCHITECTURES),
        'a table of network/architectures.py'),
    'network.input_size': Setting(0, at_least(0),
        "side of the crop the net takes, pixels; 0: the table's own"),
    'network.width': Setting(1.0, WIDTH,
        'times as many features in every layer, for small runs'),
    'network.activation': Setting('', one_of(('', *ACTIVATIONS)),
        "in place of all the table's own activations (Figure 1)"),
    'start.from': Setting('', ANY_PATH,
        'a workdir or .safetensors file to take initial values from; nothing: from none'),
    'start.layers': Setting('', ANY_TEXT,
        'which layers to take, as conv1,conv2; nothing: all that are in both'),
    'data.source': Setting('synthetic', SOURCE,
        'where images come from; a folder or a TFDS set is prepared first (data/prepare.py)'),
    'data.dir': Setting('', ANY_PATH,
        'a prepared set, or a folder of such; nothing: ~/tensorflow_datasets/alexnet_jax',
        free=True),
    'data.record_size': Setting(256, at_least(1),
        'side of the stored square images, pixels (paper §2: 256)'),
    'data.resize': Setting('center_square', one_of(RESIZES),
        "how they became squares: their middle (§2), torchvision's way or Caffe's; the set"
        ' is prepared so (data/prepare.py --resize)'),
    'data.batch_size': Setting(128, at_least(1),
        'images a step, all devices together (§5: 128)'),
    'data.mirror': Setting('on', one_of(('on', 'off')),
        'whether training images are mirrored (§4.1); digits never are'),
    'data.normalization': Setting('mean_image', one_of(NORMALIZATIONS),
        "less the mean image (§2), less each channel's mean (Caffe), or that over each"
        " channel's standard deviation (torchvision)"),
    'data.mean': Setting('', MEANS,
        "means of the channels on the scale of 0 to 255, as R,G,B; nothing: the training set's"),
    'data.std': Setting('', DEVIATIONS,
        'standard deviations of the channels, likewise'),
    'data.color_std': Setting(0.1, NOT_NEGATIVE,
        'standard deviation of the colour shift, in principal components (§4.1: 0.1)'),
    'data.color_scale': Setting('std', one_of(('std', 'variance')),
        "of a component: std √λ (the authors' code) or variance λ (as §4.1 prints)"),
    'data.color_epochs': Setting(0, at_least(0),
        "epochs with a colour shift; 0: all (the authors' code: 67)"),
    'data.threads': Setting(2, at_least(0),
        'threads that read, decode and crop; 0: none beside the training', free=True),
    'data.synthetic_examples': Setting(1280, at_least(1),
        'training images of the synthetic source; a tenth as many for validation'),
    'data.synthetic_classes': Setting(1000, at_least(2),
        'classes of the synthetic source'),
    'optimizer.learning_rate': Setting(0.01, POSITIVE,
        'initial ε (§5: 0.01)'),
    'optimizer.layer_rates': Setting('', ANY_TEXT,
        'factors on the rates of layers, as conv1=0,fc8=10; 0 keeps a layer as it is'),
    'optimizer.momentum': Setting(0.9, FRACTION,
        'what remains of the last update (§5: 0.9)'),
    'optimizer.weight_decay': Setting(5e-4, NOT_NEGATIVE,
        'the share of each weight an update takes off, times ε (§5: 0.0005)'),
    'schedule.patience': Setting(5, at_least(1),
        'validations (one an epoch) without a new lowest top-1 error before ε drops, in'
        ' protocols that watch for plateaus'),
    'schedule.drops': Setting(3, at_least(0),
        'how often ε is divided by 10; at the next plateau training ends (§5: 3)'),
    'train.protocol': Setting('paper', one_of(PROTOCOLS),
        'a table of training/protocols.py: rates by group and epoch; it brings defaults of'
        ' its own for other settings'),
    'train.epochs': Setting(90, at_least(1),
        'passes over the training set at most (§5: roughly 90)', free=True),
    'train.steps': Setting(0, at_least(0),
        'steps at most; 0: as many as train.epochs gives', free=True),
    'train.log_every_steps': Setting(1, at_least(1),
        'steps between train rows of metrics.jsonl', free=True),
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
    'eval.batch_size': Setting(64, at_least(1),
        'views a device is given at a time', free=True),
    'eval.save': Setting('', one_of(('', 'predictions', 'views')),
        "what --mode=eval keeps of each image: its probabilities, or each view's too",
        free=True),
    'mesh.data': Setting(1, at_least(1),
        'devices a batch is split over', free=True),
    'mesh.column': Setting(1, at_least(1),
        "devices the net's columns are split over (§3.2: 2)", free=True),
}  # fmt: skip


# Which images: these may be others when a trained net is put to use.
IMAGES = ('data.source', 'data.synthetic_examples', 'data.synthetic_classes')


def load(path: Path | None, overrides: dict[str, str]) -> Config:
    """The defaults, changed by those of the protocol, by a config file and then by
    the command line.

    Args:
      path: a Python file that defines the dictionary `config`; it is run.
      overrides: values as text, by setting.

    Raises:
      InputError: the file cannot be read or run; an unknown setting; a value
        that is not allowed. All bad settings are named, one a line.
    """
    return complete(read_file(path) if path else {}, overrides)


def complete(changes: Config, overrides: Mapping[str, str]) -> Config:
    """The defaults, changed by those of the protocol, by `changes` and then by
    `overrides`; raises as `load` does."""
    _refuse_unknown(changes)
    defaults = {name: setting.default for name, setting in SETTINGS.items()}
    name = (defaults | changes | dict(overrides))['train.protocol']
    if name in PROTOCOLS:  # or else `override` refuses it
        own = dict(PROTOCOLS[name].settings)
        if 'train.epochs' in changes or 'train.epochs' in overrides:
            own.pop('train.steps', None)  # a length asked for goes before the protocol's
        defaults |= own
    return override(defaults | changes, overrides)


def override(config: Config, overrides: Mapping[str, str]) -> Config:
    """A complete configuration, changed by `overrides`; raises as `load` does."""
    _refuse_unknown(overrides)
    config = config | {name: _parse(name, text) for name, text in overrides.items()}
    config = {name: _as_default(name, value) for name, value in config.items()}
    faults = validate(config)
    if faults:
        raise InputError('\n'.join(faults))
    return config


def _refuse_unknown(names: Collection[str]) -> None:
    faults = [
        f'unknown setting {name}; the nearest is {nearest(name, SETTINGS)}'
        for name in names
        if name not in SETTINGS
    ]
    if faults:
        raise InputError('\n'.join(faults))


def read_file(path: Path) -> Config:
    """The dictionary `config` of a Python file.

    Raises:
      InputError: no such file, or it does not run, or has no such dictionary.
    """
    if not path.is_file():
        raise InputError(f'--config {path}: no such file; configs/ holds those that come with it')
    try:
        changes = runpy.run_path(str(path)).get('config')
    except (Exception, SystemExit) as error:  # A config is any Python: anything may go wrong.
        raise InputError(f'--config {path} does not run: {_where(error)}') from error
    if not isinstance(changes, dict) or not all(isinstance(name, str) for name in changes):
        raise InputError(f'--config {path} defines no dictionary `config` from settings to values')
    return changes


def validate(config: Config) -> list[str]:
    """Every fault of a complete configuration, a line each; [] for none."""
    faults = []
    for name, setting in SETTINGS.items():
        value = config[name]
        right_type = type(value) is type(setting.default)
        if not right_type or not setting.rule.allows(value):
            near = ''
            if value and isinstance(value, str) and setting.rule.names:
                near = f'; the nearest is {nearest(value, setting.rule.names)}'
            faults.append(f'{name} is {value!r}; allowed: {setting.rule.words}{near}')
    return faults or _validate_together(config)


def network_of(config: Config) -> Architecture:
    """The net that a configuration describes.

    Raises:
      InputError: the table cannot be had in that width, or for so small an input.
    """
    size, width = config['network.input_size'], config['network.width']
    try:
        net = architecture(config['network.name'], size, width, config['network.activation'])
    except InputError as error:
        raise InputError(f'network.width is {width:g}: {error}') from error
    try:
        shapes.layer_shapes(net, classes=1)
    except InputError as error:
        raise InputError(f'network.input_size is {size}: {error}') from error
    return net


def protocol_of(config: Config, net: Architecture) -> Protocol:
    """The protocol that a configuration describes, for that net.

    Raises:
      InputError: `optimizer.layer_rates` cannot be read or names another layer.
    """
    layers = [row.name for row in (*net.layers, net.output)]
    rates = protocols.parse_layer_rates(config['optimizer.layer_rates'], layers)
    return protocols.with_layer_rates(PROTOCOLS[config['train.protocol']], rates)


def start_layers(config: Config, net: Architecture) -> list[str]:
    """The layers named in `start.layers`.

    Raises:
      InputError: the net has no such layer.
    """
    names = [name.strip() for name in config['start.layers'].split(',') if name.strip()]
    layers = [row.name for row in (*net.layers, net.output)]
    for name in names:
        if name not in layers:
            raise InputError(protocols.unknown_layer('start.layers', name, layers))
    return names


def _validate_together(config: Config) -> list[str]:
    try:
        net = network_of(config)
        protocol_of(config, net)
        start_layers(config, net)
    except InputError as error:
        return str(error).splitlines()
    batch, data = config['data.batch_size'], config['mesh.data']
    column, size = config['mesh.column'], config['data.record_size']
    faults = []
    if batch % data:
        faults.append(
            f'data.batch_size is {batch}; allowed: a multiple of mesh.data, which is {data}'
        )
    if net.columns % column:
        faults.append(
            f'mesh.column is {column}; allowed: a divisor of the {net.columns} columns'
            f' of network {net.name}'
        )
    if size < net.input_size:
        faults.append(
            f'data.record_size is {size}; allowed: at least {net.input_size},'
            f' the crop that network {net.name} takes'
        )
    normalization = config['data.normalization']
    for name, kinds in CHANNEL_KINDS.items():
        if config[name] and normalization not in kinds:
            faults.append(
                f'{name} is {config[name]!r}; allowed: nothing, as data.normalization is'
                f' {normalization}; it goes with {" or ".join(kinds)}'
            )
    return faults


def nest(config: Config) -> dict[str, Any]:
    """{'data.source': 'digits'} -> {'data': {'source': 'digits'}}, as in config.json."""
    tree: dict[str, Any] = {}
    for name, value in config.items():
        *groups, last = name.split('.')
        branch = tree
        for group in groups:
            branch = branch.setdefault(group, {})
        branch[last] = value
    return tree


def read_workdir(path: Path) -> Config:
    """The configuration a workdir's config.json holds; defaults where it is silent.

    Raises:
      InputError: the file is missing or is not such a configuration.
    """
    try:
        tree = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f'{path} cannot be read: {error.strerror}') from error
    except ValueError as error:
        raise InputError(f'{path} is not JSON: {error}') from error
    if not isinstance(tree, dict):
        raise InputError(f'{path} holds no configuration')
    config = {}
    for name, setting in SETTINGS.items():
        value = tree
        for part in name.split('.'):
            value = value.get(part) if isinstance(value, dict) else None
        config[name] = _as_default(name, setting.default if value is None else value)
    faults = validate(config)
    if faults:
        raise InputError('\n'.join(f'{path}: {fault}' for fault in faults))
    return config


def differences(config: Config, other: Config, but: Collection[str] = ()) -> list[str]:
    """Where two configurations compute different things, a line each; settings in
    `but` do not count."""
    # A rate that falls towards the end of the run depends on where that is.
    looks_at_length = PROTOCOLS[config['train.protocol']].looks_at_length
    fixed = ('train.epochs', 'train.steps') if looks_at_length else ()
    return [
        f'{name} was {other[name]!r}, now {config[name]!r}'
        for name, setting in SETTINGS.items()
        if (not setting.free or name in fixed) and name not in but and config[name] != other[name]
    ]


def describe() -> str:
    """The table as text, for --help."""
    rows = [
        f'  {name} = {setting.default!r}\n      {setting.meaning}; allowed: {setting.rule.words}'
        for name, setting in SETTINGS.items()
    ]
    own = [f'  {protocol.name}: {protocol.settings}' for protocol in PROTOCOLS.values()]
    return '\n'.join([
        'settings, with their defaults:', *rows, '',
        'defaults of protocols (train.protocol) in their place:', *own,
    ])  # fmt: skip


def _parse(name: str, text: str) -> Any:
    """The text as the default's type; as it is where it does not parse, for
    `validate` to refuse."""
    try:
        return type(SETTINGS[name].default)(text)
    except ValueError:
        return text


def _as_default(name: str, value: Any) -> Any:
    """A whole number given for a real one becomes one."""
    if isinstance(SETTINGS[name].default, float) and type(value) is int:
        return float(value)
    return value


def _where(error: BaseException) -> str:
    line = getattr(error, 'lineno', None)
    if line is None and error.__traceback__ is not None:
        frame = error.__traceback__
        while frame.tb_next:
            frame = frame.tb_next
        line = frame.tb_lineno
    return (
        f'line {line}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ""}'
    )
