"""The section of a report on units of the last convolution: what they respond to."""

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
from alexnet_jax.report.figures.curves import SPLITS
from alexnet_jax.runtime.errors import counted

UNITS, IMAGES = 8, 9  # of the layer, and of each unit
STEPS = 64  # of ascent


def search_for(architecture: Architecture) -> Search | None:
    """Returns a search for the images that most activate some units of the last convolution.

    They are as many of each column, spread evenly over its maps; None for a net without
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
    """Returns the section's parts; its figures are drawn in `folder`.

    There are none if an ascent ends in NaN.

    Args:
      showing: None where there are no images. search: whose images have gone by, if there are any.

    Raises:
      StopRequestedError: a stop was requested.
    """
    if search is None:
        return []
    table, layer = model.net.architecture, search.layer
    climbed = unit_images.ascended(table, layer)
    ascents = unit_images.ascents(model, climbed, search.units, STEPS, 0, stop_requested)
    if not all(math.isfinite(one.value) for one in ascents):
        return []
    split = split_of(showing) if showing else ''
    crops = search.crops(model, showing.images, split) if showing else [[] for _ in ascents]
    found = [Unit(*one) for one in zip(search.units, ascents, crops, strict=True)]
    names = class_names.short_names(model.classes)
    path = folder / 'units'
    units.draw(found, names, path)
    units.write(found, names, path)
    images = f'{len(showing.images.splits[split])} {SPLITS[split]} images' if showing else ''
    about = explained(layer, climbed, STEPS, images)
    drawn = [card(unit, layer, names) for unit in found]
    return [page.paragraph(about), page.side_by_side(*drawn), page.note(page.links(path, ''))]


def split_of(showing: Showing) -> str:
    """Returns the split that is searched: the training images, if there are any."""
    return 'train' if 'train' in showing.images.splits else showing.split


def explained(layer: str, climbed: str, steps: int, images: str) -> str:
    """Returns what the pictures show.

    Args:
      images: those searched, as '1000 training images'; '' where there are none.
    """
    given = f' What rises is {climbed}, which its activation function is given.' * (
        climbed != layer
    )
    text = (
        f'{"Left of each pair: an" if images else "An"} image made to maximize a unit of {layer} by'
        f' {steps} steps of gradient ascent from the training mean.{given} Ascent is held to amplitudes'
        ' and colors as photographs have them (doi 10.23915/distill.00007), so that these are in part'
        ' those of the method. A value is the largest of the map.'
    )
    if not images:
        return text + ' There are no images at hand to search for those that activate a unit most.'
    return text + (
        f' Right: of {images} those for which the unit is largest, each cut to the pixels that its'
        ' largest value depends on (arXiv:1311.2901).'
    )


def card(unit: Unit, layer: str, names: Sequence[str]) -> str:
    """Returns a unit's pictures as HTML: its ascent, and its crops."""
    shown = units.drawn(unit)
    ascent = unit.ascent
    text = f'Unit {unit.number}: ascent from {ascent.start:.3g} to {ascent.value:.3g}'
    if shown:
        kinds = collections.Counter(units.name_of(names, crop.label) for crop in shown)
        classes = ', '.join(f'{name} ({times})' for name, times in kinds.most_common())
        text += (
            f'; {counted(len(shown), "image")} from {shown[0].value:.3g} to {shown[-1].value:.3g},'
            f' of classes {classes}'
        )
    elif unit.crops:
        text += '; 0 for every image'
    crops = [
        (crop.pixels, f'crop of class {units.name_of(names, crop.label)}, value {crop.value:.3g}')
        for crop in shown
    ]
    described = f'Image that maximizes unit {unit.number} of {layer}'
    return page.unit((ascent.image, described), crops, f'{text}.')
