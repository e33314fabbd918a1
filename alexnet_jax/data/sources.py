"""Where images come from: random access to square uint8 records.

A record is {'image': uint8 [size, size, 3], 'label': int}. Nothing here needs
TensorFlow: TFDS writes and reads ArrayRecord without it.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

Record = dict[str, Any]


class Records(Protocol):
    """Random access to records."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record: ...


DIGIT_NAMES = tuple(str(digit) for digit in range(10))
TEST_PER_CLASS, VAL_PER_CLASS = 30, 20


@dataclasses.dataclass
class DigitsConfig(tfds.core.BuilderConfig):
    """`size`: side of the records, pixels."""

    size: int = 32


class Digits(tfds.core.GeneratorBasedBuilder):
    """The 1,797 handwritten digits, 8×8 pixels in 17 greys, that scikit-learn
    ships (the test part of UCI's "Optical Recognition of Handwritten Digits").

    Splits, the same number of each class: 300 test and 200 val images, evenly
    spaced through each class's images in file order; 1,297 train. Who wrote which
    digit is not known: one writer's may be in all three.
    """

    VERSION = tfds.core.Version('1.0.0')

    def __init__(self, size: int, data_dir: str | None):
        self._size = size
        config = DigitsConfig(name=f'{size}px', size=size)
        super().__init__(config=config, data_dir=data_dir, file_format='array_record')

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            'image': tfds.features.Tensor(shape=(self._size, self._size, 3), dtype=np.uint8),
            'label': tfds.features.ClassLabel(names=DIGIT_NAMES),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        import sklearn.datasets  # takes a second; needed here alone, once

        pixels, labels = sklearn.datasets.load_digits(return_X_y=True)
        images = pixels.reshape(-1, 8, 8)
        return {
            split: self._generate_examples(images[rows], labels[rows])
            for split, rows in split_digits(labels).items()
        }

    def _generate_examples(self, images: np.ndarray, labels: np.ndarray) -> Iterator:
        for row, (image, label) in enumerate(zip(images, labels, strict=True)):
            record = enlarge_digit(image, self._size)
            yield row, {'image': record, 'label': int(label)}


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


@dataclasses.dataclass(frozen=True)
class Synthetic:
    """Images made from a seed: each class its own coarse pattern of colours,
    under noise. For dry runs at any size; nothing is stored.

    The patterns depend on the seed and the class alone, so that what is learnt
    on one `part` (0, 1, ...) holds on another.
    """

    examples: int
    classes: int
    size: int
    seed: int
    part: int

    def __len__(self) -> int:
        return self.examples

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < self.examples:
            raise IndexError(index)
        label = index % self.classes
        tiles, noise = 4, 64
        of_class = np.random.default_rng([self.seed, label])
        pattern = of_class.integers(0, 256 - noise, (tiles, tiles, 3), dtype=np.uint8)
        tile = np.arange(self.size) * tiles // self.size
        # The last number is never 0: NumPy takes [a, b, 0, 0] for [a, b], a class's seed.
        of_image = np.random.default_rng([self.seed, self.part, index, 1])
        speckles = of_image.integers(0, noise, (self.size, self.size, 3), dtype=np.uint8)
        return {'image': pattern[tile][:, tile] + speckles, 'label': label}
