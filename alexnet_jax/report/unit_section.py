"""Unit section of a report: preferred images of units of the last convolution."""

import collections
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from alexnet_jax.data import class_names
from alexnet_jax.experiment import unit_images
from alexnet_jax.experiment.model import Model
from alexnet_jax.experiment.trained import Showing
from alexnet_jax.experiment.unit_images import Search, Unit
from alexnet_jax.network.layers import Architecture
from alexnet_jax.network.shapes import activation_shapes, last_convolution
from alexnet_jax.report.figures import page, units
from alexnet_jax.report.figures.canvas import shortened
from alexnet_jax.report.figures.curves import SPLITS
from alexnet_jax.runtime.errors import counted

UNITS, IMAGES = 8, 9  # units, and images of each unit
STEPS = 64  # of gradient ascent


def search_for(architecture: Architecture) -> Search | None:
    """Returns a search for the images with the largest values of some units of the last convolution.

    Each column has equally many units, evenly spaced over its maps. Returns None for a net without
    convolutions.
    """
    layer = last_convolution(architecture)
    if layer is None:
        return None
    count = activation_shapes(architecture, classes=1)[layer][-1]
    columns = np.split(np.arange(count), architecture.columns)
    each = max(1, UNITS // len(columns))
    spread = [maps[np.unique(np.linspace(0, len(maps) - 1, each).astype(int))] for maps in columns]
    return Search(layer, np.concatenate(spread).tolist(), IMAGES)


def content(
    folder: Path,
    model: Model,
    showing: Showing | None,
    search: Search | None,
    stop_requested: Callable[[], bool],
) -> list[str]:
    """Returns the parts of the section; its figures are drawn in `folder`.

    There are none if an ascent ends in NaN.

    Args:
      showing: None if there are no images. search: after the pass over the images, if there are any.

    Raises:
      StopRequestedError: a stop was requested.
    """
    if search is None:
        return []
    table, layer = model.net.architecture, search.layer
    ascended = unit_images.ascended(table, layer)
    ascents = unit_images.ascents(model, ascended, search.units, STEPS, 0, stop_requested)
    if not all(math.isfinite(one.value) for one in ascents):
        return []
    split = split_of(showing) if showing else ''
    crops = search.crops(model, showing.images, split) if showing else [[] for _ in ascents]
    found = [Unit(*one) for one in zip(search.units, ascents, crops, strict=True)]
    names = class_names.short_names(model.classes)
    path = folder / 'units'
    units.draw(found, names, path)
    units.write(found, names, path)
    images = f'{len(showing.images.splits[split]):,} {SPLITS[split]} images' if showing else ''
    about = explained(layer, ascended, STEPS, images)
    drawn = [card(unit, layer, names) for unit in found]
    return [page.paragraph(about), page.side_by_side(*drawn), page.note(page.links(path, ''))]


def split_of(showing: Showing) -> str:
    """Returns the searched split: the training images if there are any."""
    return 'train' if 'train' in showing.images.splits else showing.split


def explained(layer: str, ascended: str, steps: int, images: str) -> str:
    """Returns a paragraph on the pictures.

    Args:
      ascended: the activation that gradient ascent maximizes, which may be the input of `layer`.
      images: the searched images, such as '1,297 training images', or ''.
    """
    side = 'The left image of each pair' if images else 'Each image'
    target = f' of {ascended}, the input of {layer}' if ascended != layer else f' of {layer}'
    text = (
        f'{side} maximizes a unit{target}. It is the result of {steps} steps of gradient ascent from the'
        ' mean training image. Amplitudes and colors are restricted to those of photographs'
        ' (doi 10.23915/distill.00007), so part of its look comes from the method. The value of a unit is'
        ' the maximum of its map.'
    )
    if not images:
        return text + ' No images are available to search for those with the largest values.'
    return text + (
        f' The images on the right have the largest values among {images}. Each is cropped to the pixels'
        ' that its largest value depends on (arXiv:1311.2901).'
    )


def card(unit: Unit, layer: str, names: Sequence[str]) -> str:
    """Returns the pictures of a unit as HTML: its ascent and its crops."""
    crops, ascent = units.drawn(unit), unit.ascent
    described = f'Image that maximizes unit {unit.number} of {layer}'
    pictures = [
        (crop.pixels, f'crop of class {units.name_of(names, crop.label)}, value {crop.value:.3g}')
        for crop in crops
    ]
    return page.unit((ascent.image, described), pictures, caption(unit, names))


def caption(unit: Unit, names: Sequence[str]) -> str:
    """Returns the caption of a unit: the values of its ascent and its images, and their classes."""
    crops, ascent = units.drawn(unit), unit.ascent
    text = f'Unit {unit.number}: gradient ascent raises its value from {ascent.start:.3g} to {ascent.value:.3g}.'
    if not crops:
        return text + ' It is 0 for all images.' * bool(unit.crops)
    counts = collections.Counter(units.name_of(names, crop.label) for crop in crops)
    classes = ', '.join(
        f'{shortened(name, page.NAME)} ({count})' for name, count in counts.most_common()
    )
    values = f'{crops[0].value:.3g}'
    if len(crops) > 1:
        values = f'values from {values} to {crops[-1].value:.3g}'
    else:
        values = f'a value of {values}'
    noun = 'class' if len(counts) == 1 else 'classes'
    has = 'has' if len(crops) == 1 else 'have'
    return f'{text} {counted(len(crops), "image")} {has} {values}; {noun}: {classes}.'
