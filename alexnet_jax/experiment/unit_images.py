"""Preferred images of units of a trained net.

These are the images of a set with the largest activations, and images from gradient ascent.
"""

import dataclasses
import functools
from collections.abc import Callable, Generator, Sequence
from typing import Any

import jax
import numpy as np

from alexnet_jax.data import augment
from alexnet_jax.data.image_set import ImageSet
from alexnet_jax.evaluation import activation_maximization, top_images
from alexnet_jax.evaluation.arrays import as_text
from alexnet_jax.evaluation.evaluate import Outputs
from alexnet_jax.experiment.model import Model
from alexnet_jax.experiment.unit_lesions import EACH, numbers_of, units_in
from alexnet_jax.network import compiler
from alexnet_jax.network.layers import STAGE_NAMES, Activation, Architecture
from alexnet_jax.network.receptive_fields import receptive_fields
from alexnet_jax.network.shapes import activation_shapes
from alexnet_jax.runtime.errors import StopRequestedError

AT_ONCE = 16  # ascents in one program


@dataclasses.dataclass(frozen=True)
class Crop:
    """The receptive field of a unit's largest value in an image.

    id, label: of the image's record. value: the unit's, the largest over the places of its map.
    place: its (row, column); None of a unit without places.
    box: (top, left, bottom, right), the last two the first row and column beyond it.
    pixels: uint8 [height, width, 3].
    """

    id: str
    label: int
    value: float
    place: tuple[int, int] | None
    box: tuple[int, int, int, int]
    pixels: np.ndarray


@dataclasses.dataclass(frozen=True)
class Ascent:
    """An image that maximizes a unit: uint8 [size, size, 3].

    With it come the unit's values for the first image and for this one.
    """

    image: np.ndarray
    start: float
    value: float


@dataclasses.dataclass(frozen=True)
class Unit:
    """Preferred images of a unit; crops: the largest values first, [] without images."""

    number: int
    ascent: Ascent
    crops: list[Crop]


class Search:
    """Finds the images that most activate units of a layer, during a pass over the outputs."""

    def __init__(self, layer: str, units: Sequence[int], count: int):
        self.layer, self.units, self.count = layer, list(units), count
        self.top, self._seen = top_images.none(len(self.units)), 0

    def watching(self, outputs: Generator[Outputs]) -> Generator[Outputs]:
        """Yields the outputs unchanged. Of several views only the center is used."""
        for batch in outputs:
            values = batch.activations[self.layer]
            middle = values[:, augment.MIDDLE[values.shape[1]]][..., self.units]
            self.top = top_images.add(self.top, middle, self._seen, self.count)
            self._seen += len(values)
            yield batch

    def crops(self, model: Model, images: ImageSet, split: str) -> list[list[Crop]]:
        """Returns the crops of each unit, after the pass over all outputs of the split."""
        table = model.net.architecture
        shape = activation_shapes(table, len(model.classes))[self.layer]
        field, size = receptive_fields(table)[self.layer], table.input_size

        def crop(value: float, row: int, place: int) -> Crop:
            at = divmod(place, shape[1]) if len(shape) == 3 else (0, 0)
            rows, columns = (field.pixels(one) for one in at)
            box = (rows.start, columns.start, rows.stop, columns.stop)
            record = images.splits[split].read(row)
            pixels = np.array(augment.views(record.image, size, 1)[0])
            (name,) = as_text(np.array([record.id], object))
            part = pixels[rows.start : rows.stop, columns.start : columns.stop]
            return Crop(name, record.label, value, at if len(shape) == 3 else None, box, part)

        kept = zip(self.top.values, self.top.rows, self.top.places, strict=True)
        return [[crop(*one) for one in zip(*map(np.ndarray.tolist, of), strict=True)]
                for of in kept]  # fmt: skip


def chosen(model: Model, layer: str, text: str) -> list[int]:
    """Returns the units of a layer that a command selects: 'each', or comma-separated numbers.

    Raises:
      InputError: the net has no such activation or units.
    """
    shapes = activation_shapes(model.net.architecture, len(model.classes))
    count = units_in(layer, shapes)
    return list(range(count)) if text == EACH else numbers_of(text, count, (EACH,))


def ascended(architecture: Architecture, layer: str) -> str:
    """Returns the activation whose units are maximized instead of the layer's.

    It is the input of the activation function, because a ReLU at 0 has no gradient. It is the layer
    itself without an activation function, or with one that changes the number of units.
    """
    name, _, stage = layer.partition('/')
    shapes = activation_shapes(architecture, classes=1)
    rows = {row.name: row for row in architecture.layers}
    before = name
    for one in rows[name].then if stage else ():
        this = f'{name}/{STAGE_NAMES[type(one)]}'
        if isinstance(one, Activation):
            return before if shapes[before][-1] == shapes[layer][-1] else layer
        if this == layer:
            break
        before = this
    return layer


def ascents(
    model: Model,
    layer: str,
    units: Sequence[int],
    steps: int,
    seed: int,
    stop_requested: Callable[[], bool] = lambda: False,
) -> list[Ascent]:
    """Maximizes units, `AT_ONCE` in parallel.

    Raises:
      StopRequestedError: a stop was requested.
    """
    made, width = [], min(AT_ONCE, len(units))
    for first in range(0, len(units), width):
        group = list(units[first : first + width])
        padded = np.array(group + group[-1:] * (width - len(group)))
        made += _ascents(model, layer, padded, steps, seed, stop_requested)[: len(group)]
    return made


def _ascents(
    model: Model, layer: str, units: np.ndarray, steps: int, seed: int, stop_requested: Any
) -> list[Ascent]:
    model, size = jax.device_put(model), model.net.architecture.input_size
    step, pixels = _compiled()
    state = activation_maximization.start(model.mean, size, units.tolist(), seed)
    still = np.zeros(2, np.int64)
    _, first = step(model, state, layer, units, still)
    for shift in activation_maximization.shifts(size, steps, seed):
        if stop_requested():
            raise StopRequestedError
        state, _ = step(model, state, layer, units, shift)
    _, last = step(model, state, layer, units, still)
    images = np.rint(np.nan_to_num(pixels(state))).astype(np.uint8)
    return [Ascent(*one) for one in zip(images, first.tolist(), last.tolist(), strict=True)]


@functools.cache
def _compiled() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Returns `ascend` and `pixels`, compiled."""
    options = compiler.options()
    step = jax.jit(
        activation_maximization.ascend, static_argnames='layer', compiler_options=options
    )
    return step, jax.jit(activation_maximization.pixels, compiler_options=options)
