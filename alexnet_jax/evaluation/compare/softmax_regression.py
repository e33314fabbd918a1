"""Multinomial logistic regression with an L2 penalty on features of images."""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

MOST_STEPS = 1000
SLOPE = (
    1e-8  # the largest derivative where the minimum counts as found; weights are SLOPE / l2 near it
)


@dataclasses.dataclass(frozen=True)
class SoftmaxRegression:
    """A linear classifier of features, as `fit` finds it; float64.

    mean, scale: [units], of the training images: 1 / standard deviation, 0 where that is 0.
    weights: [units, classes], of standardized features. bias: [classes].
    """

    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    l2: float
    steps: int
    converged: bool

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Returns [images, classes] for features [images, ...]."""
        return _standardized(features, self.mean, self.scale) @ self.weights + self.bias

    def predictions(self, features: np.ndarray) -> np.ndarray:
        """Returns the most probable class of each image, [images]."""
        return self.logits(features).argmax(axis=1)


def fit(
    features: np.ndarray, labels: np.ndarray, classes: int, l2: Sequence[float]
) -> list[SoftmaxRegression]:
    """Fits a classifier for each penalty.

    It minimizes mean(−log softmax(x W + b)[label]) + l2/2 ‖W‖², x the features standardized on these
    images, by L-BFGS in float64. scikit-learn's LogisticRegression has the same minimum with
    C = 1 / (l2 · images); for two classes, where it has one vector of weights, with twice that.

    With more units than images the features are first rotated into the space that the images span;
    weights outside it are 0 at the minimum, so the result is the same.

    Args:
      features: [images, ...]. labels: [images], integers below `classes`.
      l2: penalties above 0.
    """
    flat = features.reshape(len(features), -1)
    mean, deviation = flat.mean(axis=0, dtype=np.float64), _deviation(flat)
    scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    x, basis = _standardized(flat, mean, scale), None
    if x.shape[1] > len(x):
        basis, triangle = np.linalg.qr(x.T)
        x = triangle.T
    models = []
    with jax.enable_x64(True):
        inputs = jnp.asarray(x), jnp.asarray(labels)
        for penalty in l2:
            found, steps, slope = _minimize(*inputs, penalty, classes)
            weights, bias = np.asarray(found['weights']), np.asarray(found['bias'])
            weights = weights if basis is None else basis @ weights
            ended = float(slope) <= SLOPE
            models.append(SoftmaxRegression(mean, scale, weights, bias, penalty, int(steps), ended))
    return models


def memory_needed(images: int, units: int) -> int:
    """Returns the bytes that `fit` allocates at most: four float64 copies of the features."""
    return 4 * images * units * 8


def _deviation(flat: np.ndarray) -> np.ndarray:
    """Returns each unit's standard deviation over the images, [units]; exactly 0 of one that never
    changes, free of rounding."""
    deviation = flat.std(axis=0, dtype=np.float64)
    return np.where((flat == flat[:1]).all(axis=0), 0, deviation)


def _standardized(features: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    x = np.array(features.reshape(len(features), -1), np.float64)
    x -= mean
    x *= scale
    return x


@functools.partial(jax.jit, static_argnames='classes')
def _minimize(x: jax.Array, labels: jax.Array, l2: jax.Array, classes: int):
    """Returns {'weights', 'bias'}, the steps, and the largest derivative there."""

    def loss(params):
        logits = x @ params['weights'] + params['bias']
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean() + l2 / 2 * (params['weights'] ** 2).sum()

    optimizer = optax.lbfgs()
    value_and_gradient = optax.value_and_grad_from_state(loss)

    def step(carry):
        params, state, _, steps = carry
        value, gradient = value_and_gradient(params, state=state)
        updates, state = optimizer.update(
            gradient, state, params, value=value, grad=gradient, value_fn=loss
        )
        params = optax.apply_updates(params, updates)
        return params, state, _slope(optax.tree.get(state, 'grad')), steps + 1

    def continues(carry):
        _, _, slope, steps = carry
        return (slope > SLOPE) & (steps < MOST_STEPS)

    zeros = {'weights': jnp.zeros((x.shape[1], classes)), 'bias': jnp.zeros(classes)}
    carry = zeros, optimizer.init(zeros), jnp.inf, 0
    params, _, slope, steps = jax.lax.while_loop(continues, step, carry)
    return params, steps, slope


def _slope(gradient) -> jax.Array:
    return jnp.stack([jnp.abs(x).max() for x in jax.tree.leaves(gradient)]).max()
