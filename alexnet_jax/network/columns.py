"""The mesh, and what columns tell each other.

The step runs under `jax.shard_map` on a mesh with axes ('data', 'column'), as
the paper ran one half of the net on each of two GPUs (§3.2). A device holds one
column or several; between devices columns meet in the functions below and
nowhere else. With `axis=None` they work outside any mesh, all columns at hand.
"""

import functools
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from alexnet_jax.errors import InputError, counted
from alexnet_jax.network.shapes import halo

DATA, COLUMN = 'data', 'column'


def make_mesh(data: int = 1, column: int = 1) -> Mesh:
    """A mesh of data×column devices. Those of one process follow each other: the columns
    of a net lie in one process if it has the devices, and the rows of a batch that a
    process makes in one piece.

    Raises:
      InputError: there are fewer devices; of several processes, some would have none.
    """
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    count, processes = data * column, jax.process_count()
    if count > len(devices):
        raise InputError(
            f'mesh.data × mesh.column is {data} × {column}; allowed: as many as there are'
            f' devices, {len(devices)} ({devices[0].platform})'
        )
    if processes > 1 and count < len(devices):
        raise InputError(
            f'mesh.data × mesh.column is {data} × {column}; allowed: all devices of the'
            f' {processes} processes, {len(devices)} ({devices[0].platform})'
        )
    grid = np.array(devices[:count]).reshape(data, column)
    return Mesh(grid, (DATA, COLUMN), axis_types=(AxisType.Auto,) * 2)


def devices_to_use() -> int:
    """How many devices a mesh is to have if nobody says so: all there are. Of those that a
    CPU plays in one process, one: they share its cores."""
    alone = jax.process_count() == 1 and jax.devices()[0].platform == 'cpu'
    return 1 if alone else len(jax.devices())


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


def everywhere(mesh: Mesh, array: jax.Array) -> np.ndarray:
    """All of an array that is split over the mesh, in every process; all have to ask."""
    return np.asarray(array if array.is_fully_addressable else _on_every_device(mesh)(array))


def everyones_rows(mesh: Mesh, rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The rows of `rows_here` -> those of the whole batch, in every process: NumPy arrays of
    numbers, or of bytes."""
    if jax.process_count() == 1:
        return dict(rows)
    return {name: _everyones(mesh, values) for name, values in rows.items()}


def _everyones(mesh: Mesh, values: np.ndarray) -> np.ndarray:
    if values.dtype == object:
        return _everyones_bytes(mesh, values)
    placed = place_batch(mesh, {'rows': values})['rows']
    return np.asarray(_on_every_device(mesh)(placed))


def _everyones_bytes(mesh: Mesh, values: np.ndarray) -> np.ndarray:
    lengths = _everyones(mesh, np.array([len(value) for value in values], np.int32))
    width = 64 * (1 + max(lengths) // 64)  # few widths: each is compiled anew
    padded = np.array([np.frombuffer(value.ljust(width, b'\0'), np.uint8) for value in values])
    rows = _everyones(mesh, padded.reshape(len(values), width))
    found = [bytes(row[:length]) for row, length in zip(rows, lengths, strict=True)]
    return np.array([*found, None], object)[:-1]  # never an array of fixed-width bytes


@functools.cache
def _on_every_device(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, PartitionSpec()))


def columns_held(columns: int, axis: str | None) -> int:
    """How many of the net's columns this device holds.

    Raises:
      InputError: the mesh's devices cannot share them equally.
    """
    devices = 1 if axis is None else lax.axis_size(axis)
    if columns % devices:
        raise InputError(
            f'mesh.column is {devices}; allowed: a divisor of the {counted(columns, "column")}'
        )
    return columns // devices


def first_held(held: int, axis: str | None) -> jax.Array | int:
    """The number, in the whole net, of the first column this device holds."""
    return 0 if axis is None else lax.axis_index(axis) * held


def numbers_of(images: jax.Array | np.ndarray, axis: str | None) -> jax.Array:
    """Images [batch, ...] -> their numbers in the global batch, 0, 1, ..., through what
    `jax.vmap` and, if there is a mesh, its axis 'data' split."""
    numbers = _numbered(lax.stop_gradient(jnp.asarray(images)))
    return numbers if axis is None else lax.axis_index(DATA) * len(images) + numbers


@jax.custom_batching.custom_vmap
def _numbered(images: jax.Array) -> jax.Array:
    """Not an `arange` alone, which would begin anew in each of the batches of a `jax.vmap`."""
    return jnp.arange(len(images))


@_numbered.def_vmap
def _numbered_through(axis_size: int, _: list[bool], images: jax.Array) -> tuple[jax.Array, bool]:
    batch = images.shape[1]
    flat = images.reshape(axis_size * batch, *images.shape[2:])
    return _numbered(flat).reshape(axis_size, batch), True


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
    Zeros beyond the first and the last column. Where a device holds fewer than `maps`, the
    rest comes from those beyond the nearest."""
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
