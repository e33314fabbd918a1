"""Predictions of a trained net on the images of a report, and their nearest training images."""

import dataclasses
import heapq
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np

from alexnet_jax.data import augment, class_names
from alexnet_jax.data.image_set import drawn
from alexnet_jax.evaluation import evaluate
from alexnet_jax.evaluation.arrays import as_text
from alexnet_jax.evaluation.evaluate import Outputs
from alexnet_jax.evaluation.tally import Tally
from alexnet_jax.experiment.trained import Showing
from alexnet_jax.network.shapes import layer_shapes
from alexnet_jax.report import predict
from alexnet_jax.report.figures.neighbors import Neighbor
from alexnet_jax.report.figures.predictions import Prediction

DRAWN = 8  # images shown, as in Figure 4 (left)
MISTAKES = 8
Stream = Generator[Outputs]
ASKED, NEAREST = 5, 6  # images with so many neighbors each, as in Figure 4 (right)


@dataclasses.dataclass(frozen=True)
class Shown:
    """An image with its five most probable classes.

    With it come its record's id, its label, and the place of its own class among the five, None
    if it is not one of them. Classes have their short names.
    """

    prediction: Prediction
    id: str
    label: int
    place: int | None


@dataclasses.dataclass(frozen=True)
class Findings:
    """The results of the images on which a report reports.

    tally: the errors over the split. drawn: some images, at random. mistakes: those it was surest
    of. neighbors: a row an image, itself first; [] where there are no training images.
    """

    tally: Tally
    drawn: list[Shown]
    mistakes: list[Shown]
    neighbors: list[list[Neighbor]]


def last_hidden(showing: Showing) -> str:
    """Returns the name of the last activations below the classifier."""
    net = showing.model.net
    return list(layer_shapes(net.architecture, net.classes)[-2].activations)[-1]


def find(
    showing: Showing, runner: Any, watching: Callable[[Stream], Stream] = lambda outputs: outputs
) -> Findings:
    """Passes once over the split and once over the training images, and returns the findings.

    Args:
      runner: of the showing, with the last hidden activations.
      watching: yields the outputs of the second pass as they are, and sees them; of the first where
        there are no training images.
    """
    rows, has_train = drawn(showing.count, DRAWN), 'train' in showing.images.splits
    seen, outputs = _Seen(showing, rows), runner(showing.model.variables)
    outputs = outputs if has_train else watching(outputs)
    classes = len(showing.model.classes)
    tally = evaluate.evaluate(seen.counting(outputs), classes, seen.keep)
    shown = [seen.shown(row) for row in rows]
    mistakes = [seen.shown(row) for _, row in sorted(seen.mistakes, reverse=True)]
    neighbors = []
    if has_train:
        train = watching(runner(showing.model.variables, split='train'))
        asked = rows[:ASKED]
        layer = last_hidden(showing)
        features = np.stack([seen.features[row] for row in asked])
        own = asked if showing.split == 'train' else [None] * len(asked)
        nearest = search(features, (_features(batch, layer) for batch in train), own)
        neighbors = [
            _row(showing, seen.names, seen.shown(row), line)
            for row, line in zip(asked, nearest, strict=True)
        ]
    return Findings(tally, shown, mistakes, neighbors)


class _Seen:
    """What is kept of a pass: of the images drawn, and of the surest mistakes."""

    def __init__(self, showing: Showing, rows: list[int]):
        self._showing, self._rows = showing, set(rows)
        self._layer = last_hidden(showing)
        self.names = class_names.short_names(showing.model.classes)
        self._count = 0
        self._classes: dict[int, list[tuple[str, float]]] = {}
        self._records: dict[int, tuple[str, int, int | None]] = {}
        self.features: dict[int, np.ndarray] = {}
        self.mistakes: list[tuple[float, int]] = []  # a heap of (probability, row)

    def counting(self, outputs: Generator[Outputs]) -> Generator[Outputs]:
        for batch in outputs:
            yield batch
            self._count += len(batch.labels)

    def keep(self, batch: Outputs, log_probabilities: np.ndarray) -> None:
        """Keeps a batch, as `evaluate` calls it."""
        mean = np.exp(log_probabilities)
        for place, label in enumerate(batch.labels.tolist()):
            row, taken = self._count + place, int(mean[place].argmax())
            if row in self._rows:
                self.features[row] = _features(batch, self._layer)[place]
            if taken != label and len(self.mistakes) < MISTAKES:
                heapq.heappush(self.mistakes, (float(mean[place, taken]), row))
            elif taken != label and mean[place, taken] > self.mistakes[0][0]:
                heapq.heapreplace(self.mistakes, (float(mean[place, taken]), row))
            if row in self._rows or (taken != label and row in {r for _, r in self.mistakes}):
                top = predict.top_labels(log_probabilities[place])
                self._classes[row] = [(self.names[one], float(mean[place, one])) for one in top]
                at = top.index(label) if label in top else None
                self._records[row] = as_text(batch.ids[place : place + 1])[0], label, at

    def shown(self, row: int) -> Shown:
        identifier, label, place = self._records[row]
        image = middle(self._showing, self._showing.split, row)
        prediction = Prediction(image, self.names[label], self._classes[row])
        return Shown(prediction, identifier, label, place)


def search(
    asked: np.ndarray, batches: Generator[np.ndarray], own: Sequence[int | None]
) -> list[list[tuple[int, float]]]:
    """Finds the nearest `NEAREST` of all rows of the batches to each row asked for.

    Returns (row, Euclidean distance), the nearest first and ties in the order of the rows: every
    distance is computed.

    Args:
      asked: [images, units]. batches: [rows, units] each.
      own: the row of each image asked for among those of the batches, which is not near to
        itself; None: it is not one of them.
    """
    best = np.full((len(asked), 0), np.inf)
    rows = np.full((len(asked), 0), -1)
    first = 0
    for batch in batches:
        squares = np.stack([((batch - one) ** 2).sum(axis=1) for one in asked])
        here = np.broadcast_to(first + np.arange(len(batch)), squares.shape)
        first += len(batch)
        best, rows = np.concatenate([best, squares], axis=1), np.concatenate([rows, here], axis=1)
        order = np.argsort(best, axis=1, kind='stable')[:, : NEAREST + 1]
        best, rows = np.take_along_axis(best, order, 1), np.take_along_axis(rows, order, 1)
    return [
        [
            (row, distance)
            for row, distance in zip(line.tolist(), np.sqrt(squares).tolist(), strict=True)
            if row != itself
        ][:NEAREST]
        for line, squares, itself in zip(rows, best, own, strict=True)
    ]


def _features(batch: Outputs, layer: str) -> np.ndarray:
    """[images, units], float64, of the middle view."""
    values = batch.activations[layer]
    middle_view = values[:, augment.MIDDLE[values.shape[1]]]
    return middle_view.reshape(len(values), -1).astype(np.float64)


def middle(showing: Showing, split: str, row: int) -> np.ndarray:
    """Returns a record's image as the net takes it, uint8 [size, size, 3]."""
    record = showing.images.splits[split].read(row)
    size = showing.model.net.architecture.input_size
    return np.array(augment.views(record.image, size, 1)[0])


def _row(
    showing: Showing, names: Sequence[str], shown: Shown, nearest: Sequence[tuple[int, float]]
) -> list[Neighbor]:
    """An image, and its (row, distance) of the training set as neighbors."""
    row = [Neighbor(shown.prediction.image, shown.prediction.title, shown.id, 0.0, True)]
    for place, distance in nearest:
        record = showing.images.splits['train'].read(place)
        (identifier,) = as_text(np.array([record.id], object))
        image = middle(showing, 'train', place)
        is_alike = record.label == shown.label
        row.append(Neighbor(image, names[record.label], identifier, distance, is_alike))
    return row
