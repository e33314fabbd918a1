"""The mesh, and what columns tell each other.

The step runs under `jax.shard_map` on a mesh with axes ('data', 'column'), as
the paper ran one half of the net on each of two GPUs (§3.2). A device holds one
column or several; between devices columns meet in the functions below and
nowhere else. With `axis=None` they work outside any mesh, all columns at hand.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from alexnet_jax.errors import InputError

DATA, COLUMN = 'data', 'column'


def make_mesh(data: int = 1, column: int = 1) -> Mesh:
    """A mesh of data×column devices.

    Raises:
      InputError: fewer devices than that.
    """
    devices = jax.devices()
    count = data * column
    if count > len(devices):
        raise InputError(
            f'mesh.data × mesh.column is {data} × {column}; allowed: as many as there are'
            f' devices, {len(devices)} ({devices[0].platform})'
        )
    return jax.make_mesh(
        (data, column), (DATA, COLUMN), axis_types=(AxisType.Auto,) * 2, devices=devices[:count]
    )


def rows_here(mesh: Mesh, batch_size: int) -> slice:
    """The rows of a batch that this process has to make: those of the data shards
    its devices hold. Processes that hold different columns of the same shards make
    the same rows."""
    process = jax.process_index()
    shards = [
        number
        for number, devices in enumerate(mesh.devices)
        if any(device.process_index == process for device in devices)
    ]
    size = batch_size // len(mesh.devices)
    return slice(shards[0] * size, (shards[-1] + 1) * size)


def place_batch(mesh: Mesh, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """The rows of `rows_here` -> the whole batch, split over the devices. Does not
    wait for the transfer."""
    sharding = NamedSharding(mesh, PartitionSpec(DATA))
    return {
        name: jax.make_array_from_process_local_data(sharding, values)
        for name, values in batch.items()
    }


def columns_held(columns: int, axis: str | None) -> int:
    """How many of the net's columns this device holds."""
    return columns if axis is None else columns // lax.axis_size(axis)


def first_held(held: int, axis: str | None) -> jax.Array | int:
    """The number, in the whole net, of the first column this device holds."""
    return 0 if axis is None else lax.axis_index(axis) * held


def share(x: jax.Array, axis: str | None) -> jax.Array:
    """Gives every column's device the same x, where each adds its own to x's gradient."""
    return x if axis is None else lax.pcast(x, axis, to='varying')


def gather(parts: Sequence[jax.Array], axis: str | None) -> jax.Array:
    """All columns side by side: parts [..., maps], one a held column ->
    [..., maps of all columns]. Its transpose is a reduce-scatter."""
    here = jnp.concatenate(parts, axis=-1)
    if axis is None or lax.axis_size(axis) == 1:
        return here
    return lax.all_gather(here, axis, axis=here.ndim - 1, tiled=True)


def scatter(parts: Sequence[jax.Array], axis: str | None) -> list[jax.Array]:
    """The transpose of `gather`, a reduce-scatter: parts [..., features], what this device
    adds to each of all columns -> those of the held columns, added up over the devices."""
    if axis is None or lax.axis_size(axis) == 1:
        return list(parts)
    here = jnp.concatenate(parts, axis=-1)
    sums = lax.psum_scatter(here, axis, scatter_dimension=here.ndim - 1, tiled=True)
    return jnp.split(sums, len(parts) // lax.axis_size(axis), axis=-1)


def add(parts: Sequence[jax.Array], axis: str | None) -> jax.Array:
    """The sum over all columns, on every device."""
    here = sum(parts[1:], start=parts[0])
    return here if axis is None else lax.psum(here, axis)


def with_neighbors(x: jax.Array, maps: int, axis: str | None) -> jax.Array:
    """x [..., m], the columns held side by side, with the `maps` maps that lie
    next to it on the devices to its left and right -> [..., maps + m + maps].
    Zeros beyond the first and the last column."""
    devices = 1 if axis is None else lax.axis_size(axis)
    if axis is None or devices == 1:
        return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(maps, maps)])
    to_right = [(device, device + 1) for device in range(devices - 1)]
    to_left = [(device + 1, device) for device in range(devices - 1)]
    left = lax.ppermute(x[..., -maps:], axis, to_right)
    right = lax.ppermute(x[..., :maps], axis, to_left)
    return jnp.concatenate([left, x, right], axis=-1)
