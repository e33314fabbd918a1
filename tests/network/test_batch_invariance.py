"""On CPU an evaluation gives an image the same bits in every batch."""

import chex
import flax.linen as nn
import jax
import numpy as np
import pytest

from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.architectures import ARCHITECTURES, architecture

SIZES = (1, 17, 64, 70)
SMALL_ENOUGH = ('small',)


def cases():
    for name in ARCHITECTURES:
        if name in SMALL_ENOUGH:
            yield pytest.param(name, 1.0, id=name, marks=pytest.mark.thorough)
        elif not name.startswith(('paper_', 'photographs_', 'patterns_')):
            yield pytest.param(name, 0.125, id=name, marks=pytest.mark.slow)


@pytest.mark.parametrize(('name', 'width'), cases())
def test_an_image_has_the_same_bits_in_every_batch(name, width):
    net = AlexNet(architecture(name, width=width), classes=1000, precision='highest')
    size = net.architecture.input_size
    images = 60 * np.random.default_rng(0).normal(size=(max(SIZES), size, size, 3))
    images = images.astype(np.float32)
    variables = nn.unbox(jax.jit(net.init)(jax.random.key(0), images[:1]))
    forward = jax.jit(net.apply)
    whole = forward(variables, images)
    for count in SIZES[:-1]:
        first = jax.tree.map(lambda x, count=count: x[:count], whole)
        chex.assert_trees_all_equal(forward(variables, images[:count]), first)
    reordered = forward(variables, images[::-1])
    chex.assert_trees_all_equal(jax.tree.map(lambda x: x[::-1], reordered), whole)
