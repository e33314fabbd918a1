"""The reliability curve: accuracy by confidence."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alexnet_jax.evaluation.tally import interval
from alexnet_jax.report.figures.canvas import BLUE, MUTED, canvas, save, write_numbers

AREA = 400  # points², of a mark of all images
SMALLEST = 6  # points², which are still to be seen


def draw(bins: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draws the accuracy of each bin with images, with its 95 % interval, and the diagonal.

    A mark's area is the share of the images. Writes path.png and path.svg; path.csv has every
    bin.

    Args:
      bins: of `calibration.reliability`.
    """
    rows = [(*one.values(), *_interval(one)) for one in bins]
    figure, ((axes,),) = canvas(height=3.9)
    axes.plot([0, 1], [0, 1], '--', color=MUTED[0], linewidth=1)
    total = sum(one['images'] for one in bins)
    for one in bins:
        if not one['images']:
            continue
        low, high = _interval(one)
        at = (one['confidence'], one['accuracy'])
        axes.plot([at[0]] * 2, [low, high], color=BLUE[0], linewidth=1)
        axes.scatter(*at, s=max(SMALLEST, AREA * one['images'] / total), color=BLUE[0], alpha=0.7)
    axes.set_xlim(-0.04, 1.06)
    axes.set_ylim(-0.04, 1.06)
    axes.set_xlabel('confidence')
    axes.set_ylabel('accuracy')
    save(figure, path)
    write_numbers(path, (*bins[0], 'low', 'high'), rows)


def _interval(one: Mapping[str, Any]) -> tuple[float | None, float | None]:
    return (
        interval(round(one['accuracy'] * one['images']), one['images'])
        if one['images']
        else (None, None)
    )
