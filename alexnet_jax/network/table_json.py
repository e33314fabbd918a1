"""Tables of nets as JSON, in workdirs, checkpoints and weight files.

Files with such a table can be used without a table of this package.
"""

import dataclasses
import math
import types
import typing
from typing import Any

from alexnet_jax.network import layers
from alexnet_jax.network.layers import Architecture, Conv, Dense, Output
from alexnet_jax.runtime.errors import InputError, shown

KIND = 'kind'
ROWS = {kind.__name__: kind for kind in (Conv, Dense)}
STAGES = {kind.__name__: kind for kind in layers.STAGE_NAMES}
MOST_ROWS, MOST_STAGES = 1000, 100
LARGEST = 2**31 - 1  # of a whole number in a table
LONGEST = 100  # characters of a name


def to_json(architecture: Architecture) -> dict[str, Any]:
    """Returns every field of a table as JSON; `from_json` makes an equal table of it."""
    tree = _fields(architecture)
    tree['layers'] = [
        {KIND: type(row).__name__}
        | _fields(row)
        | {'then': [{KIND: type(stage).__name__} | _fields(stage) for stage in row.then]}
        for row in architecture.layers
    ]
    return tree | {'output': _fields(architecture.output)}


def from_json(tree: Any) -> Architecture:
    """Returns the table that `to_json` was given.

    Raises:
      InputError: it is not such a table: unknown kind or field, wrong type of a value, or an error
        of `Architecture`.
    """
    _require(isinstance(tree, dict), 'the whole', tree, 'an object')
    rows, output = tree.get('layers'), tree.get('output')
    _require(isinstance(rows, list) and len(rows) <= MOST_ROWS, 'layers', rows, 'a list of rows')
    return _made(Architecture, tree | {'layers': tuple(map(_row, rows)), 'output': _output(output)})


def _row(tree: Any) -> layers.Layer:
    kind = _kind(tree, ROWS, 'a row')
    stages = tree.get('then')
    _require(isinstance(stages, list) and len(stages) <= MOST_STAGES, 'then', stages, 'a list')
    then = tuple(_made(_kind(stage, STAGES, 'a stage'), _less_kind(stage)) for stage in stages)
    return _made(kind, _less_kind(tree) | {'then': then})


def _output(tree: Any) -> Output:
    _require(isinstance(tree, dict), 'output', tree, 'an object')
    return _made(Output, tree)


def _kind(tree: Any, known: dict[str, type], where: str) -> Any:
    name = tree.get(KIND) if isinstance(tree, dict) else tree
    if isinstance(tree, dict) and isinstance(name, str) and name in known:
        return known[name]
    raise _refusal(f'{KIND} of {where}', name, f'one of {", ".join(known)}')


def _less_kind(tree: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in tree.items() if name != KIND}


def _fields(row: Any) -> dict[str, Any]:
    values = {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
    return {name: list(x) if isinstance(x, tuple) else x for name, x in values.items()}


def _made(kind: Any, values: dict[str, Any]) -> Any:
    """Returns an instance of a dataclass with fields of the declared types."""
    types_ = typing.get_type_hints(kind)
    needed = {
        field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING
    }
    for name in sorted(needed - values.keys()):
        raise InputError(f'{kind.__name__} of the table of the net has no {name}')
    for name in values:
        allowed = ', '.join(types_) or 'no field'
        _require(name in types_, f'a field of {kind.__name__}', name, allowed)
    return kind(**{name: _typed(name, value, types_[name]) for name, value in values.items()})


def _typed(name: str, value: Any, kind: Any) -> Any:
    """Returns the value if it is of the type of the field."""
    if name in ('layers', 'output', 'then'):
        return value  # made already
    if isinstance(kind, types.UnionType):  # float | None
        return None if value is None else _typed(name, value, typing.get_args(kind)[0])
    if typing.get_origin(kind) is tuple:
        of = typing.get_args(kind)
        _require(
            isinstance(value, list) and len(value) == len(of), name, value, f'{len(of)} numbers'
        )
        return tuple(_typed(name, part, each) for part, each in zip(value, of, strict=True))
    if kind is float and type(value) in (int, float):
        _require(abs(value) <= LARGEST and math.isfinite(value), name, value, 'a finite number')
        return float(value)
    _require(type(value) is kind, name, value, f'of type {kind.__name__}')
    if kind is int:
        _require(abs(value) <= LARGEST, name, value, f'at most {LARGEST}')
    if kind is str:
        named = value.isprintable() and 0 < len(value) <= LONGEST
        _require(named, name, value, f'1 to {LONGEST} printable characters')
    return value


def _require(right: bool, name: str, value: Any, allowed: str) -> None:
    if not right:
        raise _refusal(name, value, allowed)


def _refusal(name: str, value: Any, allowed: str) -> InputError:
    return InputError(f'{name} of the table of the net is {shown(value)}; allowed: {allowed}')
