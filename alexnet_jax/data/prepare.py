"""Any source, made ready: records, and what the training set says of them.

Preparing happens once; the records and the statistics are kept in TFDS's folder.
"""

import contextlib
import dataclasses
import io
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from alexnet_jax.data.augment import Statistics
from alexnet_jax.data.sources import DIGIT_NAMES, Digits, Records, Synthetic
from alexnet_jax.errors import InputError

SYNTHETIC_SAMPLE = 256


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Prepared images: random access to the records of each split, the names of
    the classes, the training set's statistics, and whether an image's mirror
    image is one of its class too."""

    splits: Mapping[str, Records]
    classes: tuple[str, ...]
    statistics: Statistics
    mirror: bool


def digits(size: int, data_dir: str | None = None) -> ImageSet:
    """The handwritten digits as size×size records; prepared if they are not yet.

    Raises:
      InputError: `data_dir` cannot be written.
    """
    try:
        builder = Digits(size, data_dir)
        _download_and_prepare(builder)
        splits = {
            split: builder.as_data_source(split=split)  # pyright: ignore[reportCallIssue]
            for split in ('train', 'val', 'test')
        }
        statistics = _kept_statistics(Path(builder.data_path) / 'statistics.npz', splits['train'])
    except OSError as error:
        where = data_dir or "(TFDS's own)"
        raise InputError(f'data.dir {where} cannot be used: {error}') from error
    return ImageSet(splits, DIGIT_NAMES, statistics, mirror=False)


def synthetic(examples: int, classes: int, size: int, seed: int) -> ImageSet:
    """Images made from the seed: `examples` to train, a tenth as many (at least
    one) for validation. Statistics are those of the first 256 training images."""
    train = Synthetic(examples, classes, size, seed, part=0)
    val = Synthetic(max(1, examples // 10), classes, size, seed, part=1)
    sample = Synthetic(min(examples, SYNTHETIC_SAMPLE), classes, size, seed, part=0)
    names = tuple(f'class {label}' for label in range(classes))
    return ImageSet({'train': train, 'val': val}, names, measure(sample), mirror=True)


def measure(records: Records) -> Statistics:
    """Mean image and principal components of the RGB values over all pixels.

    Sums are of whole numbers and exact.
    """
    first = records[0]['image']
    total = np.zeros(first.shape, np.int64)
    products = np.zeros((3, 3), np.int64)
    for row in range(len(records)):
        image = records[row]['image'].astype(np.int64)
        total += image
        pixels = image.reshape(-1, 3)
        products += pixels.T @ pixels
    count = len(records)
    pixels = count * first.shape[0] * first.shape[1]
    mean = total.sum(axis=(0, 1)) / pixels
    covariance = products / pixels - np.outer(mean, mean)
    variances, components = np.linalg.eigh(covariance)
    return Statistics(
        mean_image=(total / count).astype(np.float32),
        color_variances=np.maximum(variances, 0),
        color_components=components,
    )


def _download_and_prepare(builder: tfds.core.DatasetBuilder) -> None:
    """TFDS's own, quietly. Two runs may prepare the same set at once: the one
    that comes second uses what the first has made."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            builder.download_and_prepare()
    except OSError:
        if not (Path(builder.data_path) / 'dataset_info.json').exists():
            raise


def _kept_statistics(path: Path, records: Records) -> Statistics:
    """Measured once, then read from `path`, which is there whole or not at all."""
    if not path.exists():
        beside = path.with_suffix(f'.{os.getpid()}.npz')
        np.savez(beside, **dataclasses.asdict(measure(records)))
        os.replace(beside, path)
    with np.load(path) as arrays:
        return Statistics(**arrays)
