"""A source of the user's own: FILE.py:NAME, a function without arguments that returns `Images`."""

import dataclasses
import functools
import hashlib
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.data import set_files
from alexnet_jax.data.images import CENTER_SQUARE, BadImageError, Picture, read_square
from alexnet_jax.data.prepare.originals import Source
from alexnet_jax.runtime import python_files
from alexnet_jax.runtime.errors import InputError, plain, shown

OPTION = 'the source'  # in messages
SPLITS = ('train', 'val', 'test')
DIGITS = 16  # of a digest


@dataclasses.dataclass(frozen=True)
class Images:
    """The images of a source of one's own.

    classes: their names, in the order of the labels.
    train, val, test: at least one of them; without train, a set to evaluate on. Each is what has a
      length and gives (image, label) for each row number, as a list or a map-style data set of
      PyTorch does. An image is a path, the bytes of a JPEG or PNG, a Pillow image, or pixels,
      uint8 [height, width, 3] or gray [height, width]; a label is a whole number.
    mirror: whether an image's mirror image is one of its class too.
    """

    classes: Sequence[str]
    train: Sequence[tuple[Any, int]] | None = None
    val: Sequence[tuple[Any, int]] | None = None
    test: Sequence[tuple[Any, int]] | None = None
    mirror: bool = True


@dataclasses.dataclass(frozen=True)
class OwnRows:
    """Rows of a split of `Images`. Another process runs the file again.

    digest: of the file when the source was opened.
    """

    spec: str
    digest: str
    split: str
    rows: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> np.ndarray:
        """Labels of the rows, int [rows]."""
        return np.array([self._pair(row)[1] for row in range(len(self))])

    @property
    def place(self) -> Path:
        """The Python file of the source."""
        return python_files.split(self.spec)[0]

    def name(self, row: int) -> str:
        """Returns the name of an original in messages."""
        return f'{plain(self.spec)} {self.id(row)}'

    def id(self, row: int) -> str:
        """Returns the id of an original's record: 'train/17'."""
        return f'{self.split}/{self.rows[row]}'

    def square(
        self, row: int, size: int, max_pixels: int, resize: str = CENTER_SQUARE
    ) -> tuple[np.ndarray, int]:
        """Reads an image as a square, and its label."""
        image, label = self._pair(row)
        try:
            return read_square(image, size, max_pixels, resize), label
        except BadImageError as error:
            if not isinstance(image, Path):
                raise
            path = plain(image, python_files.LONGEST)
            raise BadImageError(f'has the image {path}, which {error.reason}') from error

    def take(self, rows: Sequence[int]) -> 'OwnRows':
        """Returns some rows, in their order."""
        return dataclasses.replace(self, rows=tuple(self.rows[row] for row in rows))

    def _pair(self, row: int) -> tuple[Picture, int]:
        """Returns the image and label of a row.

        Raises:
          InputError: the file does not give them, or has changed.
        """
        split = getattr(_opened(self.spec, self.digest), self.split)
        pair = _called(self.spec, self.id(row), lambda: split[self.rows[row]])
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InputError(f'{self.name(row)} is {shown(pair)}; allowed: (image, label)')
        image, label = pair
        if isinstance(image, str):
            image = Path(image)
        if not isinstance(image, Picture):
            raise InputError(
                f'{self.name(row)} has the image {shown(image)}; allowed: a path, the bytes of a'
                ' JPEG or PNG, a Pillow image or an array of pixels'
            )
        if isinstance(label, bool) or not isinstance(label, int | np.integer):
            raise InputError(
                f'{self.name(row)} has the label {shown(label)}; allowed: a whole number'
            )
        return image, int(label)


def open_own(spec: str) -> Source:
    """Opens FILE.py:NAME.

    Raises:
      InputError: as `python_files.find`; the function fails or returns anything but `Images`; its
        classes cannot be kept, a split is empty, or there is none.
    """
    digest = file_digest(spec)
    images = _opened(spec, digest)
    classes, splits = _classes_of(spec, images.classes), {}
    for split in SPLITS:
        rows = getattr(images, split)
        if rows is None:
            continue
        if not hasattr(rows, '__getitem__') or isinstance(rows, str | bytes | dict):
            raise InputError(
                f'{plain(spec)}: {split} is {shown(rows)}; allowed: a sequence of (image, label)'
            )
        count = _called(spec, f'the length of {split}', lambda rows=rows: len(rows))  # pyright: ignore[reportArgumentType]
        if not count:
            raise InputError(f'{plain(spec)}: {split} is empty; allowed: at least 1 image')
        splits[split] = OwnRows(spec, digest, split, tuple(range(count)))
    if not splits:
        raise InputError(
            f'{plain(spec)}: {", ".join(SPLITS)} are None; allowed: images of at least one of them'
        )
    if not isinstance(images.mirror, bool):
        raise InputError(f'{plain(spec)}: mirror is {shown(images.mirror)}; allowed: True or False')
    lengths = [(split, len(rows)) for split, rows in splits.items()]
    content = hashlib.sha256(repr((classes, lengths)).encode()).hexdigest()[:DIGITS]
    return Source(spec, f'{digest}-{content}', classes, splits, images.mirror)


def file_digest(spec: str) -> str:
    """Returns a digest of the file, with which the version of its source begins.

    Raises as `python_files.read`.
    """
    return hashlib.sha256(python_files.read(spec, OPTION)).hexdigest()[:DIGITS]


@functools.cache
def _opened(spec: str, digest: str) -> Images:
    """Returns the images of a file of this digest, once in a process."""
    function = python_files.find(
        spec, OPTION, callable, 'a function that returns Images (alexnet_jax.data.prepare.own)'
    )
    if file_digest(spec) != digest:
        raise InputError(f'{plain(spec)} has changed since the preparation began; run it again')
    images = _called(spec, f'{python_files.split(spec)[1]}()', function)
    if not isinstance(images, Images):
        raise InputError(
            f'{plain(spec)} returns {shown(images)}; allowed: Images (alexnet_jax.data.prepare.own)'
        )
    return images


def _called(spec: str, what: str, function: Callable[[], Any]) -> Any:
    """Returns what a function of the file returns.

    Raises:
      InputError: it raises anything; the message has the line.
    """
    try:
        return function()
    except (Exception, SystemExit) as error:
        reason = python_files.in_words(error, python_files.split(spec)[0])
        raise InputError(f'{plain(spec)}: {what} fails: {reason}') from error


def _classes_of(spec: str, classes: Any) -> tuple[str, ...]:
    """Returns the names of the classes, at least two and different."""
    try:
        names = tuple(classes)
    except TypeError:
        names = ()
    if len(names) < 2:
        raise InputError(f'{plain(spec)}: classes is {shown(classes)}; allowed: at least 2 names')
    seen = set()
    for name in names:
        fits = isinstance(name, str) and name.strip() and set_files.is_one_line(name)
        if not fits or not name.isprintable():
            raise InputError(
                f'{plain(spec)}: classes has {shown(name)}; allowed: texts of printable characters'
            )
        same = unicodedata.normalize('NFC', ' '.join(name.split())).casefold()
        if same in seen:
            raise InputError(f'{plain(spec)}: classes has {shown(name)} twice; allowed: once')
        seen.add(same)
    return names
