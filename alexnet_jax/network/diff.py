"""Differences of two tables by field."""

import dataclasses
from typing import Any

from alexnet_jax.network.layers import (
    Architecture,
    AveragePool,
    BatchNorm,
    Dropout,
    Layer,
    LeakyRelu,
    LocalResponseNorm,
    Maxout,
    MaxPool,
    Output,
    Relu,
    SameMapNorm,
    Sigmoid,
    Stage,
    Tanh,
)

ABSENT = 'absent'


@dataclasses.dataclass(frozen=True)
class Deviation:
    """A field, such as `conv2.padding`, with its value in each table."""

    field: str
    one: str
    other: str


def deviations(one: Architecture, other: Architecture) -> list[Deviation]:
    """Returns every field in which the tables differ, but for their names.

    It is [] if both describe the same net. A row of only one table is one deviation.
    """
    found = _of_fields('', one, other)
    rows, others = _rows(one), _rows(other)
    for name in dict.fromkeys([*rows, *others]):
        if name in rows and name in others:
            found += _of_fields(f'{name}.', rows[name], others[name])
        else:
            given = [
                _row_text(table[name]) if name in table else ABSENT for table in (rows, others)
            ]
            found.append(Deviation(name, *given))
    orders = [
        [name for name in table if name in rows and name in others] for table in (rows, others)
    ]
    if orders[0] != orders[1]:
        found.append(Deviation('order of layers', *map(', '.join, orders)))
    return found


def stage_text(stage: Stage) -> str:
    """Describes a stage with all its parameters."""
    match stage:
        case Relu() | Tanh() | Sigmoid():
            return {Relu: 'ReLU', Tanh: 'tanh', Sigmoid: 'sigmoid'}[type(stage)]
        case LeakyRelu(slope):
            return f'leaky ReLU (slope {slope:.4g})'
        case Maxout(pieces):
            return f'maxout of {pieces}'
        case LocalResponseNorm(size, alpha, beta, k, alpha_divided, across_columns):
            divided = '/n' if alpha_divided else ''
            across = ', across columns' if across_columns else ''
            return f'LRN (n {size}, α {alpha:g}{divided}, β {beta:g}, k {k:g}{across})'
        case SameMapNorm(size, alpha, beta, k):
            return f'same-map norm ({size}×{size}, α {alpha:g}/{size}², β {beta:g}, k {k:g})'
        case BatchNorm(epsilon, momentum):
            return f'batch norm (ε {epsilon:g}, momentum {momentum:g})'
        case MaxPool(size, stride):
            return f'max-pool {size}/{stride}'
        case AveragePool(size, stride):
            return f'average-pool {size}/{stride}'
        case Dropout(rate):
            return f'dropout {rate:g}'
    raise TypeError(f'unknown stage {stage!r}')


def std_text(row: Layer | Output) -> str:
    """Formats the standard deviation of a row's initial weights."""
    return '±1/√inputs' if row.std is None else f'{row.std:.4g}'


def bias_text(row: Layer | Output) -> str:
    """Formats a row's initial bias."""
    return '±1/√inputs' if row.std is None else f'{row.bias:g}'


def stages_text(row: Layer) -> str:
    """Formats the stages that follow a layer, in order; 'nothing' if there are none."""
    return ' → '.join(map(stage_text, row.then)) or 'nothing'


def _rows(architecture: Architecture) -> dict[str, Layer | Output]:
    return {row.name: row for row in (*architecture.layers, architecture.output)}


def _fields(row: Any) -> dict[str, Any]:
    """The fields of a row, or those of the architecture without its rows."""
    values = {
        field.name: getattr(row, field.name)
        for field in dataclasses.fields(row)
        if field.name not in ('name', 'layers', 'output')
    }
    return values if isinstance(row, Architecture) else {'kind': type(row).__name__} | values


def _text(row: Any, field: str) -> str:
    texts = {'then': stages_text, 'std': std_text, 'bias': bias_text}
    fields = _fields(row)
    if field not in fields:
        return ABSENT
    return texts[field](row) if field in texts else str(fields[field])


def _of_fields(prefix: str, one: Any, other: Any) -> list[Deviation]:
    fields, others = _fields(one), _fields(other)
    return [
        Deviation(prefix + field, _text(one, field), _text(other, field))
        for field in dict.fromkeys([*fields, *others])
        if (field in fields, fields.get(field)) != (field in others, others.get(field))
    ]


def _row_text(row: Layer | Output) -> str:
    return ', '.join(f'{field} {_text(row, field)}' for field in _fields(row))
