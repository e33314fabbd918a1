"""Where images come from: the user's files, TFDS, or what comes with the project.

A source is named by a text, the setting `data.source`: `tfds:NAME[/config][:version]`,
`folder:PATH`, `digits` or `synthetic`. `open_source` finds the originals behind it
without reading their pixels; `data/prepare.py` makes records of them.
"""

import contextlib
import dataclasses
import functools
import hashlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core import constants

from alexnet_jax.data.images import BadImageError, read_square
from alexnet_jax.errors import InputError, nearest

SPLITS = ('train', 'val', 'test')
# What the same splits are called elsewhere.
SPLIT_NAMES = {
    'train': ('train',),
    'val': ('val', 'validation', 'valid', 'dev'),
    'test': ('test',),
}
DIGIT_NAMES = tuple(str(digit) for digit in range(10))
TEST_PER_CLASS, VAL_PER_CLASS = 30, 20
# ILSVRC-2012 as published.
IMAGENET_COUNTS = {'train': 1_281_167, 'val': 50_000}
IMAGENET_TARS = ('ILSVRC2012_img_train.tar', 'ILSVRC2012_img_val.tar')


class Originals(Protocol):
    """Random access to the images of a split as they are before preparing; small
    enough to send to another process."""

    def __len__(self) -> int: ...

    def name(self, row: int) -> str:
        """What to call the original in a message."""
        ...

    def id(self, row: int) -> str:
        """What its record is known by; the same wherever the source lies."""
        ...

    def square(self, row: int, size: int, max_pixels: int) -> tuple[np.ndarray, int]:
        """The image as `images.read_square` makes it, and its label.

        Raises:
          BadImageError: it cannot be read.
        """
        ...

    def take(self, rows: Sequence[int]) -> 'Originals':
        """These rows only, in this order."""
        ...


@dataclasses.dataclass(frozen=True)
class Source:
    """Originals by split.

    spec: as in `data.source`.
    version: of the source's content; two with the same are the same.
    mirror: whether an image's mirror image is one of its class too.
    """

    spec: str
    version: str
    classes: tuple[str, ...]
    splits: Mapping[str, Originals]
    mirror: bool = True


def open_source(
    spec: str,
    *,
    data_dir: str | None = None,
    manual_dir: str | None = None,
    allow_partial: bool = False,
) -> Source:
    """The originals of a source.

    Args:
      data_dir: where TFDS keeps its sets; its own usual place by default.
      manual_dir: where the user has put what TFDS cannot download.
      allow_partial: takes an ImageNet that lacks images.

    Raises:
      InputError: there is no such source, or its layout is not one.
    """
    kind, _, rest = spec.partition(':')
    if spec == 'digits':
        return open_digits()
    if kind == 'folder':
        return open_folder(spec, Path(rest))
    if kind == 'tfds':
        return open_tfds(spec, rest, data_dir, manual_dir, allow_partial)
    raise InputError(
        f'--source {spec}: allowed: digits, folder:PATH or tfds:NAME[/config][:version]'
        + (' (synthetic images need no preparing)' if spec == 'synthetic' else '')
    )


def canonical(spec: str) -> str:
    """The same text for the same source: folders by their absolute path."""
    kind, _, rest = spec.partition(':')
    return f'folder:{Path(rest).expanduser().resolve()}' if kind == 'folder' else spec


def require(spec: str, data_dir: str | None) -> None:
    """
    Raises:
      InputError: there is no such source. What is in it is not looked at.
    """
    kind, _, rest = spec.partition(':')
    if kind == 'folder' and not Path(rest).expanduser().is_dir():
        raise InputError(f'{spec}: no such folder')
    if kind == 'tfds':
        tfds_builder(spec, rest, data_dir)


def with_val_split(source: Source, fraction: float) -> Source:
    """The source with a `val` split; if it has none, `fraction` of the training
    images, evenly spaced among those of each class or, of a TFDS set, among all.

    Raises:
      InputError: there is neither a `val` split nor a fraction, or too few images.
    """
    if 'val' in source.splits:
        if fraction:
            raise InputError(f'--val_fraction is {fraction}, but {source.spec} has a val split')
        return source
    if not fraction:
        raise InputError(
            f'{source.spec} has no images for validation;'
            ' --val_fraction=0.1 takes a tenth of the training images'
        )
    train = source.splits['train']
    val = _evenly_spaced(train, fraction)
    rest = np.setdiff1d(np.arange(len(train)), val).tolist()
    if not val or not rest:
        raise InputError(
            f'--val_fraction is {fraction}; of {len(train)} training images that leaves'
            f' {len(rest)} to train and {len(val)} for validation'
        )
    splits = {'train': train.take(rest), 'val': train.take(val)}
    return dataclasses.replace(source, splits=dict(source.splits) | splits)


def _evenly_spaced(originals: Originals, fraction: float) -> list[int]:
    """Rows, ascending: `fraction` of each class where labels are known without
    reading, else of all."""
    labels = getattr(originals, 'labels', np.zeros(len(originals), int))
    chosen = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = round(len(rows) * fraction)
        chosen.extend(rows[(2 * np.arange(count) + 1) * len(rows) // (2 * count)])
    return sorted(int(row) for row in chosen)


# Folders


@dataclasses.dataclass(frozen=True)
class Files:
    """Image files below `root`: their paths from there, and labels."""

    root: Path
    paths: tuple[str, ...]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, row: int) -> str:
        return str(self.root / self.paths[row])

    def id(self, row: int) -> str:
        return self.paths[row]

    def square(self, row: int, size: int, max_pixels: int) -> tuple[np.ndarray, int]:
        image = read_square(self.root / self.paths[row], size, max_pixels)
        return image, int(self.labels[row])

    def take(self, rows: Sequence[int]) -> 'Files':
        return Files(self.root, tuple(self.paths[row] for row in rows), self.labels[list(rows)])


def open_folder(spec: str, root: Path) -> Source:
    """A folder of class folders, or of `train`, `val` and maybe `test` folders of
    such. All files in a class folder, however deep, are taken for images, but for
    those whose name begins with a dot. Classes are numbered in the order of their
    names.

    Raises:
      InputError: no such folder; no classes; an empty class folder; two classes
        of the same name; an image outside of any class folder.
    """
    root = root.expanduser().resolve()
    if not root.is_dir():
        raise InputError(f'{spec}: no such folder')
    try:
        tops = {split: _first_of(root, names) for split, names in SPLIT_NAMES.items()}
        tops = {split: top for split, top in tops.items() if top}
        if 'train' not in tops:
            tops = {'train': root}
        classes = _class_names(tops['train'])
        listings = {split: _list_classes(top, classes) for split, top in tops.items()}
    except OSError as error:
        raise InputError(f'{spec}: {error.filename}: {error.strerror}') from error
    splits, digest = {}, hashlib.sha256()
    for split, files in listings.items():
        paths = tuple(os.path.relpath(path, root) for path, _, _ in files)
        splits[split] = Files(root, paths, np.array([label for _, label, _ in files]))
        for path, (_, label, size) in zip(paths, files, strict=True):
            digest.update(os.fsencode(f'{split}\0{path}\0{label}\0{size}\n'))
    return Source(f'folder:{root}', digest.hexdigest()[:16], classes, splits)


def _first_of(root: Path, names: Sequence[str]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _class_names(top: Path) -> tuple[str, ...]:
    names = sorted(entry.name for entry in os.scandir(top) if _is_class(entry))
    if len(names) < 2:
        raise InputError(f'{top} holds {len(names)} class folders; allowed: at least 2')
    seen: dict[str, str] = {}
    for name in names:
        if '\n' in name or not name.isprintable():
            raise InputError(f'{top}: the class folder {name!r} has a name that cannot be printed')
        same = ' '.join(name.split()).casefold()
        if same in seen:
            raise InputError(
                f'{top}: the class folders {seen[same]!r} and {name!r} have the same name'
            )
        seen[same] = name
    return tuple(names)


def _is_class(entry: os.DirEntry) -> bool:
    if entry.is_dir():
        return not entry.name.startswith('.')
    if entry.name.lower().endswith(('.jpg', '.jpeg', '.png')):
        raise InputError(f'{entry.path} lies in no class folder')
    return False


def _list_classes(top: Path, classes: tuple[str, ...]) -> list[tuple[str, int, int]]:
    """(path, label, bytes) of all files, ordered by class and path."""
    found = []
    for entry in sorted(os.scandir(top), key=lambda entry: entry.name):
        if not _is_class(entry):
            continue
        if entry.name not in classes:
            raise InputError(
                f'{entry.path} is a class that is not in train;'
                f' the nearest is {nearest(entry.name, classes)}'
            )
        files = sorted(_files_below(entry.path))
        if not files:
            raise InputError(f'the class folder {entry.path} is empty')
        label = classes.index(entry.name)
        found.extend((path, label, size) for path, size in files)
    return found


def _files_below(folder: str) -> Iterator[tuple[str, int]]:
    for entry in os.scandir(folder):
        if entry.name.startswith('.'):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files_below(entry.path)
        elif not entry.is_file():  # a pipe would be waited for, for ever
            raise InputError(f'{entry.path} is no file')
        else:
            yield entry.path, entry.stat().st_size


# TFDS


@dataclasses.dataclass(frozen=True)
class TfdsRows:
    """Rows of a split of a TFDS set that lies in `directory`; `image` and `label`
    are the names of the features."""

    directory: str
    split: str
    rows: Sequence[int]
    image: str
    label: str

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, row: int) -> str:
        return f'{self.directory} {self.id(row)}'

    def id(self, row: int) -> str:
        return f'{self.split}[{self.rows[row]}]'

    def square(self, row: int, size: int, max_pixels: int) -> tuple[np.ndarray, int]:
        example = self.example(row)
        return read_square(example[self.image], size, max_pixels), int(example[self.label])

    def example(self, row: int) -> dict[str, Any]:
        """The record, its image as stored."""
        records = _tfds_records(self.directory, self.split, self.image)
        try:
            return records[self.rows[row]]
        except Exception as error:  # Whatever a broken file makes its reader raise.
            raise BadImageError(f'cannot be read: {" ".join(str(error).split())[:200]}') from error

    def take(self, rows: Sequence[int]) -> 'TfdsRows':
        return dataclasses.replace(self, rows=[self.rows[row] for row in rows])


@functools.cache
def _tfds_records(directory: str, split: str, image: str) -> Any:
    """Random access to the split's examples, with the image's bytes as stored."""
    builder = tfds.builder_from_directory(directory)
    decoders = {image: tfds.decode.SkipDecoding()}
    return builder.as_data_source(split=split, decoders=decoders)  # pyright: ignore


def open_tfds(
    spec: str, name: str, data_dir: str | None, manual_dir: str | None, allow_partial: bool
) -> Source:
    """A TFDS set of labelled images; TFDS itself prepares it, if it is not yet.

    Raises:
      InputError: no such set; it holds no images with one label each; it is kept
        in a format without random access; images of ImageNet are missing.
    """
    builder = tfds_builder(spec, name, data_dir)
    if not builder.is_prepared():
        _prepare_with_tfds(spec, builder, data_dir, manual_dir)
    if not builder.info.file_format.value.startswith('array_record'):
        raise InputError(
            f'{spec}: {builder.data_path} is stored as {builder.info.file_format.value},'
            ' which has no random access; `tfds convert_format` makes array_record of it'
        )
    image, label = _image_and_label(spec, builder.info)
    splits = {}
    for split, names in SPLIT_NAMES.items():
        found = next((name for name in names if name in builder.info.splits), None)
        if found:
            rows = range(builder.info.splits[found].num_examples)
            splits[split] = TfdsRows(os.fspath(builder.data_path), found, rows, image, label)
    if 'train' not in splits:
        raise InputError(f'{spec} has no split train; it has: {", ".join(builder.info.splits)}')
    # -1 is TFDS's label of what nobody has labelled, as ImageNet's test images.
    if 'test' in splits and len(splits['test']) and splits['test'].example(0)[label] == -1:
        del splits['test']
    if builder.name == 'imagenet2012' and not allow_partial:
        _require_whole_imagenet(spec, builder, splits)
    classes = tuple(builder.info.features[label].names)
    return Source(spec, builder.info.full_name, classes, splits)


def tfds_builder(spec: str, name: str, data_dir: str | None) -> Any:
    """TFDS's builder for a set; it would store it as ArrayRecord.

    Raises:
      InputError: there is none of that name, or not in that version.
    """
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
            f' Sets of your own are looked for in {data_dir or constants.DATA_DIR}'
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
        raise InputError(
            f"{spec}: TFDS needs {error.name or error} to make it: pip install 'alexnet_jax[prepare]'"
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


# What comes with the project


@dataclasses.dataclass(frozen=True)
class Digits:
    """Handwritten digits: [rows, 8, 8] with values 0 to 16, their labels, and their
    places in scikit-learn's file."""

    images: np.ndarray
    labels: np.ndarray
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, row: int) -> str:
        return f'digits {self.id(row)}'

    def id(self, row: int) -> str:
        return f'digit {self.places[row]}'

    def square(self, row: int, size: int, max_pixels: int) -> tuple[np.ndarray, int]:
        return enlarge_digit(self.images[row], size), int(self.labels[row])

    def take(self, rows: Sequence[int]) -> 'Digits':
        rows = list(rows)
        return Digits(self.images[rows], self.labels[rows], self.places[rows])


def open_digits() -> Source:
    """The 1,797 handwritten digits, 8×8 pixels in 17 greys, that scikit-learn
    ships (the test part of UCI's "Optical Recognition of Handwritten Digits").

    Splits, the same number of each class: 300 test and 200 val images, evenly
    spaced through each class's images in file order; 1,297 train. Who wrote which
    digit is not known: one writer's may be in all three.
    """
    import sklearn.datasets  # takes a second; needed here alone, once

    pixels, labels = sklearn.datasets.load_digits(return_X_y=True)
    every = Digits(pixels.reshape(-1, 8, 8), labels, np.arange(len(labels)))
    splits = {split: every.take(rows.tolist()) for split, rows in split_digits(labels).items()}
    return Source('digits', '1', DIGIT_NAMES, splits, mirror=False)


def split_digits(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Row numbers of each split, ascending."""
    held_out = {'test': [], 'val': []}
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = TEST_PER_CLASS + VAL_PER_CLASS
        chosen = rows[np.arange(count) * len(rows) // count]
        # Of each five in turn, three to test and two to val.
        to_test = np.arange(count) % 5 < 3
        held_out['test'].extend(chosen[to_test])
        held_out['val'].extend(chosen[~to_test])
    rest = np.setdiff1d(np.arange(len(labels)), held_out['test'] + held_out['val'])
    return {'train': rest, **{split: np.sort(rows) for split, rows in held_out.items()}}


def enlarge_digit(image: np.ndarray, size: int) -> np.ndarray:
    """[8, 8] with values 0 to 16 -> uint8 [size, size, 3]: bicubic, grey as RGB,
    with a black border of a sixteenth on every side, so that a crop of seven
    eighths holds the whole digit wherever it lies."""
    border = size // 16
    inner = size - 2 * border
    grey = Image.fromarray(np.round(image * (255 / 16)).astype(np.uint8))
    enlarged = np.asarray(grey.resize((inner, inner), Image.Resampling.BICUBIC))
    return np.repeat(np.pad(enlarged, border)[:, :, None], 3, axis=2)
