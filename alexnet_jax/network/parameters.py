"""Parameters of the module: shapes, initial values, and the mesh axis they are split over."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from alexnet_jax.network.device_mesh import COLUMN

Initializer = Callable[..., Any]


def type_of_parameters(compute: str) -> jnp.dtype:
    """Returns the type of parameters and the output layer: float32 at least.

    `compute` is the type of activations.
    """
    return jnp.promote_types(compute, jnp.float32)


class OverColumns(nn.Partitioned):
    """Boxes a parameter with the mesh axis that each of its axes is split over.

    Without a mesh that has these axes, an NNX module of the net holds the whole array; Flax raises
    an error for `nn.Partitioned` in this case.
    """

    def to_nnx_metadata(self) -> dict[str, Any]:
        """Returns the metadata of an `nnx.Variable`."""
        metadata = super().to_nnx_metadata()
        if COLUMN not in jax.sharding.get_abstract_mesh().axis_names:
            metadata['out_sharding'] = ()
        return metadata


def over_columns(initializer: Initializer, axis: int = 0) -> Initializer:
    """Returns an initializer of parameters whose `axis` is split over the columns."""
    names = (*[None] * axis, COLUMN)
    return lambda *arguments: OverColumns(initializer(*arguments), names)


class Weights(nn.Module):
    """One layer's kernel and bias, the leading axis of each split over columns.

    The output layer's bias [classes] is not split. For the kernel, `split_axis` replaces the
    leading axis. Initial values are as in `layers.Conv`; `inputs`: number of inputs of a unit.
    Returns both in float32 at least, see `type_of_parameters`.
    """

    kernel_shape: tuple[int, ...]
    bias_shape: tuple[int, ...]
    std: float | None
    bias: float
    inputs: int
    compute: str
    split_axis: int = 0

    @nn.compact
    def __call__(self) -> tuple[jax.Array, jax.Array]:
        """Returns the layer's kernel and bias, split over the columns."""
        if self.std is None:
            bound = self.inputs**-0.5
            kernel = bias = _drawn_flat(
                lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound)
            )
        else:
            kernel = _drawn_flat(nn.initializers.normal(self.std))
            bias = nn.initializers.constant(self.bias)
        split_bias = over_columns(bias) if len(self.bias_shape) > 1 else bias
        split_kernel = over_columns(kernel, self.split_axis)
        kept = type_of_parameters(self.compute)
        kernel = self.param('kernel', split_kernel, self.kernel_shape, kept)
        bias = self.param('bias', split_bias, self.bias_shape, kept)
        return jnp.asarray(kernel), jnp.asarray(bias)


def _drawn_flat(initializer: Initializer) -> Initializer:
    """Draws the same values as a vector, which XLA compiles several times faster than a
    five-dimensional array.
    """
    return lambda key, shape, dtype: initializer(key, (math.prod(shape),), dtype).reshape(shape)
