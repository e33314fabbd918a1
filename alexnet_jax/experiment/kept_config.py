"""Configurations as workdirs keep them: as JSON, read back and compared with others."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from alexnet_jax.experiment.config import (
    OF_TABLE,
    absolute_source,
    changed,
    flat,
    network_of,
    override,
    validate,
)
from alexnet_jax.experiment.defaults import TABLE, Config, default_config
from alexnet_jax.experiment.settings import SETTINGS, normalized
from alexnet_jax.network import table_json
from alexnet_jax.network.diff import deviations
from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import InputError
from alexnet_jax.training.protocols import PROTOCOLS


def with_table(config: Config) -> Config:
    """Returns the configuration with the whole table of its net, as workdirs keep it."""
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
    return tree


def of_tree(tree: Mapping[str, Any]) -> Config:
    """Returns the configuration that `to_tree` has made a tree of, with defaults where it is
    silent.

    Raises:
      InputError: it is no such tree, or a value is not allowed; a line for each.
    """

    def found(name: str) -> Any:
        value: Any = tree
        for part in name.split('.'):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    values = {name: normalized(name, found(name)) for name in SETTINGS if found(name) is not None}
    if (table := found(TABLE)) is not None:
        try:
            values[TABLE] = table_json.from_json(table)
        except InputError as error:
            raise InputError(f'{TABLE}: {error}') from error
    config = changed(default_config().copy_and_resolve_references(), values)
    faults = validate(config)
    if faults:
        raise InputError('\n'.join(faults))
    return config


def read_workdir(path: Path) -> Config:
    """Returns the configuration in the config.json of a workdir, with defaults where it is
    silent.

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
    try:
        return of_tree(tree)
    except InputError as error:
        faults = [f'{path}: {fault}' for fault in str(error).splitlines()]
        raise InputError('\n'.join(faults)) from error


def of_workdir(workdir: Path, overrides: Mapping[str, str]) -> Config:
    """Returns the configuration of a workdir, to use what was trained there on the devices of
    this machine; raises as `read_workdir` and `override` do."""
    config = read_workdir(workdir / 'config.json')
    config = override(changed(config, {'mesh.data': 0, 'mesh.column': 0}), overrides)
    return absolute_source(config) if 'data.source' in overrides else config


def differences(config: Config, other: Config, but: Collection[str] = ()) -> list[str]:
    """Returns where two configurations compute different things, a line each; settings in
    `but`, and the table if `TABLE` is, do not count."""
    # Older workdirs may hold a relative path.
    one, two = flat(absolute_source(config)), flat(absolute_source(other))
    found = [name for name in that_count(config) if name not in but and one[name] != two[name]]
    lines = [f'{name} was {two[name]!r}, now {one[name]!r}' for name in found]
    if TABLE in but or other.network.table is None or set(OF_TABLE) & set(found):
        return lines
    # Under the same name the table may have changed since.
    rows = deviations(network_of(other), network_of(config))
    return lines + [f'{row.field} of the net was {row.one}, now {row.other}' for row in rows]


def that_count(config: Config) -> list[str]:
    """Returns the settings by which one run differs from another."""
    # A rate that falls towards the end of the run depends on where that is.
    looks_at_length = PROTOCOLS[config.train.protocol].looks_at_length
    fixed = ('train.epochs', 'train.steps') if looks_at_length else ()
    return [name for name, setting in SETTINGS.items() if not setting.free or name in fixed]
