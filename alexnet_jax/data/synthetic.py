"""Synthetic images, generated from a seed when read; nothing is stored."""

import dataclasses

import numpy as np

from alexnet_jax.data.image_set import ImageSet, Record
from alexnet_jax.data.set_files import make_identity
from alexnet_jax.data.statistics import measure

SAMPLE = 256
VERSION = '1'  # increased when the same arguments give other images


def synthetic_set(examples: int, classes: int, size: int, seed: int) -> ImageSet:
    """Returns generated images: `examples` for training, a tenth as many for validation.

    The validation set has at least one image. Statistics are those of the first 256 training
    images.
    """
    train = Synthetic(examples, classes, size, seed, part=0)
    val = Synthetic(max(1, examples // 10), classes, size, seed, part=1)
    statistics = measure(train.read(row).image for row in range(min(examples, SAMPLE)))
    names = tuple(f'class {label}' for label in range(classes))
    identity = make_identity(
        'synthetic', VERSION, names, {'train': len(train), 'val': len(val)}, (size, seed)
    )
    return ImageSet({'train': train, 'val': val}, names, statistics, True, identity)


@dataclasses.dataclass(frozen=True)
class Synthetic:
    """Images generated from a seed: a coarse color pattern for each class, plus noise.

    They are for dry runs at any size; nothing is stored.

    The patterns depend only on the seed and the class, so that a net trained on one `part` (0, 1,
    ...) generalizes to another.
    """

    examples: int
    classes: int
    size: int
    seed: int
    part: int

    def __len__(self) -> int:
        return self.examples

    def read(self, row: int, scratch: np.ndarray | None = None) -> Record:
        """Returns the record of a row: the tiles of its class plus noise.

        Raises:
          IndexError: there is no such row.
        """
        if not 0 <= row < self.examples:
            raise IndexError(row)
        label = row % self.classes
        tiles, noise = 4, 64
        of_class = np.random.default_rng([self.seed, label])
        pattern = of_class.integers(0, 256 - noise, (tiles, tiles, 3), dtype=np.uint8)
        tile = np.arange(self.size) * tiles // self.size
        # The last number is never 0: NumPy treats [a, b, 0, 0] as [a, b], the seed of a class.
        of_image = np.random.default_rng([self.seed, self.part, row, 1])
        speckles = of_image.integers(0, noise, (self.size, self.size, 3), dtype=np.uint8)
        return Record(pattern[tile][:, tile] + speckles, label, b'%d' % row)
