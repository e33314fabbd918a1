"""Images and their nearest neighbors, as in the paper's Figure 4 (right)."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from alexnet_jax.report.figures.canvas import label, save_png, write_numbers


@dataclasses.dataclass(frozen=True)
class Neighbor:
    """An image of a row of neighbors.

    image: uint8 [size, size, 3]. title: its class. id: the id of its record. distance: Euclidean
    distance to the first image of the row in the last hidden layer. is_alike: whether it has the
    class of the first image.
    """

    image: np.ndarray
    title: str
    id: str
    distance: float
    is_alike: bool


def draw(rows: Sequence[Sequence[Neighbor]], path: Path) -> None:
    """Draws a row for each image: the image, then its neighbors, nearest first.

    Writes path.png, and the ids, classes and distances to path.csv.
    """
    across = max(map(len, rows))
    figure = Figure(figsize=(1.1 * across, 1.35 * len(rows)), layout='constrained')
    axes = figure.subplots(len(rows), across, squeeze=False)
    for part in axes.flat:
        part.axis('off')
    for line, row in zip(axes, rows, strict=True):
        for part, neighbor in zip(line, row, strict=False):
            part.imshow(neighbor.image)
            part.set_title(label(neighbor.title, 14), fontsize=7)
    save_png(figure, path)
    write_numbers(
        path, ('image', 'image_class', 'place', 'neighbor', 'neighbor_class', 'distance'),
        [(row[0].id, row[0].title, rank, other.id, other.title, other.distance)
         for row in rows for rank, other in enumerate(row[1:], start=1)],
    )  # fmt: skip
