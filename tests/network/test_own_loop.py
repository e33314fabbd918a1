"""Training loops of one's own on the package's mesh: `jax.grad` of a mean loss under
`jax.shard_map`, with parameters that all data shards share."""

import chex
import jax
import numpy as np
import optax
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

from alexnet_jax.network import device_mesh, inference
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.architectures import architecture
from tests.network import parity
from tests.network.test_parity import stored, too_far, variables

MESHES = [(1, 1), (2, 1), (1, 2), (2, 2)]
DATA = P(device_mesh.DATA)


def loss_of(net: AlexNet, training: bool):
    """(params, batch_stats, images, labels) -> a device's mean loss; logits and statistics."""
    key = jax.random.key(0) if training else None

    def loss(params, batch_stats, images, labels):
        (logits, _), after = net.apply(
            {'params': params, 'batch_stats': batch_stats}, images,
            dropout_key=key, mutable=['batch_stats'],
        )  # fmt: skip
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), (logits, after.get('batch_stats', {}))

    return loss


def over_mesh(net: AlexNet, shape: tuple[int, int], training: bool):
    """The loss of the whole batch; and how to map it, or its gradient, over the mesh. Without
    `column_axis` every device holds all columns."""
    specs = inference.variable_specs(net)
    if net.column_axis is None:
        specs = jax.tree.map(lambda _: P(), specs)
    of_device = loss_of(net, training)

    def loss(*given):
        mean, others = of_device(*given)
        return lax.pmean(mean, device_mesh.DATA), others

    def mapped(function, first_out):
        return jax.shard_map(
            function, mesh=device_mesh.make_mesh(*shape),
            in_specs=(specs['params'], specs['batch_stats'], DATA, DATA),
            out_specs=(first_out, (DATA, specs['batch_stats'])),
        )  # fmt: skip

    return loss, mapped, specs


def compiled(function):
    return jax.jit(function, compiler_options=parity.QUICK)


def results(compute, case: str) -> dict[str, np.ndarray]:
    """As PyTorch's are stored."""
    of_net, batch = variables(case), parity.images_and_labels(parity.reduced(case).input_size)
    gradients, (logits, moved) = compute(of_net['params'], of_net['batch_stats'], *batch)
    layers = [*gradients.items(), *moved.items()]
    arrays = {f'{layer}/{part}': x for layer, parts in layers for part, x in parts.items()}
    return {name: np.asarray(x) for name, x in {'logits': logits, **arrays}.items()}


@pytest.mark.parametrize(('case', 'shape', 'column_axis'), [
    *(('small', shape, 'column') for shape in MESHES),
    ('caffe', (2, 2), 'column'),  # normalization reaches over to the other device
    ('batchnorm227 training', (2, 1), 'column'),
    ('cifar18', (2, 1), 'column'),
    ('small', (2, 1), None),
])  # fmt: skip
def test_gradients_equal_pytorch_s(case, shape, column_axis):
    """Those of the mean cross-entropy of the whole batch, in float64 and on one device."""
    net = AlexNet(parity.reduced(case), parity.CLASSES, column_axis)
    loss, mapped, specs = over_mesh(net, shape, case.endswith('training'))
    gradient = mapped(jax.grad(loss, has_aux=True), specs['params'])
    assert not too_far(parity.digest(results(compiled(gradient), case)), stored(case))


def test_the_gradient_may_be_taken_outside_the_map():
    net = AlexNet(parity.reduced('small'), parity.CLASSES, device_mesh.COLUMN)
    loss, mapped, _ = over_mesh(net, (2, 2), training=False)
    gradient = jax.grad(mapped(loss, P()), has_aux=True)
    assert not too_far(parity.digest(results(compiled(gradient), 'small')), stored('small'))


@pytest.mark.thorough
def test_five_steps_equal_those_without_a_mesh():
    """With an optimizer that is not the package's."""
    table = architecture('small', width=0.5)
    net, rule = AlexNet(table, parity.CLASSES), optax.adam(1e-4)
    loss, mapped, specs = over_mesh(net.clone(column_axis=device_mesh.COLUMN), (2, 2), False)
    batch = parity.images_and_labels(table.input_size)

    def trained(gradient, params):
        def step(params, state):
            gradients, _ = gradient(params, {}, *batch)
            updates, state = rule.update(gradients, state, params)
            return optax.apply_updates(params, updates), state

        state, step = rule.init(params), compiled(step)
        for _ in range(5):
            params, state = step(params, state)
        return jax.device_get(params)

    weights = parity.variables(table, 0)
    expected = trained(jax.grad(loss_of(net, False), has_aux=True), weights['params'])
    placed = inference.place_variables(net, device_mesh.make_mesh(2, 2), weights)
    found = trained(mapped(jax.grad(loss, has_aux=True), specs['params']), placed['params'])
    chex.assert_trees_all_close(found, expected, rtol=0, atol=2e-5)
