"""The selectivity of conv1's kernels for color and orientation, by column.

In §6.1, Figure 3, "the kernels on GPU 1 are largely color-agnostic, while the kernels on GPU 2
are largely color-specific".

Both indices are shares of a kernel's energy, the sum of its squared weights: from 0 to 1,
whatever its size. A kernel of zeros has none: NaN.
"""

import dataclasses

import chex
import numpy as np

PERMUTATIONS = 9999


def color_index(kernels: np.ndarray) -> np.ndarray:
    """Returns the share of a kernel's energy that a gray image cannot reach.

    [..., side, side, 3] -> [...]. It is the energy of the weights after their mean over the
    channels is subtracted. 0: gray; 1: the channels add up to nothing everywhere, so that equal
    R, G and B do not drive it; about 2/3: random weights.
    """
    _assert_kernels(kernels)
    energy = (kernels**2).sum(axis=(-3, -2, -1))
    gray = 3 * (kernels.mean(axis=-1) ** 2).sum(axis=(-2, -1))
    return _share(energy - gray, energy)


def orientation_index(kernels: np.ndarray) -> np.ndarray:
    """Returns the share of a kernel's energy that has one orientation in common.

    [..., side, side, 3] -> [...]: |Σ p(f) exp(2iθ(f))| / Σ p(f) over the frequencies f of the
    kernel's Fourier transform, θ the direction of f, p its power in all channels; the constant
    part has no direction and counts below the bar alone. 1: a grating; 0: a blob, or two gratings
    at right angles.
    """
    _assert_kernels(kernels)
    kernels = np.asarray(kernels, np.float64)
    side = kernels.shape[-2]
    power = (np.abs(np.fft.fft2(kernels, axes=(-3, -2))) ** 2).sum(axis=-1)
    frequency = np.fft.fftfreq(side)
    down, along = np.meshgrid(frequency, frequency, indexing='ij')
    turn = np.exp(2j * np.arctan2(down, along))
    # Of the highest frequency of an even side the sign is not known, nor then the direction.
    highest = np.abs(down) == 0.5, np.abs(along) == 0.5
    turn[(highest[0] & (along != 0)) | (highest[1] & (down != 0))] = 0
    turn[0, 0] = 0
    alike = np.abs((power * turn).sum(axis=(-2, -1)))
    return _share(alike, power.sum(axis=(-2, -1)))


def _assert_kernels(kernels: np.ndarray) -> None:
    """Checks the shape, [..., side, side, 3]: other axes would give an index too, a wrong one."""
    side = np.shape(kernels)[-2] if np.ndim(kernels) > 1 else None
    chex.assert_shape(kernels, (..., side, side, 3))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    some = whole > 0
    return np.where(some, np.clip(part / np.where(some, whole, 1), 0, 1), np.nan)


@dataclasses.dataclass(frozen=True)
class Separation:
    """How far apart two columns' means of an index lie.

    difference: of the second column's mean from the first's.
    by_chance: mean absolute difference where the kernels are dealt to columns at random.
    p: how often such a difference is as large, as a fraction.
    """

    means: tuple[float, float]
    difference: float
    by_chance: float
    p: float


def separation(
    first: np.ndarray, second: np.ndarray, permutations: int = PERMUTATIONS, seed: int = 0
) -> Separation:
    """Compares an index of two columns' kernels with a permutation null.

    If which column a kernel is in did not matter, dealing them anew would not change the
    difference. Kernels without an index are left out; NaNs if a column has none left.
    """
    first, second = first[~np.isnan(first)], second[~np.isnan(second)]
    if not len(first) or not len(second):
        return Separation((np.nan, np.nan), np.nan, np.nan, np.nan)
    random = np.random.default_rng(seed)
    every, count = np.concatenate([first, second]), len(first)
    dealt = random.permuted(np.tile(every, (permutations, 1)), axis=1)
    others = np.abs(dealt[:, count:].mean(axis=1) - dealt[:, :count].mean(axis=1))
    difference = float(second.mean() - first.mean())
    # Itself is one of the ways to deal them; differences that rounding alone keeps apart are equal.
    as_large = others >= abs(difference) - 1e-12
    p = (1 + int(as_large.sum())) / (1 + permutations)
    means = float(first.mean()), float(second.mean())
    return Separation(means, difference, float(others.mean()), p)
