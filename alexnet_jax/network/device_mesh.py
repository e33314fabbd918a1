"""Device mesh and placement of arrays.

The step runs under `jax.shard_map` on a mesh with axes ('data', 'column'), as in the paper, where
each of two GPUs ran one half of the net (§3.2). A device holds one or more columns.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from alexnet_jax.runtime import multihost
from alexnet_jax.runtime.errors import InputError

DATA, COLUMN = 'data', 'column'


def make_mesh(data: int = 1, column: int = 1) -> Mesh:
    """Returns a mesh of data×column devices.

    The devices of a process are adjacent. The columns of a net are therefore in one process if it
    has enough devices, and the rows of a batch that a process loads are contiguous.

    Raises:
      InputError: there are fewer devices, or a process would have none.
    """
    devices = sorted(multihost.devices(), key=lambda device: (device.process_index, device.id))
    count, processes = data * column, multihost.count()
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
    return mesh_of(devices[:count], column)


def mesh_of(devices: Sequence[Any], column: int) -> Mesh:
    """Returns the mesh of these devices, the columns of a net next to each other."""
    grid = np.array(devices).reshape(-1, column)
    return Mesh(grid, (DATA, COLUMN), axis_types=(AxisType.Auto,) * 2)


def devices_to_use() -> int:
    """Returns how many devices a mesh has unless configured: all there are.

    It is 1 for the CPU devices of one process, because they share its cores.
    """
    devices = multihost.devices()
    shared = multihost.count() == 1 and devices[0].platform == 'cpu'
    return 1 if shared else len(devices)


def rows_here(mesh: Mesh, batch_size: int) -> slice:
    """Returns the rows of a batch that this process has to load.

    These are the rows of its devices' data shards. Processes with different columns of the same
    shards load the same rows.
    """
    process = jax.process_index()
    shards = [
        number
        for number, devices in enumerate(mesh.devices)
        if any(device.process_index == process for device in devices)
    ]
    size = batch_size // len(mesh.devices)
    return slice(shards[0] * size, (shards[-1] + 1) * size)


def place_batch(mesh: Mesh, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """Places the rows of `rows_here` as the whole batch, split over the devices.

    It does not wait for the transfer.
    """
    sharding = NamedSharding(mesh, PartitionSpec(DATA))
    if multihost.count() == 1:
        return jax.device_put(dict(batch), sharding)  # one call for all arrays takes half the time
    return {
        name: jax.make_array_from_process_local_data(sharding, values)
        for name, values in batch.items()
    }


def everywhere(mesh: Mesh, array: jax.Array) -> np.ndarray:
    """Gathers an array that is split over the mesh, in every process; all have to call it."""
    return np.asarray(array if array.is_fully_addressable else _on_every_device(mesh)(array))


def gather_rows(mesh: Mesh, rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the rows of the whole batch, in every process, from those of `rows_here`.

    They are NumPy arrays of numbers, or of bytes.
    """
    if multihost.count() == 1:
        return dict(rows)
    return {name: _everyones(mesh, values) for name, values in rows.items()}


def _everyones(mesh: Mesh, values: np.ndarray) -> np.ndarray:
    if values.dtype == object:
        return _gather_bytes(mesh, values)
    placed = place_batch(mesh, {'rows': values})['rows']
    return np.asarray(_on_every_device(mesh)(placed))


def _gather_bytes(mesh: Mesh, values: np.ndarray) -> np.ndarray:
    lengths = _everyones(mesh, np.array([len(value) for value in values], np.int32))
    width = 64 * (1 + max(lengths) // 64)  # few widths, because each one is compiled
    padded = np.array([np.frombuffer(value.ljust(width, b'\0'), np.uint8) for value in values])
    rows = _everyones(mesh, padded.reshape(len(values), width))
    found = [bytes(row[:length]) for row, length in zip(rows, lengths, strict=True)]
    return np.array([*found, None], object)[:-1]  # never an array of fixed-width bytes


@functools.cache
def _on_every_device(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, PartitionSpec()))
