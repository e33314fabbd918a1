"""Sets whose training images stay on the devices (`data.placement`)."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jax.sharding import Mesh

from alexnet_jax.data import held, pipeline
from alexnet_jax.data.image_set import ImageSet
from alexnet_jax.experiment.defaults import Config
from alexnet_jax.network import device_images, device_mesh
from alexnet_jax.runtime import multihost
from alexnet_jax.runtime.errors import InputError, counted


def on_devices(
    config: Config, images: ImageSet, mesh: Mesh, crop_size: int
) -> tuple[Callable[[pipeline.Batch], dict[str, Any]], np.ndarray]:
    """Puts the decoded training images on the devices. Returns a function that turns the choices of
    `pipeline.train_batches` for a batch into that batch, and the labels of all images.

    Raises:
      RecordError: a stored image is broken.
    """
    read = held.hold(images.splits['train'], config.data.record_size, config.data.threads)
    crops = device_images.make_crops(mesh, device_images.place(mesh, read.images), crop_size)
    if multihost.count() == 1:
        return crops, read.labels  # a compiled function places what it takes in less time
    return lambda chosen: crops(device_mesh.place_batch(mesh, chosen)), read.labels


def require_room(config: Config, images: ImageSet, mesh: Mesh) -> None:
    """Checks that the training images fit where `data.placement` has them.

    Raises:
      InputError: they do not.
    """
    if config.data.placement == 'host':
        return
    count, size = len(images.splits['train']), config.data.record_size
    needed, allowed = count * size * size * 3, device_images.room(mesh)
    if needed > allowed:
        raise InputError(
            f"data.placement is 'device', which takes {counted(needed, 'byte')} for"
            f' {counted(count, "training image")} of {size} pixels a side; allowed: {allowed} bytes,'
            " half of a device's memory, or 'host'"
        )
