"""Batch normalization (Ioffe and Szegedy 2015), used in later nets than the paper's."""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from alexnet_jax.network import checks, rules
from alexnet_jax.network.collectives import varying_like
from alexnet_jax.network.convolution import sum_over_places
from alexnet_jax.network.derivatives import with_gradient
from alexnet_jax.network.layers import BatchNorm
from alexnet_jax.network.normalization import widened
from alexnet_jax.network.parameters import over_columns


class BatchStatistics(nn.Module):
    """Batch normalization with the batch's own or the moving mean and variance.

    Training uses the statistics of the batch, and updates the moving ones if `batch_stats` is
    mutable. Evaluation uses the moving statistics.
    """

    stage: BatchNorm
    training: bool
    axis_name: str | None  # the mesh axis that the batch is split over
    dtype: jnp.dtype  # of parameters and statistics

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalizes each map by the batch's statistics, or outside training by the moving ones."""
        maps, stage = (x.shape[-1],), self.stage

        def of_maps(name: str, initializer) -> Any:
            return self.param(name, over_columns(initializer), maps, self.dtype)

        scale, bias = of_maps('scale', nn.initializers.ones), of_maps('bias', nn.initializers.zeros)
        mean = self.variable('batch_stats', 'mean', jnp.zeros, maps, self.dtype)
        variance = self.variable('batch_stats', 'var', jnp.ones, maps, self.dtype)
        if not self.training:
            inverse = lax.rsqrt(variance.value + stage.epsilon)
            return ((x - mean.value) * (scale * inverse) + bias).astype(x.dtype)
        normal, *batch = batch_norm(x, scale, bias, stage.epsilon, self.axis_name)  # pyright: ignore[reportGeneralTypeIssues]
        if self.is_mutable_collection('batch_stats'):
            for kept, new in zip((mean, variance), batch, strict=True):
                kept.value = stage.momentum * kept.value + (1 - stage.momentum) * new
        return normal


def batch_norm(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, axis_name: str | None = None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Subtracts each map's mean, divides by √(variance + epsilon), scales and shifts.

    Mean and (biased) variance are over the batch and all positions. The variance is computed as E
    (x − E x)², because E x² − (E x)² is inexact where the mean is large.

    Args:
      x: [batch, ..., maps].
      scale, bias: [maps].
      axis_name: the mesh axis that the batch is split over, in equal parts.

    Returns:
      the normalized values, of x's shape and type, and mean and variance [maps]. The derivatives of
      the returned mean and variance are 0.

    Raises:
      ValueError: a shape, type or epsilon is not allowed.
    """
    checks.require_type('batch_norm: x', x, jnp.floating)
    if x.ndim < 2 or 0 in x.shape:
        raise ValueError(f'batch_norm: x has the shape {x.shape}; expected: (batch, ..., maps)')
    for name, array in (('scale', scale), ('bias', bias)):
        checks.require_shape(f'batch_norm: {name}', array, x.shape[-1])
    checks.require('batch_norm', epsilon=(epsilon, rules.POSITIVE))
    scale, bias = varying_like(scale, x), varying_like(bias, x)
    forward = functools.partial(_forward, epsilon, axis_name)
    return with_gradient(forward, functools.partial(_backward, axis_name))(x, scale, bias)


def _forward(epsilon, axis_name, x, scale, bias):
    wide = widened(x)
    mean = _mean_over_places(sum_over_places(wide), x, axis_name)
    variance = _mean_over_places(sum_over_places((wide - mean) ** 2), x, axis_name)
    inverse = lax.rsqrt(variance + epsilon)
    normal = (wide - mean) * (scale * inverse) + bias
    return (normal.astype(x.dtype), mean, variance), (x, scale, mean, inverse)


def _backward(axis_name, residuals, cotangents):
    # With n = (x − mean) · inverse and g the cotangent of n · scale + bias:
    #   ∂/∂x = scale · inverse · (g − E g − n · E g·n)
    x, scale, mean, inverse = residuals
    g, centered = widened(cotangents[0]), widened(x) - mean
    of_bias = sum_over_places(g)
    of_scale = sum_over_places(g * centered) * inverse
    mean_g, mean_gn = (_mean_over_places(total, x, axis_name) for total in (of_bias, of_scale))
    of_x = (g - mean_g - centered * (inverse * mean_gn)) * (scale * inverse)
    return of_x.astype(x.dtype), of_scale, of_bias


def _mean_over_places(total: jax.Array, x: jax.Array, axis_name: str | None) -> jax.Array:
    """Returns the mean over the positions of x [batch, ..., maps] and over the mesh axis, from the
    sums of each device.
    """
    places = math.prod(x.shape[:-1])
    return total / places if axis_name is None else lax.pmean(total, axis_name) / places
