"""Weights, images and numbers by which our nets are compared with PyTorch's.

    python -m tests.network.parity

writes golden.npz anew from the nets of `torch_nets.py`, in a minute;
`test_parity.py` compares with it where PyTorch is not installed. Run it if the
weights, images or nets change; never to make a test pass.

Results go by name: `logits`, `conv1/kernel` for the mean cross-entropy's gradient
to that parameter, `conv1_norm/mean` for a moving statistic after the step.
"""

from collections.abc import Mapping
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
PIXEL_STD = 63.0
ROUNDING = 1e-6  # relative; of weights, it moves a net's sums more than float32's does

# Compiling is what takes time: with little optimization less than half of it. At full
# width all is compiled as in training.
QUICK = {'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True}

# A net's name, and after a space what is changed in it.
CASES = (
    *ARCHITECTURES,
    'batchnorm227 training',
    'alexnet_bn training',
    *(f'four_layer {name}' for name in ACTIVATIONS if name != 'relu'),
)


# At full width, for the cases that are reduced otherwise. A net added here gets
# `smooth_seed(case, table(case, 1))`, which takes minutes.
# With batch statistics nearly every seed has a unit at a corner: 21, the first that passed, jumped
# when they were rounded otherwise (1.8e-4; fully connected layers 3e-5); 38 withstood more draws.
FULL_WIDTH_SEEDS = {
    'paper': 3, 'paper_lrn_across': 0, 'krizhevsky2012': 0, 'half': 1, 'no_lrn': 0,
    'non_overlapping': 0, 'no_communication': 0, 'six_conv': 0, 'no_conv4': 0, 'no_dropout': 0,
    'one_column': 7, 'paper_no_dropout': 3, 'paper_one_column': 3, 'conv5_192_std03': 0,
    'caffe': 2, 'caffenet': 20, 'torchvision': 2, 'one_weird_trick': 3, 'batchnorm227': 1,
    'one_tower': 3, 'conv5_192': 0, 'batchnorm227 training': 38, 'alexnet_bn': 3,
    'alexnet_bn training': 22,
    'paper_half': 2, 'paper_no_lrn': 0, 'paper_non_overlapping': 9, 'paper_no_communication': 3,
    'paper_six_conv': 0, 'paper_no_conv4': 0,
}  # fmt: skip


def table(case: str, width: float) -> Architecture:
    """Our table of a case. No unit drops out while training, or nothing could be compared."""
    name, _, change = case.partition(' ')
    if change == 'training':
        return with_stages(
            architecture(name, width=width),
            name,
            lambda stage: None if isinstance(stage, Dropout) else stage,
        )
    return architecture(name, width=width, activation=change)


def reduced(case: str) -> Architecture:
    """At a quarter of its width, if it is one for photographs."""
    return table(case, 0.25 if table(case, 1).input_size > 100 else 1)


def variables(net: Architecture, seed: int) -> dict[str, dict]:
    """Parameters and moving statistics in the shapes of our net, the same on every
    machine: NumPy keeps RandomState's numbers for ever."""
    images = np.zeros((1, net.input_size, net.input_size, 3), np.float32)
    shapes = nn.unbox(jax.eval_shape(AlexNet(net, CLASSES).init, jax.random.key(0), images))
    random = np.random.RandomState(seed)
    # Tens in the first layer's sums, without which normalization would change little;
    # ones where activations saturate or moving statistics are to fit.
    size = 1 if net.name in ('four_layer', 'batchnorm227', 'alexnet_bn') else 30

    def draw(layer: str, part: str, shape: tuple[int, ...]):
        noise = random.standard_normal(shape)
        inputs = np.prod(shape[1:-1])
        if part != 'kernel':
            return {'bias': 0, 'scale': 1, 'mean': 0.5, 'var': 1.5}[part] + 0.2 * noise
        if layer == net.layers[0].name:
            return size / PIXEL_STD * inputs**-0.5 * noise
        if layer == net.output.name:  # logits of a few, or the softmax would be 0 and 1
            return 2 / size * (net.columns * inputs) ** -0.5 * noise
        return (2 / inputs) ** 0.5 * noise

    drawn = jax.tree_util.tree_map_with_path(
        lambda path, like: draw(path[1].key, path[2].key, like.shape).astype(np.float32), shapes
    )
    return {'params': drawn['params'], 'batch_stats': drawn.get('batch_stats', {})}


def images_and_labels(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Blocks of 8 pixels and noise: neighbors are alike, as in photographs."""
    random = np.random.RandomState(2013)
    blocks = random.normal(0, 60, (BATCH, -(-size // 8), -(-size // 8), 3))
    images = blocks.repeat(8, axis=1).repeat(8, axis=2)[:, :size, :size]
    images = images + random.normal(0, 20, images.shape)
    return images.astype(np.float32), random.randint(0, CLASSES, BATCH)


def apart(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> dict[str, float]:
    """By name, the norm of the difference relative to the norm of theirs; where theirs is 0, as it
    is."""
    return {
        name: float(np.linalg.norm(np.float64(ours[name]) - x) / (np.linalg.norm(x) or 1.0))
        for name, x in theirs.items()
    }


def digest(results: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The logits as they are, all else as 16 sums of its numbers, each with a sign by
    chance and in a sum by chance. Two arrays' sums are about as far apart as the arrays."""

    def sums(values: np.ndarray) -> np.ndarray:
        places = np.random.RandomState(values.size).randint(0, 32, values.size)
        both = np.bincount(places, np.ravel(values), minlength=32)
        return both[:16] - both[16:]

    return {name: x if name == 'logits' else sums(x) for name, x in results.items()}


def smooth_seed(case: str, net: Architecture) -> int:
    """The first seed from which no gradient jumps if the weights move by a few roundings.

    A unit that close to its ReLU's corner, or two so close in a pooling window, send the
    gradient one way on this processor and another on that; a single one of a hundred
    thousand moves it by a hundredth.
    """
    from tests.network import torch_nets

    batch = images_and_labels(net.input_size)
    random = np.random.default_rng(2014)

    def jumps(weights, reference) -> bool:
        noise = jax.tree.map(lambda x: random.standard_normal(x.shape, np.float32), weights)
        for step in (ROUNDING, -ROUNDING):
            scales = jax.tree.map(lambda by, step=step: 1 + step * np.float64(by), noise)
            moved = jax.tree.map(np.multiply, weights, scales)
            if max(apart(torch_nets.results(case, moved, *batch), reference).values()) > 5e-5:
                return True
        return False

    for seed in range(100):
        weights = variables(net, seed)
        reference = torch_nets.results(case, weights, *batch)
        if not any(jumps(weights, reference) for _ in range(3)):
            return seed
    raise AssertionError(f'{case}: every gradient jumps')


def write_golden() -> None:
    from tests.network import torch_nets

    arrays = {}
    for case in CASES:
        net = reduced(case)
        seed = smooth_seed(case, net)
        arrays[f'{case}/seed'] = seed
        results = torch_nets.results(case, variables(net, seed), *images_and_labels(net.input_size))
        for name, values in digest(results).items():
            arrays[f'{case}/{name}'] = values.astype(np.float32)
    np.savez_compressed(GOLDEN, **arrays)


if __name__ == '__main__':
    write_golden()
