"""Sizes of a table's layers, computed without running the net."""

import bisect
import dataclasses

from alexnet_jax.network import rules
from alexnet_jax.network.layers import (
    STAGE_NAMES,
    Activation,
    Architecture,
    BatchNorm,
    Conv,
    Dense,
    Layer,
    Pool,
    maps_after,
)
from alexnet_jax.runtime.errors import InputError, shown


@dataclasses.dataclass(frozen=True)
class LayerShape:
    """Shapes and counts of one row.

    activations: shape by name, over all columns: [height, width, maps] or [units]; the weighted
      sums first, then the results of the stages.
    parameters: number of trained values.
    statistics: number of moving statistics of batch normalization.
    multiply_adds: those of the weighted sums for one image in the forward pass.
    """

    name: str
    activations: dict[str, tuple[int, ...]]
    parameters: int
    statistics: int
    multiply_adds: int

    @property
    def output(self) -> tuple[int, ...]:
        """Shape of the layer's last activation."""
        return list(self.activations.values())[-1]


def layer_shapes(architecture: Architecture, classes: int) -> list[LayerShape]:
    """Returns one `LayerShape` per row, the output layer last.

    Raises:
      InputError: the input is too small, so that a layer would have no units; or `classes` is not a
        positive whole number.
    """
    if not rules.COUNT.holds(classes):
        raise InputError(
            f'network {architecture.name} has {shown(classes)} classes;'
            f' allowed: {rules.COUNT.words}'
        )
    rows, seen, below = [], (architecture.input_size, architecture.input_size, 3), 1
    for layer in architecture.layers:
        row = _layer(architecture, layer, seen, below)
        if min(shape_side for shape in row.activations.values() for shape_side in shape) < 1:
            raise InputError(
                f'input of {architecture.input_size} pixels leaves nothing of {layer.name}'
                f' of network {architecture.name}; allowed: at least'
                f' {smallest_input(architecture)}'
            )
        rows.append(row)
        seen, below = row.output, architecture.columns
    units = _product(seen)
    output = architecture.output
    rows.append(LayerShape(output.name, {output.name: (classes,)}, (units + 1) * classes, 0,
                           units * classes))  # fmt: skip
    return rows


def activation_shapes(architecture: Architecture, classes: int) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every activation by name, [height, width, maps] or [units].

    Raises as `layer_shapes`.
    """
    rows = layer_shapes(architecture, classes)
    return {name: shape for row in rows for name, shape in row.activations.items()}


def last_convolution(architecture: Architecture) -> str | None:
    """Returns the name of the last convolution's activation function, as 'conv5/relu'.

    It is the convolution's own name if it has no activation function; None for a net without
    convolutions.
    """
    rows = [row for row in architecture.layers if isinstance(row, Conv)]
    if not rows:
        return None
    stages = [STAGE_NAMES[type(stage)] for stage in rows[-1].then if isinstance(stage, Activation)]
    return '/'.join([rows[-1].name, *stages[:1]])


def smallest_input(architecture: Architecture) -> int:
    """Returns the smallest input, in pixels, for which every layer has a unit."""

    def suffices(size: int) -> bool:
        seen, below = (size, size, 3), 1
        for layer in architecture.layers:
            row = _layer(architecture, layer, seen, below)
            seen, below = row.output, architecture.columns
            if min(seen[:-1], default=1) < 1:
                return False
        return True

    # A larger input never gives fewer units.
    most = 1
    while not suffices(most):
        most *= 2
    return bisect.bisect_left(range(most + 1), True, lo=1, key=suffices)


def _layer(
    architecture: Architecture, layer: Layer, seen: tuple[int, ...], below: int
) -> LayerShape:
    """`seen`: the shape of the layer below, over all its `below` columns."""
    columns = architecture.columns
    if isinstance(layer, Dense):
        seen = (_product(seen),)
    reads = seen[-1] if layer.reads_all else seen[-1] // below
    spatial, inputs = (), reads  # of one unit
    if isinstance(layer, Conv):
        spatial = tuple(_positions(layer, extent) for extent in seen[:-1])
        inputs = layer.kernel**2 * (reads // layer.groups)
    weights = inputs * layer.features
    activations = {layer.name: (*spatial, layer.features)}
    maps, parameters, statistics = layer.features, weights + layer.features, 0
    for stage in layer.then:
        if isinstance(stage, Pool):
            spatial = tuple(pooled(extent, stage.size, stage.stride) for extent in spatial)
        if isinstance(stage, BatchNorm):
            parameters += 2 * maps
            statistics += 2 * maps
        maps = columns * maps_after(stage, maps // columns)
        activations[f'{layer.name}/{STAGE_NAMES[type(stage)]}'] = (*spatial, maps)
    positions = _product(activations[layer.name][:-1])
    return LayerShape(layer.name, activations, parameters, statistics, positions * weights)


def pooled(extent: int, size: int, stride: int) -> int:
    """Returns how many windows cover `extent`; the last may overhang.

    It is 0 if `extent` is too small for even one overhanging window.
    """
    return max(0, -(-(extent - size) // stride) + 1) if extent > 0 else 0


def halo(own: int, maps: int) -> list[int]:
    """Returns how many of the `maps` maps beyond a device's `own` maps each further neighbor sends."""
    return [min(own, maps - before) for before in range(0, maps, own)]


def _positions(layer: Conv, extent: int) -> int:
    padded = extent + sum(layer.padding)
    return (padded - layer.kernel) // layer.stride + 1 if extent > 0 < padded else 0


def _product(shape: tuple[int, ...]) -> int:
    product = 1
    for extent in shape:
        product *= extent
    return product
