"""From records to batches.

A batch is {'image': uint8 [batch, size, size, 3], 'color_shift': float32
[batch, 3], 'label': int32 [batch], 'mask': float32 [batch]}. Training batch t is
a function of the seed and t alone, whatever ran before and however many threads
read: a run that starts at step t needs nothing but t.
"""

import dataclasses
from collections.abc import Iterator

import grain
import numpy as np

from alexnet_jax.data import augment
from alexnet_jax.data.prepare import ImageSet
from alexnet_jax.data.sources import Record

# Epochs; Grain's own endless repeat overflows in batches of one.
ENDLESS = 2**31

HostBatch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class TrainView(grain.transforms.RandomMap):
    """A record -> a random crop of it, mirrored or not, and a colour shift."""

    size: int
    mirror: bool
    color_std: float
    statistics: augment.Statistics

    def random_map(self, element: Record, rng: np.random.Generator) -> Record:
        image = augment.random_crop(element['image'], self.size, rng)
        if self.mirror:
            image = augment.random_mirror(image, rng)
        shift = augment.color_shift(self.statistics, self.color_std, rng)
        return _example(image, element['label'], shift)


@dataclasses.dataclass(frozen=True)
class CenterView(grain.transforms.Map):
    """A record -> its middle."""

    size: int

    def map(self, element: Record) -> Record:
        image = augment.center_crop(element['image'], self.size)
        return _example(image, element['label'], np.zeros(3, np.float32))


def train_batches(
    images: ImageSet,
    *,
    size: int,
    batch_size: int,
    color_std: float,
    seed: int,
    first_step: int = 0,
    threads: int = 2,
) -> Iterator[HostBatch]:
    """Batches `first_step`, `first_step` + 1, ... without end.

    Every pass over the training set has an order of its own and meets each image
    once; a batch may span two passes.

    Args:
      images: the set; its 'train' split is read.
      size: side of the crops, pixels.
      color_std: standard deviation of the colour shift's αs.
    """
    view = TrainView(size, images.mirror, color_std, images.statistics)
    batches = (
        grain.MapDataset.source(images.splits['train'])
        .seed(seed)
        .shuffle()
        .repeat(ENDLESS)
        .random_map(view)
        .batch(batch_size)
    )
    return iter(batches[first_step:].to_iter_dataset(_read_options(threads)))


def eval_batches(
    images: ImageSet, split: str, *, size: int, batch_size: int, threads: int = 2
) -> Iterator[HostBatch]:
    """Every image of the split once, in order; the last batch is filled up with
    zeros, which have mask 0."""
    views = grain.MapDataset.source(images.splits[split]).map(CenterView(size))
    batches = views.to_iter_dataset(_read_options(threads)).batch(batch_size)
    for batch in batches:
        missing = batch_size - len(batch['mask'])
        yield {
            name: np.pad(values, [(0, missing)] + [(0, 0)] * (values.ndim - 1))
            for name, values in batch.items()
        }


def central_mean(images: ImageSet, size: int) -> np.ndarray:
    """The middle of the mean image, float32 [size, size, 3]. The authors' code
    subtracts it from every crop, wherever the crop lies."""
    return augment.center_crop(images.statistics.mean_image, size)


def _example(image: np.ndarray, label: int, color_shift: np.ndarray) -> Record:
    return {
        'image': image,
        'color_shift': color_shift,
        'label': np.int32(label),
        'mask': np.float32(1),
    }


def _read_options(threads: int) -> grain.ReadOptions:
    return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
