"""Warnings, from scores written by hand and from a net that cannot learn."""

import numpy as np
import pytest

from alexnet_jax.errors import NotFiniteError
from alexnet_jax.training.health import Health

LAYERS = ('conv1', 'conv2', 'fc3')


def scores(loss=1.0, rate=0.01, **gradients):
    sizes = [gradients.get(layer, (1.0, 1.0)) for layer in LAYERS]
    return {
        'loss': np.float32(loss),
        'learning_rate': np.float32(rate),
        'bias_gradients': np.array(sizes, np.float32),
    }


def told(epochs, steps=300, classes=10) -> list[str]:
    """What is said in so many steps an epoch; of each epoch, what `scores` takes."""
    lines, step = [], 0
    health = Health(LAYERS, classes, lines.append)
    for epoch in epochs:
        for _ in range(steps):
            step += 1
            health.step(step, scores(**epoch))
        health.epoch()
    return lines


@pytest.mark.parametrize(
    ('bad', 'named'),
    [
        ({'loss': np.nan}, 'the loss of step 7 is nan'),
        ({'rate': np.inf}, 'the learning rate of step 7 is inf'),
        ({'conv2': (0.0, -np.inf)}, 'the gradient of conv2 of step 7 is -inf'),
        ({'fc3': (np.nan, 1.0)}, 'the gradient of fc3 of step 7 is nan'),
    ],
)
def test_what_is_not_finite_is_named(bad, named):
    with pytest.raises(NotFiniteError, match=named) as raised:
        Health(LAYERS).step(7, scores(**bad))
    assert raised.value.step == 7


def test_a_dead_layer_is_named_once_and_not_those_before_it():
    dead = {'conv1': (0, 0), 'conv2': (0, 0)}
    (line,) = told([{}, dead, dead])
    assert line.startswith('warning: conv2 is dead')


def test_a_dead_column_is_named():
    (line,) = told([{'conv1': (1, 0), 'conv2': (1, 0)}])
    assert line.startswith('warning: column 2 of conv2 is dead')


def test_what_has_a_gradient_once_in_an_epoch_lives():
    lines = []
    health = Health(LAYERS, 10, lines.append)
    for step, size in enumerate([0, 0, 1e-20, 0], start=1):
        health.step(step, scores(conv2=(size, size)))
    health.epoch()
    assert lines == []


def test_nothing_left_to_learn_is_not_death():
    nothing = (0.0, 0.0)
    assert told([{'conv1': nothing, 'conv2': nothing, 'fc3': nothing}]) == []


def test_a_loss_at_chance_is_told_with_a_likely_cause():
    (line,) = told([{'loss': 2.31}, {'loss': 2.30}, {'loss': 2.30}])
    assert 'after 600 steps' in line and '2.3026' in line and 'learning rate is too high' in line
    lines = told([{'loss': 2.31, 'conv2': (0, 0)}] * 2)
    assert [('is dead' in line, 'its units died' in line) for line in lines] == [
        (True, False), (False, True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ('epochs', 'steps'),
    [([{'loss': 2.2}] * 9, 300), ([{'loss': 2.31}], 900), ([{'loss': 2.31}] * 9, 20)],
)
def test_a_loss_below_chance_or_early_is_not_told(epochs, steps):
    assert told(epochs, steps) == []
