"""Flax's own tools on the module: the summary with operations counted, and modules of NNX."""

import re
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from alexnet_jax.network import device_mesh, inference
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.architectures import ARCHITECTURES, SMALL
from alexnet_jax.network.layers import Architecture, BatchNorm, Conv, Dense, MaxPool, Output, Relu
from alexnet_jax.network.shapes import layer_shapes
from tests.network import parity

pytestmark = pytest.mark.usefixtures('quickly')
PLAIN = {'force_terminal': False, 'width': 300}  # no colors, no line broken


# Tables whose stages differ; all operations are counted in the program, nothing is run.
@pytest.mark.parametrize('name', ['small', 'paper', 'caffe', 'cifar18', 'batchnorm227'])
def test_the_summary_counts_operations_and_parameters(name):
    """The weighted sums are two operations a multiply-add, and by far the most of all."""
    table = ARCHITECTURES[name]
    images = jnp.zeros((64, table.input_size, table.input_size, 3))  # fewer are filled up
    net, rows = AlexNet(table, 10), layer_shapes(table, 10)
    text = net.tabulate(jax.random.key(0), images, compute_flops=True, console_kwargs=PLAIN)
    assert f' {sum(row.parameters for row in rows):,} ' in text
    first = next(line for line in text.splitlines() if ' AlexNet ' in line and '│' in line)
    (operations,) = (int(cell) for cell in re.findall(r'│ (\d+)\s+│', first))
    sums = 2 * len(images) * sum(row.multiply_adds for row in rows)
    # XLA leaves out products with the zeros of the padding.
    assert 0.75 * sums < operations < 1.2 * sums


# Two columns and batch normalization in few operations.
TWO_COLUMNS = Architecture(
    'two', 16, 2,
    (Conv('conv1', 8, 5, then=(Relu(), BatchNorm(), MaxPool())), Dense('fc2', 16)), Output('fc3'),
)  # fmt: skip


def arrays_of(state) -> dict:
    return {path: np.asarray(x.get_value()) for path, x in nnx.to_flat_state(state)}


def as_nnx(net: AlexNet, images: np.ndarray) -> Any:
    """Made in one program: alone, each of its operations is compiled."""
    return nnx.jit(
        lambda images: nnx.bridge.lazy_init(nnx.bridge.ToNNX(net, rngs=nnx.Rngs(0)), images)
    )(images)


@nnx.jit
def logits_of(module: nnx.bridge.ToNNX, images: np.ndarray) -> jax.Array:
    return module(images)[0]


@pytest.mark.thorough
@pytest.mark.parametrize('table', [TWO_COLUMNS, SMALL], ids=lambda table: table.name)
def test_an_nnx_module_computes_what_the_net_computes(table):
    """Logits, and the gradients of all parameters."""
    net, images = AlexNet(table, 10), parity.images_and_labels(table.input_size)[0]
    module = as_nnx(net, images)
    arrays = arrays_of(nnx.state(module, nnx.Param))
    params: dict = {}
    for (layer, part), x in arrays.items():
        params.setdefault(layer, {})[part] = x
    kept = inference.variable_shapes(net)['batch_stats']
    kept = jax.tree.map_with_path(
        lambda path, like: jnp.full(like.shape, float('var' in str(path))), kept
    )

    def total(params):
        return net.apply({'params': params, 'batch_stats': kept}, images)[0].sum()

    value, expected = jax.jit(jax.value_and_grad(total))(params)
    assert jnp.allclose(logits_of(module, images).sum(), value, rtol=1e-5)
    found = nnx.jit(nnx.grad(lambda module: module(images)[0].sum()))(module)
    for (layer, part), gradient in arrays_of(found).items():
        chex.assert_trees_all_close(gradient, expected[layer][part], rtol=1e-4, atol=1e-5)


def test_an_nnx_module_moves_batch_statistics():
    net, images = AlexNet(TWO_COLUMNS, 10), parity.images_and_labels(16)[0]
    module = as_nnx(net, images)
    before = arrays_of(nnx.state(module, nnx.BatchStat))
    module(images, dropout_key=jax.random.key(1), mutable=['batch_stats'])
    after = arrays_of(nnx.state(module, nnx.BatchStat))
    assert before.keys() == after.keys() and len(after) == 2
    # Of ones, a hundredth of the batch's own instead.
    assert all((x != after[name]).all() for name, x in before.items() if 'var' in name)


def test_on_a_mesh_an_nnx_module_is_split_over_its_columns():
    net, images = AlexNet(TWO_COLUMNS, 10), parity.images_and_labels(16)[0]
    expected = logits_of(as_nnx(net, images), images)
    with jax.set_mesh(device_mesh.make_mesh(1, 2)):
        module = as_nnx(net, images)
        kernel = module.conv1['kernel'].get_value()
        assert kernel.addressable_shards[0].data.shape == (1, 5, 5, 3, 4)
        chex.assert_trees_all_close(logits_of(module, images), expected, rtol=1e-4, atol=1e-6)
