"""Images without labels from files, nested folders and lists of files, in a defined order."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from alexnet_jax.data.image_set import ImageSet, Record
from alexnet_jax.data.images import BadImageError, read_square
from alexnet_jax.data.prepare.layout import is_hidden, is_image
from alexnet_jax.data.statistics import Statistics
from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import InputError, plain

LIST = '.txt'
NO_LABEL = -1
SPLIT = 'images'
LONGEST_PATH = 1000  # characters in a message


@dataclasses.dataclass(frozen=True)
class Stimulus:
    """An image file, and its id in results."""

    id: str
    path: Path


def find(words: Sequence[str | Path]) -> list[Stimulus]:
    """Finds image files.

    Args:
      words: paths of images; of folders, with their JPEG and PNG files at any depth, in the order
        of their paths; of lists (.txt), with one path per line, relative to the list.

    Returns:
      the images in the order of the words. An id is the path of an image as given, as in its list,
      or relative to its folder; with several words it is prefixed with the word.

    Raises:
      InputError: a path does not exist, a folder or list is empty or cannot be read, or an id
        occurs twice.
    """
    found = []
    for word in map(Path, words):
        of_word = _below(word)
        named = [one.id if len(words) == 1 else str(word / one.id) for one in of_word]
        if len(of_word) == 1 and of_word[0].path == word:
            named = [str(word)]
        found += [Stimulus(name, one.path) for name, one in zip(named, of_word, strict=True)]
    _require_once(found)
    return found


def _below(word: Path) -> list[Stimulus]:
    """Returns the images of a path, with ids relative to it."""
    name = plain(word, LONGEST_PATH)
    try:
        if word.is_dir():
            found = [Stimulus(part, word / part) for part in sorted(_images_below(word))]
            if not found:
                raise InputError(f'{name} holds no JPEG or PNG files, nor do folders in it')
            return found
        if word.suffix.lower() == LIST:
            return _listed(word)
        if not word.exists():
            raise InputError(f'{name}: no such file or folder')
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, 'strerror', None) or str(error)
        raise InputError(f'{name} cannot be read: {reason}') from error
    return [Stimulus(str(word), word)]


def _images_below(folder: Path) -> list[str]:
    def refuse(error: OSError) -> None:
        raise error

    return [
        os.path.relpath(os.path.join(top, name), folder)
        for top, folders, names in os.walk(folder, onerror=refuse)
        for name in names
        if is_image(name) and not is_hidden(name)
        if not any(map(is_hidden, Path(os.path.relpath(top, folder)).parts))
    ]


def _listed(path: Path) -> list[Stimulus]:
    """Returns the images of a list; empty lines are skipped."""
    text = os.fsdecode(files.read_bytes(path))
    names = [line.removesuffix('\r') for line in text.removeprefix('\ufeff').split('\n')]
    found = [Stimulus(name, path.parent / name) for name in names if name.strip()]
    if not found:
        raise InputError(f'the list {plain(path, LONGEST_PATH)} is empty')
    return found


def _require_once(found: Sequence[Stimulus]) -> None:
    seen = set()
    for one in found:
        if one.id in seen:
            raise InputError(
                f'{plain(one.id, LONGEST_PATH)} occurs twice; allowed: each image once'
            )
        seen.add(one.id)


@dataclasses.dataclass(frozen=True)
class Stimuli:
    """Random access to stimuli, resized to squares, as `image_set.Records`.

    bad: called with the row and the reason of an unreadable image, which is then black; None: such
      an image is an error.
    """

    found: Sequence[Stimulus]
    size: int
    resize: str
    bad: Callable[[int, str], None] | None = None

    def __len__(self) -> int:
        return len(self.found)

    def read(self, row: int, scratch: np.ndarray | None = None) -> Record:
        """Reads an image; its label is NO_LABEL.

        Raises:
          InputError: it cannot be read.
        """
        one = self.found[row]
        try:
            image = read_square(one.path, self.size, resize=self.resize)
        except BadImageError as error:
            if self.bad is None:
                raise InputError(
                    f'{plain(one.path, LONGEST_PATH)} {error.reason}; --skip_bad lists such images'
                    ' and continues'
                ) from error
            self.bad(row, error.reason)
            image = np.zeros((self.size, self.size, 3), np.uint8)
        return Record(image, NO_LABEL, os.fsencode(one.id))


def as_set(stimuli: Stimuli) -> ImageSet:
    """Returns stimuli as a set with one split, SPLIT, and no classes."""
    side = stimuli.size
    nothing = Statistics(np.zeros((side, side, 3)), np.eye(3), np.zeros(3))
    return ImageSet({SPLIT: stimuli}, (), nothing, True, {'source': SPLIT})
