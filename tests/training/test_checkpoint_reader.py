"""Checkpoints as they are read: damaged, taken away, or beside a run that saves."""

import threading

import chex
import numpy as np
import pytest

from alexnet_jax.runtime.errors import InputError
from alexnet_jax.training import checkpoint, checkpoint_reader, manifest
from alexnet_jax.training.checkpoint import Checkpoints
from alexnet_jax.training.checkpoint_reader import newest_intact, read_layers
from tests.training.conftest import at, saved

# What is under way in Orbax's loop when something else in it fails.
pytestmark = pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')


def test_reading_leaves_alone_what_another_process_is_saving(state, tmp_path):
    saved(tmp_path, [at(state, 3)])
    begun = tmp_path / checkpoint.PARTIAL / '4'
    begun.mkdir(parents=True)
    layers, found, _ = read_layers(tmp_path)
    assert found == 3
    chex.assert_trees_all_equal(layers, state.params)
    assert begun.exists()
    saved(tmp_path, [at(state, 5)])
    assert not begun.exists()  # a run that takes the folder over clears up
    assert sorted(path.name for path in tmp_path.iterdir()) == ['5']


def test_a_missing_step_is_named_with_those_there_are(state, tmp_path):
    assert newest_intact(tmp_path) == (None, [])
    with pytest.raises(InputError, match='holds no checkpoint'):
        read_layers(tmp_path)
    saved(tmp_path, [at(state, 3)])
    with pytest.raises(InputError, match=r'step is 5; .* holds: 3'):
        read_layers(tmp_path, 5)


def rewritten(folder):
    """With a manifest that fits, as somebody may make one."""
    (folder / manifest.NAME).unlink()
    manifest.write(folder, {'step': int(folder.name), 'top1_error': None})


@pytest.mark.thorough
@pytest.mark.parametrize('number', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('name', ['params.conv1.bias', 'params.fc8.kernel'])
def test_weights_that_are_not_finite_are_refused(name, number, two):
    chunk = next(path for path in (two / '6' / 'state' / name).iterdir() if path.name[0] == '0')
    numbers = np.fromfile(chunk, np.float32)
    numbers[3] = number
    numbers.tofile(chunk)
    rewritten(two / '6')
    layer, part = name.split('.')[1:]
    with pytest.raises(InputError, match=rf'{layer}/{part} has numbers that are not finite'):
        read_layers(two)


def test_a_step_that_is_no_whole_number_s_own_name_is_none(two):
    for name in ('007', '٣', '8.damaged', '-9', '1' * 200 + 'x'):
        (two / name).mkdir()
    assert checkpoint_reader.steps(two) == [3, 6] and newest_intact(two) == (6, [])


@pytest.mark.thorough
@pytest.mark.parametrize('moment', ['while it is chosen', 'while it is read'])
def test_a_checkpoint_that_is_taken_away_is_read_from_the_next(moment, two, state, monkeypatch):
    """As a run does that saves and keeps one."""
    read, found = read_layers(two)[0], []

    def taken_away() -> None:
        if not found:
            found.append(moment)
            saved(two, [at(state, 9)])
            assert checkpoint_reader.steps(two) == [9]

    chosen = moment == 'while it is chosen'
    owner, name = (manifest, 'verify') if chosen else (checkpoint_reader, 'declared_arrays')
    call = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda place: taken_away() or call(place))
    layers, step, _ = read_layers(two)
    assert step == 9 and found
    chex.assert_trees_all_equal(layers, read)
    found.clear()
    with pytest.raises(InputError, match=r'step is 6; .* holds: 9'):
        read_layers(two, 6)


@pytest.mark.slow
def test_loads_beside_a_run_that_keeps_one(state, tmp_path):
    saved(tmp_path, [at(state, 1)])
    checkpoints, done = Checkpoints(tmp_path), threading.Event()

    def save() -> None:
        for number in range(2, 60):
            checkpoints.save(at(state, number))
            checkpoints.wait()
        done.set()

    thread = threading.Thread(target=save)
    thread.start()
    steps = []
    while not done.is_set():
        steps.append(read_layers(tmp_path)[1])
    thread.join()
    assert steps == sorted(steps) and len(steps) > 10
