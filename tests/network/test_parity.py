"""The full net beside an independent PyTorch net with the same weights."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.architectures import PAPER, PAPER_LRN_ACROSS
from tests.network import parity

NETS = pytest.mark.parametrize('architecture', [PAPER, PAPER_LRN_ACROSS], ids=lambda net: net.name)
TOLERANCE = 1e-4  # relative


@pytest.fixture(scope='module')
def results():
    """Our logits and gradients for both nets, computed once."""
    images, labels = parity.images_and_labels()

    def compute(architecture):
        net = AlexNet(architecture, parity.CLASSES)

        def loss(params):
            logits, _ = net.apply({'params': params}, images)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), logits

        gradients, logits = jax.jit(jax.grad(loss, has_aux=True))(
            jax.tree.map(jnp.asarray, parity.weights())
        )
        return np.asarray(logits), jax.tree.map(np.asarray, gradients)

    return {net.name: compute(net) for net in (PAPER, PAPER_LRN_ACROSS)}


def close(values, reference) -> bool:
    values, reference = np.asarray(values, np.float64), np.asarray(reference, np.float64)
    return bool(np.linalg.norm(values - reference) <= TOLERANCE * np.linalg.norm(reference))


@NETS
@pytest.mark.skipif(importlib.util.find_spec('torch') is None, reason='PyTorch is not installed')
def test_against_pytorch_live(architecture, results):
    logits, gradients = results[architecture.name]
    expected, expected_gradients = parity.torch_logits_and_gradients(
        architecture is PAPER_LRN_ACROSS
    )
    assert close(logits, expected)
    for name, layer in expected_gradients.items():
        for part, values in layer.items():
            assert close(gradients[name][part], values), (name, part)


@NETS
def test_against_stored_numbers(architecture, results):
    logits, gradients = results[architecture.name]
    golden = np.load(parity.GOLDEN)
    prefix = architecture is PAPER_LRN_ACROSS
    assert close(logits, golden[f'{prefix}/logits'])
    for name, layer in gradients.items():
        for part, values in layer.items():
            ours, stored = parity.sample(values), golden[f'{prefix}/{name}/{part}']
            assert close(ours[:-1], stored[:-1]), (name, part, 'samples')
            assert close(ours[-1], stored[-1]), (name, part, 'norm')


def test_the_two_nets_differ_by_more_than_the_tolerance(results):
    assert not close(results[PAPER.name][0], results[PAPER_LRN_ACROSS.name][0])
