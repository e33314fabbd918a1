"""Input pipeline: converts records to batches.

A training batch is {'image': uint8 [batch, size, size, 3], 'mirrored': bool [batch], 'color_shift':
float32 [batch, 3], 'label': int32 [batch], 'mask': float32 [batch]}; the step mirrors the images of
'mirrored'. Training batch t is a function of the seed and t alone, independent of earlier batches
and of the number of threads: a run can resume at step t without other state.

Each of several hosts makes its own rows of a batch. The augmentation of a row depends on its
position in the global batch, so that the hosts together make the same batch as a single host.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Generator
from typing import Any

import grain
import numpy as np

from alexnet_jax.data import augment
from alexnet_jax.data.image_set import ImageSet, Records
from alexnet_jax.data.shuffle import rows_at
from alexnet_jax.data.statistics import Statistics

ENDLESS = 2**31  # steps

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class ColorShift:
    """Parameters of the color shift (paper §4.1).

    std: standard deviation of a component's α.
    scale: as in `augment.color_shifts`.
    epochs: number of epochs with a shift; 0: all. The authors' code ended the shift before the last
      drops of the learning rate.
    """

    std: float = 0.1
    scale: str = 'std'
    epochs: int = 0

    def std_at(self, epochs: np.ndarray) -> np.ndarray:
        """Returns `std` in each of these epochs, counted from 0."""
        off = (epochs >= self.epochs) & (self.epochs > 0)
        return np.where(off, 0.0, self.std)


@dataclasses.dataclass(frozen=True)
class _Choices(grain.transforms.Map):
    """Maps a step's number to the choices for each image of its batch: 'row', int32 [batch], the
    record's number; 'corner', int32 [batch, 2], top and left of the crop; 'mirrored', 'color_shift'
    and 'mask' as in the batch."""

    count: int  # of records
    statistics: Statistics
    size: int
    batch_size: int
    rows: slice
    random_crop: bool
    mirror: bool
    color: ColorShift
    seed: int

    def map(self, element: int) -> Batch:
        places = range(self.batch_size)[self.rows]
        first = element * self.batch_size + places.start
        draws = augment.draw(self.seed, first, len(places))
        stream = first + np.arange(len(places))
        image_size = len(self.statistics.mean_image)
        corners = augment.crop_offsets(draws.crops, image_size, self.size)
        if not self.random_crop:
            corners[:] = (image_size - self.size) // 2
        std = self.color.std_at(stream // self.count)
        shifts = augment.color_shifts(self.statistics, std, self.color.scale, draws.colors)
        return {
            'row': rows_at(stream, self.count, self.seed).astype(np.int32),
            'corner': corners.astype(np.int32),
            'mirrored': draws.mirrored & self.mirror,
            'color_shift': shifts.astype(np.float32),
            'mask': np.ones(len(places), np.float32),
        }


@dataclasses.dataclass(frozen=True)
class _TrainBatch(grain.transforms.Map):
    """Maps the choices for a batch to the batch: reads the records and crops them."""

    records: Records
    image_size: int
    size: int

    def map(self, element: Batch) -> Batch:
        rows, corners = element.pop('row'), element.pop('corner')
        images = np.empty((len(rows), self.size, self.size, 3), np.uint8)
        labels = np.empty(len(rows), np.int32)
        scratch = np.empty((self.image_size, self.image_size, 3), np.uint8)
        for i, (row, (top, left)) in enumerate(zip(rows.tolist(), corners.tolist(), strict=True)):
            image, labels[i], _ = self.records.read(row, scratch)
            images[i] = augment.crop(image, top, left, self.size)
        return element | {'image': images, 'label': labels}


@dataclasses.dataclass(frozen=True)
class _Labeled(grain.transforms.Map):
    """Adds the labels of the images to the choices for a batch."""

    labels: np.ndarray  # of all records

    def map(self, element: Batch) -> Batch:
        return element | {'label': self.labels[element['row']]}


def train_batches(
    images: ImageSet,
    *,
    size: int,
    batch_size: int,
    seed: int,
    color: ColorShift = ColorShift(),
    random_crop: bool = True,
    mirror: bool = True,
    first_step: int = 0,
    rows: slice = slice(None),
    threads: int = 2,
    labels: np.ndarray | None = None,
) -> grain.DatasetIterator[Batch]:
    """Yields batches `first_step`, `first_step` + 1, ... without end.

    Every pass over the training set has a different order and contains each image once; a batch may
    span two passes.

    Args:
      images: the set; its 'train' split is read.
      size: side of the crops, pixels.
      batch_size: images per batch, over all hosts.
      random_crop: random crops, otherwise center crops.
      mirror: mirror images if the set allows it.
      rows: rows of each batch to make; the others are not read.
      threads: number of batches that are made in parallel, and of ready batches; 0: each is made on
        request.
      labels: int32, of all training images, if the devices hold these (`placement`): no record is
        read, and a batch has 'row' and 'corner' instead of 'image', for `device_images.make_crops`.
    """
    records = images.splits['train']
    choices = _Choices(
        count=len(records),
        statistics=images.statistics,
        size=size,
        batch_size=batch_size,
        rows=rows,
        random_crop=random_crop,
        mirror=mirror and images.mirror,
        color=color,
        seed=seed,
    )
    image_size = len(images.statistics.mean_image)
    make = _TrainBatch(records, image_size, size) if labels is None else _Labeled(labels)
    steps = grain.MapDataset.range(first_step, ENDLESS).map(choices).map(make)
    return iter(steps.to_iter_dataset(_read_options(threads)))


def record_ids(images: ImageSet, seed: int, batch_size: int, step: int) -> list[str]:
    """Reads the ids of the images of training step `step` (the first is 1), in order."""
    records = images.splits['train']
    stream = (step - 1) * batch_size + np.arange(batch_size)
    rows = rows_at(stream, len(records), seed).tolist()
    return [records.read(row)[2].decode('utf-8', 'backslashreplace') for row in rows]


@dataclasses.dataclass(frozen=True)
class _EvalBatch(grain.transforms.Map):
    """Maps a batch's number to the batch: the images in order, padded with zeros."""

    records: Records
    size: int
    batch_size: int
    rows: slice
    views: int
    mirror: bool

    def map(self, element: int) -> Batch:
        places = range(element * self.batch_size, (element + 1) * self.batch_size)[self.rows]
        batch = {
            'image': np.zeros((len(places), self.views, self.size, self.size, 3), np.uint8),
            'label': np.zeros(len(places), np.int32),
            'mask': np.zeros(len(places), bool),
            'id': np.full(len(places), b'', object),
        }
        for i, row in enumerate(places):
            if row < len(self.records):
                image, batch['label'][i], batch['id'][i] = self.records.read(row)
                batch['image'][i] = augment.views(image, self.size, self.views, self.mirror)
                batch['mask'][i] = True
        batch['image'] = batch['image'].reshape(-1, *batch['image'].shape[2:])
        return batch


def eval_batches(
    images: ImageSet,
    split: str,
    *,
    size: int,
    batch_size: int,
    views: int = 1,
    mirror: bool = True,
    rows: slice = slice(None),
    threads: int = 2,
) -> grain.DatasetIterator[Batch]:
    """Yields every image of the split once, in order.

    The last batch is padded with zeros, whose mask is False.

    Args:
      batch_size: images per batch, not counting views.
      views: as for `augment.views`.
      mirror: include mirror images in the views if the set allows it.
      rows, threads: as for `train_batches`.

    A batch is {'image': uint8 [batch · views, size, size, 3], the views of an image consecutive,
    'label': int32 [batch], 'mask': bool [batch], 'id': bytes [batch]}.
    """
    records = images.splits[split]
    count = -(-len(records) // batch_size)
    make = _EvalBatch(records, size, batch_size, rows, views, mirror and images.mirror)
    batches = grain.MapDataset.range(count).map(make)
    return iter(batches.to_iter_dataset(_read_options(threads)))


def ahead(batches: Any, place: Callable[[Any], Any], count: int = 2) -> Generator[Any]:
    """Prefetches `count` batches onto the devices with `place`.

    `place` need not wait for the transfer. `batches` and its threads are closed when this generator
    ends or is closed.
    """
    waiting = []
    with contextlib.closing(batches):
        for batch in batches:
            waiting.append(place(batch))
            if len(waiting) > count:
                yield waiting.pop(0)
        yield from waiting


def central_mean(images: ImageSet, size: int) -> np.ndarray:
    """Returns the center of the mean image, float32 [size, size, 3].

    The authors' code subtracts it from every crop, independent of the crop's position.
    """
    return augment.center_crop(images.statistics.mean_image, size).astype(np.float32)


def normalization(
    images: ImageSet,
    size: int,
    kind: str,
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean to subtract from a crop and the scale to divide it by, float32.

    Args:
      kind: 'mean_image', the mean image (paper §2) and 1; 'channel_mean', the mean of
        each channel and 1; 'standardized', that and each channel's
        standard deviation over the training set's pixels, as in torchvision.
      mean, std: those of the channels, [3], instead of the training set's; (): the training set's.

    Returns:
      the mean, [size, size, 3] of the mean image, else [3]; the scale, [3].
    """
    statistics = images.statistics
    if kind == 'mean_image':
        return central_mean(images, size), np.ones(3, np.float32)
    means = np.asarray(mean or statistics.mean_image.mean(axis=(0, 1)), np.float32)
    if kind == 'channel_mean':
        return means, np.ones(3, np.float32)
    variances = (statistics.color_components**2) @ statistics.color_variances
    scale = np.maximum(std or np.sqrt(variances), 1e-6)
    return means, scale.astype(np.float32)


def _read_options(threads: int) -> grain.ReadOptions:
    return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
