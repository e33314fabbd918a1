"""Converts the net of a Caffe file to a table.

Missing values have Caffe's own defaults (caffe.proto), such as an alpha of 1, which differ from
those of its nets.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alexnet_jax.network import shapes
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
from alexnet_jax.runtime.errors import InputError
from alexnet_jax.weights.arrays import ContentError, printable
from alexnet_jax.weights.caffe import Layer
from alexnet_jax.weights.caffe_layers import AVERAGE, MAX, ROWS, WITHIN_CHANNEL, parameters

_WEIGHTED = ['Convolution'] * 5 + ['InnerProduct'] * 3
_STAGES = {'ReLU', 'TanH', 'Sigmoid', 'LRN', 'Pooling', 'Dropout'}
_IMAGES = {
    'Input', 'Data', 'ImageData', 'HDF5Data', 'MemoryData', 'WindowData', 'DummyData',
}  # fmt: skip
# Layers that may read the logits. Caffe inserts a `Split` if two layers read one blob, and a
# `Silence` above an unread blob; these two may also read the images.
_ABOVE = {'Softmax', 'SoftmaxWithLoss', 'Accuracy', 'ArgMax', 'Silence', 'Split'}
_BELOW = {'Silence', 'Split'}
_CEIL, _FLOOR = 0, 1  # RoundMode


@dataclasses.dataclass(frozen=True)
class Row:
    """A layer with weights, and those that follow it up to the next one."""

    layer: Layer
    then: list[Layer]


def rows(layers: Sequence[Layer]) -> list[Row]:
    """Returns the eight rows of a file, each named as in `ROWS`.

    Raises:
      ContentError: the layers are others, or not one above the other.
    """
    found: list[Row] = []
    below: set[str] = set()  # names of what the next layer is to read; empty: not known
    for layer in layers:
        passed = {0: _BELOW, len(ROWS): _ABOVE}.get(len(found), set())
        if layer.kind in _IMAGES or layer.kind in passed:
            if layer.kind in _IMAGES or (layer.kind == 'Split' and below & {*layer.bottoms}):
                below |= {*layer.tops} if layer.kind == 'Split' else {*layer.tops[:1]}
            continue
        where = f'{printable(layer.name)} of type {printable(layer.kind)}'
        if layer.kind not in {*_WEIGHTED, *_STAGES} or (layer.kind in _STAGES and not found):
            raise ContentError(f'has a layer {where}, which no net here has there')
        if layer.in_phases and layer.kind != 'Dropout':
            raise ContentError(f'has a layer {where}, in some phases only; allowed: in all')
        if below and layer.bottoms and not (len(layer.bottoms) == 1 and layer.bottoms[0] in below):
            raise ContentError(
                f'has a layer {where} that reads {printable(", ".join(layer.bottoms))};'
                f' allowed: what lies below it, {printable(", ".join(sorted(below)))}'
            )
        if len(layer.tops) > 1:
            raise ContentError(
                f'has a layer {where} that writes {printable(", ".join(layer.tops))}; allowed: one top'
            )
        below = set(layer.tops)
        if layer.kind in _STAGES:
            found[-1].then.append(layer)
        else:
            found.append(Row(layer, []))
    kinds = [row.layer.kind for row in found]
    if kinds != _WEIGHTED:
        counts = f'{kinds.count("Convolution")} convolutions, {kinds.count("InnerProduct")} fully'
        raise ContentError(
            f'has {counts} connected layers; allowed: 5 convolutions below 3 fully connected layers'
        )
    return found


def has_parameters(found: Sequence[Row]) -> bool:
    """Returns whether the file states its layers' parameters, as all files of Caffe do."""
    return any(row.layer.parameters is not None for row in found)


def has_stages(found: Sequence[Row]) -> bool:
    """Returns whether the file states anything but weights."""
    return any(row.then for row in found)


def net_of(found: Sequence[Row]) -> str | None:
    """Returns the most similar of Caffe's two nets.

    'caffe' normalizes before it pools, 'caffenet' after. None: there is no order of the two.
    """
    kinds = [layer.kind for layer in found[0].then if layer.kind in ('LRN', 'Pooling')]
    if set(kinds) != {'LRN', 'Pooling'}:
        return None
    return 'caffe' if kinds[0] == 'LRN' else 'caffenet'


def architecture(found: Sequence[Row], base: Architecture) -> Architecture:
    """Returns the table of the net in a file.

    It is `base` itself if both are equal. Initial values, and missing values, are those of `base`.

    Raises:
      ContentError: no table can express the file's net.
    """
    if has_stages(found) and not has_parameters(found):
        _require_order(found, base)
        return base
    layers = tuple(
        _layer(row, of_base, number == 0, has_stages(found))
        for number, (row, of_base) in enumerate(zip(found, base.layers, strict=False))
    )
    if found[-1].then:
        raise ContentError(f'has a layer {printable(found[-1].then[0].name)} above the classifier')
    _require_classes(found[-1].layer)
    try:
        net = dataclasses.replace(base, layers=layers)
        net = net if net == base else dataclasses.replace(net, name=f'{base.name}_imported')
        _require_rounding(found, net)
    except ContentError:
        raise
    except InputError as error:
        raise ContentError(f'states a net that cannot be: {error}') from error
    return net


def blobs(found: Sequence[Row]) -> dict[str, Sequence[np.ndarray]]:
    """Returns weights and bias by row, zeros where a layer is stated to have no bias.

    Raises:
      ContentError: a layer is stated to have no bias, and has one.
    """
    arrays = {}
    for name, row in zip(ROWS, found, strict=True):
        arrays[name] = list(row.layer.blobs)
        if (row.layer.parameters or {}).get('bias_term') is False and arrays[name]:
            if len(arrays[name]) > 1:
                raise _unlike(row.layer, 'bias_term false beside a bias', 'weights alone')
            arrays[name].append(np.zeros(arrays[name][0].shape[:1], np.float32))
    return arrays


def _require_order(found: Sequence[Row], base: Architecture) -> None:
    """Checks that the file states the net's kinds of stages.

    Raises:
      ContentError: the file states other kinds of stages than the net has.
    """
    for name, row, of_base in zip(ROWS, found, (*base.layers, base.output), strict=True):
        kinds = [layer.kind for layer in row.then]
        expected = [parameters(stage)[0] for stage in getattr(of_base, 'then', ())]
        if kinds != expected:
            raise ContentError(
                f'states no parameters of its layers, and after {name} {printable(" ".join(kinds))};'
                f' allowed: {" ".join(expected)}, as network {base.name} has'
            )


def _layer(row: Row, base: Conv | Dense, first: bool, staged: bool) -> Conv | Dense:
    stages = tuple(map(_stage, row.then)) if staged else base.then
    where = printable(row.layer.name)
    if not any(isinstance(stage, Activation) for stage in stages):
        raise ContentError(f'has no activation after {where}; allowed: ReLU, TanH or Sigmoid')
    if isinstance(base, Dense) and any(not isinstance(x, Activation | Dropout) for x in stages):
        raise ContentError(f'pools or normalizes after {where}, which is fully connected')
    if sum(isinstance(stage, Pool) for stage in stages) > 1:
        raise ContentError(f'pools twice after {where}; allowed: once')
    changed = {'features': _features(row.layer, base.features), 'then': stages}
    if isinstance(base, Conv):
        changed |= _window(row.layer, base, first)
    else:
        _require_all_inputs(row.layer)
    return dataclasses.replace(base, **changed)


def _features(layer: Layer, default: int) -> int:
    return (layer.parameters or {}).get('num_output', default)


def _window(layer: Layer, base: Conv, first: bool) -> dict[str, Any]:
    """Returns the fields of `Conv` that a convolution states."""
    stated = layer.parameters
    if stated is None:
        return {}
    if _side(layer, 'dilation', '', 1) != 1 or stated.get('axis', 1) != 1:
        raise _unlike(layer, 'dilation or axis', 'a dilation and an axis of 1')
    groups, padding = stated.get('group', 1), _side(layer, 'pad', 'pad', 0)
    if groups < 1 or (groups > 1 and (first or groups % 2)):
        raise _unlike(layer, f'group {groups}', '1 in the first layer, else 1 or an even number')
    return {
        'kernel': _side(layer, 'kernel_size', 'kernel'),
        'stride': _side(layer, 'stride', 'stride', 1),
        'padding': (padding, padding),
        'reads_all': base.reads_all if first else groups == 1,
        'groups': max(1, groups // 2),
    }


def _require_all_inputs(layer: Layer) -> None:
    stated = layer.parameters or {}
    if stated.get('axis', 1) != 1 or stated.get('transpose', False):
        raise _unlike(layer, 'axis or transpose', 'an axis of 1, and not transposed')


def _require_classes(layer: Layer) -> None:
    _require_all_inputs(layer)
    classes, units = layer.blobs[0].shape[-2:-1] if layer.blobs else (), _features(layer, 0)
    if units and classes != (units,):
        raise _unlike(layer, f'num_output {units}', 'as many as it has weights for')


def _side(layer: Layer, both: str, each: str, default: int | None = None) -> int:
    """Returns the side of a square, which a layer states under one name for both axes, or under one
    name for each, such as kernel_h and kernel_w."""
    stated = layer.parameters or {}
    value = stated.get(both, [])
    sides = {*value} if isinstance(value, list) else {value}
    if each:
        sides |= {stated[name] for name in (f'{each}_h', f'{each}_w') if name in stated}
        if (f'{each}_h' in stated) != (f'{each}_w' in stated):
            sides.add(default or 0)
    sides = sides or ({default} if default is not None else set())
    least = 0 if both == 'pad' else 1
    if len(sides) != 1 or min(sides) < least:
        raise _unlike(layer, f'{both} {printable(str(sorted(sides)))}', 'one number for both axes')
    return sides.pop()


def _stage(layer: Layer) -> Stage:
    stated = layer.parameters or {}
    match layer.kind:
        case 'ReLU':
            slope = _number(layer, 'negative_slope', 0)
            return LeakyRelu(slope) if slope else Relu()
        case 'TanH':
            return Tanh()
        case 'Sigmoid':
            return Sigmoid()
        case 'Dropout':
            rate = _number(layer, 'dropout_ratio', 0.5)
            if not 0 <= rate < 1:
                raise _unlike(layer, f'dropout_ratio {rate:g}', 'from 0 to below 1')
            return Dropout(rate)
        case 'LRN':
            return _norm(layer, stated)
    return _pool(layer, stated)


def _norm(layer: Layer, stated: Mapping[str, Any]) -> LocalResponseNorm | SameMapNorm:
    alpha, beta, k = (
        _number(layer, name, default) for name, default in (('alpha', 1), ('beta', 0.75), ('k', 1))
    )
    size = stated.get('local_size', 5)
    if alpha < 0 or k <= 0:
        raise _unlike(layer, f'alpha {alpha:g} and k {k:g}', 'alpha from 0, k above 0')
    if stated.get('norm_region', 0) != WITHIN_CHANNEL:
        return LocalResponseNorm(size, alpha, beta, k, alpha_divided=True, across_columns=True)
    if k != 1:  # On a CPU Caffe uses 1 regardless of the file, with cuDNN it does not.
        raise _unlike(layer, f'k {k:g} within a channel', 'k 1')
    return SameMapNorm(size, alpha, beta, k)


def _pool(layer: Layer, stated: Mapping[str, Any]) -> Pool:
    kinds = {MAX: MaxPool, AVERAGE: AveragePool}
    kind = kinds.get(stated.get('pool', MAX))
    if stated.get('global_pooling') or kind is None:
        raise _unlike(layer, 'global or stochastic pooling', 'max and average pooling')
    size, stride = _side(layer, 'kernel_size', 'kernel'), _side(layer, 'stride', 'stride', 1)
    if _side(layer, 'pad', 'pad', 0):
        raise _unlike(layer, 'padding', 'pooling without padding')
    if stride > size:
        raise _unlike(layer, f'stride {stride} over windows of {size}', f'a stride up to {size}')
    return kind(size, stride)


def _require_rounding(found: Sequence[Row], net: Architecture) -> None:
    """Checks that layers that pool round sizes as the table does.

    Raises:
      ContentError: a layer that pools rounds sizes down where the table rounds up.
    """
    sizes = shapes.layer_shapes(net, classes=1)
    for row, of_net, shape in zip(found, net.layers, sizes, strict=False):
        for layer in row.then:
            if (layer.parameters or {}).get('round_mode', _CEIL) != _FLOOR:
                continue
            extent = shape.activations[of_net.name][0]
            size, stride = next((x.size, x.stride) for x in of_net.then if isinstance(x, Pool))
            if (extent - size) % stride:
                raise _unlike(layer, f'sizes rounded down from {extent} pixels', 'rounded up')


def _number(layer: Layer, name: str, default: float) -> float:
    """Returns a float32 as its shortest decimal."""
    value = float(str(np.float32((layer.parameters or {}).get(name, default))))
    if not math.isfinite(value):
        raise _unlike(layer, f'{name} {value}', 'a finite number')
    return value


def _unlike(layer: Layer, stated: str, allowed: str) -> ContentError:
    return ContentError(f'states {stated} in layer {printable(layer.name)}; allowed: {allowed}')
