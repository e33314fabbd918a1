"""Arrays with a row an image, on disk: saved predictions and features.

A folder of NAME.npy files, with `ids.json`, `labels.npy` and `about.json`; rows are in
the order of the split. Written as they come, and there only when they are whole.
"""

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from alexnet_jax.errors import InputError

ABOUT, IDS, LABELS = 'about.json', 'ids.json', 'labels.npy'


@dataclasses.dataclass(frozen=True)
class ImageArrays:
    """What a folder holds; arrays are read from disk as they are used."""

    folder: Path
    ids: list[str]
    labels: np.ndarray
    about: dict[str, Any]

    def array(self, name: str) -> np.ndarray:
        """[images, ...]

        Raises:
          InputError: it is not there, or has not a row an image.
        """
        path = self.folder / file_name(name)
        try:
            values = np.load(path, mmap_mode='r', allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f'{path} cannot be read: {error}') from error
        if values.shape[:1] != self.labels.shape:
            raise InputError(f'{path} has {values.shape} numbers for {len(self.labels)} images')
        return values


class Writer(Protocol):
    """Takes what is known of images, in order."""

    def add(self, ids: np.ndarray, labels: np.ndarray, arrays: Mapping[str, np.ndarray]) -> None:
        """The next images: their ids (bytes) and labels [images], and rows [images, ...]
        of each array."""
        ...

    def finish(self) -> None:
        """After the last."""
        ...


class ArrayWriter:
    """Writes a folder of `count` images as `read` reads it. Each array keeps the type of
    its rows."""

    def __init__(self, folder: Path, count: int):
        self._folder, self._count = folder, count
        self._ids: list[str] = []
        self._arrays: dict[str, np.memmap] = {}

    def add(self, ids: np.ndarray, labels: np.ndarray, arrays: Mapping[str, np.ndarray]) -> None:
        """As `Writer.add`."""
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
        assert len(self._ids) == self._count, (len(self._ids), self._count)
        for array in self._arrays.values():
            array.flush()
        (self._folder / IDS).write_text(json.dumps(self._ids))


@contextlib.contextmanager
def writing(
    folder: Path, about: Mapping[str, Any], make_writer: Callable[[Path], Writer]
) -> Iterator[Writer]:
    """A writer that `make_writer` makes for a folder, and about.json beside what it
    writes. The folder takes the place of one of that name, and is there only if all went
    well.

    Raises:
      InputError: it cannot be written, or something else is in its place.
    """
    if folder.exists() and not (folder / ABOUT).exists():
        raise InputError(f'{folder} is there and holds something else; take another folder')
    beside = folder.with_name(f'.{folder.name}.tmp')
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        writer = make_writer(beside)
        yield writer
        writer.finish()
        (beside / ABOUT).write_text(json.dumps(about, indent=2) + '\n')
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(beside, folder)
    except OSError as error:
        raise InputError(f'{folder} cannot be written: {error.strerror or error}') from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def read(folder: Path) -> ImageArrays:
    """
    Raises:
      InputError: there is no such folder, or its files are not those of one.
    """
    try:
        ids = json.loads((folder / IDS).read_text())
        about = json.loads((folder / ABOUT).read_text())
        labels = np.load(folder / LABELS, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f'{folder} holds no arrays of images: {error}') from error
    if not isinstance(ids, list) or not isinstance(about, dict) or labels.shape != (len(ids),):
        raise InputError(f'{folder} holds no arrays of images: ids and labels do not agree')
    return ImageArrays(folder, ids, labels, about)


def as_text(ids: np.ndarray) -> list[str]:
    """Ids as JSON can hold them."""
    return [identifier.decode('utf-8', 'surrogateescape') for identifier in ids]


def file_name(name: str) -> str:
    """conv5/pool -> conv5_pool.npy"""
    return name.replace('/', '_') + '.npy'
