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

DRAWN = 8  # random images, as in Figure 4 (left)
MISTAKES = 8  # wrong predictions with the highest probability
QUERIES, NEAREST = 5, 6  # images, and neighbors of each, as in Figure 4 (right)
Stream = Generator[Outputs]


@dataclasses.dataclass(frozen=True)
class Shown:
    """An image with its five most probable classes, under their short names.

    id: the id of its record. rank: the index of its own class among the five, or None.
    """

    prediction: Prediction
    id: str
    label: int
    rank: int | None


@dataclasses.dataclass(frozen=True)
class Findings:
    """Results of a net on the images of a report.

    tally: errors on the split. drawn: random images. mistakes: the wrong predictions with the highest
    probability. neighbors: a row for each query image, itself first; [] without training images.
    """

    tally: Tally
    drawn: list[Shown]
    mistakes: list[Shown]
    neighbors: list[list[Neighbor]]


def last_hidden(showing: Showing) -> str:
    """Returns the name of the last activation below the classifier."""
    net = showing.model.net
    return list(layer_shapes(net.architecture, net.classes)[-2].activations)[-1]


def find(
    showing: Showing, runner: Any, watching: Callable[[Stream], Stream] = lambda outputs: outputs
) -> Findings:
    """Evaluates the split, searches the training images for neighbors, and returns the findings.

    Args:
      runner: the runner of `showing`, with the last hidden activation.
      watching: yields the outputs of the second pass unchanged, or of the first pass if there are no
        training images; it may use them on the way.
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
        queries = rows[:QUERIES]
        layer = last_hidden(showing)
        features = np.stack([seen.features[row] for row in queries])
        own = queries if showing.split == 'train' else [None] * len(queries)
        nearest = search(features, (_features(batch, layer) for batch in train), own)
        neighbors = [
            _row(showing, seen.names, seen.shown(row), line)
            for row, line in zip(queries, nearest, strict=True)
        ]
    return Findings(tally, shown, mistakes, neighbors)


class _Seen:
    """Collects results of the random images and of the most probable mistakes during a pass."""

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
        """Collects the results of a batch; `evaluate` calls it."""
        mean = np.exp(log_probabilities)
        for index, label in enumerate(batch.labels.tolist()):
            row, predicted = self._count + index, int(mean[index].argmax())
            is_wrong = predicted != label
            if row in self._rows:
                self.features[row] = _features(batch, self._layer)[index]
            if is_wrong and len(self.mistakes) < MISTAKES:
                heapq.heappush(self.mistakes, (float(mean[index, predicted]), row))
            elif is_wrong and mean[index, predicted] > self.mistakes[0][0]:
                heapq.heapreplace(self.mistakes, (float(mean[index, predicted]), row))
            if row in self._rows or (is_wrong and row in {r for _, r in self.mistakes}):
                top = predict.top_labels(log_probabilities[index])
                self._classes[row] = [(self.names[one], float(mean[index, one])) for one in top]
                rank = top.index(label) if label in top else None
                self._records[row] = as_text(batch.ids[index : index + 1])[0], label, rank

    def shown(self, row: int) -> Shown:
        """Returns the image of a row with its predictions."""
        identifier, label, rank = self._records[row]
        image = middle(self._showing, self._showing.split, row)
        prediction = Prediction(image, self.names[label], self._classes[row])
        return Shown(prediction, identifier, label, rank)


def search(
    queries: np.ndarray, batches: Generator[np.ndarray], own: Sequence[int | None]
) -> list[list[tuple[int, float]]]:
    """Returns the `NEAREST` nearest rows of each query: (row, Euclidean distance), nearest first.

    The search is exact. Ties are in the order of the rows.

    Args:
      queries: [images, units]. batches: [rows, units] each.
      own: the row of each query in the batches, which is not its own neighbor, or None.
    """
    best = np.full((len(queries), 0), np.inf)
    rows = np.full((len(queries), 0), -1)
    first = 0
    for batch in batches:
        squares = np.stack([((batch - one) ** 2).sum(axis=1) for one in queries])
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
    """Returns the activation of the center view, float64 [images, units]."""
    values = batch.activations[layer]
    middle_view = values[:, augment.MIDDLE[values.shape[1]]]
    return middle_view.reshape(len(values), -1).astype(np.float64)


def middle(showing: Showing, split: str, row: int) -> np.ndarray:
    """Returns the center crop of a record, uint8 [size, size, 3]."""
    record = showing.images.splits[split].read(row)
    size = showing.model.net.architecture.input_size
    return np.array(augment.views(record.image, size, 1)[0])


def _row(
    showing: Showing, names: Sequence[str], shown: Shown, nearest: Sequence[tuple[int, float]]
) -> list[Neighbor]:
    """Returns an image and its neighbors, given as (row, distance) of the training set."""
    row = [Neighbor(shown.prediction.image, shown.prediction.title, shown.id, 0.0, True)]
    for index, distance in nearest:
        record = showing.images.splits['train'].read(index)
        (identifier,) = as_text(np.array([record.id], object))
        image = middle(showing, 'train', index)
        is_alike = record.label == shown.label
        row.append(Neighbor(image, names[record.label], identifier, distance, is_alike))
    return row
