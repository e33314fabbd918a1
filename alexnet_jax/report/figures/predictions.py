"""Images with predictions, as in the paper's Figure 4 (left)."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet_jax.report.figures.canvas import label, save_png

COLUMNS = 4


@dataclasses.dataclass(frozen=True)
class Prediction:
    """An image and its most probable classes.

    image: uint8 [size, size, 3]. title: its name or class. classes: names and probabilities, the
    most probable first.
    """

    image: np.ndarray
    title: str
    classes: Sequence[tuple[str, float]]


def draw(predictions: Sequence[Prediction], path: Path) -> None:
    """Draws path.png: each image above the bars of its most probable classes."""
    across = min(COLUMNS, len(predictions))
    down = math.ceil(len(predictions) / across)
    figure = Figure(figsize=(2.6 * across, 4.2 * down), layout='constrained')
    axes = figure.subplots(2 * down, across, squeeze=False, height_ratios=[3, 2] * down)
    for part in axes.flat:
        part.axis('off')
    for number, prediction in enumerate(predictions):
        row, column = divmod(number, across)
        _image(axes[2 * row, column], prediction)
        _bars(axes[2 * row + 1, column], prediction)
    save_png(figure, path)


def _image(axes: Axes, prediction: Prediction) -> None:
    axes.imshow(prediction.image)
    axes.set_title(label(prediction.title), fontsize=8)


def _bars(axes: Axes, prediction: Prediction) -> None:
    ranks = range(len(prediction.classes))
    axes.barh(ranks, [p for _, p in prediction.classes], color='#e8a0a0')
    for rank, (name, probability) in zip(ranks, prediction.classes, strict=True):
        axes.text(0.01, rank, f'{label(name)}  {probability:.3f}', va='center', fontsize=7)
    axes.set_xlim(0, 1)
    axes.invert_yaxis()
