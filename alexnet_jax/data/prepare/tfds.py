"""A set of TFDS as a source of images: one of its own, ImageNet's tars, or the user's."""

import contextlib
import dataclasses
import functools
import io
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_data_source import ArrayRecordDataSource
from etils import epath
from tensorflow_datasets.core import constants
from tensorflow_datasets.proto import tf_example_pb2

from alexnet_jax.data.images import CENTER_SQUARE, BadImageError, read_square
from alexnet_jax.data.prepare.originals import SPLIT_NAMES, Originals, Source
from alexnet_jax.data.prepare.tfrecord import TfRecords
from alexnet_jax.runtime.errors import InputError, nearest, plain

NAME = re.compile(r'\w+(/[\w.+-]+){0,2}(:[\d.*]+)?', re.ASCII)
FORMATS = ('array_record', 'tfrecord')
# ILSVRC-2012 as published.
IMAGENET_COUNTS = {'train': 1_281_167, 'val': 50_000}
IMAGENET_TARS = ('ILSVRC2012_img_train.tar', 'ILSVRC2012_img_val.tar')


@dataclasses.dataclass(frozen=True)
class TfdsRows:
    """Rows of a split of a TFDS set that lies in `directory`.

    `image` and `label` are the names of the features. numbers: the set's number of each class,
    where some of its classes are left out; else empty.
    """

    directory: str
    split: str
    rows: Sequence[int]
    image: str
    label: str
    numbers: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def place(self) -> Any:
        """The folder of the TFDS set."""
        return epath.Path(self.directory)

    def name(self, row: int) -> str:
        """Returns the name of an original in messages."""
        return f'{self.directory} {self.id(row)}'

    def id(self, row: int) -> str:
        """Returns the id of an original's record: 'train[17]'."""
        return f'{self.split}[{self.rows[row]}]'

    def square(
        self, row: int, size: int, max_pixels: int, resize: str = CENTER_SQUARE
    ) -> tuple[np.ndarray, int]:
        """Reads an image as a square, and its label."""
        image, label = self.example(row)
        return read_square(image, size, max_pixels, resize), label

    @property
    def labels(self) -> np.ndarray:
        """Labels of the rows, int [rows]."""
        return np.array([self._label(row) for row in range(len(self))])

    def _label(self, row: int) -> int:
        try:
            return self.example(row)[1]
        except BadImageError:  # named later, when it is prepared
            return -1

    def take(self, rows: Sequence[int]) -> 'TfdsRows':
        """Returns some rows, in their order."""
        return dataclasses.replace(self, rows=[self.rows[row] for row in rows])

    def example(self, row: int) -> tuple[bytes, int]:
        """Returns the image as stored, and its label."""
        try:
            feature = _features(_serialized(self.directory, self.split)[self.rows[row]])
            image = feature[self.image].bytes_list.value[0]
            number = feature[self.label].int64_list.value[0]
            return image, self.numbers.index(number) if self.numbers else number
        except Exception as error:  # Readers raise various errors for a damaged file.
            raise BadImageError(f'cannot be read: {" ".join(str(error).split())[:200]}') from error


@functools.cache
def _serialized(directory: str, split: str) -> Any:
    """Random access to the split's records as bytes. TFDS's own would decode all of
    their features."""
    info: Any = tfds.builder_from_directory(directory).info
    paths = [os.fspath(path) for path in info.splits[split].filepaths]
    if info.file_format.value == 'tfrecord':
        return TfRecords(paths, info.splits[split].shard_lengths)
    return ArrayRecordDataSource(paths)


def _features(serialized: bytes) -> Any:
    return tf_example_pb2.Example.FromString(serialized).features.feature  # pyright: ignore


def open_tfds(
    spec: str, name: str, data_dir: str | None, manual_dir: str | None, allow_partial: bool
) -> Source:
    """Opens a TFDS set of labeled images; TFDS itself prepares it, if it is not yet.

    Raises:
      InputError: no such set; it holds no images with one label each; it is stored
        in another format; images of ImageNet are missing.
    """
    builder = find_builder(spec, name, data_dir)
    if not builder.is_prepared():
        _prepare_with_tfds(spec, builder, data_dir, manual_dir)
    if builder.info.file_format.value not in FORMATS:
        raise InputError(
            f'{spec}: {builder.data_path} is stored as {builder.info.file_format.value};'
            f' allowed: {" or ".join(FORMATS)}'
        )
    image, label = _image_and_label(spec, builder.info)
    splits = {}
    for split, names in SPLIT_NAMES.items():
        found = next((name for name in names if name in builder.info.splits), None)
        if found:
            rows = range(builder.info.splits[found].num_examples)
            splits[split] = TfdsRows(os.fspath(builder.data_path), found, rows, image, label)
    # -1 is TFDS's label of unlabeled images, such as ImageNet's test images.
    if 'test' in splits and len(splits['test']) and splits['test'].example(0)[1] == -1:
        del splits['test']
    if not splits:
        found = ', '.join(builder.info.splits)
        raise InputError(f'{spec} has no split train, val or test with labels; it has: {found}')
    if builder.name == 'imagenet2012' and not allow_partial:
        _require_whole_imagenet(spec, builder, splits)
    classes = tuple(builder.info.features[label].names)
    if 'train' not in splits:
        classes, splits = _of_classes_with_images(classes, splits)
    return Source(spec, builder.info.full_name, classes, splits)


def _of_classes_with_images(
    classes: tuple[str, ...], splits: Mapping[str, TfdsRows]
) -> tuple[tuple[str, ...], dict[str, TfdsRows]]:
    """Leaves out the classes without images: TFDS names all thousand of ImageNet's for ImageNet-A
    and ImageNet-R, which have images of 200."""
    found = np.unique(np.concatenate([rows.labels for rows in splits.values()]))
    numbers = tuple(int(number) for number in found if 0 <= number < len(classes))
    if len(numbers) == len(classes):
        return classes, dict(splits)
    named = tuple(classes[number] for number in numbers)
    return named, {
        split: dataclasses.replace(rows, numbers=numbers) for split, rows in splits.items()
    }


def find_builder(spec: str, name: str, data_dir: str | None) -> Any:
    """Returns TFDS's builder for a set, which would store it as ArrayRecord.

    Raises:
      InputError: there is none of that name, or not in that version.
    """
    # TFDS would take more: sets of a community, whose code it fetches and runs, and arguments
    # of a builder, such as the folder whose features.json names modules.
    if not NAME.fullmatch(name):
        raise InputError(f'{plain(spec)}: allowed: tfds:NAME[/config][:version]')
    try:
        builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
        if not builder.is_prepared():
            builder = tfds.builder(
                name, data_dir=data_dir, try_gcs=False, file_format='array_record'
            )
        return builder
    except tfds.core.DatasetNotFoundError:
        known = tfds.list_builders(with_community_datasets=False)
        base = name.partition('/')[0].partition(':')[0]
        raise InputError(
            f'{spec}: TFDS knows no {base!r}; the nearest is {nearest(base, known)!r}.'
            f' Sets of your own are looked for in {data_dir or constants.DATA_DIR};'
            ' to prepare one that lies elsewhere, give its folder as --data_dir'
        ) from None
    except (AssertionError, ValueError) as error:
        raise InputError(f'{spec}: {" ".join(str(error).split())[:300]}') from error


def _prepare_with_tfds(
    spec: str, builder: Any, data_dir: str | None, manual_dir: str | None
) -> None:
    root = Path(data_dir or constants.DATA_DIR).expanduser()
    manual = Path(manual_dir) if manual_dir else root / 'downloads' / 'manual'
    if builder.name == 'imagenet2012':
        missing = [tar for tar in IMAGENET_TARS if not (manual / tar).is_file()]
        if missing:
            raise InputError(
                f'{spec}: {" and ".join(missing)} not in {manual} (--manual_dir); they are to be'
                ' had from image-net.org after registration'
            )
    config = tfds.download.DownloadConfig(manual_dir=manual_dir)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(download_config=config)
    except ImportError as error:
        install = ':\npip install tensorflow' if error.name == 'tensorflow' else ''
        raise InputError(
            f'{spec}: TFDS needs {error.name or error} to make it, which is not installed{install}'
        ) from error
    except Exception as error:
        reason = ' '.join(str(error).split())[:300]
        raise InputError(
            f'{spec}: TFDS cannot make it: {type(error).__name__}: {reason}'
        ) from error


def _image_and_label(spec: str, info: Any) -> tuple[str, str]:
    """The names of the image and of the label among a set's features."""
    features = info.features or {}
    images = [name for name, kind in features.items() if isinstance(kind, tfds.features.Image)]
    labels = [name for name, kind in features.items() if isinstance(kind, tfds.features.ClassLabel)]
    for name in info.supervised_keys or ():
        images = [name] if name in images else images
        labels = [name] if name in labels else labels
    if len(images) != 1 or len(labels) != 1:
        raise InputError(
            f'{spec} has the features {", ".join(features)}; allowed: one image and one class label'
        )
    return images[0], labels[0]


def _require_whole_imagenet(spec: str, builder: Any, splits: Mapping[str, Originals]) -> None:
    found = {split: len(splits.get(split, ())) for split in IMAGENET_COUNTS}
    if found != IMAGENET_COUNTS:
        raise InputError(
            f'{spec} has {found["train"]} training and {found["val"]} validation images where'
            f' ILSVRC-2012 has 1281167 and 50000; --allow_partial takes it as it is.\n'
            f'Else complete the tars, remove {builder.data_path} and run again'
        )
