"""What our step is timed beside computes the same."""

import importlib.util
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.architectures import architecture

CLASSES = 7
PATH = Path(__file__).parent.parent / 'benchmarks' / 'naive.py'


@pytest.fixture(scope='module')
def naive():
    spec = importlib.util.spec_from_file_location('naive', PATH)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def joined(layer: dict, shape: tuple[int, ...]) -> dict:
    """Kernels of two columns side by side; of the output layer, which has one bias for
    both, one above the other."""
    kernel, bias = layer['kernel'], layer['bias']
    if bias.ndim > 1:
        return {
            'kernel': jnp.concatenate(list(kernel), axis=-1).reshape(shape),
            'bias': bias.ravel(),
        }
    return {'kernel': kernel.reshape(shape), 'bias': bias}


def test_the_naive_net_has_our_losses_and_gradients(naive):
    table = architecture('paper', 67, 0.125)
    net = AlexNet(table, CLASSES)
    images = 50 * np.random.default_rng(0).standard_normal((2, 67, 67, 3)).astype(np.float32)
    labels = np.array([1, 5])
    params = nn.unbox(jax.jit(net.init)(jax.random.key(0), images))['params']
    shapes = {name: layer['kernel'].shape for name, layer in naive.start(table, CLASSES)[0].items()}

    def join(params):
        return {name: joined(layer, shapes[name]) for name, layer in params.items()}

    def loss(logits):
        return -jnp.mean(jax.nn.log_softmax(logits)[np.arange(2), labels])

    def ours(params):
        return loss(net.apply({'params': params}, images)[0])

    def theirs(params):
        return loss(naive.forward(table, params, {}, images)[0])

    our_loss, our_slope = jax.jit(jax.value_and_grad(ours))(params)
    their_loss, their_slope = jax.jit(jax.value_and_grad(theirs))(join(params))
    np.testing.assert_allclose(our_loss, their_loss, rtol=1e-5)
    for name, layer in join(our_slope).items():
        for part, x in layer.items():
            scale = np.abs(x).max() + 1e-12
            np.testing.assert_allclose(x / scale, their_slope[name][part] / scale, atol=1e-4)
