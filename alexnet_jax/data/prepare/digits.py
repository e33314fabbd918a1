"""Handwritten digits that need no download, as a source of images."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image

from alexnet_jax.data.images import CENTER_SQUARE
from alexnet_jax.data.prepare.originals import Source

NAMES = tuple(str(digit) for digit in range(10))
TEST_PER_CLASS, VAL_PER_CLASS = 30, 20


@dataclasses.dataclass(frozen=True)
class Digits:
    """Handwritten digits, [rows, 8, 8] with values 0 to 16.

    With them come their labels, and their places in scikit-learn's file.
    """

    images: np.ndarray
    labels: np.ndarray
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def place(self) -> None:
        """Nothing: the digits are in memory."""
        return None

    def name(self, row: int) -> str:
        """Returns the name of a digit in messages."""
        return f'digits {self.id(row)}'

    def id(self, row: int) -> str:
        """Returns the id of a digit's record: its place in scikit-learn's file."""
        return f'digit {self.places[row]}'

    def square(
        self, row: int, size: int, max_pixels: int, resize: str = CENTER_SQUARE
    ) -> tuple[np.ndarray, int]:
        """Returns the digit enlarged, and its label."""
        return enlarge_digit(self.images[row], size), int(self.labels[row])

    def take(self, rows: Sequence[int]) -> 'Digits':
        """Returns some rows, in their order."""
        rows = list(rows)
        return Digits(self.images[rows], self.labels[rows], self.places[rows])


def open_digits() -> Source:
    """Opens the 1,797 handwritten digits that scikit-learn ships, 8×8 pixels in 17 grays.

    They are the test part of UCI's "Optical Recognition of Handwritten Digits".

    Splits, the same number of each class: 300 test and 200 val images, evenly
    spaced through each class's images in file order; 1,297 train. Who wrote which
    digit is not known: one writer's may be in all three.
    """
    import sklearn.datasets  # takes a second; needed here alone, once

    pixels, labels = sklearn.datasets.load_digits(return_X_y=True)
    every = Digits(pixels.reshape(-1, 8, 8), labels, np.arange(len(labels)))
    splits = {split: every.take(rows.tolist()) for split, rows in split_digits(labels).items()}
    return Source('digits', '1', NAMES, splits, mirror=False)


def split_digits(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the row numbers of each split, ascending."""
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
    """Enlarges [8, 8] with values 0 to 16 to uint8 [size, size, 3]: bicubic, gray as RGB.

    A black border of a sixteenth is on every side, so that a crop of seven eighths holds the
    whole digit wherever it lies.
    """
    border = size // 16
    inner = size - 2 * border
    gray = Image.fromarray(np.round(image * (255 / 16)).astype(np.uint8))
    enlarged = np.asarray(gray.resize((inner, inner), Image.Resampling.BICUBIC))
    return np.repeat(np.pad(enlarged, border)[:, :, None], 3, axis=2)
