"""Images that maximize units of a net, by gradient ascent.

See Erhan, Bengio, Courville, Vincent 2009, and Simonyan, Vedaldi, Zisserman 2013
(arXiv:1312.6034, §2).

Pixels are computed from coefficients z of the images' shape:

    pixels = 255 · sigmoid(logit(mean / 255) + C · F⁻¹(s · F(z))),    s = 1 / max(f, 1 / size)

where F is the Fourier transform over both axes, f the frequency in cycles a pixel and C a square root
of the covariance of natural colors. Natural images have amplitudes of about 1 / f, and ascent in z
keeps these amplitudes, whereas ascent in pixels ends in high frequencies and unnatural colors
(Olah, Mordvintsev, Schubert 2017, doi 10.23915/distill.00007). In every step the images are shifted
cyclically by a few random pixels, so that no structure depends on its exact position.

Pure functions of a net `images -> (logits, activations)`, such as a `Model`, whose images are on the
scale of 0 to 255.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from alexnet_jax.network import checks

Array = jax.Array | np.ndarray
Net = Callable[..., tuple[jax.Array, dict[str, jax.Array]]]
NOISE = 0.1  # standard deviation of the first coefficients
RATE = 0.05  # learning rate of Adam
JITTER = 16  # images are shifted by up to their side over this
# C, as in Lucid for ImageNet (tensorflow/lucid, lucid/optvis/param/color.py): red, green and blue
# of brightness and of two differences of colors.
COLORS = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]], np.float32)
DARKEST = 1.0  # minimum distance of the mean from 0 and 255, whose logits are infinite


class State(NamedTuple):
    """An ascent after some steps.

    mean: [size, size, 3]. coefficients: z, [units, size, size, 3]. optimizer: the state of Adam.
    """

    mean: Array
    coefficients: Array
    optimizer: Any


def start(mean: Array, size: int, units: Sequence[int], seed: int) -> State:
    """Returns an ascent before its first step: the training mean and a little noise.

    The noise of a unit does not depend on the other units.

    Args:
      mean: [3] or [size, size, 3], from 0 to 255; its type is that of the ascent.
    """
    mean = np.broadcast_to(np.asarray(mean), (size, size, 3))
    noise = [np.random.default_rng([seed, unit]).normal(0, NOISE, mean.shape) for unit in units]
    coefficients = np.stack(noise).astype(mean.dtype)
    return State(mean, coefficients, _adam().init(coefficients))


def shifts(size: int, steps: int, seed: int) -> np.ndarray:
    """Returns by how many rows and columns the images are shifted in each step, [steps, 2]."""
    reach = size // JITTER
    return np.random.default_rng(seed).integers(-reach, reach + 1, (steps, 2))


def ascend(
    net: Net, state: State, layer: str, units: Array, shift: Array
) -> tuple[State, jax.Array]:
    """Returns the ascent one step further, and the `values` of its images before the step, shifted.

    Compile it and call it in a Python loop: in an XLA loop on CPU, convolutions take eight times as
    long.

    Args:
      units: integer [units]. shift: a row of `shifts`; zeros for the values of the images.

    Raises:
      ValueError: the net has no activation `layer`.
    """

    def score(coefficients: Array) -> tuple[jax.Array, jax.Array]:
        images = pixels(state._replace(coefficients=coefficients))
        found = values(net, jnp.roll(images, shift, axis=(1, 2)), layer, units)
        return found.sum(), found

    slopes, found = jax.grad(score, has_aux=True)(state.coefficients)
    updates, optimizer = _adam().update(-slopes, state.optimizer)
    coefficients = jnp.asarray(optax.apply_updates(state.coefficients, updates))
    return State(state.mean, coefficients, optimizer), found


def values(net: Net, images: Array, layer: str, units: Array) -> jax.Array:
    """Returns the value of unit i for image i, [units]: the largest of its map.

    Args:
      images: [units, size, size, 3]. layer: an activation's name. units: integer [units].

    Raises:
      ValueError: the net has no such activation.
    """
    activations = net(images)[1]
    checks.require_one_of('layer', layer, activations)
    found = activations[layer]
    largest = found.reshape(len(found), -1, found.shape[-1]).max(axis=1)
    return jnp.take_along_axis(largest, jnp.asarray(units)[:, None], axis=1)[:, 0]


def pixels(state: State) -> jax.Array:
    """Returns the images of an ascent, [units, size, size, 3], between 0 and 255."""
    share = jnp.clip(state.mean, DARKEST, 255 - DARKEST) / 255
    return 255 * jax.nn.sigmoid(jnp.log(share / (1 - share)) + smoothed(state.coefficients))


def smoothed(coefficients: Array) -> jax.Array:
    """Returns C · F⁻¹(s · F(z)), [units, size, size, 3].

    s is scaled so that noise keeps its variance, and C so that the variance of no color grows.
    """
    size = coefficients.shape[1]
    whole = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size))
    factors = 1 / np.maximum(whole, 1 / size)
    factors /= np.sqrt((factors**2).mean())
    spectrum = jnp.fft.rfft2(coefficients, axes=(1, 2))
    spectrum *= jnp.asarray(factors[None, :, : size // 2 + 1, None], coefficients.dtype)
    colors = COLORS / np.linalg.norm(COLORS, axis=1).max()
    smooth = jnp.fft.irfft2(spectrum, s=(size, size), axes=(1, 2))
    return smooth @ jnp.asarray(colors.T, smooth.dtype)


def _adam() -> optax.GradientTransformation:
    return optax.adam(RATE)
