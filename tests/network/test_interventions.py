"""Activations that are replaced or masked in a call of the net, beside computations without them."""

import re

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from alexnet_jax.network import device_mesh, inference
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.architectures import architecture
from tests.network import parity
from tests.network.tiny import CLASSES, TINY, drawn, rest

NETS = {
    'small': architecture('small', width=0.5),
    'one column': architecture('patterns_one_column', width=0.5),
    'batch normalization': architecture('batchnorm227', 67, 0.0625),
    'maxout': architecture('four_layer', width=0.25, activation='maxout'),
}


@pytest.fixture
def tiny(random):
    """Variables, images, and the net that they are of as a function."""
    return *drawn(TINY, random), AlexNet(TINY, CLASSES).apply


@pytest.mark.thorough
@pytest.mark.parametrize('name', NETS)
def test_an_activation_replaced_by_itself_changes_no_bit(name, random, quickly):
    """One activation at a time; all that the call returns is compared."""
    variables, images = drawn(NETS[name], random)
    net = AlexNet(NETS[name], CLASSES)
    _, whole = net.apply(variables, images[:2])
    for activation, values in whole.items():
        _, found = net.apply(variables, images[:2], replace={activation: values})
        jax.tree.map(np.testing.assert_array_equal, found, whole)


def test_what_follows_is_computed_from_the_replacement(tiny, random):
    """Beside a loop in NumPy over the layers above."""
    variables, images, net = tiny
    _, whole = net(variables, images)
    other = np.abs(random.normal(size=whole['conv1/pool'].shape)).astype(np.float32)
    logits, found = net(variables, images, replace={'conv1/pool': other})
    np.testing.assert_allclose(logits, rest(variables['params'], other), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found['conv1/pool'], other)
    np.testing.assert_array_equal(found['conv1/norm'], whole['conv1/norm'])
    np.testing.assert_allclose(
        whole['fc4'], rest(variables['params'], whole['conv1/pool']), rtol=1e-4, atol=1e-4
    )


def test_logits_can_be_replaced_too(tiny):
    variables, images, net = tiny
    given = np.arange(CLASSES, dtype=np.int32)[None]
    logits, found = net(variables, images, replace={'fc4': given})
    np.testing.assert_array_equal(logits, np.float32([range(CLASSES)] * 3))
    np.testing.assert_array_equal(found['fc4'], logits)


def test_an_activation_of_one_image_is_that_of_all(tiny):
    """As if it were repeated."""
    variables, images, net = tiny
    one = np.asarray(net(variables, images)[1]['conv1/norm'][1:2])
    logits, _ = net(variables, images, replace={'conv1/norm': one})
    expected, _ = net(variables, images, replace={'conv1/norm': one.repeat(3, axis=0)})
    np.testing.assert_array_equal(logits, expected)


@pytest.mark.parametrize(
    ('name', 'shape'),
    [
        ('conv1/norm', (12,)),
        ('conv2/relu', (1, 5, 5, 1)),
        ('fc3', (3, 20)),
        ('conv2/pool', (3, 1, 1, 16)),
    ],
)
def test_a_mask_multiplies_what_is_computed(name, shape, tiny, random):
    """As if the product were given as the replacement; factors between 0 and 2 too."""
    variables, images, net = tiny
    factors = random.uniform(0, 2, shape).astype(np.float32) * random.integers(0, 2, shape)
    values = np.asarray(net(variables, images)[1][name])
    expected, _ = net(variables, images, replace={name: values * factors})
    logits, found = net(variables, images, mask={name: factors})
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found[name], values * factors, rtol=1e-6)


def test_a_mask_of_zeros_removes_a_map(tiny):
    """As if the kernels above had zeros there; bool and float masks alike."""
    variables, images, net = tiny
    keep = np.ones(12, bool)
    keep[5] = False
    params = variables['params']
    kernel = params['conv2']['kernel'].copy()
    kernel[..., 5, :] = 0
    cut = variables | {'params': params | {'conv2': params['conv2'] | {'kernel': kernel}}}
    expected = net(cut, images)[0]
    for mask in (keep, keep.astype(np.float32)):
        logits = net(variables, images, mask={'conv1/pool': mask})[0]
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    assert np.abs(expected - net(variables, images)[0]).max() > 1e-3


def test_a_replacement_is_masked_too(tiny):
    variables, images, net = tiny
    mask = np.arange(20) % 2
    given = {'fc3/relu': np.ones((1, 20), np.float32)}
    _, found = net(variables, images, replace=given, mask={'fc3/relu': mask})
    np.testing.assert_array_equal(found['fc3/relu'], np.float32([mask] * 3))


def test_gradients_of_replacement_and_mask_equal_finite_differences(random, x64):
    """In float64, along random directions."""
    variables, images = drawn(TINY, random, np.float64)
    net = AlexNet(TINY, CLASSES, compute='float64')
    values = random.uniform(size=(3, 11, 11, 12))  # without ties in a pooling window

    def logit(given, mask):
        changes = {'replace': {'conv1/norm': given}, 'mask': {'conv2/relu': mask}}
        return net.apply(variables, images, **changes)[0][:, 2].sum()

    at = [values, np.ones(16)]
    both = jax.jit(jax.value_and_grad(logit, argnums=(0, 1)), compiler_options=parity.QUICK)
    for argument, slope in enumerate(map(np.asarray, both(*at)[1])):
        direction = random.normal(size=slope.shape)
        direction *= 1e-7 / np.linalg.norm(direction)

        def moved(by, argument=argument):
            return [x + by if i == argument else x for i, x in enumerate(at)]

        rise = float(both(*moved(direction))[0] - both(*moved(-direction))[0]) / 2
        assert rise == pytest.approx(np.sum(slope * direction), rel=1e-6)
        assert np.abs(slope).max() > 1e-3


def test_masks_are_an_argument_of_jit_and_vmap(tiny):
    """Each map removed by itself, in one program."""
    variables, images, net = tiny
    masks = 1 - np.eye(16, dtype=np.float32)

    def logits(mask):
        return net(variables, images, mask={'conv2/relu': mask})[0]

    together = jax.jit(jax.vmap(logits))(masks)
    for row in (0, 7, 15):
        np.testing.assert_allclose(together[row], logits(masks[row]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ('shape', 'exchange'), [((1, 2), 'gather'), ((1, 2), 'scatter'), ((2, 2), 'gather')]
)
def test_devices_take_the_part_of_their_columns(shape, exchange, random):
    """Replacements and masks split over the columns give what they give whole on one device."""
    variables, images = drawn(TINY, random)
    images = np.concatenate([images, images[:1]])
    whole = AlexNet(TINY, CLASSES)
    replace = {'conv1/pool': random.uniform(size=(4, 5, 5, 12)).astype(np.float32)}
    mask = {'conv2/pool': random.integers(0, 2, 16), 'fc3/relu': random.integers(0, 2, 20)}
    expected, _ = whole.apply(variables, images, replace=replace, mask=mask)
    net = whole.clone(column_axis=device_mesh.COLUMN, exchange=exchange)
    data, column = device_mesh.DATA, device_mesh.COLUMN
    run = jax.shard_map(
        lambda variables, images, replace, mask: net.apply(
            variables, images, replace=replace, mask=mask
        )[0],
        mesh=device_mesh.make_mesh(*shape),
        in_specs=(
            inference.variable_specs(net), P(data),
            {'conv1/pool': P(data, None, None, column)}, dict.fromkeys(mask, P(column)),
        ),
        out_specs=P(data),
    )  # fmt: skip
    found = jax.jit(run, compiler_options=parity.QUICK)(variables, images, replace, mask)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(('argument', 'name', 'array', 'message'), [
    ('replace', 'conv2/rleu', np.zeros(1),
     "replace has 'conv2/rleu'; the nearest is conv2/relu; the net has: conv1, conv1/relu, "),
    ('mask', 'fc44', np.zeros(1), "mask has 'fc44'; the nearest is fc4;"),
    ('mask', 7, np.zeros(1), 'mask has 7; the nearest is '),
    ('replace', 'fc3', np.zeros((2, 20)),
     "replace['fc3'] has the shape (2, 20); expected: (3, 20) or (1, 20)"),
    ('replace', 'fc3', np.zeros(20), "replace['fc3'] has the shape (20,); expected: (3, 20)"),
    ('replace', 'fc3', np.zeros((1, 20), bool),
     "replace['fc3'] has the type bool; expected: floating or integer"),
    ('mask', 'conv2/pool', np.zeros(17),
     "mask['conv2/pool'] has the shape (17,); expected: one that broadcasts to (3, 2, 2, 16)"),
    ('mask', 'fc3', np.zeros((3, 1, 20)), "mask['fc3'] has the shape (3, 1, 20); expected"),
    ('mask', 'fc3', np.zeros(20, complex),
     "mask['fc3'] has the type complex128; expected: floating or integer or bool"),
    ('replace', 'fc3', 'abc', "replace['fc3'] has the type <U3; expected: "),
])  # fmt: skip
def test_what_does_not_fit_is_refused(argument, name, array, message, tiny):
    variables, images, net = tiny
    with pytest.raises(ValueError, match=f'^{re.escape(message)}'):
        jax.eval_shape(lambda: net(variables, images, **{argument: {name: array}}))


@pytest.mark.parametrize('argument', ['replace', 'mask'])
def test_something_else_than_arrays_by_name_is_refused(argument, tiny):
    variables, images, net = tiny
    with pytest.raises(ValueError, match=rf'^{argument} is \[1\]; expected: arrays by name'):
        net(variables, images, **{argument: [1]})
