"""The net in float64, under JAX's `jax_enable_x64`; and in float32 there."""

import importlib.util

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from alexnet_jax.network import inference
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.architectures import SMALL, architecture
from tests.network import parity
from tests.network.test_compute import operations
from tests.network.test_parity import stored, torch_results, variables

PYTORCH = importlib.util.find_spec('torch') is not None
FLOAT64 = jnp.dtype('float64')


def loss_of(net: AlexNet, case: str, weights: dict):
    """(params) -> the mean cross-entropy; and the logits, activations and moving statistics."""
    images, labels = parity.images_and_labels(net.architecture.input_size)
    images = images.astype(jax.tree.leaves(weights)[0].dtype)
    key = jax.random.key(0) if case.endswith('training') else None

    def loss(params):
        (logits, activations), after = net.apply(
            weights | {'params': params}, images, dropout_key=key, mutable=['batch_stats']
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), (logits, activations, after.get('batch_stats', {}))

    return loss


def in_float64(case: str):
    """Returns the loss and the parameters."""
    net = AlexNet(parity.reduced(case), parity.CLASSES, compute='float64')
    weights = jax.tree.map(np.float64, variables(case))
    return loss_of(net, case, weights), weights['params']


CASES = (
    'small',
    'caffe',
    'krizhevsky2012',
    'batchnorm227 training',
    'cifar18',
    'four_layer maxout',
)


@pytest.mark.parametrize('case', CASES)
def test_logits_and_gradients_equal_pytorch_s(case, x64):
    """To float64's digits; to float32's where PyTorch is not installed, as it was stored."""
    loss, params = in_float64(case)
    compute = jax.jit(jax.grad(loss, has_aux=True), compiler_options=parity.QUICK)
    gradients, (logits, activations, moved) = compute(params)
    assert {x.dtype for x in jax.tree.leaves((gradients, logits, activations, moved))} == {FLOAT64}
    layers = flatten_dict(gradients, sep='/') | flatten_dict(moved, sep='/')
    found = {name: np.asarray(x) for name, x in {'logits': logits, **layers}.items()}
    assert max(parity.apart(parity.digest(found), stored(case)).values()) < 1e-6
    if PYTORCH:
        theirs = torch_results(case, parity.reduced(case), variables(case))
        assert max(parity.apart(found, theirs).values()) < 1e-12


def types(function, *arguments) -> set:
    """Of all arrays with an axis that the program makes on its way."""
    program = jax.make_jaxpr(function)(*arguments)
    made = [one.aval for operation in operations(program.jaxpr) for one in operation.outvars]
    return {aval.dtype for aval in made if aval.ndim and jnp.issubdtype(aval.dtype, jnp.floating)}


@pytest.mark.parametrize('case', CASES)
def test_no_array_on_the_way_is_of_another_type(case, x64):
    loss, params = in_float64(case)
    assert types(jax.grad(loss, has_aux=True), params) == {FLOAT64}


@pytest.mark.parametrize('compute', ['float32', 'bfloat16'])
def test_other_nets_stay_as_they_are(compute, x64):
    net = AlexNet(parity.reduced('small'), parity.CLASSES, compute=compute)
    weights = variables('small')
    loss = loss_of(net, 'small', weights)
    assert types(jax.grad(loss, has_aux=True), weights['params']) == {
        jnp.dtype('float32'),
        jnp.dtype(compute),
    }


@pytest.mark.thorough
@pytest.mark.parametrize('name', ['small', 'torchvision', 'batchnorm227'])
def test_initial_values(name):
    """In float64 of the table's spread; in float32 the same with x64 and without."""
    size, width = (28, 0.5) if name == 'small' else (67, 0.25)
    table = architecture(name, size, width)
    net, key, images = AlexNet(table, 10), jax.random.key(0), np.zeros((1, size, size, 3))
    init = jax.jit(lambda net: nn.unbox(net.init(key, images)), static_argnums=0)
    expected = init(net)
    with jax.enable_x64(True):
        jax.tree.map(np.testing.assert_array_equal, init(net), expected)
        wide = init(net.clone(compute='float64'))
        shapes = inference.variable_shapes(net.clone(compute='float64'))
    assert {x.dtype for x in jax.tree.leaves((wide, shapes))} == {FLOAT64}
    pairs = zip(*(jax.tree.leaves(jax.device_get(tree)) for tree in (wide, expected)), strict=True)
    for one, other in pairs:
        assert np.std(one) == pytest.approx(np.std(other), rel=0.3, abs=1e-12)


@pytest.mark.thorough
def test_the_same_units_drop_out():
    images, key = np.ones((4, 28, 28, 3), np.float32), jax.random.key(3)
    params = nn.unbox(jax.jit(AlexNet(SMALL, 10).init)(key, images))

    def kept(compute):
        net = AlexNet(SMALL, 10, compute=compute)
        return net.apply(params, images, dropout_key=key)[1]['fc6/dropout'] != 0

    expected = jax.jit(kept, static_argnums=0)('float32')
    with jax.enable_x64(True):
        for compute in ('float32', 'float64'):
            np.testing.assert_array_equal(jax.jit(kept, static_argnums=0)(compute), expected)


def test_without_x64_it_is_refused():
    with pytest.raises(
        ValueError, match=r"compute is 'float64', which JAX lacks in its present configuration"
    ):
        AlexNet(SMALL, 10, compute='float64').init(jax.random.key(0), np.zeros((1, 28, 28, 3)))


def test_images_that_are_float64_stay_so_when_they_are_normalized(x64, random):
    images, mean = random.uniform(0, 255, (2, 8, 8, 3)), np.array([1, 2, 3], np.float32)
    found = inference.normalize(images, mean, 2.0)
    assert found.dtype == FLOAT64
    np.testing.assert_array_equal(found, (images - mean) / 2)
    assert inference.normalize(images.astype(np.uint8), mean, 2.0).dtype == jnp.float32
