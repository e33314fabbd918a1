"""Collectives between columns: all communication between their devices is in these functions.

With `axis=None` they work without a mesh, when one device holds all columns.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from alexnet_jax.network import platforms
from alexnet_jax.network.device_mesh import DATA
from alexnet_jax.network.shapes import halo
from alexnet_jax.runtime.errors import InputError, counted


def columns_held(columns: int, axis: str | None) -> int:
    """Returns how many of the net's columns this device holds.

    Raises:
      InputError: the columns cannot be divided equally among the mesh's devices.
    """
    devices = 1 if axis is None else lax.axis_size(axis)
    if columns % devices:
        raise InputError(
            f'mesh.column is {devices}; allowed: a divisor of the {counted(columns, "column")}'
        )
    return columns // devices


def first_held(held: int, axis: str | None) -> jax.Array | int:
    """Returns the number, in the whole net, of the first column this device holds."""
    return 0 if axis is None else lax.axis_index(axis) * held


def numbers_of(images: jax.Array | np.ndarray, axis: str | None) -> jax.Array:
    """Returns the numbers of images [batch, ...] in the global batch: 0, 1, ....

    The numbers continue across `jax.vmap` and the mesh axis 'data', if there is one.
    """
    numbers = _numbered(lax.stop_gradient(jnp.asarray(images)))
    return numbers if axis is None else lax.axis_index(DATA) * len(images) + numbers


@jax.custom_batching.custom_vmap
def _numbered(images: jax.Array) -> jax.Array:
    """A plain `arange` would start at 0 in each batch of a `jax.vmap`."""
    return jnp.arange(len(images))


@_numbered.def_vmap
def _numbered_through(axis_size: int, _: list[bool], images: jax.Array) -> tuple[jax.Array, bool]:
    batch = images.shape[1]
    flat = images.reshape(axis_size * batch, *images.shape[2:])
    return _numbered(flat).reshape(axis_size, batch), True


def share(x: jax.Array, axis: str | None) -> jax.Array:
    """Passes the same x to the devices of all columns; its gradient is the sum of theirs."""
    return x if axis is None else lax.pcast(x, axis, to='varying')


def varying_like(x: jax.Array, other: jax.Array) -> jax.Array:
    """Returns x, varying over every mesh axis that `other` varies over.

    It is for a parameter that is replicated over the devices, before an operation with values that
    vary over them. The gradient of x is summed over the devices.
    """
    there, here = (jax.typeof(array).manual_axis_type.varying for array in (other, x))
    axes = there - here
    return lax.pcast(x, tuple(sorted(axes)), to='varying') if axes else x


def gather(parts: Sequence[jax.Array], axis: str | None) -> jax.Array:
    """Gathers and concatenates all columns: parts [..., maps], one per column of this device.

    Returns [..., maps of all columns]. Its transpose is a reduce-scatter.
    """
    here = jnp.concatenate(parts, axis=-1)
    if axis is None or lax.axis_size(axis) == 1:
        return here
    return _form_for(axis, two=_gather_two, default=_all_gather)(here, axis)


def scatter(parts: Sequence[jax.Array], axis: str | None) -> list[jax.Array]:
    """Sums parts over the devices and returns those of the device's own columns (reduce-scatter).

    It is the transpose of `gather`. parts: [..., features], this device's summand, for each column
    of the net.
    """
    if axis is None or lax.axis_size(axis) == 1:
        return list(parts)
    here = jnp.concatenate(parts, axis=-1)
    sums = _form_for(axis, two=_scatter_two, default=_reduce_scatter)(here, axis)
    return jnp.split(sums, len(parts) // lax.axis_size(axis), axis=-1)


def _form_for(axis: str, two: Callable, default: Callable) -> Callable:
    """Returns `two` for two GPUs or TPUs, and `default` for CPUs and for more devices.

    XLA for TPUs replaces a reduce-scatter in bfloat16 by an all-reduce, which sends twice the bytes;
    an all-gather has a reduce-scatter as its gradient. XLA for GPUs gathers and scatters along the
    outermost axis in memory, and transposes the maps before and after.
    """
    if lax.axis_size(axis) != 2:
        return default
    return platforms.form(tpu=two, gpu=two, default=default)


def _all_gather(here: jax.Array, axis: str) -> jax.Array:
    return lax.all_gather(here, axis, axis=here.ndim - 1, tiled=True)


def _reduce_scatter(here: jax.Array, axis: str) -> jax.Array:
    return lax.psum_scatter(here, axis, scatter_dimension=here.ndim - 1, tiled=True)


def _gather_two(here: jax.Array, axis: str) -> jax.Array:
    return jnp.concatenate(_ordered(here, _swap(here, axis), axis), axis=-1)


def _scatter_two(here: jax.Array, axis: str) -> jax.Array:
    one, other = jnp.split(here, 2, axis=-1)
    own, others = _ordered(one, other, axis)
    return own + _swap(others, axis)


def _swap(x: jax.Array, axis: str) -> jax.Array:
    return lax.ppermute(x, axis, [(0, 1), (1, 0)])


def _ordered(one: jax.Array, other: jax.Array, axis: str) -> tuple[jax.Array, jax.Array]:
    """Returns (one, other) on the first device and (other, one) on the second. That turns (own,
    other device's) into the order of the devices, and back."""
    first = lax.axis_index(axis) == 0
    return jnp.where(first, one, other), jnp.where(first, other, one)


def add(parts: Sequence[jax.Array], axis: str | None) -> jax.Array:
    """Returns the sum over all columns, on every device."""
    here = sum(parts[1:], start=parts[0])
    return here if axis is None else lax.psum(here, axis)


def with_neighbors(x: jax.Array, maps: int, axis: str | None) -> jax.Array:
    """Returns x with the `maps` maps next to it on the devices to its left and right.

    Zeros stand beyond the first and the last column. Where a device holds fewer than `maps`, the
    rest comes from those beyond the nearest.

    Args:
      x: [..., m], the columns of this device side by side.

    Returns:
      [..., maps + m + maps].
    """
    devices = 1 if axis is None else lax.axis_size(axis)
    if axis is None or devices == 1:
        return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(maps, maps)])
    own, pieces = x.shape[-1], [x]
    for hop, taken in enumerate(halo(own, maps), start=1):
        to_right = [(device, device + hop) for device in range(devices - hop)]
        to_left = [(device + hop, device) for device in range(devices - hop)]
        left = lax.ppermute(x[..., own - taken :], axis, to_right)
        right = lax.ppermute(x[..., :taken], axis, to_left)
        pieces = [left, *pieces, right]
    return jnp.concatenate(pieces, axis=-1)
