"""Interface of image sources: originals by split."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from alexnet_jax.data.images import CENTER_SQUARE

# Other common names of the splits.
SPLIT_NAMES = {
    'train': ('train',),
    'val': ('val', 'validation', 'valid', 'dev'),
    'test': ('test',),
}


class Originals(Protocol):
    """Random access to the images of a split as they are before preparing.

    It is small enough to send to another process.
    """

    def __len__(self) -> int: ...

    @property
    def labels(self) -> np.ndarray:
        """Labels [rows], int, unchecked; -1 where a record cannot be read."""
        ...

    @property
    def place(self) -> Path | None:
        """The folder or file that a process must see to read them; None if they are in memory."""
        ...

    def name(self, row: int) -> str:
        """Returns the name of the original in a message."""
        ...

    def id(self, row: int) -> str:
        """Returns the id of the original's record, the same wherever the source lies."""
        ...

    def square(
        self, row: int, size: int, max_pixels: int, resize: str = CENTER_SQUARE
    ) -> tuple[np.ndarray, int]:
        """Returns the image as `images.read_square` makes it, and its label.

        Raises:
          BadImageError: it cannot be read.
        """
        ...

    def take(self, rows: Sequence[int]) -> 'Originals':
        """Returns these rows only, in this order."""
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
