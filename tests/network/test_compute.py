"""bfloat16 for activations and products, against float32."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.network import columns
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.architectures import architecture
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


@pytest.mark.parametrize(
    'name',
    [
        pytest.param('paper', marks=pytest.mark.slow),
        'krizhevsky2012',
        pytest.param('batchnorm227', marks=pytest.mark.slow),
        pytest.param('torchvision', marks=pytest.mark.slow),
    ],
)
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


def test_a_step_keeps_its_parameters_in_float32_and_learns_as_fast(random):
    table = architecture('small', width=0.5)
    mesh = columns.make_mesh()
    # Each class is a brightness of its own.
    labels = np.arange(32, dtype=np.int32) % CLASSES
    noise = random.integers(0, 20, (32, 28, 28, 3))
    batch = {
        'image': (noise + 23 * labels[:, None, None, None]).astype(np.uint8),
        'label': labels,
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
