"""Creates, changes and validates configurations; `kept_config.py` reads those of workdirs.

A configuration is an `ml_collections.ConfigDict` with the fields of the table of settings
(`settings.py`). It begins as `default_config()` (`defaults.py`); a file of `configs/` changes
attributes of it, and the command line overrides these with `--config.NAME=VALUE`. Only modules of
this package read configurations; lower packages take plain arguments.

Additional fields are `network.table`, the whole table of the net, or None where `network.name` and
its group define it; and `train.table`, that of a user's own protocol, or None. Workdirs and weight
files store both.
"""

import contextlib
import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import FrozenConfigDict

from alexnet_jax.data.own_source import is_own
from alexnet_jax.experiment import own_parts
from alexnet_jax.experiment.defaults import (
    PROTOCOL_TABLE,
    TABLE,
    TABLES,
    Config,
    assign,
    default_config,
    given_values,
)
from alexnet_jax.experiment.described import (
    base_protocol,
    network_of,
    protocol_of,
    require_own_table,
    start_layers,
)
from alexnet_jax.experiment.settings import (
    CHANNEL_KINDS,
    RATES,
    SETTINGS,
    fault_of,
    from_text,
    is_setting,
    normalized,
    replaces,
)
from alexnet_jax.network.architectures import architecture
from alexnet_jax.network.layers import Architecture
from alexnet_jax.runtime import python_files, storage
from alexnet_jax.runtime.errors import InputError, counted, in_words, nearest, plain, shown
from alexnet_jax.training.protocols import Protocol

# The settings that define a table; another value defines another net.
OF_TABLE = ('network.name', 'network.input_size', 'network.width', 'network.activation')


def flat(config: Config) -> dict[str, Any]:
    """Returns the values of the settings by their full names, in the order of their table."""
    return {name: normalized(name, config[name]) for name in SETTINGS}


def changed(config: Config, values: Mapping[str, Any]) -> Config:
    """Returns a copy with other values of some settings, without validation.

    The table of the net, or of the protocol, is removed if a value defines another.

    Raises:
      InputError: a value that is not allowed cannot be compared, copied or assigned.
    """
    try:
        if any(name in values and values[name] != config[name] for name in OF_TABLE):
            values = {TABLE: None} | dict(values)
        if values.get('train.protocol', config.train.protocol) != config.train.protocol:
            values = {PROTOCOL_TABLE: None} | dict(values)
        copied = copy.deepcopy(config)
        for name, value in values.items():
            assign(copied, name, value)
    except Exception:  # a caller's value can be anything: a module, an array
        given = {name: normalized(name, x) for name, x in values.items() if name in SETTINGS}
        if faults := _faults(given):
            raise InputError('\n'.join(faults)) from None
        raise
    return copied


def complete(
    given: Config | FrozenConfigDict | Mapping[str, Any], overrides: Mapping[str, str]
) -> Config:
    """Returns a checked configuration with a value for every setting.

    Args:
      given: a configuration, in which fields may be missing, or values by full name. Missing
        settings, and unchanged ones of a `default_config`, have the default of its protocol.
      overrides: further changes, as text by full name.

    Raises:
      InputError: an unknown setting or a value that is not allowed; one line for each.
    """
    if isinstance(given, FrozenConfigDict):
        given = Config(given.to_dict())
    if not isinstance(given, Mapping | Config):
        raise InputError(
            f'the configuration is {shown(given)}; allowed: a ConfigDict, which'
            ' alexnet_jax.default_config() makes'
        )
    values = given_values(given) if isinstance(given, Config) else dict(given)
    known = {name: value for name, value in values.items() if is_setting(name) or name in TABLES}
    faults = [unknown(name) for name in values if name not in known]
    faults += beside_table(known, overrides)
    if 'train.epochs' in known and 'train.steps' not in known:
        known['train.steps'] = 0  # a given number of epochs replaces the protocol's steps
    try:
        if isinstance(given, Config) and values.keys() >= {*SETTINGS, *TABLES}:
            config = given  # with the references of a `default_config`
        else:
            config = changed(default_config(), known)
        config = override(config, overrides)
    except InputError as error:
        raise InputError('\n'.join([*faults, str(error)])) from None
    if faults:
        raise InputError('\n'.join(faults))
    return config


def beside_table(values: Mapping[str, Any], overrides: Mapping[str, str]) -> list[str]:
    """Returns the overrides that conflict with a given table."""
    table = values.get(TABLE)
    making = [values.get(name, SETTINGS[name].default) for name in OF_TABLE]
    with contextlib.suppress(Exception):  # as these settings may be anything
        if table is None or table == architecture(*making):
            return []
    return [
        f'{name} is {shown(overrides[name])}; allowed: none, as network.table is a net of its own'
        for name in OF_TABLE
        if name in overrides
    ]


def override(config: Config, overrides: Mapping[str, str]) -> Config:
    """Returns a complete configuration changed by `overrides`; raises as `complete` does.

    A number of epochs replaces the configuration's number of steps, unless both are given.
    """
    changes = {name: from_text(name, text) for name, text in overrides.items() if name in SETTINGS}
    if 'train.epochs' in overrides:
        changes = {'train.steps': 0} | changes
    layers = {name: text for name, text in overrides.items() if name.startswith(f'{RATES}.')}
    if layers:
        own = normalized(RATES, changes.get(RATES, config[RATES]))
        own |= {name.removeprefix(f'{RATES}.'): _factor(text) for name, text in layers.items()}
        changes[RATES] = own
    faults = [unknown(name) for name in overrides if not is_setting(name)] + _faults(changes)
    if faults:  # references cannot follow the changes
        others = {name: value for name, value in flat(config).items() if name not in changes}
        faults += _faults(others, config)
    else:
        try:
            config = changed(config, changes).copy_and_resolve_references()
        except InputError:
            raise
        except Exception as error:  # a value of the caller's can be anything
            fault = f'a reference of the configuration has no value: {in_words(error)}'
            faults = _faults(flat(config), config) or [fault]
            raise InputError('\n'.join(faults)) from None
        for name, value in flat(config).items():
            assign(config, name, value)
        faults = validate(config)
    if faults:
        raise InputError('\n'.join(faults))
    return config


def _factor(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def followed(overrides: Mapping[str, str], later: Mapping[str, str]) -> dict[str, str]:
    """Merges overrides with later ones.

    A number of epochs replaces an earlier number of steps, as in `override`; a value for all layer
    factors replaces those of single layers.
    """
    replaced = {name for name in overrides for one in later if replaces(one, name)}
    if 'train.epochs' in later:
        replaced |= {'train.steps'}
    return {name: text for name, text in overrides.items() if name not in replaced} | dict(later)


def unknown(name: str) -> str:
    """Returns the message for a setting that does not exist."""
    return f'unknown setting {plain(name)}; the nearest is {nearest(name, SETTINGS)}'


def absolute_source(config: Config) -> Config:
    """Returns the configuration with the path of its source absolute; see `absolute`."""
    return changed(config, {'data.source': absolute(config.data.source)})


def absolute(source: str) -> str:
    """Returns a `folder:` source, or a user's own source, with an absolute path.

    A relative path depends on the working folder. A path that cannot be resolved is returned
    unchanged; opening the images raises the error.
    """
    if is_own(source):
        return python_files.absolute(source)
    kind, _, place = source.partition(':')
    if kind != 'folder' or storage.is_url(place):
        return source
    try:
        return f'folder:{Path(place).expanduser().resolve()}'
    except (OSError, RuntimeError, ValueError):
        return source


def validate(config: Config) -> list[str]:
    """Returns the faults of a complete configuration, one line each; [] if there are none."""
    faults = _faults(flat(config), config)
    for name, kind in {TABLE: Architecture, PROTOCOL_TABLE: Protocol}.items():
        if not isinstance(config[name], kind | None):
            article = 'an' if kind is Architecture else 'a'
            faults.append(
                f'{name} is {shown(config[name])}; allowed: {article} {kind.__name__} or None'
            )
    return faults or _validate_together(config)


def _faults(values: Mapping[str, Any], config: Config | None = None) -> list[str]:
    """Returns the faults of the single values, except the tables."""
    # The table may not be one of this package.
    named = {own_parts.NETWORK: TABLE, own_parts.PROTOCOL: PROTOCOL_TABLE}
    whole = [] if config is None else [name for name in named if config[named[name]] is not None]
    return [
        fault
        for name, value in values.items()
        if not (name in whole and isinstance(value, str)) and (fault := fault_of(name, value))
    ]


def settled(config: Config) -> Config:
    """Returns the configuration with the content of the user's own net and protocol.

    They come from files of the user's, under their own names.

    Raises:
      InputError: one cannot be had.
    """
    values = {}
    if python_files.names_object(config.network.name):
        net = network_of(config)
        values |= {own_parts.NETWORK: net.name, TABLE: net}
    if python_files.names_object(config.train.protocol):
        protocol = base_protocol(config)
        values |= {own_parts.PROTOCOL: protocol.name, PROTOCOL_TABLE: protocol}
    return changed(config, values) if values else config


def _validate_together(config: Config) -> list[str]:
    faults = []
    try:
        net = network_of(config)
    except InputError as error:
        return str(error).splitlines()
    for check in (require_own_table, protocol_of, start_layers):
        try:
            check(config, net)
        except InputError as error:
            faults += str(error).splitlines()
    batch, data, column = config.data.batch_size, config.mesh.data, config.mesh.column
    size, parts = config.data.record_size, config.train.micro_batches
    if data and batch % data:
        faults.append(
            f'data.batch_size is {batch}; allowed: a multiple of mesh.data, which is {data}'
        )
    elif batch % (parts * max(1, data)):
        faults.append(
            f"train.micro_batches is {parts}; allowed: what divides a data shard's images,"
            f' {batch // max(1, data)} of data.batch_size {batch}'
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
    normalization = config.data.normalization
    for name, kinds in CHANNEL_KINDS.items():
        if config[name] and normalization not in kinds:
            faults.append(
                f'{name} is {config[name]!r}; allowed: nothing, as data.normalization is'
                f' {normalization}; it goes with {" or ".join(kinds)}'
            )
    return faults
