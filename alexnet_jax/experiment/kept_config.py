"""Configurations of workdirs and weight files: written as JSON, read and compared."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from alexnet_jax.data.own_source import without_folder
from alexnet_jax.experiment import own_parts
from alexnet_jax.experiment.config import (
    OF_TABLE,
    absolute_source,
    base_protocol,
    beside_table,
    changed,
    complete,
    flat,
    network_of,
    override,
    settled,
    validate,
)
from alexnet_jax.experiment.defaults import PROTOCOL_TABLE, TABLE, Config, default_config
from alexnet_jax.experiment.settings import SETTINGS, from_text, normalized
from alexnet_jax.network import table_json
from alexnet_jax.network.architectures import ARCHITECTURES
from alexnet_jax.network.diff import deviations
from alexnet_jax.network.layers import Architecture
from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import InputError
from alexnet_jax.training import protocol_json

TABLES_FROM_JSON = {TABLE: table_json.from_json, PROTOCOL_TABLE: protocol_json.from_json}


def with_table(config: Config) -> Config:
    """Returns the configuration with the whole table of its net, as stored in workdirs.

    It also has that of a user's own protocol.
    """
    config = settled(config)
    return changed(config, {TABLE: network_of(config)})


def to_tree(config: Config) -> dict[str, Any]:
    """Returns nested dictionaries for JSON, as in config.json."""
    tree: dict[str, Any] = {}
    for name, value in flat(config).items():
        *groups, last = name.split('.')
        branch = tree
        for group in groups:
            branch = branch.setdefault(group, {})
        branch[last] = value
    if config.network.table is not None:
        tree['network']['table'] = table_json.to_json(config.network.table)
    if config.train.table is not None:
        tree['train']['table'] = protocol_json.to_json(config.train.table)
    return tree


def of_tree(tree: Mapping[str, Any]) -> Config:
    """Returns the configuration of a tree of `to_tree`.

    Missing values have their defaults.

    Raises:
      InputError: it is no such tree, or a value is not allowed; a line for each.
    """

    def found(name: str) -> Any:
        value: Any = tree
        for part in name.split('.'):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    values = {name: normalized(name, found(name)) for name in SETTINGS if found(name) is not None}
    own_parts.refuse_files(values)
    for name, from_json in TABLES_FROM_JSON.items():
        if (table := found(name)) is not None:
            try:
                values[name] = from_json(table)
            except InputError as error:
                raise InputError(f'{name}: {error}') from error
    config = changed(default_config().copy_and_resolve_references(), values)
    faults = validate(config)
    if faults:
        raise InputError('\n'.join(faults))
    return config


def of_weight_file(
    settings: Mapping[str, Any],
    table: Architecture | None,
    protocol: Any,
    overrides: Mapping[str, str],
) -> Config:
    """Returns the configuration of a weight file, changed by the user.

    Args:
      settings, table, protocol: as in `pretrained.Pretrained`.

    Raises:
      InputError: as `of_tree`; a line for each fault.
    """
    own_parts.refuse_files(settings)
    values = dict(settings)
    if table is not None:
        values[TABLE] = table
    if protocol is not None:
        values[PROTOCOL_TABLE] = protocol_json.from_json(protocol)
    return complete(values, overrides)


def read_workdir(path: Path) -> Config:
    """Returns the configuration in the config.json of a workdir.

    Missing values have their defaults.

    Raises:
      InputError: the file is missing or is not such a configuration.
    """
    try:
        tree = files.read_json(path)
    except FileNotFoundError as error:
        there = path.parent.is_dir()
        fault = f'is not a workdir: it has no {path.name}' if there else 'does not exist'
        raise InputError(f'the workdir {path.parent} {fault}') from error
    except OSError as error:
        raise InputError(f'{path} cannot be read: {error.strerror}') from error
    except ValueError as error:
        raise InputError(f'{path} is not JSON of a configuration: {error}') from error
    if not isinstance(tree, dict):
        raise InputError(f'{path} holds no configuration')
    try:
        return of_tree(tree)
    except InputError as error:
        faults = [f'{path}: {fault}' for fault in str(error).splitlines()]
        raise InputError('\n'.join(faults)) from error


def of_workdir(workdir: Path, overrides: Mapping[str, str]) -> Config:
    """Returns the configuration of a workdir, to use its net on the devices of this machine.

    Raises as `read_workdir` and `override` do.
    """
    config = read_workdir(workdir / 'config.json')
    _refuse_other_net(config, overrides)
    config = override(changed(config, {'mesh.data': 0, 'mesh.column': 0}), overrides)
    return absolute_source(config) if 'data.source' in overrides else config


def _refuse_other_net(config: Config, overrides: Mapping[str, str]) -> None:
    """Checks that no settings change a net from a user's own table, which the workdir stores as
    trained.

    Raises:
      InputError: some do.
    """
    if config.network.name in ARCHITECTURES or own_parts.NETWORK in overrides:
        return
    values = flat(config) | {TABLE: config.network.table}
    others = {
        name: text
        for name, text in overrides.items()
        if name in OF_TABLE and from_text(name, text) != config[name]
    }
    if faults := beside_table(values, others):
        raise InputError('\n'.join(faults))


def differences(config: Config, other: Config, but: Collection[str] = ()) -> list[str]:
    """Returns the differences of two configurations, one line each.

    Settings in `but` are ignored, and the table if `but` has `TABLE`.
    """
    config = settled(config)
    # Older workdirs may hold a relative path.
    one, two = flat(absolute_source(config)), flat(absolute_source(other))
    for values in (one, two):  # a file may be moved; the set's identity is compared separately
        values['data.source'] = without_folder(values['data.source'])
    found = [
        name for name in settings_with_effect(config) if name not in but and one[name] != two[name]
    ]
    lines = [f'{name} was {two[name]!r}, now {one[name]!r}' for name in found]
    if config.train.table is not None and other.train.table is not None:
        lines += protocol_json.differences(other.train.table, config.train.table)
    if TABLE in but or other.network.table is None or set(OF_TABLE) & set(found):
        return lines
    # The table of this name may have changed since then.
    rows = deviations(network_of(other), network_of(config))
    return lines + [f'{row.field} of the net was {row.one}, now {row.other}' for row in rows]


def settings_with_effect(config: Config) -> list[str]:
    """Returns the settings by which one run differs from another."""
    # A rate that decreases towards the end of the run depends on its length.
    depends_on_length = base_protocol(config).depends_on_length
    fixed = ('train.epochs', 'train.steps') if depends_on_length else ()
    return [name for name, setting in SETTINGS.items() if not setting.free or name in fixed]
