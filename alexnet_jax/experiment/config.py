"""Configurations: read, changed, checked, compared.

A configuration is a flat dictionary from a setting's name to its value. A file in
`configs/` holds, under `config`, what differs from the defaults (`settings.py`); the
command line overrides with `--config.NAME=VALUE`, of which the last counts. Only modules beside
this one read configurations: the packages below take plain arguments.

The configuration of a workdir or a weight file holds, beside the settings, the whole table of its
net under `TABLE`. It goes before the table that has the same name in this package.
"""

import ast
import contextlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from alexnet_jax.experiment.settings import CHANNEL_KINDS, SETTINGS
from alexnet_jax.network import shapes, table_json
from alexnet_jax.network.architectures import architecture
from alexnet_jax.network.diff import deviations
from alexnet_jax.network.layers import Architecture
from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import InputError, counted, nearest, plain, shown
from alexnet_jax.training import protocols
from alexnet_jax.training.protocols import PROTOCOLS, Protocol

Config = dict[str, Any]

TABLE = 'network.table'  # as `table_json.to_json` has it; no setting
# The settings that make a table; another value of one makes another net.
OF_TABLE = ('network.name', 'network.input_size', 'network.width', 'network.activation')


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
    changes = read_file(path) if path else {}
    _refuse_unknown(changes)
    return absolute_source(complete(changes, overrides))


def absolute_source(config: Config) -> Config:
    """Returns the configuration with the path of a `folder:` source absolute: a relative one would
    be another folder from another working folder. A path that cannot be had stays as it is, to be
    refused where images are looked for."""
    kind, _, place = str(config.get('data.source')).partition(':')
    if kind != 'folder':
        return config
    try:
        return config | {'data.source': f'folder:{Path(place).expanduser().resolve()}'}
    except (OSError, RuntimeError, ValueError):
        return config


def complete(changes: Config, overrides: Mapping[str, str]) -> Config:
    """The defaults, changed by those of the protocol, by `changes`, which may hold a table, and
    then by `overrides`; raises as `load` does."""
    _refuse_unknown([name for name in changes if name != TABLE])
    defaults = {name: setting.default for name, setting in SETTINGS.items()}
    name = (defaults | changes | dict(overrides))['train.protocol']
    if isinstance(name, str) and name in PROTOCOLS:  # or else `override` refuses it
        own = dict(PROTOCOLS[name].settings)
        if 'train.epochs' in changes:
            own.pop('train.steps', None)  # as in `override`
        defaults |= own
    return override(defaults | changes, overrides)


def override(config: Config, overrides: Mapping[str, str]) -> Config:
    """Changes a complete configuration by `overrides`; raises as `load` does. A number of
    epochs replaces the number of steps that the configuration had, unless both are given."""
    _refuse_unknown(overrides)
    changes = {name: _as_default(name, _parse(name, text)) for name, text in overrides.items()}
    if any(changes.get(name, config[name]) != config[name] for name in OF_TABLE):
        config = {name: value for name, value in config.items() if name != TABLE}
    if 'train.epochs' in overrides:
        config = config | {'train.steps': 0}
    config = {name: _as_default(name, value) for name, value in (config | changes).items()}
    faults = validate(config)
    if faults:
        raise InputError('\n'.join(faults))
    return config


def followed(overrides: Mapping[str, str], later: Mapping[str, str]) -> dict[str, str]:
    """Returns overrides changed by later ones; a number of epochs replaces the number of steps
    that was given before, as in `override`."""
    replaced = ('train.steps',) if 'train.epochs' in later else ()
    return {name: text for name, text in overrides.items() if name not in replaced} | dict(later)


def _refuse_unknown(names: Collection[str]) -> None:
    faults = [
        f'unknown setting {plain(name)}; the nearest is {nearest(name, SETTINGS)}'
        for name in names
        if name not in SETTINGS
    ]
    if faults:
        raise InputError('\n'.join(faults))


def packaged() -> dict[str, str]:
    """Returns the configurations that come with this package: the first line of each one's text
    by its name."""
    texts = {path.stem: path.read_text() for path in sorted(_packaged_folder().glob('*.py'))}
    return {
        name: (ast.get_docstring(ast.parse(text)) or '').split('\n')[0]
        for name, text in texts.items()
    }


def _packaged_folder() -> Path:
    """In a wheel configs/ lies inside of the package, in a checkout beside it."""
    package = Path(__file__).parents[1]
    inside = package / 'configs'
    return inside if inside.is_dir() else package.parent / 'configs'


def _found(path: Path) -> Path:
    """Returns the file of a packaged configuration for its bare name; else the path itself."""
    is_name = not path.suffix and len(path.parts) == 1 and not os.path.exists(path)
    return _packaged_folder() / f'{path}.py' if is_name else path


def read_file(path: Path) -> Config:
    """The dictionary `config` of a Python file.

    Raises:
      InputError: no such file, or it does not run, or has no such dictionary.
    """
    told = f'--config {plain(path, 1000)}'
    try:
        source = files.read_bytes(_found(path))
    except FileNotFoundError:
        raise InputError(
            f'{told}: no such file; allowed: a Python file, or the name of a configuration of this'
            ' package (`alexnet-jax configs` lists them)'
        ) from None
    except OSError as error:
        raise InputError(f'{told} cannot be read: {error.strerror}') from error
    except ValueError as error:
        raise InputError(f'{told} cannot be read: {error}') from error
    names: dict[str, Any] = {'__name__': '<config>', '__file__': str(path)}
    try:
        exec(compile(source, str(path), 'exec', dont_inherit=True), names)
    except (Exception, SystemExit) as error:  # A config is any Python: anything may go wrong.
        raise InputError(f'{told} does not run: {_where(error)}') from error
    changes = names.get('config')
    if not isinstance(changes, dict) or not all(isinstance(name, str) for name in changes):
        raise InputError(f'{told} defines no dictionary `config` from settings to values')
    return changes


def validate(config: Config) -> list[str]:
    """Every fault of a complete configuration, a line each; [] for none."""
    faults = []
    for name, setting in SETTINGS.items():
        value = config[name]
        right_type = type(value) is type(setting.default)
        if name == 'network.name' and TABLE in config and right_type:
            continue  # the table may be one that this package does not have
        if not right_type or not setting.rule.allows(value):
            near = ''
            if isinstance(value, str) and value and setting.rule.names:
                near = f'; the nearest is {nearest(value, setting.rule.names)}'
            faults.append(f'{name} is {shown(value)}; allowed: {setting.rule.words}{near}')
    return faults or _validate_together(config)


def network_of(config: Config) -> Architecture:
    """The net that a configuration describes.

    Raises:
      InputError: the table cannot be had in that width, or for so small an input; the
        configuration's own table is not one.
    """
    size, width = config['network.input_size'], config['network.width']
    try:
        if TABLE in config:
            net = table_json.from_json(config[TABLE])
        else:
            net = architecture(config['network.name'], size, width, config['network.activation'])
    except InputError as error:
        fault = TABLE if TABLE in config else f'network.width is {width:g}'
        raise InputError(f'{fault}: {error}') from error
    try:
        shapes.layer_shapes(net, classes=1)
    except InputError as error:
        raise InputError(f'network.input_size is {size}: {error}') from error
    return net


def _require_own_table(config: Config, net: Architecture) -> None:
    """Checks that the settings are of the table that the configuration holds.

    Raises:
      InputError: they are of another.
    """
    for name, value in {'network.name': net.name, 'network.input_size': net.input_size}.items():
        if TABLE in config and config[name] not in (value, 0):
            raise InputError(f'{name} is {shown(config[name])}; its table has {shown(value)}')


def with_table(config: Config) -> Config:
    """Returns the configuration with the whole table of its net, as workdirs keep it."""
    return config | {TABLE: table_json.to_json(network_of(config))}


def protocol_of(config: Config, net: Architecture) -> Protocol:
    """The protocol that a configuration describes, for that net.

    Raises:
      InputError: `optimizer.layer_rates` cannot be read or names another layer.
    """
    layers = [row.name for row in (*net.layers, net.output)]
    rates = protocols.parse_layer_rates(config['optimizer.layer_rates'], layers)
    return protocols.with_layer_rates(PROTOCOLS[config['train.protocol']], rates)


def start_layers(config: Config, net: Architecture) -> list[str]:
    """Returns the layers named in `start.layers`.

    Raises:
      InputError: the net has no such layer; a layer is named twice; there is nothing to start
        from.
    """
    layers = [row.name for row in (*net.layers, net.output)]
    names = protocols.layer_items('start.layers', config['start.layers'])
    protocols.require_layers('start.layers', names, layers)
    if names and not config['start.from']:
        raise InputError(
            f'start.layers is {shown(config["start.layers"])}; allowed: nothing, as start.from is'
            ' nothing'
        )
    return names


def _validate_together(config: Config) -> list[str]:
    try:
        net = network_of(config)
        _require_own_table(config, net)
        protocol_of(config, net)
        start_layers(config, net)
    except InputError as error:
        return str(error).splitlines()
    batch, data = config['data.batch_size'], config['mesh.data']
    column, size = config['mesh.column'], config['data.record_size']
    faults = []
    parts = config['train.micro_batches']
    if data and batch % data:
        faults.append(
            f'data.batch_size is {batch}; allowed: a multiple of mesh.data, which is {data}'
        )
    elif batch % (parts * max(1, data)):
        faults.append(
            f"train.micro_batches is {parts}; allowed: what divides a device's images, a"
            f' {max(1, data)}th of data.batch_size {batch}'
        )
    if column and net.columns % column:
        faults.append(
            f'mesh.column is {column}; allowed: a divisor of the'
            f' {counted(net.columns, "column")} of network {net.name}'
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
        tree = files.read_json(path)
    except OSError as error:
        raise InputError(f'{path} cannot be read: {error.strerror}') from error
    except ValueError as error:
        raise InputError(f'{path} is not JSON of a configuration: {error}') from error
    if not isinstance(tree, dict):
        raise InputError(f'{path} holds no configuration')
    config = of_tree(tree)
    faults = validate(config)
    if faults:
        raise InputError('\n'.join(f'{path}: {fault}' for fault in faults))
    return config


def of_tree(tree: dict[str, Any]) -> Config:
    """Returns the configuration that `nest` has made a tree of; defaults where it is silent, no
    value checked."""

    def found(name: str) -> Any:
        value: Any = tree
        for part in name.split('.'):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    config = {}
    for name, setting in SETTINGS.items():
        value = found(name)
        config[name] = _as_default(name, setting.default if value is None else value)
    table = found(TABLE)
    return config if table is None else config | {TABLE: table}


def of_workdir(workdir: Path, overrides: Mapping[str, str]) -> Config:
    """The configuration of a workdir, to use what was trained there on the devices that are
    here; raises as `read_workdir` and `override` do."""
    kept = read_workdir(workdir / 'config.json') | {'mesh.data': 0, 'mesh.column': 0}
    config = override(kept, overrides)
    return absolute_source(config) if 'data.source' in overrides else config


def differences(config: Config, other: Config, but: Collection[str] = ()) -> list[str]:
    """Where two configurations compute different things, a line each; settings in
    `but`, and the table if `TABLE` is, do not count."""
    # Older workdirs may hold a relative path.
    config, other = absolute_source(config), absolute_source(other)
    found = [name for name in that_count(config) if name not in but and config[name] != other[name]]
    lines = [f'{name} was {other[name]!r}, now {config[name]!r}' for name in found]
    if TABLE in but or TABLE not in other or set(OF_TABLE) & set(found):
        return lines
    # Under the same name the table may have changed since.
    changed = deviations(network_of(other), network_of(config))
    return lines + [f'{row.field} of the net was {row.one}, now {row.other}' for row in changed]


def that_count(config: Config) -> list[str]:
    """Returns the settings by which one run differs from another."""
    # A rate that falls towards the end of the run depends on where that is.
    looks_at_length = PROTOCOLS[config['train.protocol']].looks_at_length
    fixed = ('train.epochs', 'train.steps') if looks_at_length else ()
    return [name for name, setting in SETTINGS.items() if not setting.free or name in fixed]


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
    """A whole number given for a real one becomes one; one too large for that stays, for
    `validate` to refuse."""
    if name != TABLE and isinstance(SETTINGS[name].default, float) and type(value) is int:
        with contextlib.suppress(OverflowError):
            return float(value)
    return value


def _where(error: BaseException) -> str:
    line = getattr(error, 'lineno', None)
    if line is None and error.__traceback__ is not None:
        frame = error.__traceback__
        while frame.tb_next:
            frame = frame.tb_next
        line = frame.tb_lineno
    first = (str(error).splitlines() or [''])[0]
    return f'line {line}: {type(error).__name__}: {plain(first)}'
