"""Weights, images and numbers by which our nets are compared with PyTorch's.

    python -m tests.network.parity

writes golden.npz anew from the nets of `torch_nets.py`; `test_parity.py` compares
with it where PyTorch is not installed. Run it if the weights, images or nets change;
never to make a test pass.
"""

from pathlib import Path

import flax.linen as nn
import jax
import numpy as np

from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.architectures import ARCHITECTURES, architecture
from alexnet_jax.network.layers import ACTIVATIONS, Architecture, Dropout
from alexnet_jax.network.variants import with_stages

GOLDEN = Path(__file__).with_name('golden.npz')
CLASSES, BATCH = 100, 2
PIXEL = 63.0  # the images' standard deviation

# A net's name, and after a space what is changed in it.
CASES = (
    *ARCHITECTURES,
    'batchnorm227 training',
    *(f'four_layer {name}' for name in ACTIVATIONS if name != 'relu'),
)


def table(case: str, width: float) -> Architecture:
    """Our table of a case. In training a net would drop units too: none are left to."""
    name, _, change = case.partition(' ')
    if change != 'training':
        return architecture(name, width=width, activation=change)
    return with_stages(
        architecture(name, width=width), name,
        lambda stage: None if isinstance(stage, Dropout) else stage,
    )  # fmt: skip


def quarter(case: str) -> Architecture:
    """A quarter of the width, for nets that take long at the whole of it."""
    return table(case, 0.25 if table(case, 1).input_size > 100 else 1)


def variables(net: Architecture, seed: int) -> dict[str, dict]:
    """Weights and moving statistics in the shapes of our net, drawn by NumPy's
    RandomState, whose numbers stay what they are for ever."""
    module = AlexNet(net, CLASSES)
    images = np.zeros((1, net.input_size, net.input_size, 3), np.float32)
    shapes = nn.unbox(jax.eval_shape(module.init, jax.random.key(0), images))
    random = np.random.RandomState(seed)
    # Tens in the first layer's sums, or its normalisation would change nothing to
    # be seen; ones where an activation or moving statistics need them.
    size = 1 if net.name in ('four_layer', 'batchnorm227') else 30

    def draw(path, like):
        layer, part = (key.key for key in path[-2:])
        noise = random.standard_normal(like.shape)
        if part != 'kernel':
            return {'bias': 0, 'scale': 1, 'mean': 0.5, 'var': 1.5}[part] + 0.2 * noise
        inputs = np.prod(like.shape[1:-1])
        if layer == net.layers[0].name:
            return noise * size / PIXEL / inputs**0.5
        if layer == net.output.name:
            return noise * 2 / size / (inputs * net.columns) ** 0.5
        return noise * (2 / inputs) ** 0.5

    drawn = jax.tree_util.tree_map_with_path(
        lambda path, like: draw(path, like).astype(np.float32), shapes
    )
    return {'params': drawn['params'], 'batch_stats': drawn.get('batch_stats', {})}


def images_and_labels(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Blocks of 8 pixels and noise: neighbouring places are alike, as in pictures."""
    random = np.random.RandomState(2013)
    coarse = random.normal(0, 60, (BATCH, -(-size // 8), -(-size // 8), 3))
    coarse = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :size, :size]
    images = coarse + random.normal(0, 20, coarse.shape)
    return images.astype(np.float32), random.randint(0, CLASSES, BATCH)


def digest(values: np.ndarray) -> np.ndarray:
    """A gradient in 17 numbers: its share along 16 directions, then its norm.

    Of every direction's 0, 1 and −1 each place has its ±1 in one, by chance. Two
    arrays' digests are on average as far apart as they are, so that a tolerance
    relative to the norm means the same for both.
    """
    flat = np.asarray(values, np.float64).ravel()
    places = np.random.RandomState(flat.size).randint(0, 32, flat.size)
    sums = np.bincount(places, flat, minlength=32)
    return np.append(sums[:16] - sums[16:], np.linalg.norm(flat))


def apart(results: dict, reference: dict) -> dict[str, float]:
    """By name, how far results are from the reference, relative to the reference's norm."""
    pairs = {name: (results[name], reference[name]) for name in results.keys() | reference.keys()}
    return {
        name: float(np.linalg.norm(np.subtract(ours, theirs, dtype=np.float64)) / np.linalg.norm(theirs))
        for name, (ours, theirs) in pairs.items()
    }


def moved(tree: dict, random: np.random.RandomState) -> dict:
    """Weights in float64, each moved by some thirty times what float32 rounds off."""
    return jax.tree.map(lambda x: x * (1 + 2e-6 * random.standard_normal(x.shape)), tree)


def smooth_seed(case: str, net: Architecture, torch_results) -> int:
    """The first seed whose gradient does not jump where rounding may push it.

    A unit within rounding errors of its ReLU's corner, or two that close in one
    pooling window, send the gradient one way on this processor and another way on
    that: one in a hundred thousand units moves it by a hundredth.
    """
    images, labels = images_and_labels(net.input_size)
    random = np.random.RandomState(2014)
    for seed in range(100):
        weights = variables(net, seed)
        reference = torch_results(case, weights, images, labels)
        if all(
            max(apart(torch_results(case, moved(weights, random), images, labels), reference).values()) < 5e-5
            for _ in range(8)
        ):
            return seed
    raise AssertionError(case)


def write_golden() -> None:
    from tests.network.torch_nets import results
    ...
