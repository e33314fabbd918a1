"""Indices of kernels that were made to have them, and the null that columns are held against."""

import itertools
import math

import numpy as np
import pytest

from alexnet_jax.evaluation.kernels import first_kernels
from alexnet_jax.evaluation.selectivity import color_index, orientation_index, separation
from alexnet_jax.evaluation.similarity import cka
from alexnet_jax.evaluation.tally import places_of

RED_GREEN, GRAY = np.array([1.0, -1.0, 0.0]), np.ones(3)


def grating(side: int, down: int, along: int, channels: np.ndarray) -> np.ndarray:
    """A whole number of waves in either direction."""
    y, x = np.mgrid[:side, :side]
    wave = np.sin(2 * math.pi * (down * y + along * x) / side + 0.4)
    return wave[:, :, None] * channels


@pytest.mark.parametrize('side', [5, 9, 11])
@pytest.mark.parametrize(('down', 'along'), [(0, 1), (1, 0), (1, 1), (2, -1), (1, 2)])
def test_gratings(side, down, along):
    gray, colored = (grating(side, down, along, channels) for channels in (GRAY, RED_GREEN))
    assert color_index(gray) == pytest.approx(0, abs=1e-12)
    assert color_index(colored) == pytest.approx(1)
    assert orientation_index(gray) == pytest.approx(1)
    assert orientation_index(colored) == pytest.approx(1)


def test_what_lies_between():
    """By hand: of red alone a third of the energy is gray; energies of parts that share no
    frequency add up."""
    assert color_index(grating(9, 1, 2, np.array([1.0, 0, 0]))) == pytest.approx(2 / 3)
    half = grating(9, 1, 2, GRAY / 3**0.5) + grating(9, 2, 0, RED_GREEN / 2**0.5)
    assert color_index(half) == pytest.approx(0.5)
    crossed = grating(9, 0, 2, GRAY) + grating(9, 2, 0, GRAY)
    assert orientation_index(crossed) == pytest.approx(0, abs=1e-12)
    # Two of one strength at 45°, a fourth of a turn of twice the angle: |1 + i| / 2.
    slanted = grating(9, 0, 2, GRAY) + grating(9, 2, 2, GRAY)
    assert orientation_index(slanted) == pytest.approx(math.sqrt(0.5))
    # A constant with as much energy as the grating: half of it has no orientation.
    level = np.full((9, 9, 3), math.sqrt((grating(9, 1, 1, GRAY) ** 2).mean()))
    assert orientation_index(grating(9, 1, 1, GRAY) + level) == pytest.approx(0.5)
    assert orientation_index(np.ones((9, 9, 3))) == pytest.approx(0, abs=1e-12)


def test_size_does_not_count_and_nothing_has_no_index(random):
    kernels = random.normal(size=(4, 7, 7, 3))
    for index in (color_index, orientation_index):
        np.testing.assert_allclose(index(1e-4 * kernels), index(kernels))
        assert np.isnan(index(np.zeros((7, 7, 3))))
        assert ((index(kernels) >= 0) & (index(kernels) <= 1)).all()
    assert color_index(random.normal(size=(4000, 5, 5, 3))).mean() == pytest.approx(2 / 3, abs=0.01)


def test_turned_by_a_right_angle_or_in_other_colors_a_kernel_has_the_same_orientation_index(random):
    kernels = random.normal(size=(20, 11, 11, 3))
    turned = np.rot90(kernels, axes=(1, 2))
    np.testing.assert_allclose(orientation_index(turned), orientation_index(kernels))
    np.testing.assert_allclose(orientation_index(kernels[..., ::-1]), orientation_index(kernels))


def test_an_even_side():
    """Of the highest frequency the direction is not known; of the others it is."""
    assert orientation_index(grating(8, 1, 2, GRAY)) == pytest.approx(1)
    y, x = np.mgrid[:8, :8]
    assert orientation_index(((-1.0) ** x)[:, :, None] * GRAY) == pytest.approx(1)
    doubtful = ((-1.0) ** x * np.cos(2 * math.pi * y / 8))[:, :, None] * GRAY
    assert orientation_index(doubtful) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize('call', [
    lambda: color_index(np.ones((8, 3, 7, 7))),  # channels first
    lambda: orientation_index(np.ones((8, 7, 7, 1))),
    lambda: orientation_index(np.ones((8, 7, 5, 3))),  # no squares
    lambda: orientation_index(np.ones(3)),
    lambda: first_kernels(np.ones((11, 11, 3, 48))),  # without columns
    lambda: cka(np.eye(5), np.ones((5, 1))),  # NumPy would repeat the column
    lambda: places_of(np.ones((4, 10)), np.zeros(1, int)),  # and the label
    lambda: places_of(np.ones(10), np.zeros(10, int)),
])  # fmt: skip
def test_arrays_of_another_shape_are_refused(call):
    with pytest.raises(AssertionError, match=r'shape|rank'):
        call()


def test_separation_against_all_deals(random):
    first, second = random.random(4), random.random(4) + 0.3
    every = np.concatenate([first, second])
    differences = [
        abs(every[list(chosen)].mean() - np.delete(every, chosen).mean())
        for chosen in itertools.combinations(range(8), 4)
    ]
    found = separation(first, second, permutations=20_000)
    assert found.difference == pytest.approx(second.mean() - first.mean())
    assert found.means == pytest.approx((first.mean(), second.mean()))
    assert found.by_chance == pytest.approx(np.mean(differences), rel=0.02)
    exact = np.mean(np.array(differences) >= abs(found.difference) - 1e-12)
    assert found.p == pytest.approx(exact, abs=0.01)


def test_the_null_is_calibrated(random):
    """1,000 nets whose columns are drawn alike, from a skewed distribution: of them 5 % are found
    apart at p < 0.05, within three standard deviations."""
    values = random.gamma(1.0, size=(1000, 2, 16))
    found = [separation(*pair, permutations=999, seed=i).p for i, pair in enumerate(values)]
    assert np.mean(np.array(found) < 0.05) == pytest.approx(
        0.05, abs=3 * math.sqrt(0.05 * 0.95 / 1000)
    )
    assert np.mean(found) == pytest.approx(0.5, abs=0.03)


def test_columns_that_share_the_work_are_told_apart(random):
    assert separation(random.uniform(0, 0.5, 16), random.uniform(0.5, 1, 16)).p < 0.001
    same = np.full(8, 0.3)
    assert separation(same, same).p == 1


def test_kernels_without_an_index_are_left_out():
    first, second = np.array([0.1, np.nan, 0.3]), np.array([0.5, 0.7, np.nan])
    assert separation(first, second).difference == pytest.approx(0.4)
    assert math.isnan(separation(first, np.full(3, np.nan)).p)
