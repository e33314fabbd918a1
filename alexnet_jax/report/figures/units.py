"""Preferred images of units: gradient ascents and crops of the images with the largest values."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.image
from matplotlib.figure import Figure

from alexnet_jax.experiment.unit_images import Unit
from alexnet_jax.report.figures.canvas import INK, label, save_png, write_numbers

INCHES, HIGH = 1.1, 1.3  # width and height of a picture with its title


def draw(units: Sequence[Unit], names: Sequence[str], path: Path) -> None:
    """Draws path.png: a row for each unit, with its ascent and its crops, largest value first.

    Args:
      names: readable class names, by label.
    """
    across = 1 + max(len(unit.crops) for unit in units)
    figure = Figure(figsize=(INCHES * max(2, across), HIGH * len(units)))
    # Positions are computed here, because Matplotlib takes seconds to arrange so many axes.
    for line, unit in enumerate(units):
        ascent = (unit.ascent.image, f'unit {unit.number}: {unit.ascent.value:.3g}')
        crops = [
            (crop.pixels, f'{label(name_of(names, crop.label), 12)} {crop.value:.3g}')
            for crop in drawn(unit)
        ]
        for column, (pixels, title) in enumerate([ascent, *crops]):
            corner = (column / max(2, across), 1 - (line + 1) / len(units))
            axes = figure.add_axes((*corner, 0.93 / max(2, across), 0.8 / len(units)))
            axes.imshow(pixels)
            axes.axis('off')
            axes.set_title(title, fontsize=7, color=INK[0])
    save_png(figure, path)


def drawn(unit: Unit) -> list:
    """Returns the crops of a unit without those of images for which it is 0.

    A ReLU is then 0 at every position, so there is no position to crop at.
    """
    return [crop for crop in unit.crops if crop.value]


def save_ascent(unit: Unit, path: Path) -> None:
    """Writes the image of an ascent with one pixel per pixel."""
    matplotlib.image.imsave(path, unit.ascent.image)


def name_of(names: Sequence[str], number: int) -> str:
    """Returns the name of a class, or '' for a number without a class."""
    return names[number] if 0 <= number < len(names) else ''


def write(units: Sequence[Unit], names: Sequence[str], path: Path) -> None:
    """Writes path.csv with a row for each unit and image."""
    head = (
        'unit', 'ascent_start', 'ascent_value', 'place', 'image', 'class', 'value', 'row', 'column',
        'top', 'left', 'bottom', 'right',
    )  # fmt: skip
    rows = []
    for unit in units:
        own = (unit.number, unit.ascent.start, unit.ascent.value)
        rows += [
            (*own, rank, crop.id, name_of(names, crop.label), crop.value,
             *(crop.place or (None, None)), *crop.box)
            for rank, crop in enumerate(unit.crops, start=1)
        ] or [(*own, *[None] * (len(head) - 3))]  # fmt: skip
    write_numbers(path, head, rows)
