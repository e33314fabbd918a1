"""A batch in parts, one after the other, is the same step as the batch at once."""

import dataclasses

import chex
import jax
import numpy as np
import pytest

from alexnet_jax.network import communication, device_mesh
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.architectures import ARCHITECTURES, SMALL
from alexnet_jax.runtime.errors import InputError
from alexnet_jax.training import accumulation, compiled_collectives, step
from alexnet_jax.training.protocols import LARGE_BATCH, PAPER, Protocol
from alexnet_jax.training.schedule import Clock
from tests.training.test_mesh import TINY, quickly

BATCH, STEPS = 16, 6
NET = AlexNet(TINY, 10)


def make_step(mesh, micro_batches: int, net: AlexNet = NET, protocol: Protocol = PAPER):
    return step.make_train_step(
        net, mesh, np.full((28, 28, 3), 100, np.float32),
        seed=0, learning_rate=0.05, clock=Clock(STEPS, BATCH, 10 * BATCH), micro_batches=micro_batches,
        protocol=protocol,
    )  # fmt: skip


@pytest.fixture
def batches(random) -> list[dict[str, np.ndarray]]:
    """Blobs that tell the classes apart; one image of each batch does not count."""
    blobs = random.integers(0, 256, (10, 28, 28, 3), dtype=np.uint8)
    labels = random.integers(0, 10, (STEPS, BATCH), dtype=np.int32)
    return [
        {
            'image': blobs[label],
            'mirrored': random.random(BATCH) < 0.5,
            'color_shift': random.normal(0, 20, (BATCH, 3)).astype(np.float32),
            'label': label,
            'mask': (np.arange(BATCH) != 5).astype(np.float32),
        }
        for label in labels
    ]


def compiled(train_step, state, batch):
    """Quickly, for these."""
    if not isinstance(train_step, accumulation.StepInParts):
        return quickly(train_step, state, batch)
    sums, part = train_step.zeros(), np.int32(0)
    return dataclasses.replace(
        train_step,
        add=quickly(train_step.add, sums, state, batch, part),
        update=quickly(train_step.update, state, sums),
    )


def run(shape, micro_batches, batches, protocol=PAPER):
    """The state after all steps, and the scores of each."""
    mesh = device_mesh.make_mesh(*shape)
    state = step.create_state(NET, 0, mesh)
    train_step = compiled(make_step(mesh, micro_batches, protocol=protocol), state, batches[0])
    scores = []
    for batch in batches:
        state, found = train_step(state, batch)
        scores.append(jax.device_get(found))
    return jax.device_get(state), scores


@pytest.mark.thorough
def test_a_large_batch_is_the_same_step_in_parts_and_on_a_mesh(batches):
    """LARS: its norms are of whole layers, wherever their columns and gradients lie."""
    _, expected = run((1, 1), 1, batches, LARGE_BATCH)
    _, found = run((2, 2), 4, batches, LARGE_BATCH)
    losses = [[scores['loss'] for scores in run] for run in (found, expected)]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert np.ptp(losses[0]) > 1e-3  # it moves


@pytest.mark.thorough
def test_gradients_are_exchanged_once_a_step(batches):
    """Between the parts only sums of scores are."""
    mesh = device_mesh.make_mesh(2, 2)
    state = step.create_state(NET, 0, mesh)
    train_step = compiled(make_step(mesh, 4), state, batches[0])

    def sent(program) -> float:
        found = compiled_collectives.count(program.as_text(), (2, 2))
        return sum(one.times * one.sent for one in found if one.axis == 'data')

    least = communication.parameters_held(TINY, 10, 2) * communication.FLOAT
    assert sent(train_step.add) < 100
    assert least <= sent(train_step.update) < 1.01 * least


@pytest.mark.thorough
@pytest.mark.parametrize('shape', [(1, 1), (2, 1), (2, 2)])
def test_four_parts_equal_the_whole(shape, batches):
    """Six steps with dropout: losses, errors, parameters and momentum to 1e-6."""
    (whole, expected), (parts, found) = run(shape, 1, batches), run(shape, 4, batches)
    assert int(parts.step) == STEPS
    chex.assert_trees_all_close(found, expected, rtol=1e-6, atol=0)
    whole, parts = ((state.params, state.momentum) for state in (whole, parts))
    chex.assert_trees_all_close(parts, whole, rtol=0, atol=1e-6)


@pytest.mark.thorough
def test_a_part_takes_less_memory_than_the_whole(batches):
    net, mesh = AlexNet(SMALL, 10), device_mesh.make_mesh()
    state = step.create_state(net, 0, mesh)
    batch = jax.tree.map(lambda x: np.concatenate([x] * 4), batches[0])
    in_parts = make_step(mesh, 4, net)
    whole = quickly(make_step(mesh, 1, net), state, batch)
    part = quickly(in_parts.add, in_parts.zeros(), state, batch, np.int32(0))
    sizes = [program.memory_analysis().temp_size_in_bytes for program in (whole, part)]
    assert sizes[1] < 0.5 * sizes[0]


def test_batch_statistics_need_the_whole_batch():
    net = AlexNet(ARCHITECTURES['batchnorm227'], 10)
    with pytest.raises(
        InputError, match=r'train\.micro_batches is 4; allowed: 1 for network batch'
    ):
        make_step(device_mesh.make_mesh(), 4, net)
