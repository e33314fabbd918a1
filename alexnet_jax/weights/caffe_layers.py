"""Converts a table to Caffe's layers, as Caffe itself would write them.

Caffe's two groups are the two columns of this package, and normalization reaches across both.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alexnet_jax.network.layers import (
    Activation,
    Architecture,
    AveragePool,
    Conv,
    Dense,
    Dropout,
    LeakyRelu,
    LocalResponseNorm,
    MaxPool,
    Pool,
    Relu,
    SameMapNorm,
    Sigmoid,
    Stage,
    Tanh,
)
from alexnet_jax.weights.caffe import Layer

ROWS = ('conv1', 'conv2', 'conv3', 'conv4', 'conv5', 'fc6', 'fc7', 'fc8')
MAX, AVERAGE = 0, 1  # PoolMethod
WITHIN_CHANNEL = 1  # NormRegion


def has_form(net: Architecture) -> bool:
    """Returns whether Caffe's layers can state the net, and its layers have Caffe's names."""
    names = net.layer_names
    kinds = [type(row) for row in net.layers]
    return (
        net.columns == 2
        and names == ROWS
        and kinds == [Conv] * 5 + [Dense] * 2
        and all(_has_form(row, number == 0) for number, row in enumerate(net.layers))
    )


def _has_form(row: Conv | Dense, first: bool) -> bool:
    if isinstance(row, Dense):
        return row.reads_all and all(isinstance(x, Activation | Dropout) for x in row.then)
    grouped_alike = row.groups == 1 if first or row.reads_all else True
    return row.padding[0] == row.padding[1] and grouped_alike and all(map(_is_caffes, row.then))


def _is_caffes(stage: Stage) -> bool:
    match stage:
        case LocalResponseNorm():
            return stage.alpha_divided and stage.across_columns
        case SameMapNorm():
            return stage.k == 1
    return isinstance(stage, Relu | LeakyRelu | Tanh | Sigmoid | MaxPool | AveragePool | Dropout)


def layers_of(
    net: Architecture,
    arrays: Mapping[str, Sequence[np.ndarray]],
    transform: Mapping[str, Any] | None,
) -> list[Layer]:
    """Returns the layers of a net of Caffe's form, as bvlc_alexnet's deploy.prototxt has them.

    Args:
      arrays: weights and bias by row.
      transform: the preprocessing, as in `Layer`.
    """
    shape = (1, 3, net.input_size, net.input_size)
    layers = [Layer('data', 'Input', tops=('data',), transform=transform, input_shape=shape)]
    below = 'data'
    for number, row in enumerate(net.layers):
        kind = 'Convolution' if isinstance(row, Conv) else 'InnerProduct'
        stated = _convolution(row, number == 0) if isinstance(row, Conv) else {}
        stated = {'num_output': row.features, **stated}
        layers.append(Layer(row.name, kind, arrays[row.name], (below,), (row.name,), stated))
        below = row.name
        for stage in row.then:
            layers.append(_stage_layer(stage, row.name[-1], below, layers))
            below = layers[-1].tops[0]
    name = net.output.name
    stated = {'num_output': len(arrays[name][0])}
    return [*layers, Layer(name, 'InnerProduct', arrays[name], (below,), (name,), stated)]


def _convolution(row: Conv, first: bool) -> dict[str, Any]:
    group = 1 if first or row.reads_all else 2 * row.groups
    given = {'pad': [row.padding[0]], 'kernel_size': [row.kernel], 'stride': [row.stride]}
    defaults = {'pad': [0], 'stride': [1]}
    stated = {name: value for name, value in given.items() if defaults.get(name) != value}
    return stated | ({'group': group} if group > 1 else {})


def _stage_layer(stage: Stage, number: str, below: str, layers: Sequence[Layer]) -> Layer:
    kind, stated = parameters(stage)
    called = {'LRN': 'norm', 'Pooling': 'pool', 'Dropout': 'drop'}.get(kind, 'relu')
    name = f'{called}{number}'
    while name in {layer.name for layer in layers}:
        name += 'b'
    in_place = not isinstance(stage, LocalResponseNorm | SameMapNorm | Pool)
    return Layer(name, kind, (), (below,), (below if in_place else name,), stated)


def parameters(stage: Stage) -> tuple[str, dict[str, Any] | None]:
    """Returns the type of Caffe's layer for a stage, and its parameters."""
    match stage:
        case Relu():
            return 'ReLU', None
        case LeakyRelu(slope):
            return 'ReLU', {'negative_slope': slope}
        case Tanh() | Sigmoid():
            return ('TanH' if isinstance(stage, Tanh) else 'Sigmoid'), None
        case Dropout(rate):
            return 'Dropout', {'dropout_ratio': rate}
        case LocalResponseNorm(size, alpha, beta, k):
            return 'LRN', {'local_size': size, 'alpha': alpha, 'beta': beta, 'k': k}
        case SameMapNorm(size, alpha, beta, k):
            stated = {'local_size': size, 'alpha': alpha, 'beta': beta, 'k': k}
            return 'LRN', stated | {'norm_region': WITHIN_CHANNEL}
        case MaxPool(size, stride) | AveragePool(size, stride):
            method = MAX if isinstance(stage, MaxPool) else AVERAGE
            return 'Pooling', {'pool': method, 'kernel_size': size, 'stride': stride}
    raise TypeError(f'{stage!r} is none of Caffe')
