"""A folder of class folders as a source of images."""

import dataclasses
import hashlib
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alexnet_jax.data import set_files
from alexnet_jax.data.images import CENTER_SQUARE, read_square
from alexnet_jax.data.prepare import layout, tiny_imagenet
from alexnet_jax.data.prepare.originals import Source
from alexnet_jax.runtime.errors import InputError, counted, nearest, plain


@dataclasses.dataclass(frozen=True)
class Files:
    """Image files below `root`: their paths from there, and labels."""

    root: layout.Folder
    paths: tuple[str, ...]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def place(self) -> Path | None:
        """The folder of the images; None if it is remote, so that every process can read it."""
        return self.root if isinstance(self.root, Path) else None

    def name(self, row: int) -> str:
        """Returns the path of an image, for messages."""
        return str(self.root / self.paths[row])

    def id(self, row: int) -> str:
        """Returns the path of an image below the folder."""
        return self.paths[row]

    def square(
        self, row: int, size: int, max_pixels: int, resize: str = CENTER_SQUARE
    ) -> tuple[np.ndarray, int]:
        """Reads an image as a square, and its label."""
        place = self.root / self.paths[row]
        picture = place if isinstance(place, Path) else place.read_bytes()
        image = read_square(picture, size, max_pixels, resize)
        return image, int(self.labels[row])

    def take(self, rows: Sequence[int]) -> 'Files':
        """Returns some rows, in their order."""
        return Files(self.root, tuple(self.paths[row] for row in rows), self.labels[list(rows)])


def open_folder(spec: str, root: layout.Folder) -> Source:
    """Opens a folder of images by class.

    It holds class folders, or folders for `train`, `val` and `test`, or some of them, that hold
    such, as `layout.splits_below` finds them, or Tiny ImageNet as it is distributed. All files in
    a class folder count as images, in its subfolders too; skipped are hidden files, files that
    operating systems leave behind and files of bounding boxes. Classes are numbered in the order
    of their names.

    Raises:
      InputError: no such folder; no classes; an empty class folder; two classes
        of the same name; an image outside of any class folder; folders that may be splits
        or classes.
    """
    root = require_folder(spec, root)
    try:
        tops = layout.splits_below(root)
        # Of the training images, or else of the first of the other splits.
        named, first = next(iter(tops.items()))
        classes = _class_names(first)
        listings = {split: _list_split(top, classes, named) for split, top in tops.items()}
    except OSError as error:
        raise InputError(f'{spec}: {error.filename}: {error.strerror}') from error
    splits, digest = {}, hashlib.sha256()
    for split, files in listings.items():
        paths = tuple(os.path.relpath(path, root) for path, _, _ in files)
        splits[split] = Files(root, paths, np.array([label for _, label, _ in files]))
        for path, (_, label, size) in zip(paths, files, strict=True):
            digest.update(os.fsencode(f'{split}\0{path}\0{label}\0{size}\n'))
    return Source(f'folder:{root}', digest.hexdigest()[:16], classes, splits)


def splits_of(spec: str, root: layout.Folder) -> tuple[str, ...]:
    """Returns which splits a folder has images of; its classes are not listed.

    Raises:
      InputError: it is no folder, or its splits are unclear.
    """
    try:
        return tuple(layout.splits_below(require_folder(spec, root)))
    except OSError as error:
        raise InputError(f'{spec}: {error.filename}: {error.strerror}') from error


def absolute(root: Path) -> Path:
    """Returns the absolute path of a folder of images.

    Raises:
      InputError: there is no such path, or no set prepared of it could be opened.
    """
    try:
        found = root.expanduser().resolve()
    except (OSError, RuntimeError) as error:  # of a user who is not there; links in a circle
        raise InputError(f'folder:{plain(root)} cannot be found: {error}') from error
    if not set_files.is_one_line(str(found)):
        raise InputError(
            f'folder:{plain(found)}: the path holds a character that cannot be printed;'
            ' rename that folder'
        )
    return found


def require_folder(spec: str, root: layout.Folder) -> layout.Folder:
    """Returns the absolute path of a folder.

    Raises:
      InputError: it is no folder.
    """
    if not isinstance(root, Path):
        root.require()
        return root
    root = absolute(root)
    try:
        found = root.is_dir()
    except OSError as error:
        raise InputError(f'{plain(spec)}: {error.strerror}') from error
    if not found:
        raise InputError(f'{plain(spec)}: no such folder')
    return root


def _class_names(top: layout.Folder) -> tuple[str, ...]:
    if stray := layout.images_in(top):
        raise InputError(f'{top / stray[0]} lies in no class folder')
    names = [path.name for path in layout.folders_in(top)]
    if len(names) < 2:
        raise InputError(f'{top} holds {counted(len(names), "class folder")}; allowed: at least 2')
    seen: dict[str, str] = {}
    for name in names:
        if '\n' in name or not name.isprintable() or not name.strip():
            raise InputError(f'{top}: the class folder {name!r} has a name that cannot be printed')
        # Case, spaces and the two ways to write é make no other name.
        same = unicodedata.normalize('NFC', ' '.join(name.split())).casefold()
        if same in seen:
            raise InputError(
                f'{top}: the class folders {seen[same]!r} and {name!r} have the same name'
            )
        seen[same] = name
    return tuple(names)


def _list_split(
    top: layout.Folder, classes: tuple[str, ...], named: str
) -> list[tuple[str, int, int]]:
    if tiny_imagenet.has_annotations(top):
        return tiny_imagenet.list_annotated(top, classes)
    return _list_classes(top, classes, named)


def _list_classes(
    top: layout.Folder, classes: tuple[str, ...], named: str
) -> list[tuple[str, int, int]]:
    """Returns (path, label, bytes) of all files, ordered by class and path. named: the split that
    the classes are of."""
    if stray := layout.images_in(top):
        raise InputError(f'{top / stray[0]} lies in no class folder')
    found = []
    for folder in layout.folders_in(top):
        if folder.name not in classes:
            raise InputError(
                f'{folder} is a class that is not in {named};'
                f' the nearest is {nearest(folder.name, classes)}'
            )
        files = sorted(layout.walk_files(folder))
        if not files:
            raise InputError(f'the class folder {folder} is empty')
        label = classes.index(folder.name)
        found.extend((path, label, size) for path, size in files)
    return found
