"""The selectivity of conv1's kernels for color and orientation, by column.

In §6.1, Figure 3, "the kernels on GPU 1 are largely color-agnostic, while the kernels on GPU 2
are largely color-specific".

Both indices are fractions, from 0 to 1, of a kernel's energy, the sum of its squared weights. For a
kernel of zeros they are NaN.
"""

import dataclasses

import chex
import numpy as np

PERMUTATIONS = 9999


def color_index(kernels: np.ndarray) -> np.ndarray:
    """Returns the fraction of a kernel's energy without response to gray images.

    [..., side, side, 3] -> [...]. It is the energy of the weights after their mean over the
    channels is subtracted. 0: gray; 1: the sum over the channels is 0 everywhere, so that equal R,
    G and B have no effect; about 2/3: random weights.
    """
    _assert_kernels(kernels)
    energy = (kernels**2).sum(axis=(-3, -2, -1))
    gray = 3 * (kernels.mean(axis=-1) ** 2).sum(axis=(-2, -1))
    return _share(energy - gray, energy)


def orientation_index(kernels: np.ndarray) -> np.ndarray:
    """Returns the fraction of a kernel's energy with a common orientation.

    [..., side, side, 3] -> [...]: |Σ p(f) exp(2iθ(f))| / Σ p(f) over the frequencies f of the
    kernel's Fourier transform, θ the direction of f, p its power in all channels; the constant part
    has no direction and is only in the denominator. 1: a grating; 0: a blob, or two gratings at
    right angles.
    """
    _assert_kernels(kernels)
    kernels = np.asarray(kernels, np.float64)
    side = kernels.shape[-2]
    power = (np.abs(np.fft.fft2(kernels, axes=(-3, -2))) ** 2).sum(axis=-1)
    frequency = np.fft.fftfreq(side)
    down, along = np.meshgrid(frequency, frequency, indexing='ij')
    turn = np.exp(2j * np.arctan2(down, along))
    # For an even side the sign of the highest frequency is ambiguous, and so is its direction.
    highest = np.abs(down) == 0.5, np.abs(along) == 0.5
    turn[(highest[0] & (along != 0)) | (highest[1] & (down != 0))] = 0
    turn[0, 0] = 0
    alike = np.abs((power * turn).sum(axis=(-2, -1)))
    return _share(alike, power.sum(axis=(-2, -1)))


def _assert_kernels(kernels: np.ndarray) -> None:
    """Checks the shape, [..., side, side, 3]: other axes would result in a wrong index."""
    side = np.shape(kernels)[-2] if np.ndim(kernels) > 1 else None
    chex.assert_shape(kernels, (..., side, side, 3))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    some = whole > 0
    return np.where(some, np.clip(part / np.where(some, whole, 1), 0, 1), np.nan)


@dataclasses.dataclass(frozen=True)
class Separation:
    """Difference of two columns' means of an index.

    difference: second column's mean − first's.
    by_chance: mean absolute difference with kernels assigned to columns at random.
    p: fraction of random assignments with a difference at least as large.
    """

    means: tuple[float, float]
    difference: float
    by_chance: float
    p: float


def separation(
    first: np.ndarray, second: np.ndarray, permutations: int = PERMUTATIONS, seed: int = 0
) -> Separation:
    """Compares an index of two columns' kernels with a permutation null.

    The null hypothesis is that the index does not depend on a kernel's column: random assignments
    then have similar differences. Kernels without an index are skipped; the result is NaN if a
    column has none.
    """
    first, second = first[~np.isnan(first)], second[~np.isnan(second)]
    if not len(first) or not len(second):
        return Separation((np.nan, np.nan), np.nan, np.nan, np.nan)
    random = np.random.default_rng(seed)
    every, count = np.concatenate([first, second]), len(first)
    dealt = random.permuted(np.tile(every, (permutations, 1)), axis=1)
    others = np.abs(dealt[:, count:].mean(axis=1) - dealt[:, :count].mean(axis=1))
    difference = float(second.mean() - first.mean())
    # The actual assignment counts as one of them; differences equal up to rounding are ties.
    as_large = others >= abs(difference) - 1e-12
    p = (1 + int(as_large.sum())) / (1 + permutations)
    means = float(first.mean()), float(second.mean())
    return Separation(means, difference, float(others.mean()), p)
