"""Attributions: the pixels and positions of an image that a logit depends on.

The methods are gradient, integrated gradients, Grad-CAM and occlusion.

Pure functions of a net `(images, replace=...) -> (logits, activations)`, such as a `Model`, of
images [batch, size, size, 3] on the scale of the net's input, and of labels, integer [batch]: the
class whose logit, before the softmax, is explained in each image.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from alexnet_jax.network import checks
from alexnet_jax.network.normalization import widened
from alexnet_jax.network.receptive_fields import ReceptiveField, Window
from alexnet_jax.network.shapes import pooled

Array = jax.Array | np.ndarray
Net = Callable[..., tuple[jax.Array, dict[str, jax.Array]]]
PLACES_AT_ONCE = 32  # squares of an occlusion per batch


def scores(net: Net, images: Array, labels: Array) -> jax.Array:
    """Returns the logit of each image's label, [batch]."""
    return _of_labels(net(images)[0], labels)


def gradient(net: Net, images: Array, labels: Array) -> jax.Array:
    """Returns the derivative of the logit by each pixel, of the images' shape.

    See Simonyan, Vedaldi, Zisserman 2013, arXiv:1312.6034, §3.

    Raises:
      ValueError: images or labels of another shape or type.
    """
    images = _checked(images, labels)
    return jax.grad(lambda images: scores(net, images, labels).sum())(images)


def integrated_gradients(
    net: Net, images: Array, labels: Array, baseline: Array | float, steps: int = 64
) -> jax.Array:
    """Returns (x − x') · ∫ ∂F(x' + a(x − x'))/∂x da over a from 0 to 1, of the images' shape.

    See Sundararajan, Taly, Yan 2017, arXiv:1703.01365, eq. 1. Over all pixels it sums to the
    difference of the logit between image and baseline, except for the error of the midpoint rule
    with `steps` steps.

    Args:
      baseline: x', broadcast against the images.

    Raises:
      ValueError: as `gradient`, or there are no steps.
    """
    images = _checked(images, labels)
    if steps < 1:
        raise ValueError(f'steps is {steps}; expected: at least 1')
    away = images - baseline
    middles = (jnp.arange(steps, dtype=images.dtype) + 0.5) / steps

    def add(total: jax.Array, part: jax.Array) -> tuple[jax.Array, None]:
        return total + gradient(net, baseline + part * away, labels), None

    total, _ = jax.lax.scan(add, jnp.zeros_like(images), middles)
    return away * total / steps


def grad_cam(net: Net, images: Array, labels: Array, layer: str) -> jax.Array:
    """Returns ReLU(Σ_k α_k A_k), [batch, height, width].

    A_k are the maps of the activation `layer` and α_k is the mean of the logit's derivative by
    A_k over its places (Selvaraju et al. 2017, arXiv:1610.02391, eq. 1 and 2).

    Raises:
      ValueError: as `gradient`; the net has no such activation, or it has no places.
    """
    images = _checked(images, labels)
    activations = net(images)[1]
    checks.require_one_of('layer', layer, activations)
    maps = activations[layer]
    checks.require_shape(f'layer {layer}', maps, 'batch', 'height', 'width', 'maps')

    def score(maps: jax.Array) -> jax.Array:
        return _of_labels(net(images, replace={layer: maps})[0], labels).sum()

    weights = jax.grad(score)(maps).mean(axis=(1, 2), keepdims=True)
    return jax.nn.relu((weights * maps).sum(axis=-1))


def occlusion(
    net: Net, images: Array, labels: Array, fill: Array | float, size: int, stride: int
) -> jax.Array:
    """Returns the decrease of the label's probability when a square of the image is covered.

    The result is [batch, rows, columns] (Zeiler, Fergus 2014, arXiv:1311.2901, §4.2). The squares
    are placed like the windows of a pooling layer (`occlusion_field`): the last may overhang.

    Args:
      fill: value of the covered pixels, broadcast to the images.
      size, stride: of the squares, in pixels.

    Raises:
      ValueError: as `gradient`, or the squares do not fit.
    """
    images = _checked(images, labels)
    extent = images.shape[1]
    rows = occlusion_field(extent, size, stride).units
    fill = jnp.broadcast_to(jnp.asarray(fill, images.dtype), images.shape)
    pixels = jnp.arange(extent)

    def probability(images: jax.Array) -> jax.Array:
        return _of_labels(jax.nn.softmax(net(images)[0]), labels)

    def covered(corner: jax.Array) -> jax.Array:
        row, column = ((pixels >= first) & (pixels < first + size) for first in corner)
        return probability(jnp.where((row[:, None] & column)[..., None], fill, images))

    corners = np.stack(np.divmod(np.arange(rows * rows), rows), axis=1) * stride
    left = jax.lax.map(covered, corners, batch_size=min(PLACES_AT_ONCE, len(corners)))
    return (probability(images) - left).T.reshape(len(images), rows, rows)


def occlusion_field(extent: int, size: int, stride: int) -> ReceptiveField:
    """Returns where the squares of `occlusion` lie along an axis of `extent` pixels.

    Raises:
      ValueError: they are larger than the image, or the stride is not from 1 to their size.
    """
    if not 1 <= size <= extent:
        raise ValueError(f'size is {size}; expected: from 1 to the {extent} pixels of the image')
    if not 1 <= stride <= size:
        raise ValueError(f'stride is {stride}; expected: from 1 to the size, {size}')
    return ReceptiveField((Window(size, stride, 0, extent),), pooled(extent, size, stride))


def spread(maps: np.ndarray, field: ReceptiveField, extent: int) -> np.ndarray:
    """Spreads maps [batch, units, units] over the pixels of the image, [batch, extent, extent].

    Each unit's value is at the center of its receptive field, with linear interpolation in between,
    and constant values outside the first and the last.
    """
    centers = field.center + field.stride * np.arange(field.units)
    units = np.eye(field.units)
    weights = np.stack([np.interp(np.arange(extent), centers, unit) for unit in units], axis=1)
    return np.einsum('iu,buv,jv->bij', weights, np.asarray(maps, np.float64), weights)


def _of_labels(values: jax.Array, labels: Array) -> jax.Array:
    return jnp.take_along_axis(values, jnp.asarray(labels)[:, None], axis=1)[:, 0]


def _checked(images: Array, labels: Array) -> jax.Array:
    """Returns the images as real numbers."""
    checks.require_shape('images', images, 'batch', 'size', 'size', 3)
    checks.require_type('images', images, jnp.integer, jnp.floating)
    checks.require_shape('labels', labels, len(images))
    checks.require_type('labels', labels, jnp.integer)
    return widened(jnp.asarray(images))
