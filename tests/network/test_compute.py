"""bfloat16 for activations and products, against float32."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.network import device_mesh
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.architectures import ARCHITECTURES, architecture
from alexnet_jax.network.inference import variable_shapes
from alexnet_jax.network.layers import Architecture, Conv, Dense, Output
from alexnet_jax.training import step
from alexnet_jax.training.schedule import Clock

CLASSES = 10


def drawn(net: AlexNet, images: np.ndarray, random: np.random.Generator):
    """Parameters that keep the scale of the activations from layer to layer."""
    params = nn.unbox(jax.jit(net.init)(jax.random.key(0), images))

    def draw(path, x):
        if path[-1].key != 'kernel':
            return x
        inputs = np.prod(x.shape[1:-1])
        scale = (2 / inputs) ** 0.5 / (64 if path[-2].key == 'conv1' else 1)
        return jnp.asarray(random.normal(0, scale, x.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, params)


@pytest.mark.thorough
@pytest.mark.parametrize('name', [
    pytest.param('paper', marks=pytest.mark.slow),
    'krizhevsky2012',
    pytest.param('batchnorm227', marks=pytest.mark.slow),
    pytest.param('torchvision', marks=pytest.mark.slow),
])  # fmt: skip
def test_logits_and_gradients_are_those_of_float32_to_its_digits(name, random):
    table = architecture(name, 99, 0.125)
    images = random.uniform(-127, 127, (4, 99, 99, 3)).astype(np.float32)
    labels = jnp.arange(4)
    nets = [AlexNet(table, CLASSES, compute=compute) for compute in ('float32', 'bfloat16')]
    params = drawn(nets[0], images, random)

    def loss(params, net):
        logits, activations = net.apply(params, images)
        probability = jax.nn.log_softmax(logits)[jnp.arange(4), labels]
        return -probability.mean(), (logits, activations)

    compute = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=1)
    (_, (logits, wide)), gradients = compute(params, nets[0])
    (_, (rough, narrow)), rough_gradients = compute(params, nets[1])
    assert {x.dtype for n, x in narrow.items() if n != 'fc8'} == {jnp.dtype('bfloat16')}
    assert {x.dtype for x in wide.values()} == {rough.dtype} == {jnp.dtype('float32')}
    assert {x.dtype for x in jax.tree.leaves(rough_gradients)} == {jnp.dtype('float32')}
    assert 0 < abs(rough - logits).max() < 0.03 * logits.std()
    for exact, found in zip(
        jax.tree.leaves(gradients), jax.tree.leaves(rough_gradients), strict=True
    ):
        if np.abs(exact).max() > 0:
            along = np.vdot(exact, found) / np.linalg.norm(exact) / np.linalg.norm(found)
            assert along > 0.95


@pytest.mark.slow
def test_a_step_keeps_its_parameters_in_float32_and_learns_as_fast(random):
    table = architecture('small', width=0.5)
    mesh = device_mesh.make_mesh()
    # Each class is a brightness of its own.
    labels = np.arange(32, dtype=np.int32) % CLASSES
    noise = random.integers(0, 20, (32, 28, 28, 3))
    batch = {
        'image': (noise + 23 * labels[:, None, None, None]).astype(np.uint8),
        'label': labels,
        'mirrored': np.zeros(32, bool),
        'color_shift': np.zeros((32, 3), np.float32),
        'mask': np.ones(32, np.float32),
    }
    losses = {}
    for compute in ('float32', 'bfloat16'):
        net = AlexNet(table, CLASSES, compute=compute)
        train_step = step.make_train_step(
            net, mesh, np.full(3, 127, np.float32), seed=0, learning_rate=0.003,
            clock=Clock(steps=60, batch_size=32, epoch_size=32),
        )  # fmt: skip
        state = step.create_state(net, 0, mesh)
        losses[compute] = []
        for _ in range(60):
            state, scores = train_step(state, batch)
            losses[compute].append(float(scores['loss']))
        assert {x.dtype for x in jax.tree.leaves(state.params)} == {jnp.dtype('float32')}
    np.testing.assert_allclose(losses['bfloat16'][:5], losses['float32'][:5], rtol=0.01)
    first, last = losses['float32'][0], {name: np.mean(x[-10:]) for name, x in losses.items()}
    assert max(last.values()) < first - 0.05, last
    assert abs(last['bfloat16'] - last['float32']) < 0.01, last


# Positive weights throughout: units are never cut by a ReLU, and sums are of one sign, where
# what is lost of each addend adds up.
POSITIVE = Architecture('positive', 6, 2, (
    Conv('conv1', 4, kernel=3), Conv('conv2', 4, kernel=2, reads_all=True),
    Dense('fc3', 8), Dense('fc4', 8),
), Output('fc5'))  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize('exchange', ['gather', 'scatter'])
@pytest.mark.parametrize('compute', ['float32', 'bfloat16'])
def test_gradients_of_biases_are_sums_in_float32(compute, exchange, random):
    """At batch 4096, against the chain of matrices in float64."""
    batch, net = 4096, AlexNet(POSITIVE, 3, exchange=exchange, compute=compute)
    # Numbers that bfloat16 has.
    params = jax.tree.map(
        lambda x: (random.integers(64, 192, x.shape) / 128).astype(np.float32),
        variable_shapes(net)['params'],
    )
    images = random.uniform(0.5, 1.5, (batch, 6, 6, 3)).astype(np.float32)
    cotangent = random.uniform(0.5, 1.5, (batch, 3)).astype(np.float32)

    def total(params):
        return jnp.sum(net.apply({'params': params}, images)[0] * cotangent)

    found = jax.tree.map(np.asarray, jax.grad(total)(params))

    def kernel(layer):
        """[..., inputs of all columns, units of all columns]."""
        return np.concatenate(params[layer]['kernel'].astype(np.float64), axis=-1)

    expected, below = {'fc5': cotangent.astype(np.float64)}, cotangent.astype(np.float64)
    below = expected['fc4'] = below @ np.concatenate(params['fc5']['kernel']).astype(np.float64).T
    below = expected['fc3'] = below @ kernel('fc4').T
    below = expected['conv2'] = np.tensordot(below, kernel('fc3'), ([1], [3]))
    places = np.zeros((batch, 4, 4, 4))
    for row, column in np.ndindex(2, 2):  # of conv2's window
        read = below @ kernel('conv2')[row, column].T
        places[:, row : row + 3, column : column + 3] += read
    expected['conv1'] = places
    for layer, each in expected.items():
        exact = each.sum(axis=tuple(range(each.ndim - 1)))
        error = np.abs(found[layer]['bias'].ravel() / exact - 1).max()
        assert error < (2e-6 if compute == 'float32' else 1e-3), layer


def operations(jaxpr):
    """All of a program, those of its parts too."""
    for equation in jaxpr.eqns:
        yield equation
        for part in jax.tree.leaves(
            list(equation.params.values()),
            is_leaf=lambda x: hasattr(x, 'eqns') or hasattr(x, 'jaxpr'),
        ):
            inner = getattr(part, 'jaxpr', part)
            if hasattr(inner, 'eqns'):
                yield from operations(inner)


SUMS = {'reduce_sum', 'reduce_window_sum', 'reduce_window', 'cumsum', 'psum', 'psum_invariant',
        'scatter-add', 'select_and_scatter_add', 'reduce_precision'}  # fmt: skip


@pytest.mark.parametrize(
    ('name', 'parts'),
    [('caffe', 1), ('cifar18', 1), ('batchnorm227', 1), ('krizhevsky2012', 1), ('four_layer', 2)],
)
def test_no_step_adds_up_in_bfloat16(name, parts):
    """But the two columns' gradients at what both read. Looked for in the program."""
    net, mesh = (
        AlexNet(ARCHITECTURES[name], CLASSES, compute='bfloat16'),
        device_mesh.make_mesh(2, 1),
    )
    size = net.architecture.input_size
    train_step = step.make_train_step(
        net, mesh, np.zeros(3, np.float32), seed=0, learning_rate=0.01,
        clock=Clock(9, 16, 32), micro_batches=parts,
    )  # fmt: skip
    batch = {
        'image': jax.ShapeDtypeStruct((16, size, size, 3), np.uint8),
        'label': jax.ShapeDtypeStruct((16,), np.int32),
        'mirrored': jax.ShapeDtypeStruct((16,), bool),
        'color_shift': jax.ShapeDtypeStruct((16, 3), np.float32),
        'mask': jax.ShapeDtypeStruct((16,), np.float32),
    }
    state = step.abstract_state(net, mesh)
    if parts == 1:
        program = train_step.trace(state, batch)
    else:
        sums, part = jax.eval_shape(train_step.zeros), jax.ShapeDtypeStruct((), np.int32)
        program = train_step.add.trace(sums, state, batch, part)
    seen = set()
    for operation in operations(program.jaxpr.jaxpr):
        seen.add(operation.primitive.name)
        if operation.primitive.name in SUMS:
            for one in operation.invars:
                assert one.aval.dtype != jnp.bfloat16 or one.aval.shape[0] <= 2, operation
    assert {'reduce_sum', 'conv_general_dilated'} <= seen


def test_scores_are_float32_whatever_the_logits_are():
    """4096 images with mask 1: in bfloat16 their number would stop at 256."""
    logits, labels = jnp.zeros((4096, 3), jnp.bfloat16), np.zeros(4096, np.int32)
    for mask in (jnp.ones(4096, jnp.bfloat16), np.ones(4096, bool), np.ones(4096, np.int8)):
        scores = step.score(logits, labels, mask)
        assert {x.dtype for x in scores.values()} == {jnp.dtype('float32')}
        assert float(scores['count']) == 4096
        assert float(scores['loss']) == pytest.approx(4096 * np.log(3), rel=1e-6)
