"""A folder of class folders as a source of images."""

import dataclasses
import hashlib
import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from alexnet_jax.data.images import CENTER_SQUARE, read_square
from alexnet_jax.data.originals import SPLIT_NAMES, Source
from alexnet_jax.errors import InputError, nearest, plain


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

    def square(
        self, row: int, size: int, max_pixels: int, resize: str = CENTER_SQUARE
    ) -> tuple[np.ndarray, int]:
        image = read_square(self.root / self.paths[row], size, max_pixels, resize)
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
    root = require_folder(spec, root)
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


def absolute(root: Path) -> Path:
    """
    Raises:
      InputError: there is no such path.
    """
    try:
        return root.expanduser().resolve()
    except (OSError, RuntimeError) as error:  # of a user who is not there; links in a circle
        raise InputError(f'folder:{plain(root)} cannot be found: {error}') from error


def require_folder(spec: str, root: Path) -> Path:
    """Its absolute path.

    Raises:
      InputError: it is no folder.
    """
    root = absolute(root)
    try:
        found = root.is_dir()
    except OSError as error:
        raise InputError(f'{plain(spec)}: {error.strerror}') from error
    if not found:
        raise InputError(f'{plain(spec)}: no such folder')
    return root


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
        # Case, spaces and the two ways to write é make no other name.
        same = unicodedata.normalize('NFC', ' '.join(name.split())).casefold()
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
