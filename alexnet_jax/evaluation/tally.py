"""Errors and loss from probabilities, overall and by class, in float64 on the host.

An image is a top-k error if k or more classes rank before its label; ties rank in the order of the
classes. A label with a NaN probability is an error. Log-probabilities are used because underflowed
probabilities could not be ranked.
"""

import collections
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import chex
import numpy as np

from alexnet_jax.evaluation import calibration


@dataclasses.dataclass
class Tally:
    """Counts over the images added so far.

    examples, top1, top5: [classes], images with that label and errors among them.
    losses: loss of each image.
    confusions: counts of each (label, most probable class) where they differ.
    places: number of images by the number of classes before their label.
    confidences: the largest probability of each image.
    right: whether its class is the image's label.
    """

    examples: np.ndarray
    top1: np.ndarray
    top5: np.ndarray
    losses: list[float] = dataclasses.field(default_factory=list)
    confusions: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    places: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    confidences: list[float] = dataclasses.field(default_factory=list)
    right: list[bool] = dataclasses.field(default_factory=list)

    @classmethod
    def zero(cls, classes: int) -> 'Tally':
        """Returns the counts before the first image."""
        none = np.zeros(classes, np.int64)
        return cls(none, none.copy(), none.copy())

    def add(self, scores: np.ndarray, labels: np.ndarray, losses: np.ndarray) -> None:
        """Adds images: scores [images, classes], labels and losses [images].

        Scores are log-probabilities (or, except for `calibration`, values with the same order).
        """
        places = places_of(scores, labels)
        np.add.at(self.examples, labels, 1)
        np.add.at(self.top1, labels, places >= 1)
        np.add.at(self.top5, labels, places >= 5)
        self.losses += losses.tolist()
        self.places.update(places.tolist())
        # One by one: the last bit of NumPy's own may depend on the position in an array.
        self.confidences += [math.exp(min(score, 0.0)) for score in scores.max(axis=1).tolist()]
        self.right += (places == 0).tolist()
        wrong = (places >= 1) & ~np.isnan(scores).any(axis=1)  # NaN predicts no class
        predicted = scores[wrong].argmax(axis=1)
        pairs = zip(labels[wrong].tolist(), predicted.tolist(), strict=True)
        self.confusions.update(pairs)

    @property
    def images(self) -> int:
        """Number of images counted."""
        return int(self.examples.sum())

    def scores(self) -> dict[str, Any]:
        """Returns loss and errors as fractions, with the 95 % interval of each error.

        The keys are 'examples', 'class_count', 'loss', 'top1_error', 'top5_error',
        'top1_interval' and 'top5_interval'.
        """
        count = self.images
        top1, top5 = int(self.top1.sum()), int(self.top5.sum())
        return {
            'examples': count,
            'class_count': len(self.examples),
            'loss': math.fsum(self.losses) / count,  # exact for any batches
            'top1_error': top1 / count,
            'top5_error': top5 / count,
            'top1_interval': interval(top1, count),
            'top5_interval': interval(top5, count),
        }

    def top(self, k: int) -> dict[str, Any]:
        """Returns {'topK_error', 'topK_interval'}, as in `scores`."""
        count = self.images
        errors = sum(times for place, times in self.places.items() if place >= k)
        return {f'top{k}_error': errors / count, f'top{k}_interval': interval(errors, count)}

    def calibration(self) -> dict[str, Any]:
        """Returns {'calibration_error', 'calibration': bins}, as in `calibration.py`."""
        bins = calibration.reliability(self.confidences, self.right)
        return {'calibration_error': calibration.expected_error(bins), 'calibration': bins}

    def by_class(self, names: tuple[str, ...]) -> dict[str, list[dict[str, Any]]]:
        """Returns the errors of each class and the confusions.

        {'classes': errors of each class, None for one without images, 'confusions': counts of
        (label, prediction) pairs, most frequent first}.
        """
        classes = [
            {
                'class': name,
                'examples': int(count),
                'top1_error': int(top1) / int(count) if count else None,
                'top5_error': int(top5) / int(count) if count else None,
            }
            for name, count, top1, top5 in zip(
                names, self.examples, self.top1, self.top5, strict=True
            )
        ]
        ordered = sorted(self.confusions.items(), key=lambda item: (-item[1], item[0]))
        confusions = [
            {'label': names[label], 'taken_for': names[predicted], 'images': times}
            for (label, predicted), times in ordered
        ]
        return {'classes': classes, 'confusions': confusions}


def has_top5(scores: Mapping[str, Any]) -> bool:
    """Returns whether the top-5 error of these `Tally.scores` is meaningful, as `has_top`."""
    return has_top(5, scores)


def has_top(k: int, scores: Mapping[str, Any]) -> bool:
    """Returns whether the top-k error of these `Tally.scores` is meaningful.

    With k or fewer classes it is always 0.
    """
    return scores.get('class_count', k + 1) > k


def places_of(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns how many classes come before each label: scores [images, classes] -> [images]."""
    chex.assert_rank(scores, 2)
    chex.assert_shape(labels, (len(scores),))
    of_label = np.take_along_axis(scores, labels[:, None], axis=1)
    earlier = np.arange(scores.shape[1]) < labels[:, None]
    behind = (scores < of_label) | ((scores == of_label) & ~earlier)
    return np.sum(~behind, axis=1)  # the label itself does not count, unless it is NaN


def interval(errors: int, count: int) -> tuple[float, float]:
    """Returns Wilson's 95 % interval of an error rate, as fractions.

    Without images it is the whole range.
    """
    from scipy import stats  # its import takes half a second

    if count == 0:
        return 0.0, 1.0
    low, high = stats.binomtest(errors, count).proportion_ci(method='wilson')
    return float(low), float(high)
