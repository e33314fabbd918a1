"""Gradient ascent, beside one of a linear net in NumPy with Fourier matrices, and the best image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.evaluation import activation_maximization as ascent

SIZE, UNITS = 32, np.array([2, 0])


def linear(weights):
    """(images) -> (logits, {'maps': [batch, 1, 1, units], 'units': [batch, units]})."""

    def net(images):
        values = jnp.einsum('bijc,ijcu->bu', images, weights)
        return values, {'units': values, 'maps': values[:, None, None]}

    return net


def ascended(net, state, steps, layer='units', units=UNITS, seed=0):
    step = jax.jit(lambda state, shift: ascent.ascend(net, state, layer, units, shift)[0])
    for shift in ascent.shifts(state.mean.shape[0], steps, seed):
        state = step(state, shift)
    return state


def by_hand(weights, mean, coefficients, shifts):
    """Returns the pixels after a step a shift, [units, SIZE, SIZE, 3]: float64, Fourier transforms
    as matrices, Adam as its paper has it (arXiv:1412.6980, algorithm 1)."""
    index = np.arange(SIZE)
    fourier = np.exp(-2j * np.pi * np.outer(index, index) / SIZE)
    cycles = np.minimum(index, SIZE - index) / SIZE
    scale = 1 / np.maximum(np.hypot(cycles[:, None], cycles), 1 / SIZE)
    scale /= np.sqrt(np.mean(scale**2))
    colors = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
    colors = colors.astype(np.float32) / np.sqrt(0.27**2 + 0.09**2 + 0.03**2)

    def filtered(x):  # the filter is real and even: it is its own transpose
        spectrum = np.einsum('ai,bj,nijc->nabc', fourier, fourier, x) * scale[None, :, :, None]
        back = np.einsum('ai,bj,nabc->nijc', fourier.conj(), fourier.conj(), spectrum)
        return back.real / SIZE**2

    def pixels(z):
        share = np.clip(mean, 1, 254) / 255
        logits = np.log(share / (1 - share)) + filtered(z) @ colors.T
        return 255 / (1 + np.exp(-logits))

    z, first, second = np.array(coefficients), 0.0, 0.0
    for number, shift in enumerate(shifts, start=1):
        x = pixels(z)
        # Shifted images meet the weights: the weights shifted back meet the images.
        slope = np.stack([np.roll(weights[..., u], (-shift[0], -shift[1]), (0, 1)) for u in UNITS])
        slope = filtered((slope * x * (255 - x) / 255) @ colors)
        first, second = 0.9 * first - 0.1 * slope, 0.999 * second + 0.001 * slope**2
        z = z - 0.05 * (first / (1 - 0.9**number)) / (np.sqrt(second / (1 - 0.999**number)) + 1e-8)
    return pixels(z)


def test_steps_on_a_linear_net_are_those_of_numpy(x64, random):
    weights = random.normal(size=(SIZE, SIZE, 3, 3))
    mean = random.uniform(0, 255, (SIZE, SIZE, 3))
    state = ascent.start(mean, SIZE, UNITS, seed=3)
    shifts = [(0, 0), (1, -2), (-1, 2), (2, 0)]
    expected = by_hand(weights, mean, state.coefficients, shifts)
    net, reached = linear(weights), []
    step = jax.jit(lambda state, shift: ascent.ascend(net, state, 'units', UNITS, shift))
    last = state
    for shift in shifts:
        last, values = step(last, np.array(shift))
        reached.append(np.asarray(values))
    found = ascent.pixels(last)
    shifted = np.roll(by_hand(weights, mean, state.coefficients, shifts[:3]), shifts[3], (1, 2))
    sums = np.einsum('nijc,ijcn->n', shifted, weights[..., UNITS])
    np.testing.assert_allclose(reached[3], sums, rtol=1e-6)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)  # colors are float32
    assert np.abs(expected - by_hand(weights, mean, state.coefficients, [])).max() > 5


def test_the_best_image_of_a_linear_net_is_reached():
    """It is 255 where the weight is above 0, else 0. Weights are smooth and gray, to which the ascent
    is held."""
    waves = np.cos(2 * np.pi * (np.arange(8) + 0.3) / 8)
    by_unit = np.stack([waves[:, None] + 0 * waves, 0 * waves[:, None] + waves], axis=-1)
    weights = np.repeat(by_unit[:, :, None], 3, axis=2).astype(np.float32)
    units = np.array([1, 0])
    state = ascent.start(np.float32([120, 110, 100]), 8, units, seed=0)
    images = np.asarray(ascent.pixels(ascended(linear(weights), state, 400, units=units)))
    for image, unit in zip(images, units, strict=True):
        best = np.where(weights[..., unit] > 0, 255, 0)
        np.testing.assert_allclose(image, best, rtol=0, atol=5)


@pytest.mark.parametrize('layer', ['units', 'maps'])
def test_each_image_raises_its_own_unit_within_the_range_of_pixels(layer, random):
    net = linear(random.normal(size=(SIZE, SIZE, 3, 3)).astype(np.float32))
    first = ascent.start(np.full(3, 128, np.float32), SIZE, UNITS, seed=0)
    last = ascended(net, first, 30, layer)
    images = np.asarray(ascent.pixels(last))
    assert images.min() >= 0 and images.max() <= 255 and np.ptp(images) > 100
    before, after = (np.asarray(net(ascent.pixels(state))[0]) for state in (first, last))
    rise = (after - before)[:, UNITS]
    assert (np.diag(rise) > 1000).all()
    assert (np.diag(rise) > 3 * np.abs(rise[[0, 1], [1, 0]])).all()
    reached = ascent.values(net, images, layer, UNITS)
    np.testing.assert_allclose(reached, np.diag(after[:, UNITS]), rtol=1e-4)


def test_a_unit_s_value_is_the_largest_of_its_map():
    maps = np.arange(24.0, dtype=np.float32).reshape(2, 2, 2, 3) % 7
    values = ascent.values(
        lambda images: (images, {'maps': jnp.asarray(maps)}), np.zeros((2, 8, 8, 3)), 'maps', UNITS
    )
    assert values.tolist() == [max(maps[0, ..., 2].ravel()), max(maps[1, ..., 0].ravel())]


def test_the_seed_alone_decides(random):
    net = linear(random.normal(size=(SIZE, SIZE, 3, 3)).astype(np.float32))
    mean = np.full((SIZE, SIZE, 3), 50, np.float32)
    once, again, other = (
        np.asarray(
            ascent.pixels(ascended(net, ascent.start(mean, SIZE, UNITS, seed), 5, seed=seed))
        )
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(once, again)
    assert np.abs(once - other).max() > 1
    alone = ascent.start(mean, SIZE, UNITS[1:], seed=1).coefficients
    both = ascent.start(mean, SIZE, UNITS, seed=1).coefficients
    np.testing.assert_array_equal(alone[0], both[1])
    assert (both[0] != both[1]).all()


def test_first_images_are_the_mean_and_a_little_noise():
    mean = np.linspace(20, 235, SIZE * SIZE * 3, dtype=np.float32).reshape(SIZE, SIZE, 3)
    away = np.asarray(ascent.pixels(ascent.start(mean, SIZE, np.arange(4), 0))) - mean
    assert 1 < np.abs(away).mean() < 8 and np.abs(away).max() < 40


def test_shifts_reach_a_sixteenth_of_the_side():
    found = ascent.shifts(64, 200, seed=1)
    assert found.shape == (200, 2) and np.unique(found).tolist() == list(range(-4, 5))
    np.testing.assert_array_equal(found, ascent.shifts(64, 200, seed=1))
    assert (found != ascent.shifts(64, 200, seed=2)).any() and not ascent.shifts(15, 9, 0).any()


def test_an_unknown_layer_is_refused():
    net = linear(np.zeros((SIZE, SIZE, 3, 3), np.float32))
    with pytest.raises(ValueError, match='layer'):
        ascent.ascend(
            net, ascent.start(np.zeros(3), SIZE, UNITS, 0), 'conv', UNITS, np.zeros(2, int)
        )
