"""Images in device memory: each device holds the whole set and crops its part of a batch.

Every device holds all images. If each held a part of them, the devices would have to exchange
images in every step, because a batch has images from the whole set.
"""

import os
from collections.abc import Callable, Mapping

import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from alexnet_jax.network import device_mesh
from alexnet_jax.network.inference import Array

SHARE = 2  # images may use 1 / this number of a device's memory; the step needs the rest


def room(mesh: Mesh) -> int:
    """Returns how many bytes of images a device of this process may hold: half of its memory.

    CPU devices share the memory of the machine.
    """
    own = [device for device in mesh.devices.flat if device.process_index == jax.process_index()]
    reported = [(device.memory_stats() or {}).get('bytes_limit', 0) for device in own]
    if all(reported):
        return min(reported) // SHARE
    machine = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    return machine // len(own) // SHARE


def place(mesh: Mesh, images: np.ndarray) -> jax.Array:
    """Puts images on every device of the mesh; every process has to pass them."""
    return jax.make_array_from_process_local_data(NamedSharding(mesh, P()), images)


def make_crops(
    mesh: Mesh, images: jax.Array, size: int
) -> Callable[[Mapping[str, Array]], dict[str, jax.Array]]:
    """Returns a function that crops a batch of placed images, uint8 [records, height, width, 3].

    The function takes a batch with 'row' (int32 [batch]: which image) and 'corner' (int32
    [batch, 2]: top and left), and returns it with 'image' in their place: uint8
    [batch, size, size, 3], the same bytes as the host crops. The returned arrays are split over
    'data'. Inputs are NumPy arrays of the whole batch, or arrays that are already split over
    'data'.
    """
    rows = P(device_mesh.DATA)

    def on_device(images: Array, rows: Array, corners: Array) -> jax.Array:
        def crop(row: Array, corner: Array) -> jax.Array:
            start = row, corner[0], corner[1], 0
            return lax.dynamic_slice(images, start, (1, size, size, 3))[0]

        return jax.vmap(crop)(rows, corners)

    over_mesh = jax.shard_map(on_device, mesh=mesh, in_specs=(P(), rows, rows), out_specs=rows)

    def crops(images: jax.Array, batch: Mapping[str, Array]) -> dict[str, Array]:
        others = {name: array for name, array in batch.items() if name not in ('row', 'corner')}
        return others | {'image': over_mesh(images, batch['row'], batch['corner'])}

    whole, split = NamedSharding(mesh, P()), NamedSharding(mesh, rows)
    compiled = jax.jit(crops, in_shardings=(whole, split), out_shardings=split)
    return lambda batch: compiled(images, batch)
