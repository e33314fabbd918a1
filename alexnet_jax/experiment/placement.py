"""Image sets in device memory during training (`data.placement`)."""

from collections.abc import Callable, Iterable
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
    """Puts the decoded training images on the devices.

    Returns a function that converts the choices of `pipeline.train_batches` for a batch to that
    batch, and the labels of all images.

    Raises:
      RecordError: a stored image is damaged.
    """
    read = held.hold(images.splits['train'], config.data.record_size, config.data.threads)
    crops = device_images.make_crops(mesh, device_images.place(mesh, read.images), crop_size)
    if multihost.count() == 1:
        return crops, read.labels  # a compiled function places its arguments in less time
    return lambda chosen: crops(device_mesh.place_batch(mesh, chosen)), read.labels


def held_validation(
    read: Callable[[str, int], Iterable[dict[str, Any]]],
) -> Callable[[str, int], Iterable[dict[str, Any]]]:
    """Returns `read`, a function of split and views, with validation batches kept on the devices.

    The batches of the first complete pass over the validation images in one view are used in all
    later passes.
    """
    held: list[dict[str, Any]] = []

    def first_pass(split: str, views: int) -> Iterable[dict[str, Any]]:
        batches = []
        for batch in read(split, views):
            batches.append(batch)
            yield batch
        held.extend(batches)

    def batches(split: str, views: int) -> Iterable[dict[str, Any]]:
        if (split, views) != ('val', 1):
            return read(split, views)
        return held or first_pass(split, views)

    return batches


def require_room(config: Config, images: ImageSet, mesh: Mesh, crop_size: int) -> None:
    """Checks that images fit into the memory of `data.placement`.

    They are the training images and the crops of the validation images.

    Raises:
      InputError: they do not fit.
    """
    if config.data.placement == 'host':
        return
    train, size = len(images.splits['train']), config.data.record_size
    validation = len(images.splits.get('val', ()))
    crops = -(-validation // mesh.shape[device_mesh.DATA])
    needed = 3 * (train * size**2 + crops * crop_size**2)
    allowed = device_images.room(mesh)
    if needed > allowed:
        raise InputError(
            f"data.placement is 'device', which takes {counted(needed, 'byte')} a device for"
            f' {counted(train, "training image")} of {size} pixels a side and'
            f' {counted(validation, "validation image")} of {crop_size}; allowed: {allowed} bytes,'
            " half of a device's memory, or 'host'"
        )
