"""Synthetic images whose classes differ in orientation or color, generated when read.

Half of the classes are gray gratings that differ only in orientation; the other half are soft
patches that differ only in hue. All have the same background of gray clouds and noise, so that
neither brightness nor contrast depends on the class. The set is for the question of the paper's
Figure 3: do two columns specialize in orientation and color?
"""

import dataclasses
import math

import numpy as np

from alexnet_jax.data.image_set import ImageSet, Record
from alexnet_jax.data.set_files import make_identity
from alexnet_jax.data.statistics import measure

ORIENTATIONS, HUES = 8, 8
CLASSES = (
    *(f'grating {180 * k / ORIENTATIONS:g}°' for k in range(ORIENTATIONS)),
    *(f'hue {360 * k / HUES:g}°' for k in range(HUES)),
)
EXAMPLES = {'train': 4096, 'val': 512, 'test': 512}
SEED = 2012  # of the set, which is the same for all runs
VERSION = '1'  # increased when the same arguments give other images
SAMPLE = 256  # number of training images for the statistics

# Orthogonal to (1, 1, 1): changes along these axes keep R + G + B.
CHROMA = np.array([[2, -1, -1], [0, 3**0.5, -(3**0.5)]]) / 6**0.5


def patterns_set(size: int) -> ImageSet:
    """Returns 4,096 training images, 512 to validate and 512 to test, of `size` pixels a side.

    All 16 classes have equal numbers of images. Mirror images are of other classes.
    """
    splits = {
        split: Patterns(count, size, part) for part, (split, count) in enumerate(EXAMPLES.items())
    }
    statistics = measure(splits['train'].read(row).image for row in range(SAMPLE))
    identity = make_identity('patterns', VERSION, CLASSES, EXAMPLES, (size, SEED))
    return ImageSet(splits, CLASSES, statistics, False, identity)


@dataclasses.dataclass(frozen=True)
class Patterns:
    """Image `row` of a `part` (0, 1, ...) depends only on these two and the size."""

    examples: int
    size: int
    part: int

    def __len__(self) -> int:
        return self.examples

    def read(self, row: int, scratch: np.ndarray | None = None) -> Record:
        """Returns the pattern of a row, drawn from the row's own random numbers.

        Raises:
          IndexError: there is no such row.
        """
        if not 0 <= row < self.examples:
            raise IndexError(row)
        label = row % len(CLASSES)
        random = np.random.default_rng([SEED, self.part, row, 1])
        gray = 128 + 8 * clouds(random, self.size) + random.normal(0, 6, (self.size, self.size))
        if label < ORIENTATIONS:
            angle = math.pi * (label + random.uniform(-0.2, 0.2)) / ORIENTATIONS
            image = (gray + grating(random, self.size, angle))[:, :, None].repeat(3, axis=2)
        else:
            hue = 2 * math.pi * (label - ORIENTATIONS + random.uniform(-0.2, 0.2)) / HUES
            chroma = np.array([math.cos(hue), math.sin(hue)]) @ CHROMA
            image = gray[:, :, None] + patches(random, self.size)[:, :, None] * chroma
        return Record(np.clip(image.round(), 0, 255).astype(np.uint8), label, b'%d' % row)


def grating(random: np.random.Generator, size: int, angle: float) -> np.ndarray:
    """Draws a sine wave of any phase, [size, size].

    Its stripes are at `angle` counterclockwise from the horizontal; the wavelength is a fourth to
    an eighth of the side.
    """
    waves = random.uniform(4, 8)
    y, x = np.mgrid[:size, :size] / size
    across = x * math.sin(angle) + y * math.cos(angle)
    phase, contrast = random.uniform(0, 2 * math.pi), random.uniform(15, 40)
    return contrast * np.sin(2 * math.pi * waves * across + phase)


def patches(random: np.random.Generator, size: int) -> np.ndarray:
    """Draws the strength of the color at each position, [size, size], from 0 to at most 60."""
    return random.uniform(25, 60) / (1 + np.exp(-3 * clouds(random, size)))


def clouds(random: np.random.Generator, size: int) -> np.ndarray:
    """Draws a few slow waves of any direction, [size, size], standard deviation about 1."""
    waves = 4
    places = np.arange(size) / size
    frequency = random.uniform(-1.5, 1.5, (2, waves, 1))
    down = np.exp(2j * math.pi * (frequency[0] * places + random.uniform(0, 1, (waves, 1))))
    along = np.exp(2j * math.pi * frequency[1] * places)
    return (down.T @ along).real * (2 / waves) ** 0.5
