"""Receptive fields, computed from the table: the pixels that a unit of an activation depends on.

Windows (kernels, pools, normalization within a map) are composed in order. With r the size of a
field in pixels, j the distance between the fields of neighboring units and s the first pixel of the
first unit's field, a window of size k, stride t and padding p before it results in

    r' = r + (k − 1) · j        s' = s − p · j        j' = j · t

(Araujo, Norris, Sim: Computing Receptive Fields of Convolutional Neural Networks, Distill 2019,
doi 10.23915/distill.00021). At the edges a field is smaller: padding and the overhanging part of a
pooling window have no units. Tables are square, so both axes have the same fields.
"""

import dataclasses

from alexnet_jax.network.layers import STAGE_NAMES, Architecture, Conv, Output, Pool, SameMapNorm
from alexnet_jax.network.shapes import activation_shapes


@dataclasses.dataclass(frozen=True)
class Window:
    """A window along one axis: its size, stride and padding before.

    `extent`: size of the map below.
    """

    size: int
    stride: int
    padding: int
    extent: int


@dataclasses.dataclass(frozen=True)
class ReceptiveField:
    """The field of an activation's units along one axis.

    windows: windows between the image and the activation, the lowest first.
    units: how many units the activation has along the axis; 1 in fully connected layers.
    """

    windows: tuple[Window, ...]
    units: int

    @property
    def size(self) -> int:
        """Returns r, in pixels, away from the edges."""
        size, stride = 1, 1
        for window in self.windows:
            size += (window.size - 1) * stride
            stride *= window.stride
        return size

    @property
    def stride(self) -> int:
        """Returns j, in pixels."""
        stride = 1
        for window in self.windows:
            stride *= window.stride
        return stride

    @property
    def start(self) -> int:
        """Returns s, in pixels; negative in the padding."""
        start, stride = 0, 1
        for window in self.windows:
            start -= window.padding * stride
            stride *= window.stride
        return start

    @property
    def center(self) -> float:
        """Returns the center of the first unit's field, padding included, in pixels.

        The center of unit i is `stride` · i pixels further.
        """
        return self.start + (self.size - 1) / 2

    def pixels(self, unit: int) -> range:
        """Returns the pixels, from the first to the last, that the unit depends on.

        There are none if the unit reads only padding.

        Raises:
          ValueError: the activation has no such unit.
        """
        if not 0 <= unit < self.units:
            raise ValueError(f'unit is {unit}; expected: from 0 to {self.units - 1}')
        first = last = unit
        for window in reversed(self.windows):
            first = max(0, first * window.stride - window.padding)
            last = min(window.extent - 1, last * window.stride - window.padding + window.size - 1)
            if first > last:
                return range(0)
        return range(first, last + 1)


def receptive_fields(architecture: Architecture) -> dict[str, ReceptiveField]:
    """Returns the receptive field of every activation by name.

    Units of a fully connected layer depend on all pixels of the layer below. Normalization across
    maps reads one position; so does batch normalization in an evaluation.

    Raises:
      InputError: as `shapes.layer_shapes`.
    """
    shapes = activation_shapes(architecture, classes=1)
    fields: dict[str, ReceptiveField] = {}
    windows: tuple[Window, ...] = ()
    extent = architecture.input_size

    def add(name: str, *more: Window) -> None:
        nonlocal windows, extent
        windows, extent = (*windows, *more), shapes[name][0] if len(shapes[name]) > 1 else 1
        fields[name] = ReceptiveField(windows, extent)

    for layer in (*architecture.layers, architecture.output):
        if isinstance(layer, Conv):
            add(layer.name, Window(layer.kernel, layer.stride, layer.padding[0], extent))
        else:
            add(layer.name, Window(extent, 1, 0, extent))
        for stage in () if isinstance(layer, Output) else layer.then:
            name = f'{layer.name}/{STAGE_NAMES[type(stage)]}'
            if isinstance(stage, Pool):
                add(name, Window(stage.size, stage.stride, 0, extent))
            elif isinstance(stage, SameMapNorm):
                add(name, Window(stage.size, 1, stage.size // 2, extent))
            else:
                add(name)
    return fields
