"""Protocols as JSON, for workdirs and weight files.

A protocol from a user's file can then be used and compared without that file.
"""

import dataclasses
import typing
from collections.abc import Iterator
from typing import Any

from alexnet_jax.network import rules
from alexnet_jax.network.rules import Allowed
from alexnet_jax.runtime.errors import InputError, plain, shown
from alexnet_jax.training.protocols import Adam, Group, Protocol, Schedule

KIND = 'kind'
SCHEDULES: dict[str, Any] = {kind.__name__: kind for kind in typing.get_args(Schedule)}
MOST_GROUPS, MOST_DROPS = 1000, 10_000
# Defaults of settings become settings of the run.
LEFT_OUT = 'settings'

LONGEST = 100  # characters of a name
NAME = Allowed(
    f'1 to {LONGEST} printable characters',
    lambda x: isinstance(x, str) and x.isprintable() and 0 < len(x) <= LONGEST,
)
_COUNT = Allowed('a whole number from 1', lambda x: rules.is_whole(x, 1))
_FROM_0 = Allowed('a whole number from 0', lambda x: rules.is_whole(x, 0))


def _one_of(*values: str) -> Allowed:
    return Allowed(f'one of {", ".join(values)}', lambda x: isinstance(x, str) and x in values)


def _or_none(allowed: Allowed) -> Allowed:
    return Allowed(f'{allowed.words}, or None', lambda x: x is None or allowed.holds(x))


def _are_drops(value: Any) -> bool:
    """Returns whether a value is ((start, factor), ...) with ascending starts."""
    pairs = isinstance(value, tuple) and len(value) <= MOST_DROPS
    if not pairs or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
        return False
    starts = [start for start, _ in value]
    numbers = all(rules.is_number(x, 0) for pair in value for x in pair)
    return numbers and starts == sorted(set(starts))


# By class and field. Groups and schedules are checked separately.
ALLOWED: dict[type, dict[str, Allowed]] = {
    Protocol: {
        'name': NAME,
        'source': rules.TEXT,
        'rate_in_velocity': rules.FLAG,
        'reference_batch': _or_none(_COUNT),
        'loss': _one_of('softmax', 'logistic'),
    },
    Adam: {'beta2': rules.FRACTION, 'epsilon': rules.POSITIVE},
    Group: {
        'name': NAME,
        'part': _one_of('weights', 'biases', 'both'),
        'layers': Allowed(
            'a tuple of names of layers',
            lambda x: isinstance(x, tuple) and all(isinstance(name, str) for name in x),
        ),
        'rate': rules.NOT_NEGATIVE,
        'decay': rules.NOT_NEGATIVE,
        'trust': _or_none(rules.POSITIVE),
    },
    SCHEDULES['Plateau']: {},
    SCHEDULES['Steps']: {
        'drops': Allowed('((start, factor), ...), starts ascending from 0', _are_drops),
        'unit': _one_of('epochs', 'steps'),
    },
    SCHEDULES['ExponentialSteps']: {'count': _COUNT, 'total': rules.POSITIVE},
    SCHEDULES['WarmupPolynomial']: {
        'warmup_epochs': rules.NOT_NEGATIVE,
        'power': rules.NOT_NEGATIVE,
    },
    SCHEDULES['RampPolynomial']: {
        'ramp_steps': _FROM_0,
        'start': rules.NOT_NEGATIVE,
        'power': rules.NOT_NEGATIVE,
    },
}


def require(protocol: Protocol) -> None:
    """Checks every field of a protocol but `settings`, and that its groups contain all parameters.

    Raises:
      InputError: a field has another type or value; the message names it.
    """
    rules.require('a protocol', 'name', protocol.name, NAME)
    table = f'protocol {plain(protocol.name)}'
    _require_fields(table, protocol)
    if protocol.adam is not None:
        if type(protocol.adam) is not Adam:
            raise InputError(f'{table} has adam {shown(protocol.adam)}; allowed: Adam or None')
        _require_fields(f'adam of {table}', protocol.adam)
    groups = protocol.groups
    if not isinstance(groups, tuple) or not 0 < len(groups) <= MOST_GROUPS:
        raise InputError(f'{table} has groups {shown(groups)}; allowed: a tuple of Group')
    for group in groups:
        if type(group) is not Group:
            raise InputError(f'{table} has the group {shown(group)}; allowed: Group')
        where = f'group {plain(group.name)} of {table}'
        _require_fields(where, group)
        if type(group.schedule) not in SCHEDULES.values():
            raise InputError(
                f'{where} has the schedule {shown(group.schedule)}; allowed: {", ".join(SCHEDULES)}'
            )
        _require_fields(f'{where} in {type(group.schedule).__name__}', group.schedule)
        if protocol.adam is not None and group.trust is not None:
            raise InputError(f'{where} has trust {group.trust}; allowed: None, as adam is given')
    for part in ('weights', 'biases'):
        if not any(not group.layers and group.part in (part, 'both') for group in groups):
            raise InputError(
                f'{table} has no group that takes the {part} of all layers; allowed: with one,'
                f" as Group('others', Steps(), '{part}'), after those of layers by name"
            )


def _require_fields(where: str, row: Any) -> None:
    for field, allowed in ALLOWED[type(row)].items():
        rules.require(where, field, getattr(row, field), allowed)


def to_json(protocol: Protocol) -> dict[str, Any]:
    """Returns all fields of a protocol as JSON, except its defaults of settings."""
    tree = _fields(protocol)
    del tree[LEFT_OUT]
    groups = [
        _fields(group)
        | {'schedule': {KIND: type(group.schedule).__name__} | _fields(group.schedule)}
        for group in protocol.groups
    ]
    adam = None if protocol.adam is None else _fields(protocol.adam)
    return tree | {'groups': groups, 'adam': adam}


def _fields(row: Any) -> dict[str, Any]:
    values = {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
    return {name: _lists(value) for name, value in values.items()}


def _lists(value: Any) -> Any:
    return [_lists(x) for x in value] if isinstance(value, tuple) else value


def from_json(tree: Any) -> Protocol:
    """Returns the protocol of a tree of `to_json`, without defaults of settings.

    Raises:
      InputError: it is no such tree.
    """
    _require_tree(tree, Protocol)
    groups = tree.get('groups')
    if not isinstance(groups, list) or len(groups) > MOST_GROUPS:
        raise _refusal('groups', groups, 'a list of groups')
    adam = tree.get('adam')
    if adam is not None:
        _require_tree(adam, Adam)
        adam = _made(Adam, adam)
    protocol = _made(Protocol, tree | {'groups': tuple(map(_group, groups)), 'adam': adam})
    require(protocol)
    return protocol


def _group(tree: Any) -> Group:
    _require_tree(tree, Group)
    schedule = tree.get('schedule')
    kind = schedule.get(KIND) if isinstance(schedule, dict) else schedule
    if not isinstance(kind, str) or kind not in SCHEDULES:
        raise _refusal('schedule', schedule, f'one of {", ".join(SCHEDULES)}')
    fields = {name: value for name, value in schedule.items() if name != KIND}
    return _made(Group, tree | {'schedule': _made(SCHEDULES[kind], fields)})


def _require_tree(tree: Any, kind: type) -> None:
    if not isinstance(tree, dict):
        raise _refusal(kind.__name__, tree, 'an object')


def _made(kind: Any, tree: dict[str, Any]) -> Any:
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for name in tree:
        if name not in fields or name == LEFT_OUT:
            raise _refusal(f'a field of {kind.__name__}', name, ', '.join(fields) or 'no field')
    for name, field in fields.items():
        required = field.default is field.default_factory is dataclasses.MISSING
        if required and name not in tree:
            raise InputError(f'{kind.__name__} of the table of the protocol has no {name}')
    return kind(**{name: _tuples(value) for name, value in tree.items()})


def _tuples(value: Any, depth: int = 0) -> Any:
    if isinstance(value, list) and depth < 3:
        return tuple(_tuples(x, depth + 1) for x in value)
    return value


def _refusal(name: str, value: Any, allowed: str) -> InputError:
    return InputError(f'{name} of the table of the protocol is {shown(value)}; allowed: {allowed}')


def differences(kept: Protocol, now: Protocol) -> list[str]:
    """Returns the differences of two protocols, one line each.

    Their sources are not compared.
    """
    one, other = (dict(_leaves(to_json(protocol))) for protocol in (kept, now))
    names = [name for name in one | other if name != 'source']
    return [
        f'{name} of the protocol was {shown(one.get(name))}, now {shown(other.get(name))}'
        for name in names
        if one.get(name) != other.get(name)
    ]


def _leaves(tree: Any, name: str = '') -> Iterator[tuple[str, Any]]:
    """Yields the values of a tree with names like `groups[0].rate`."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _leaves(value, f'{name}.{key}' if name else key)
    elif name == 'groups':
        for number, value in enumerate(tree):
            yield from _leaves(value, f'groups[{number}]')
    else:
        yield name, tree
