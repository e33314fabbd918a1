"""A trained net with a part cut: what one column does alone, and what a crossing is good for.

Cut means that the weights are zeros; biases and all else stay as they were trained.
"""

from collections.abc import Callable

import numpy as np

from alexnet_jax.network.inference import Variables
from alexnet_jax.network.layers import Architecture, Conv, Layer


def crossings(architecture: Architecture) -> list[str]:
    """The layers below the classifier whose kernels read another column's maps or units."""
    if architecture.columns == 1:
        return []
    return [row.name for row in architecture.layers[1:] if row.reads_all]


def without_crossing(architecture: Architecture, variables: Variables, layer: str) -> Variables:
    """Every column's kernels of that layer read their own column alone."""
    row = next(row for row in architecture.layers if row.name == layer)
    return _with_kernel(variables, layer, lambda kernel: _own_alone(row, kernel))


def column_alone(architecture: Architecture, variables: Variables, column: int) -> Variables:
    """All that `column` decides by itself: no crossing brings it anything, and the classifier
    reads no other."""
    for layer in crossings(architecture):
        variables = without_crossing(architecture, variables, layer)

    def of_column(kernel: np.ndarray) -> np.ndarray:
        alone = np.zeros_like(kernel)
        alone[column] = kernel[column]
        return alone

    return _with_kernel(variables, architecture.output.name, of_column)


def _own_alone(row: Layer, kernel: np.ndarray) -> np.ndarray:
    """[columns, ..., what all columns have, features]: maps for a convolution, and for a fully
    connected layer too, as its kernel keeps height and width apart."""
    columns, maps = len(kernel), kernel.shape[-2]
    groups = row.groups if isinstance(row, Conv) else 1
    if groups > 1:
        raise ValueError(f'{row.name} reads in groups and cannot be cut by columns')
    own = maps // columns
    alone = np.zeros_like(kernel)
    for column in range(columns):
        mine = slice(column * own, (column + 1) * own)
        alone[column, ..., mine, :] = kernel[column, ..., mine, :]
    return alone


def _with_kernel(
    variables: Variables, layer: str, change: Callable[[np.ndarray], np.ndarray]
) -> Variables:
    params = variables['params']
    changed = params[layer] | {'kernel': change(np.asarray(params[layer]['kernel']))}
    return variables | {'params': params | {layer: changed}}
