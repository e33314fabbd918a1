"""Linear probes: linear classifiers of a layer's features.

See Alain and Bengio, 2016, arXiv:1610.01644.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from alexnet_jax.evaluation import tally
from alexnet_jax.evaluation.compare import softmax_regression
from alexnet_jax.evaluation.compare.softmax_regression import SoftmaxRegression
from alexnet_jax.runtime.errors import InputError, counted, shown

GRID = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of l2
VALIDATION = 0.2  # fraction of the training images for the selection of l2
Labeled = tuple[np.ndarray, Sequence[str]]


@dataclasses.dataclass(frozen=True)
class ProbeResult:
    """The result of `probe`; errors are fractions.

    classes: [classes], sorted.
    interval: Wilson's 95 % interval of the held-out error.
    chance_error: the held-out error of always predicting the most frequent training class.
    l2_errors: selection error by penalty; empty for a given penalty.
    """

    model: SoftmaxRegression
    classes: tuple[str, ...]
    training_images: int
    held_out_images: int
    error: float
    interval: tuple[float, float]
    chance_error: float
    training_error: float
    l2_errors: dict[float, float]


def probe(
    features: np.ndarray,
    labels: Sequence[str],
    test: Labeled | None = None,
    l2: float | None = None,
    held_out: float = 0.2,
    seed: int = 0,
) -> ProbeResult:
    """Fits a linear classifier of features and measures its error on held-out images.

    Args:
      features: [images, ...]. labels: [images], names of classes.
      test: the held-out images' features and labels; None: a share of these images.
      l2: the penalty of `softmax_regression.fit`; None: that of `GRID` with the lowest error on a
        fifth of the training images.
      held_out: share of each class that is held out, drawn by the seed.

    Raises:
      InputError: there is one class, or none; a class has no image to train on; no image is held
        out; the held-out images have other classes or another number of units.
    """
    random = np.random.default_rng(seed)
    if test is None:
        held = split(labels, held_out, random)
        test = features[held], _chosen(labels, held)
        features, labels = features[~held], _chosen(labels, ~held)
    classes = require_classes(features, labels, test)
    places = {name: place for place, name in enumerate(classes)}
    target, held_target = (np.array([places[x] for x in names]) for names in (labels, test[1]))
    errors = {}
    if l2 is None:
        l2, errors = choose(features, target, len(classes), random)
    (model,) = softmax_regression.fit(features, target, len(classes), [l2])
    wrong = model.predictions(test[0]) != held_target
    return ProbeResult(
        model=model,
        classes=classes,
        training_images=len(target),
        held_out_images=len(held_target),
        error=float(wrong.mean()),
        interval=tally.interval(int(wrong.sum()), len(wrong)),
        chance_error=float(np.mean(held_target != np.bincount(target).argmax())),
        training_error=float(np.mean(model.predictions(features) != target)),
        l2_errors=errors,
    )


def require_classes(features: np.ndarray, labels: Sequence[str], test: Labeled) -> tuple[str, ...]:
    """Returns the classes of the training images, sorted.

    Raises:
      InputError: as `probe`.
    """
    for array, names in ((features, labels), test):
        if len(array) != len(names):
            raise InputError(
                f'{counted(len(array), "image")} and {counted(len(names), "label")}; allowed: one each'
            )
    classes = tuple(sorted(set(labels)))
    if len(classes) < 2:
        only = f': {shown(classes[0])}' if classes else ''
        raise InputError(
            f'a probe needs images of two classes or more to train on; there are {len(classes)}{only}'
        )
    if not len(test[1]):
        raise InputError('no image is held out; allowed: a larger share, or a test set')
    strange = sorted(set(test[1]) - set(classes))
    if strange:
        raise InputError(
            f'held-out images have {counted(len(strange), "class", "classes")} without an image to'
            f' train on, such as {shown(strange[0])}'
        )
    if features.shape[1:] != test[0].shape[1:]:
        raise InputError(
            f'training images have features {shown(features.shape[1:])} and held-out images'
            f' {shown(test[0].shape[1:])}; allowed: the same'
        )
    return classes


def choose(
    features: np.ndarray, labels: np.ndarray, classes: int, random: np.random.Generator
) -> tuple[float, dict[float, float]]:
    """Chooses the penalty of `GRID` with the lowest error on a fifth of the images.

    The classifiers are fitted to the others; of equal penalties it is the largest. Returns it,
    and the error of each.

    Raises:
      InputError: no class has so many images that one could be held out.
    """
    held = split(labels, VALIDATION, random)
    if not held.any():
        raise InputError('the selection of l2 needs a class with three training images; set --l2')
    models = softmax_regression.fit(features[~held], labels[~held], classes, GRID)
    wrong = [model.predictions(features[held]) != labels[held] for model in models]
    errors = {l2: float(each.mean()) for l2, each in zip(GRID, wrong, strict=True)}
    return min(GRID, key=lambda l2: (errors[l2], -l2)), errors


def split(
    labels: Sequence[str] | np.ndarray, share: float, random: np.random.Generator
) -> np.ndarray:
    """Returns which images are held out, bool [images].

    Of each class it is the share, rounded, drawn at random.
    """
    every = np.asarray(labels)
    held = np.zeros(len(every), bool)
    for label in np.unique(every):
        members = random.permutation(np.flatnonzero(every == label))
        held[members[: round(share * len(members))]] = True
    return held


def _chosen(names: Sequence[str], which: np.ndarray) -> list[str]:
    return [names[place] for place in np.flatnonzero(which).tolist()]
