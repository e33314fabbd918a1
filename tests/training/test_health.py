"""Warnings, from scores written by hand and from a net that cannot learn."""

import functools
from types import SimpleNamespace

import numpy as np
import pytest

from alexnet_jax.runtime.errors import NotFiniteError
from alexnet_jax.training import loop
from alexnet_jax.training.health import Health

LAYERS = ('conv1', 'conv2', 'fc3')


def scores(loss=1.0, rate=0.01, **gradients):
    sizes = [gradients.get(layer, (1.0, 1.0)) for layer in LAYERS]
    return {
        'loss': np.float32(loss),
        'learning_rate': np.float32(rate),
        'bias_gradients': np.array(sizes, np.float32),
    }


def printed(epochs, steps=300, classes=10) -> list[str]:
    """What is said in so many steps an epoch; of each epoch, what `scores` takes."""
    lines, step = [], 0
    health = Health(LAYERS, classes, lines.append)
    for epoch in epochs:
        for _ in range(steps):
            step += 1
            health.step(step, scores(**epoch))
        health.epoch()
    return lines


@pytest.mark.parametrize(('bad', 'named'), [
    ({'loss': np.nan}, 'the loss of step 7 is nan'),
    ({'rate': np.inf}, 'the learning rate of step 7 is inf'),
    ({'conv2': (0.0, -np.inf)}, 'the gradient of conv2 of step 7 is -inf'),
    ({'fc3': (np.nan, 1.0)}, 'the gradient of fc3 of step 7 is nan'),
])  # fmt: skip
def test_what_is_not_finite_is_named(bad, named):
    with pytest.raises(NotFiniteError, match=named) as raised:
        Health(LAYERS).step(7, scores(**bad))
    assert raised.value.step == 7


NET = ('conv3', 'conv4', 'conv5', 'fc6', 'fc7', 'fc8')
READS_ALL = ('conv3', 'fc6', 'fc7')  # as the paper's; the output does too


def gradients(**sizes) -> np.ndarray:
    return np.array([sizes.get(layer, (1, 1)) for layer in NET], np.float32)


def step_of(health: Health, step: int, sizes: np.ndarray) -> None:
    health.step(step, scores() | {'bias_gradients': sizes})


def dead_parts(*epochs) -> list[list[str]]:
    """Epoch by epoch, the parts that are named; of each epoch, the gradients of one step."""
    lines: list[str] = []
    health = Health(NET, 10, lines.append, READS_ALL)
    found = []
    for number, sizes in enumerate(epochs, start=1):
        step_of(health, number, gradients(**sizes))
        health.epoch()
        assert all(line.startswith('warning: ') and ' is dead: ' in line for line in lines)
        found.append([line.removeprefix('warning: ').split(' is dead')[0] for line in lines])
        lines.clear()
    return found


GONE = (0, 0)
BELOW_FC6 = {'conv3': GONE, 'conv4': GONE, 'conv5': GONE}


@pytest.mark.parametrize(('epochs', 'expected'), [
    # One dead part does not hide another, now or later, and each is named once.
    ([{'conv5': GONE, 'fc7': (1, 0)}], [['conv5', 'column 2 of fc7']]),
    ([{'fc7': (1, 0)}, {'conv5': GONE, 'fc7': (1, 0)}] * 2,
     [['column 2 of fc7'], ['conv5'], [], []]),
    ([{'conv5': (0, 1)}, {'conv5': GONE}, {'conv5': GONE}],
     [['column 1 of conv5'], ['column 2 of conv5'], []]),
    ([{'conv5': (0, 1)}, {}, {'conv5': (0, 1)}], [['column 1 of conv5'], [], []]),
    ([{'conv5': (0, 1), 'fc6': (0, 1), 'fc7': (1, 0)}],
     [['column 1 of conv5', 'column 1 of fc6', 'column 2 of fc7']]),
    # What only dead parts read has no gradient either, and may live.
    ([BELOW_FC6 | {'fc6': GONE}], [['fc6']]),
    ([BELOW_FC6 | {'fc6': GONE}, BELOW_FC6], [['fc6'], ['conv5']]),
    ([{'conv4': (0, 1), 'conv5': (0, 1)}], [['column 1 of conv5']]),
    ([{'conv4': (1, 0), 'conv5': (0, 1)}], [['column 2 of conv4', 'column 1 of conv5']]),
    ([{'conv4': GONE, 'conv5': (0, 1)}], [['column 2 of conv4', 'column 1 of conv5']]),
    # conv4's columns read their own of conv3 alone.
    ([{'conv3': (0, 1), 'conv4': (0, 1)}], [['column 1 of conv4']]),
    # fc6 and the output read both columns: either alone would bring a gradient.
    ([{'conv5': (0, 1), 'fc6': (0, 1)}], [['column 1 of conv5', 'column 1 of fc6']]),
    ([{'fc7': (0, 1)}], [['column 1 of fc7']]),
    ([dict.fromkeys(NET, GONE)], [[]]),
])  # fmt: skip
def test_each_dead_part_is_named_once(epochs, expected):
    assert dead_parts(*epochs) == expected


def held_by(column: int, sizes: np.ndarray) -> SimpleNamespace:
    """An array as a process sees it that holds one column."""
    index = (slice(None), slice(column, column + 1))
    shard = SimpleNamespace(index=index, data=sizes[index])
    return SimpleNamespace(
        shape=sizes.shape, dtype=sizes.dtype, addressable_shards=[shard],
        is_fully_addressable=False, is_fully_replicated=False,
    )  # fmt: skip


@pytest.mark.parametrize(('sizes', 'expected'), [
    ({'conv5': (1, 0)}, ['column 2 of conv5']),
    ({'conv5': (0, 1)}, ['column 1 of conv5']),
    ({'conv5': GONE}, ['conv5']),
    ({'conv5': (0, 1), 'fc7': (1, 0)}, ['column 1 of conv5', 'column 2 of fc7']),
    ({}, []),
])  # fmt: skip
def test_with_a_column_in_each_process_all_see_the_same(sizes, expected):
    """Two processes, of which the first alone prints."""
    learnt, lines = {}, {0: [], 1: []}

    def gather_texts(process: int, own: np.ndarray) -> np.ndarray:
        learnt[process] = own
        return np.stack([learnt[0], learnt[1]])

    of = [Health(NET, 10, lines[process].append, READS_ALL,
                 functools.partial(gather_texts, process)) for process in (0, 1)]  # fmt: skip
    for process, health in enumerate(of):
        step_of(health, 1, loop._own_part(held_by(process, gradients(**sizes))))
        learnt[process] = loop._own_part(held_by(process, gradients(**sizes))) > 0
    for health in of:
        health.epoch()
    assert lines[0] == lines[1]
    assert [line.removeprefix('warning: ').split(' is dead')[0] for line in lines[0]] == expected


def test_a_number_that_is_not_finite_is_found_by_the_process_that_holds_it():
    sizes = gradients(conv5=(1, np.nan))
    step_of(Health(NET), 1, loop._own_part(held_by(0, sizes)))
    with pytest.raises(NotFiniteError, match='the gradient of conv5 of step 1 is nan'):
        step_of(Health(NET), 1, loop._own_part(held_by(1, sizes)))


def test_an_epoch_that_ends_without_a_step_says_nothing():
    """A run that goes on from the end of an epoch."""
    lines = []
    Health(NET, 10, lines.append, READS_ALL).epoch()
    assert lines == []


def test_what_has_a_gradient_once_in_an_epoch_lives():
    lines = []
    health = Health(LAYERS, 10, lines.append)
    for step, size in enumerate([0, 0, 1e-20, 0], start=1):
        health.step(step, scores(conv2=(size, size)))
    health.epoch()
    assert lines == []


def test_nothing_left_to_learn_is_not_death():
    nothing = (0.0, 0.0)
    assert printed([{'conv1': nothing, 'conv2': nothing, 'fc3': nothing}]) == []


def test_a_loss_at_chance_is_told_with_a_likely_cause():
    (line,) = printed([{'loss': 2.31}, {'loss': 2.30}, {'loss': 2.30}])
    assert 'after 600 steps' in line and '2.3026' in line and 'learning rate is too high' in line
    lines = printed([{'loss': 2.31, 'conv2': (0, 0)}] * 2)
    assert [('is dead' in line, 'its units died' in line) for line in lines] == [
        (True, False), (False, True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ('epochs', 'steps'),
    [([{'loss': 2.2}] * 9, 300), ([{'loss': 2.31}], 900), ([{'loss': 2.31}] * 9, 20)],
)
def test_a_loss_below_chance_or_early_gives_no_warning(epochs, steps):
    assert printed(epochs, steps) == []
