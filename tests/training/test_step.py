import math
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.network import device_mesh, inference
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.architectures import SMALL
from alexnet_jax.network.inference import mirror, normalize
from alexnet_jax.network.layers import (
    Architecture,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Output,
    Relu,
)
from alexnet_jax.training import losses, step
from alexnet_jax.training.protocols import DIARY, ONE_WEIRD_TRICK, PAPER
from alexnet_jax.training.schedule import Clock

CLOCK = Clock(steps=100, batch_size=16, epoch_size=160)
MEAN = np.full((16, 16, 3), 100, np.float32)
ROWS = (
    Conv('conv1', 8, 4, stride=4), Conv('conv2', 8, 3), Dense('fc6', 32, then=(Relu(), Dropout())),
)  # fmt: skip
NET = AlexNet(Architecture('tiny', 16, 1, ROWS, Output('fc8')), 10)
WITHOUT_DROPOUT = AlexNet(
    Architecture('tiny', 16, 1, (*ROWS[:2], Dense('fc6', 32)), Output('fc8')), 10
)
NORMALIZED = AlexNet(
    Architecture('normalized', 16, 2, (
        Conv('conv1', 8, 4, stride=4, then=(BatchNorm(), Relu())), Dense('fc6', 32),
    ), Output('fc8')), 10,
)  # fmt: skip


def make_batch(random: np.random.Generator, size: int = 16) -> dict[str, np.ndarray]:
    return {
        'image': random.integers(0, 256, (size, 16, 16, 3), dtype=np.uint8),
        'mirrored': random.random(size) < 0.5,
        'color_shift': random.normal(0, 5, (size, 3)).astype(np.float32),
        'label': random.integers(0, 10, size, dtype=np.int32),
        'mask': np.ones(size, np.float32),
    }


def make_step(mesh, seed=0, **options):
    return step.make_train_step(
        NET, mesh, MEAN, seed=seed, learning_rate=0.01, clock=CLOCK, **options
    )


def test_scores_by_hand():
    logits = np.array([
        [0, 0, 0, 0, 0, 9, 0.0],  # label 5: first
        [6, 5, 4, 3, 2, 1, 0.0],  # label 1: second
        [6, 5, 4, 3, 2, 1, 0.0],  # label 4: fifth, within the top five
        [6, 5, 4, 3, 2, 1, 0.0],  # label 5: sixth
        [1, 1, 1, 1, 1, 1, 1.0],  # label 0: ties go by the order of the classes
        [1, 1, 1, 1, 1, 1, 1.0],  # label 1: one before it
        [np.nan] * 7,  # nothing to be read from these: an error
        [9, 0, 0, 0, 0, 0, 0.0],  # label 0, but masked
    ], np.float32)  # fmt: skip
    labels = np.array([5, 1, 4, 5, 0, 1, 0, 0], np.int32)
    mask = np.array([1, 1, 1, 1, 1, 1, 1, 0], np.float32)
    scores = step.score(logits, labels, mask)
    assert float(scores['count']) == 7
    assert float(scores['top1_error']) == 5
    assert float(scores['top5_error']) == 2
    counted = [0, 1, 2, 3, 4, 5]
    expected = sum(
        np.log(np.exp(logits[i].astype(np.float64)).sum()) - logits[i, labels[i]] for i in counted
    )
    without_nan = np.where(np.isnan(logits), 0, logits)
    mask[6] = 0
    assert float(step.score(without_nan, labels, mask)['loss']) == pytest.approx(expected, rel=1e-6)


def test_logistic_units_by_hand():
    """Number by number in float64, far from 0 too: −log σ(z) of the label, −log(1 − σ(z)) of all
    others, added up over the classes."""
    random = np.random.default_rng(0)
    logits = np.concatenate([random.normal(0, 3, (6, 9)), random.normal(0, 60, (6, 9))])
    labels = random.integers(0, 9, 12)
    expected = [
        sum(
            math.log1p(math.exp(-abs(z))) + max(0, -z if of_class == label else z)
            for of_class, z in enumerate(row)
        )
        for row, label in zip(logits.tolist(), labels.tolist(), strict=True)
    ]
    found = losses.logistic(jnp.asarray(logits, jnp.float32), jnp.asarray(labels))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    torch = pytest.importorskip('torch')
    theirs = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.tensor(logits), torch.eye(9, dtype=torch.float64)[labels], reduction='none'
    ).sum(1)
    np.testing.assert_allclose(found, theirs, rtol=1e-5)


@pytest.mark.parametrize('shape', [(1, 1), (2, 1)])
@pytest.mark.parametrize('parts', [1, 2])
def test_a_step_minimizes_the_protocol_s_loss_and_reports_the_softmax_s(shape, parts, random):
    """fc8's biases after a step without momentum: moved by −ε times the mean over the batch of
    σ(z) − 1[label], or of the softmax's p − 1[label]. Masked images do not count."""
    mesh = device_mesh.make_mesh(*shape)
    batch = make_batch(random) | {'mask': (np.arange(16) < 13).astype(np.float32)}
    state = jax.device_get(step.create_state(WITHOUT_DROPOUT, 0, mesh))
    images = normalize(mirror(batch['image'], batch['mirrored']), MEAN, 1.0, batch['color_shift'])
    logits = np.float64(WITHOUT_DROPOUT.apply({'params': state.params}, images)[0])[:13]
    one_hot = np.eye(10)[batch['label']][:13]
    of_softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    cross_entropy = -np.log((of_softmax * one_hot).sum(1)).mean()
    for protocol, p, rate in ((ONE_WEIRD_TRICK, 1 / (1 + np.exp(-logits)), 0.02),
                              (PAPER, of_softmax, 0.01)):  # fmt: skip
        train_step = step.make_train_step(
            WITHOUT_DROPOUT, mesh, MEAN, seed=0, learning_rate=0.01, clock=CLOCK,
            weight_decay=0.0, protocol=protocol, micro_batches=parts,
        )  # fmt: skip
        placed = jax.device_put(state, step.state_shardings(WITHOUT_DROPOUT, mesh))
        after, scores = train_step(placed, batch)
        moved = (
            np.float64(jax.device_get(after.params)['fc8']['bias']) - state.params['fc8']['bias']
        )
        np.testing.assert_allclose(moved, -rate * (p - one_hot).mean(0), rtol=1e-4, atol=1e-8)
        assert float(scores['loss']) == pytest.approx(cross_entropy, rel=1e-5)


@pytest.mark.parametrize('size', [1, 2, 7])
def test_mirror_by_hand(size, random):
    """Pixel by pixel, on squares of even and odd sides."""
    images = random.integers(0, 256, (4, size, size, 3), dtype=np.uint8)
    mirrored = np.array([True, False, False, True])
    found = np.asarray(mirror(images, mirrored))
    assert found.dtype == np.uint8
    for image, row, column in np.ndindex(4, size, size):
        taken = size - 1 - column if mirrored[image] else column
        np.testing.assert_array_equal(found[image, row, column], images[image, row, taken])


@pytest.mark.parametrize('micro_batches', [1, 2])
def test_a_step_mirrors_its_images_before_all_else(micro_batches, random):
    """A batch whose images are to be mirrored, and one of their mirror images, move the
    parameters to the same bits; the mean image stays as it is."""
    mean = random.uniform(0, 255, (16, 16, 3)).astype(np.float32)
    batch = make_batch(random)
    images = batch['image'].copy()
    images[batch['mirrored']] = np.flip(images[batch['mirrored']], axis=2)
    done = batch | {'image': images, 'mirrored': np.zeros(16, bool)}
    mesh = device_mesh.make_mesh()
    train_step = step.make_train_step(
        NET, mesh, mean, seed=0, learning_rate=0.01, clock=CLOCK, micro_batches=micro_batches
    )
    params = [
        jax.device_get(train_step(step.create_state(NET, 0, mesh), one)[0].params)
        for one in (batch, done, batch | {'mirrored': ~batch['mirrored']})
    ]
    chex.assert_trees_all_equal(params[0], params[1])
    assert (params[0]['conv1']['kernel'] != params[2]['conv1']['kernel']).any()


def test_normalize_by_hand():
    images = np.full((1, 2, 2, 3), 200, np.uint8)
    mean = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    shift = np.array([[1, -2, 3]], np.float32)
    scale = np.array([2, 4, 0.5], np.float32)
    expected = (200 - mean + shift[0]) / scale
    np.testing.assert_array_equal(normalize(images, mean, scale, shift)[0], expected)
    np.testing.assert_array_equal(normalize(images, mean, scale)[0], (200 - mean) / scale)


@pytest.mark.thorough
@pytest.mark.parametrize('shape', [(1, 1), (2, 2)])
def test_bias_gradients_are_those_that_moved_the_biases(shape, random):
    """From the first velocity, -ε·g: absolute values summed, by layer and column; a column whose
    units all give 0 has none."""
    net, mesh = AlexNet(SMALL, 10), device_mesh.make_mesh(*shape)
    state = step.create_state(net, 0, mesh)
    bias = np.array(state.params['conv5']['bias'])
    bias[1] = -1e6
    params = dict(state.params)
    params['conv5'] = params['conv5'] | {
        'bias': jax.device_put(bias, params['conv5']['bias'].sharding)
    }
    train_step = step.make_train_step(
        net, mesh, np.full((28, 28, 3), 100, np.float32),
        seed=0, learning_rate=0.01, clock=CLOCK, weight_decay=0.0,
    )  # fmt: skip
    batch = make_batch(random) | {'image': random.integers(0, 256, (16, 28, 28, 3), dtype=np.uint8)}
    before = jax.device_get(params)
    after, scores = train_step(state.replace(params=params), batch)
    found = dict(zip(step.layer_names(SMALL), np.asarray(scores['bias_gradients']), strict=True))
    for layer in ('conv1', 'conv5', 'fc6', 'fc8'):
        moved = np.abs(
            np.float64(jax.device_get(after.params)[layer]['bias']) - before[layer]['bias']
        )
        np.testing.assert_allclose(found[layer], moved.sum(-1) / 0.01, rtol=2e-3)
    assert list(found) == ['conv1', 'conv2', 'conv3', 'conv4', 'conv5', 'fc6', 'fc7', 'fc8']
    assert found['conv5'][1] == 0 and found['conv5'][0] > 0 and found['conv1'].all()


@pytest.mark.parametrize('shape', [(1, 1), (1, 2)])
def test_shifts_stand_for_biases_that_batch_normalization_takes_out(shape, random):
    """From the first velocity of the shifts, by column; a column whose units all give 0 has none,
    though rounding moves its biases."""
    mesh = device_mesh.make_mesh(*shape)
    state = jax.device_get(step.create_state(NORMALIZED, 0, mesh))
    shifts = np.zeros(8, np.float32)
    shifts[4:] = -1e3
    state.params['conv1_norm']['bias'] = shifts
    train_step = step.make_train_step(
        NORMALIZED, mesh, MEAN, seed=0, learning_rate=0.01, clock=CLOCK, weight_decay=0.0
    )
    placed = jax.device_put(state, step.state_shardings(NORMALIZED, mesh))
    after, scores = train_step(placed, make_batch(random))
    found = np.asarray(scores['bias_gradients'])[0]
    moved = np.abs(np.float64(jax.device_get(after.params)['conv1_norm']['bias']) - shifts)
    np.testing.assert_allclose(found[0], moved[:4].sum() / 0.01, rtol=1e-3)
    assert found[0] > 1e-4 and found[1] == 0


@pytest.fixture
def traced_once(monkeypatch):
    """Fails where one of these is traced a second time: a part, an update, a forward pass."""
    chex.clear_trace_counter()
    for module, name in ((step, 'score'), (step.schedule, 'rates'), (inference, 'normalize')):
        monkeypatch.setattr(module, name, chex.assert_max_traces(getattr(module, name), n=1))


@pytest.mark.thorough
@pytest.mark.parametrize('shape', [(1, 1), (2, 1)])
@pytest.mark.parametrize('parts', [1, 4])
def test_one_trace_serves_all_steps_and_parts(parts, shape, random, traced_once):
    mesh = device_mesh.make_mesh(*shape)
    state, train_step = step.create_state(NET, 0, mesh), make_step(mesh, micro_batches=parts)
    for _ in range(3):
        state, scores = train_step(state, make_batch(random))
    assert int(state.step) == 3
    chex.assert_tree_all_finite((state.variables, state.momentum, scores))


def test_one_trace_serves_all_forward_passes(random, traced_once):
    mesh = device_mesh.make_mesh(2, 1)
    variables = step.create_state(NET, 0, mesh).variables
    forward = inference.make_forward(NET, mesh, MEAN, 1.0)
    for _ in range(3):
        logits, _ = forward(variables, make_batch(random)['image'])
    chex.assert_shape(logits, (16, 10))


def test_on_one_device_no_gradient_is_sent(random):
    mesh = device_mesh.make_mesh()
    state = step.create_state(NET, 0, mesh)
    batch = device_mesh.place_batch(mesh, make_batch(random))
    program = make_step(mesh).lower(state, batch).compile().as_text()
    sent = ''.join(re.findall(r'= (.*?) all-reduce\(', program))
    for layer in state.params.values():
        kernel = f'[{",".join(map(str, layer["kernel"].shape))}]'
        assert kernel in program
        assert kernel not in sent


def test_seed_decides_initial_values_and_dropout(random):
    mesh = device_mesh.make_mesh()
    batch = make_batch(random)

    def loss(state_seed, step_seed):
        state = step.create_state(NET, state_seed, mesh)
        return float(make_step(mesh, step_seed)(state, batch)[1]['loss'])

    first = loss(0, 0)
    assert first == loss(0, 0)
    assert first != loss(0, 1)
    assert first != loss(1, 0)


def test_what_the_diary_freezes_stays_bit_for_bit(random):
    """One step an epoch: conv1 moves in epoch 71 and no more from 72 on; the rest does."""
    mesh = device_mesh.make_mesh()
    train_step = step.make_train_step(
        NET, mesh, MEAN, seed=0, learning_rate=0.01, clock=Clock(91, 16, 16), protocol=DIARY
    )
    state = step.create_state(NET, 0, mesh)
    state = state.replace(momentum=jax.tree.map(lambda x: x + 1e-3, state.momentum))
    for epoch, moves in ((71, True), (72, False), (90, False)):
        before = jax.device_get(state)
        state, scores = train_step(state.replace(step=np.int32(epoch)), make_batch(random))
        after = jax.device_get(state)
        for one, other in ((before.params, after.params),
                           (before.momentum.trace, after.momentum.trace)):  # fmt: skip
            for layer, layer_moves in (('conv1', moves), ('conv2', True), ('fc8', True)):
                for part in ('kernel', 'bias'):
                    same = np.array_equal(one[layer][part], other[layer][part])
                    assert same != layer_moves, (epoch, layer, part)
        assert float(scores['learning_rate']) == np.float32(1e-4 if epoch < 79 else 1e-5)
