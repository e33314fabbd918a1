"""Arrays on disk with one row per image: saved predictions and features.

A folder of NAME.npy files, with `ids.json`, `labels.npy` and `about.json`; rows are in the order of
the split. The folder is written incrementally and renamed when complete. about.json holds, under
`sha256`, a SHA-256 of every other file by name. It protects against accidents, not against forgery.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import InputError, counted, reason, shown, unwritable

ABOUT, IDS, LABELS = 'about.json', 'ids.json', 'labels.npy'
SEALS = 'sha256'  # in about.json
MOST_IDS = 2**31  # bytes; those of ImageNet's 1.3 million images are 30 million


@dataclasses.dataclass(frozen=True)
class ImageArrays:
    """Content of a folder; arrays are read from disk on use."""

    folder: Path
    ids: list[str]
    labels: np.ndarray
    about: dict[str, Any]

    def array(self, name: str) -> np.ndarray:
        """Returns an activation of every image, [images, ...].

        Raises:
          InputError: it does not exist, was modified, or does not have one row per image.
        """
        path = self.folder / file_name(name)
        try:
            values = files.map_array(path)
            require_unmodified(path, self.about)
        except (OSError, ValueError) as error:
            raise InputError(f'{path} cannot be read: {reason(error)}') from error
        if values.shape[:1] != self.labels.shape:
            raise InputError(
                f'{path} has {shown(values.shape)} numbers for {counted(len(self.labels), "image")}'
            )
        return values


class ArrayWriter:
    """Writes a folder of `count` images as `read` reads it.

    Each array keeps the type of its rows.
    """

    def __init__(self, folder: Path, count: int):
        self._folder, self._count = folder, count
        self._ids: list[str] = []
        self._arrays: dict[str, np.memmap] = {}

    def add(self, ids: np.ndarray, labels: np.ndarray, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes the next images.

        Their ids (bytes) and labels are [images], and the rows of each array [images, ...].
        """
        first = len(self._ids)
        self._ids += as_text(ids)
        for name, rows in {'labels': labels, **arrays}.items():
            self._array(name, rows)[first : len(self._ids)] = rows

    def _array(self, name: str, rows: np.ndarray) -> np.memmap:
        if name not in self._arrays:
            self._arrays[name] = np.lib.format.open_memmap(
                self._folder / file_name(name), 'w+', rows.dtype, (self._count, *rows.shape[1:])
            )
        return self._arrays[name]

    def finish(self) -> None:
        """Flushes the arrays and writes the images' ids."""
        assert len(self._ids) == self._count, (len(self._ids), self._count)
        for array in self._arrays.values():
            array.flush()
        (self._folder / IDS).write_text(json.dumps(self._ids))


@contextlib.contextmanager
def writing(folder: Path, about: Mapping[str, Any], count: int) -> Iterator[ArrayWriter]:
    """Yields a writer of `count` images, and adds about.json to its files.

    It replaces a folder of that name, and only if all writes succeed.

    Raises:
      InputError: something else has its name. InputError, StorageError: as `unwritable`.
    """
    with sealing(folder, about) as made:
        writer = ArrayWriter(made, count)
        yield writer
        writer.finish()


@contextlib.contextmanager
def sealing(folder: Path, about: Mapping[str, Any]) -> Iterator[Path]:
    """Yields an empty folder for files of any kind, to which about.json is added; as `writing`."""
    files.require_own_folder(folder, ABOUT)
    try:
        with files.new_folder(folder) as made:
            yield made
            seals = {path.name: files.sha256(path) for path in sorted(made.iterdir())}
            text = json.dumps({**about, SEALS: seals}, indent=2, allow_nan=False) + '\n'
            (made / ABOUT).write_text(text)
    except OSError as error:
        raise unwritable(folder, error) from error


def read(folder: Path) -> ImageArrays:
    """Reads a folder that `writing` has written.

    Raises:
      InputError: there is no such folder, or its files are incomplete or were modified.
    """
    about = read_about(folder)
    try:
        for name in (IDS, LABELS):
            require_unmodified(folder / name, about)
        ids = files.read_json(folder / IDS, MOST_IDS)
        labels = np.array(files.map_array(folder / LABELS))
    except (OSError, ValueError) as error:
        raise InputError(f'{folder} holds no arrays of images: {reason(error)}') from error
    if not isinstance(ids, list) or not all(isinstance(name, str) for name in ids):
        raise InputError(f'{folder} holds no arrays of images: {IDS} is no list of names')
    if labels.shape != (len(ids),) or labels.dtype.kind not in 'iu':
        raise InputError(f'{folder} holds no arrays of images: ids and labels do not agree')
    return ImageArrays(folder, ids, labels, about)


def read_about(folder: Path) -> dict[str, Any]:
    """Returns the content of a folder's about.json; raises as `read`."""
    try:
        about = files.read_json(folder / ABOUT)
    except (OSError, ValueError) as error:
        raise InputError(f'{folder} holds no arrays of images: {reason(error)}') from error
    if not isinstance(about, dict):
        raise InputError(f'{folder} holds no arrays of images: {ABOUT} is no object')
    if not isinstance(about.get(SEALS, {}), dict):
        raise InputError(f'{folder} states no usable {SEALS} in {ABOUT}')
    return about


def require_unmodified(path: Path, about: Mapping[str, Any]) -> None:
    """Compares a file with its SHA-256 in about.json.

    Earlier versions wrote none.

    Raises:
      InputError: they differ.
      OSError: the file cannot be read.
    """
    if SEALS in about and about[SEALS].get(path.name) != files.sha256(path):
        raise InputError(f'{path} was modified; save it again')


def as_text(ids: np.ndarray) -> list[str]:
    """Converts ids to text for JSON."""
    return [text_of(identifier) for identifier in ids]


def text_of(identifier: bytes | str) -> str:
    """Returns an image's id as text; bytes that are no UTF-8 become surrogates."""
    return os.fsencode(identifier).decode('utf-8', 'surrogateescape')


def file_name(name: str) -> str:
    """Returns the file of an activation: conv5/pool -> conv5_pool.npy."""
    return name.replace('/', '_') + '.npy'
