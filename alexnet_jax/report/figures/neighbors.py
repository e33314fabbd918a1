"""Images with their nearest others, as in the paper's Figure 4 (right)."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from alexnet_jax.report.figures.canvas import label, save_png, write_numbers


@dataclasses.dataclass(frozen=True)
class Neighbor:
    """An image of the training set that is near to one of the test images.

    image: uint8 [size, size, 3]. title: its class. id: its record's. distance: Euclidean, in the
    last hidden layer; 0 of the image itself. is_alike: whether it is of the image's class.
    """

    image: np.ndarray
    title: str
    id: str
    distance: float
    is_alike: bool


def draw(rows: Sequence[Sequence[Neighbor]], path: Path) -> None:
    """Draws a row an image: itself, and its neighbors, the nearest first.

    Writes path.png; path.csv has ids, classes and distances.
    """
    across = max(map(len, rows))
    figure = Figure(figsize=(1.1 * across, 1.35 * len(rows)), layout='constrained')
    axes = figure.subplots(len(rows), across, squeeze=False)
    for place in axes.flat:
        place.axis('off')
    for line, row in zip(axes, rows, strict=True):
        for place, neighbor in zip(line, row, strict=False):
            place.imshow(neighbor.image)
            place.set_title(label(neighbor.title, 14), fontsize=7)
    save_png(figure, path)
    write_numbers(
        path, ('image', 'image_class', 'place', 'neighbor', 'neighbor_class', 'distance'),
        [(row[0].id, row[0].title, place, other.id, other.title, other.distance)
         for row in rows for place, other in enumerate(row[1:], start=1)],
    )  # fmt: skip
