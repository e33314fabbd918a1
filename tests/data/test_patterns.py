"""Made-up patterns: what they differ in, and what not."""

import numpy as np

from alexnet_jax.data.patterns import CLASSES, EXAMPLES, ORIENTATIONS, patterns_set
from alexnet_jax.evaluation.selectivity import color_index, orientation_index

IMAGES = patterns_set(32)
TRAIN = IMAGES.splits['train']


def read(label: int, count: int = 24) -> np.ndarray:
    rows = range(label, label + count * len(CLASSES), len(CLASSES))
    records = [TRAIN.read(row) for row in rows]
    assert {record.label for record in records} == {label}
    return np.stack([record.image for record in records]).astype(np.float64)


def test_splits_and_labels():
    assert {name: len(split) for name, split in IMAGES.splits.items()} == EXAMPLES
    assert len(IMAGES.classes) == len(set(IMAGES.classes)) == 16
    assert not IMAGES.mirror
    np.testing.assert_array_equal(
        TRAIN.read(5).image, patterns_set(32).splits['train'].read(5).image
    )
    assert (TRAIN.read(0).image != IMAGES.splits['val'].read(0).image).any()


def test_gratings_are_gray_and_of_their_orientation():
    for label in range(ORIENTATIONS):
        images = read(label)
        assert (images[..., 0] == images[..., 1]).all() and (images[..., 0] == images[..., 2]).all()
        power = np.abs(np.fft.fft2((images - images.mean(axis=(1, 2), keepdims=True))[..., 0])) ** 2
        frequency = np.fft.fftfreq(32)
        down, along = np.meshgrid(frequency, frequency, indexing='ij')
        fast = np.hypot(down, along) > 0.1
        doubled = (power * fast * np.exp(2j * np.arctan2(down, along))).sum()
        # Stripes at an angle, anticlockwise on a screen whose y points down, vary at right angles to it.
        across = np.degrees(np.angle(doubled)) / 2
        assert abs((90 - across - 180 * label / ORIENTATIONS + 90) % 180 - 90) < 4, label


def test_patches_differ_in_hue_alone():
    """Gray alone does not tell them: R + G + B has no trace of the patch."""
    hues = []
    for label in range(ORIENTATIONS, len(CLASSES)):
        images = read(label)
        gray = images.mean(axis=-1)
        color = images - gray[..., None]
        assert np.abs(color).mean() > 5
        assert abs(gray.mean() - 128) < 2 and 7 < gray.std() < 14
        mean = color.mean(axis=(0, 1, 2))
        hues.append(
            np.degrees(np.arctan2((mean[1] - mean[2]) * 3**0.5, 2 * mean[0] - mean[1] - mean[2]))
        )
    expected = 45 * np.arange(8)
    off = (np.array(hues) - expected + 180) % 360 - 180
    assert np.abs(off).max() < 4


def test_kernels_would_need_color_for_the_one_and_orientation_for_the_other():
    def centered(images):
        return images - images.mean(axis=(1, 2, 3), keepdims=True)

    gratings, patches = (
        centered(np.concatenate([read(first + i, 4) for i in range(8)])) for first in (0, 8)
    )
    assert color_index(gratings).max() < 1e-9 and color_index(patches).mean() > 0.5
    assert orientation_index(gratings).mean() > 2 * orientation_index(patches).mean()
