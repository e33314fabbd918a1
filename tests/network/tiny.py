"""A net that is compiled in a second, with variables of which every unit depends."""

import jax
import numpy as np

from alexnet_jax.network import inference
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.layers import (
    Architecture,
    Conv,
    Dense,
    LocalResponseNorm,
    MaxPool,
    Output,
    Relu,
)

CLASSES = 5
# Two columns that meet at conv2 and fc3.
TINY = Architecture('tiny', 13, 2, (
    Conv('conv1', 12, kernel=3, then=(Relu(), LocalResponseNorm(size=3, alpha=0.1), MaxPool())),
    Conv('conv2', 16, kernel=3, padding=(1, 1), reads_all=True, then=(Relu(), MaxPool())),
    Dense('fc3', 20),
), Output('fc4'))  # fmt: skip


def drawn(table, random, dtype=np.float32):
    """Variables of which every unit depends, and images."""

    def numbers(path, like):
        kernel = path[-1].key == 'kernel'
        spread = np.sqrt(2 / np.prod(like.shape[1:-1])) if kernel else 0.2
        return (random.normal(0, spread, like.shape)).astype(dtype)

    shapes = inference.variable_shapes(AlexNet(table, CLASSES))
    variables = jax.tree_util.tree_map_with_path(numbers, shapes)
    stats = jax.tree.map(lambda x: np.abs(x) + np.float32(0.5), variables['batch_stats'])
    images = random.normal(size=(3, table.input_size, table.input_size, 3)).astype(dtype)
    return variables | {'batch_stats': stats}, images


def convolved(x, layer):
    """3×3, a row of zeros around x; each column reads all maps."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    kernel = np.concatenate(np.float64(layer['kernel']), axis=-1)
    out = np.zeros((*x.shape[:3], kernel.shape[-1]))
    for row, column in np.ndindex(x.shape[1:3]):
        out[:, row, column] = np.tensordot(padded[:, row : row + 3, column : column + 3], kernel, 3)
    return out + layer['bias'].ravel()


def pooled(x):
    """The largest of each 3×3 window, 2 apart; the last may overhang."""
    places = [range(0, extent - 1, 2) for extent in x.shape[1:3]]
    return np.stack([
        np.stack([x[:, i : i + 3, j : j + 3].max(axis=(1, 2)) for j in places[1]], axis=1)
        for i in places[0]
    ], axis=1)  # fmt: skip


def rest(params, x):
    """The logits from conv1/pool on, in float64, layer by layer."""
    x = pooled(np.maximum(convolved(np.float64(x), params['conv2']), 0))
    kernel = np.concatenate(np.float64(params['fc3']['kernel']), axis=-1)
    x = np.maximum(np.tensordot(x, kernel, 3) + params['fc3']['bias'].ravel(), 0)
    return x @ np.concatenate(np.float64(params['fc4']['kernel'])) + params['fc4']['bias']
