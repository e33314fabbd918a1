"""Converts weights between the layouts of torchvision, Caffe and this package.

Theirs: a convolution [features, maps read, height, width]; a fully connected layer [units, inputs],
the inputs from maps in the order map, row, column; the classifier [classes, units]. Caffe's two
groups are our two columns, and its images are BGR.
Ours: `network/alexnet.py`.
"""

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from alexnet_jax.network.architectures import ARCHITECTURES, TORCHVISION
from alexnet_jax.network.layers import Architecture, Conv, Layer
from alexnet_jax.network.shapes import layer_shapes
from alexnet_jax.runtime.errors import InputError
from alexnet_jax.weights.arrays import printable, require_finite
from alexnet_jax.weights.caffe_layers import has_form
from alexnet_jax.weights.files import Layers

Arrays = Mapping[str, np.ndarray]
Names = Mapping[str, tuple[str, str]]  # by layer, what the arrays of weights and bias are called

# torchvision/models/alexnet.py: places in its two `nn.Sequential`.
_TORCHVISION_MODULES = {
    'conv1': 'features.0', 'conv2': 'features.3', 'conv3': 'features.6', 'conv4': 'features.8',
    'conv5': 'features.10',
    'fc6': 'classifier.1', 'fc7': 'classifier.4', 'fc8': 'classifier.6',
}  # fmt: skip
_TORCHVISION = {
    layer: (f'{module}.weight', f'{module}.bias') for layer, module in _TORCHVISION_MODULES.items()
}
_CAFFE = {layer: (f'{layer} blob 0', f'{layer} blob 1') for layer in _TORCHVISION_MODULES}
_MOST_NAMED = 3  # arrays of a kind that an error names


def has_torchvision_form(net: Architecture) -> bool:
    """Returns whether torchvision's names fit the net.

    They fit one column with, row by row, the windows and stages of its `alexnet`, whatever the
    widths and groups.
    """
    return _form(net) == _form(TORCHVISION)


def are_torchvision_names(names: Collection[str]) -> bool:
    """Returns whether arrays are named as torchvision's are.

    Some may be missing or too many.
    """
    return any(name in names for pair in _TORCHVISION.values() for name in pair)


def from_torchvision(arrays: Arrays, net: Architecture, source: Path) -> Layers:
    """Converts a state dict of torchvision's `alexnet` into the net's layers.

    The net has as many classes as it. `source`: where the arrays are from, for the message.

    Raises:
      InputError: the net has another form; arrays are missing, too many, of another shape
        or not finite.
    """
    _require_torchvision_form(net)
    return _from_theirs(arrays, net, _TORCHVISION, source)


def to_torchvision(layers: Layers, net: Architecture, source: Path) -> dict[str, np.ndarray]:
    """Converts the net's layers into a state dict; raises as `from_torchvision`."""
    _require_torchvision_form(net)
    return _to_theirs(layers, net, _TORCHVISION, source)


def from_caffe(
    blobs: Mapping[str, Sequence[np.ndarray]], net: Architecture, source: Path
) -> Layers:
    """Converts a Caffe model's arrays by layer into the net's layers.

    Arguments are as for `from_torchvision`. The arrays do not state their net: see
    `caffe_net.architecture`.
    """
    _require_caffe_form(net)
    arrays = {
        f'{layer} blob {place}': _without_leading_ones(values, _axes(layer, place))
        for layer, both in blobs.items()
        for place, values in enumerate(both)
    }
    layers = _from_theirs(arrays, net, _CAFFE, source)
    layers['conv1']['kernel'] = _colors_turned(layers['conv1']['kernel'])
    return layers


def to_caffe(layers: Layers, net: Architecture, source: Path) -> dict[str, list[np.ndarray]]:
    """Converts the net's layers into a Caffe model's arrays; raises as `from_caffe`."""
    _require_caffe_form(net)
    arrays = _to_theirs(layers, net, _CAFFE, source)
    weights = _CAFFE['conv1'][0]
    arrays[weights] = np.ascontiguousarray(arrays[weights][:, ::-1])
    return {layer: [arrays[name] for name in names] for layer, names in _CAFFE.items()}


@dataclasses.dataclass(frozen=True)
class _Convolution:
    """Layout of one layer. `reads`: (maps, height, width) that a unit reads, or (units,)."""

    name: str
    columns: int
    features: int
    reads: tuple[int, ...]

    @property
    def theirs(self) -> tuple[int, ...]:
        return self.features, *self.reads

    @property
    def ours(self) -> tuple[int, ...]:
        maps, *place = self.reads
        return self.columns, *place, maps, self.features // self.columns

    @property
    def our_bias(self) -> tuple[int, ...]:
        return self.columns, self.features // self.columns

    def to_ours(self, weights: np.ndarray) -> np.ndarray:
        weights = weights.reshape(self.columns, -1, *self.reads)
        return np.moveaxis(weights, (1, 2), (-1, -2))

    def to_theirs(self, kernel: np.ndarray) -> np.ndarray:
        return np.moveaxis(kernel, (-1, -2), (1, 2)).reshape(self.theirs)


class _FullyConnected(_Convolution):
    """A convolution whose window is the whole input; their array has no axes for the window."""

    @property
    def theirs(self) -> tuple[int, ...]:
        return self.features, math.prod(self.reads)


class _Classifier(_FullyConnected):
    """The classifier: every class reads the units of all columns."""

    @property
    def ours(self) -> tuple[int, ...]:
        return self.columns, math.prod(self.reads) // self.columns, self.features

    @property
    def our_bias(self) -> tuple[int, ...]:
        return (self.features,)

    def to_ours(self, weights: np.ndarray) -> np.ndarray:
        return weights.T.reshape(self.ours)

    def to_theirs(self, kernel: np.ndarray) -> np.ndarray:
        return kernel.reshape(-1, self.features).T


def _rows(net: Architecture, classes: int) -> list[_Convolution]:
    rows: list[_Convolution] = []
    below = (net.input_size, net.input_size, 3)
    for layer, shape in zip(net.layers, layer_shapes(net, classes), strict=False):
        *place, maps = below
        if isinstance(layer, Conv):
            shared = 1 if layer.reads_all or not rows else net.columns
            reads = (maps // shared // layer.groups, layer.kernel, layer.kernel)
            rows.append(_Convolution(layer.name, net.columns, layer.features, reads))
        else:
            reads = (maps, *place)
            rows.append(_FullyConnected(layer.name, net.columns, layer.features, reads))
        below = shape.output
    rows.append(_Classifier(net.output.name, net.columns, classes, (below[-1],)))
    return rows


def _from_theirs(arrays: Arrays, net: Architecture, names: Names, source: Path) -> Layers:
    rows = _rows(net, _classes(arrays, names[net.output.name]))
    shapes = {}
    for row in rows:
        weights, bias = names[row.name]
        shapes |= {weights: row.theirs, bias: (row.features,)}
    _require_shapes(arrays, shapes, net, source)
    require_finite(arrays, source)
    return {
        row.name: {
            'kernel': np.ascontiguousarray(row.to_ours(arrays[names[row.name][0]])),
            'bias': np.ascontiguousarray(arrays[names[row.name][1]].reshape(row.our_bias)),
        }
        for row in rows
    }


def _to_theirs(
    layers: Layers, net: Architecture, names: Names, source: Path
) -> dict[str, np.ndarray]:
    arrays = {f'{layer}/{part}': x for layer, parts in layers.items() for part, x in parts.items()}
    rows = _rows(net, _classes(arrays, (f'{net.output.name}/bias',)))
    shapes = {}
    for row in rows:
        shapes |= {f'{row.name}/kernel': row.ours, f'{row.name}/bias': row.our_bias}
    _require_shapes(arrays, shapes, net, source)
    require_finite(arrays, source)
    theirs = {}
    for row in rows:
        weights, bias = names[row.name]
        theirs[weights] = np.ascontiguousarray(row.to_theirs(arrays[f'{row.name}/kernel']))
        theirs[bias] = np.ascontiguousarray(arrays[f'{row.name}/bias'].reshape(-1))
    return theirs


def _classes(arrays: Arrays, names: tuple[str, ...]) -> int:
    """Returns the number of classes in the first array that is present; 1 if there is none."""
    for name in names:
        if name in arrays and arrays[name].ndim and arrays[name].size:
            return arrays[name].shape[0]
    return 1


def _require_shapes(
    arrays: Arrays, shapes: Mapping[str, tuple[int, ...]], net: Architecture, source: Path
) -> None:
    """Checks that arrays are all there, with the shapes of the net.

    Raises:
      InputError: arrays are missing, too many or of other shapes.
    """
    missing = [name for name in shapes if name not in arrays]
    extra = [printable(name) for name in arrays if name not in shapes]
    misshapen = [
        f'{name} {arrays[name].shape}, not {shape}'
        for name, shape in shapes.items()
        if name in arrays and arrays[name].shape != shape
    ]
    found = {'missing': missing, 'too many': extra, 'of another shape': misshapen}
    if any(found.values()):
        faults = '; '.join(f'{kind}: {_listed(names)}' for kind, names in found.items() if names)
        raise InputError(f'{source} does not hold the weights of network {net.name}\n{faults}')


def _listed(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ', '.join(names[:_MOST_NAMED]) + (f' and {more} more' if more > 0 else '')


def _require_torchvision_form(net: Architecture) -> None:
    if not has_torchvision_form(net):
        allowed = ', '.join(name for name, n in ARCHITECTURES.items() if has_torchvision_form(n))
        raise InputError(
            f"network {net.name} has another form than torchvision's; allowed: {allowed}"
        )


def _require_caffe_form(net: Architecture) -> None:
    if not has_form(net):
        allowed = ', '.join(name for name, n in ARCHITECTURES.items() if has_form(n))
        raise InputError(f"network {net.name} has another form than Caffe's; allowed: {allowed}")


def _form(net: Architecture) -> tuple:
    return net.columns, tuple(map(_row_form, net.layers)), net.output.name


def _row_form(row: Layer) -> tuple:
    window = (row.kernel, row.stride, row.padding) if isinstance(row, Conv) else ()
    return row.name, type(row), row.reads_all, row.then, window


def _axes(layer: str, place: int) -> int:
    """Returns the number of axes of the layer's blob in Caffe's present format."""
    return 1 if place else 4 if layer.startswith('conv') else 2


def _without_leading_ones(values: np.ndarray, axes: int) -> np.ndarray:
    """Removes leading axes of size 1: Caffe gave every array four axes until 2014."""
    while values.ndim > axes and values.shape[0] == 1:
        values = values[0]
    return values


def _colors_turned(kernel: np.ndarray) -> np.ndarray:
    """Swaps RGB and BGR."""
    return np.ascontiguousarray(kernel[..., ::-1, :])
