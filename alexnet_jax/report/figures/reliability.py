"""The reliability curve: accuracy by confidence."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alexnet_jax.evaluation.tally import interval
from alexnet_jax.report.figures.canvas import BLUE, MUTED, canvas, save, write_numbers

AREA = 400  # points² of a mark with all images
SMALLEST = 6  # points² of a mark that is still visible


def draw(bins: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draws the accuracy of each bin with its 95 % interval, and the diagonal.

    The area of a mark is the fraction of the images in its bin; bins without images have none.
    Writes path.png, path.svg and path.csv, which has every bin.

    Args:
      bins: as `calibration.reliability` returns them.
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
    axes.set_xlabel('confidence (mean probability of the prediction)')
    axes.set_ylabel('accuracy (fraction of correct predictions)')
    save(figure, path)
    write_numbers(path, (*bins[0], 'low', 'high'), rows)


def _interval(one: Mapping[str, Any]) -> tuple[float | None, float | None]:
    return (
        interval(round(one['accuracy'] * one['images']), one['images'])
        if one['images']
        else (None, None)
    )
