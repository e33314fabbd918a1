"""Loss functions: loss per image, from logits."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def softmax(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the cross-entropy of the softmax (§3.5): −log p(label).

    Args:
      logits: float [batch, classes].
      labels: int [batch].

    Returns:
      float [batch].
    """
    return -_of_label(jax.nn.log_softmax(logits), labels)


def logistic(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the sum over the classes of binary cross-entropies (arXiv:1404.5997).

    Each class is an independent logistic unit: −log σ(z of the label) − Σ over the others log(1 −
    σ(z)), which equals Σ over all log(1 + e^z) − z of the label. Arguments and result are those of
    `softmax`.
    """
    return jnp.sum(jax.nn.softplus(logits), axis=1) - _of_label(logits, labels)


def _of_label(values: jax.Array, labels: jax.Array) -> jax.Array:
    return jnp.take_along_axis(values, labels[:, None], axis=1)[:, 0]


LOSSES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    'softmax': softmax,
    'logistic': logistic,
}
