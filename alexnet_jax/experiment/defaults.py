"""Configurations as ConfigDicts: the default one, and how fields are assigned and read by full name."""

import functools
import types
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict, FieldReference

from alexnet_jax.experiment import own_parts
from alexnet_jax.experiment.settings import SETTINGS
from alexnet_jax.runtime import python_files
from alexnet_jax.runtime.errors import InputError, in_words, plain
from alexnet_jax.training.protocols import PROTOCOLS

if TYPE_CHECKING:

    class Config(ConfigDict):  # its fields may be of any type
        """Settings whose fields may be of any type."""

        def __getattr__(self, attribute: str) -> Any: ...

        def __getitem__(self, key: str) -> Any: ...

        def copy_and_resolve_references(self, visit_map=None) -> 'Config':
            """Returns a copy without references between fields."""
            ...

else:
    Config = ConfigDict

DEEPEST = 2  # groups within groups that are looked into: one may hold itself
TABLE = 'network.table'  # the whole table of the net; None: that of `network.name`
PROTOCOL_TABLE = 'train.table'  # that of a protocol; None: that of `train.protocol`
TABLES = (TABLE, PROTOCOL_TABLE)


def default_config(protocol: str = 'paper') -> Config:
    """Returns the defaults of a protocol, locked: fields can be changed, but not added.

    Fields that no one has changed follow `train.protocol`: after
    `config.train.protocol = 'caffe'`, `config.data.batch_size` is 256.
    """
    config = Config(type_safe=False)
    for name, setting in SETTINGS.items():
        assign(config, name, setting.default)
    for name in TABLES:
        assign(config, name, None)
    named = FieldReference(protocol)
    for name in set(own_parts.BROUGHT) - {'train.epochs', 'train.steps'}:
        assign(config, name, _following(name, named))
    epochs = _following('train.epochs', named)
    assign(config, 'train.protocol', named)
    assign(config, 'train.epochs', epochs)
    assign(config, 'train.steps', _following('train.steps', named, _computed(_count, epochs)))
    config.lock()
    config.optimizer.layer_rates.unlock()  # its fields are layers
    return config


def _following(name: str, named: FieldReference, *epochs: FieldReference) -> FieldReference:
    """Returns a reference to the value that a setting has under the protocol referred to."""
    return _computed(functools.partial(_of_protocol, name), named, *epochs)


def _of_protocol(name: str, protocol: Any, epochs: Any = None) -> Any:
    own = _defaults_of(protocol)
    if epochs not in (None, own.get('train.epochs', SETTINGS['train.epochs'].default)):
        return 0  # a number of epochs that was given replaces the protocol's steps
    return own.get(name, SETTINGS[name].default)


def _computed(value: Callable, of: FieldReference, *others: FieldReference) -> FieldReference:
    operation: Any = types.SimpleNamespace(fn=value, args=others)
    return FieldReference(of, field_type=object, op=operation)


def _count(value: Any) -> int | str:
    """Returns a number, or words for what is none: a reference compares its arguments, which
    arrays do not allow."""
    return value if isinstance(value, int) else 'no number'


def _defaults_of(protocol: Any) -> Mapping[str, Any]:
    """Returns the defaults that a protocol brings; {} for what is none."""
    if isinstance(protocol, str) and protocol in PROTOCOLS:
        return PROTOCOLS[protocol].settings
    return own_parts.brought(protocol) if python_files.names_object(protocol) else {}


def assign(config: Config, name: str, value: Any) -> None:
    """Assigns to a field by its full name, and makes the groups that it lies in."""
    *groups, last = name.split('.')
    for group in groups:
        if group not in config:
            config[group] = ConfigDict(type_safe=False)
        config = config[group]
    config[last] = value


def given_values(config: Config) -> dict[str, Any]:
    """Returns the values of a configuration in which fields may be missing, by full name.

    Raises:
      InputError: a reference has no value, or names are not text.
    """
    try:
        return dict(_leaves(config))
    except InputError:
        raise
    except Exception as error:
        raise InputError(f'the configuration cannot be read: {in_words(error)}') from None


def _leaves(config: Any, prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Yields the full name and value of each field that is not a group."""
    for key in config:
        name = f'{prefix}{key}'
        try:
            value = config[key]
        except Exception as error:
            raise InputError(f'{plain(name)} has no value: {in_words(error)}') from None
        is_group = isinstance(value, ConfigDict) and name not in (*SETTINGS, *TABLES)
        if is_group and prefix.count('.') < DEEPEST:
            yield from _leaves(value, f'{name}.')
        else:
            yield name, value
