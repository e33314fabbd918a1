"""Ablations of a trained net: single columns and crossings.

An ablated part has weights of 0; all others keep their trained values. Removed columns also have
biases of 0, so that their output is 0.
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from alexnet_jax.network.inference import Variables
from alexnet_jax.network.layers import (
    Architecture,
    BatchNorm,
    Conv,
    Layer,
    LocalResponseNorm,
    Sigmoid,
    Stage,
)


def crossings(architecture: Architecture) -> list[str]:
    """Returns the layers below the classifier whose kernels read another column's maps or units."""
    if architecture.columns == 1:
        return []
    return [row.name for row in architecture.layers[1:] if row.reads_all]


def without_crossing(architecture: Architecture, variables: Variables, layer: str) -> Variables:
    """Returns the variables with each column's kernels of a layer restricted to their own column."""
    row = next(row for row in architecture.layers if row.name == layer)
    return _with(variables, layer, 'kernel', lambda kernel: _own_alone(row, kernel))


def column_alone(architecture: Architecture, variables: Variables, column: int) -> Variables:
    """Returns the variables of the net reduced to one column.

    Crossings to it are removed, the classifier reads only this column, and the others output 0,
    also to normalization across columns.

    Raises:
      ValueError: the net has no such column.
    """
    if not 0 <= column < architecture.columns:
        raise ValueError(f'column is {column}; expected: from 0 to {architecture.columns - 1}')
    for layer in crossings(architecture):
        variables = without_crossing(architecture, variables, layer)

    def others_are(value: float) -> Callable[[np.ndarray], np.ndarray]:
        def silence(array: np.ndarray) -> np.ndarray:
            """[columns, ...], or [maps] of all columns side by side."""
            parts = array.reshape(architecture.columns, -1)
            alone = np.full_like(parts, value)
            alone[column] = parts[column]
            return alone.reshape(array.shape)

        return silence

    for row in architecture.layers:
        variables = _with(variables, row.name, 'kernel', others_are(0))
        variables = _with(variables, row.name, 'bias', others_are(_silent_bias(row.then)))
        for number, stage in enumerate(row.then, start=1):
            if isinstance(stage, BatchNorm):
                norm, bias = f'{row.name}_norm', _silent_bias(row.then[number:])
                variables = _with(variables, norm, 'scale', others_are(0))
                variables = _with(variables, norm, 'bias', others_are(bias))
    return _with(variables, architecture.output.name, 'kernel', others_are(0))


def _silent_bias(stages: Sequence[Stage]) -> float:
    """Returns the bias for which units without inputs pass 0 to a normalization among the stages."""
    for stage in stages:
        if isinstance(stage, BatchNorm | LocalResponseNorm):
            break
        if isinstance(stage, Sigmoid):
            return -1e4  # of which it is 0, and its slope too; the others are 0 of 0
    return 0.0


def _own_alone(row: Layer, kernel: np.ndarray) -> np.ndarray:
    """[columns, ..., what a group reads of all columns, features]: maps for a convolution, and
    for a fully connected layer too, as its kernel keeps height and width apart."""
    groups = row.groups if isinstance(row, Conv) else 1
    columns, maps, features = len(kernel), kernel.shape[-2], kernel.shape[-1] // groups
    column_of_map = np.arange(groups * maps) // (groups * maps // columns)
    alone = np.zeros_like(kernel)
    for column, group in itertools.product(range(columns), range(groups)):
        mine = column_of_map[group * maps : (group + 1) * maps] == column
        of_group = slice(group * features, (group + 1) * features)
        alone[column, ..., mine, of_group] = kernel[column, ..., mine, of_group]
    return alone


def _with(
    variables: Variables, layer: str, part: str, change: Callable[[np.ndarray], np.ndarray]
) -> Variables:
    params = variables['params']
    changed = params[layer] | {part: change(np.asarray(params[layer][part]))}
    return variables | {'params': params | {layer: changed}}
