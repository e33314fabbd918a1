"""Which steps are profiled, and what is left of it."""

import contextlib

import jax
import jax.numpy as jnp
import pytest
from jax._src.profiler import _profile_state

from alexnet_jax import main
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE
from alexnet_jax.runtime.errors import StorageError
from alexnet_jax.training import profile
from tests.faults import driver


@pytest.fixture
def events(monkeypatch):
    """What the profiler is asked for, and the steps in between."""
    found = []
    monkeypatch.setattr(jax.profiler, 'start_trace', lambda folder: found.append(f'start {folder}'))
    monkeypatch.setattr(jax.profiler, 'stop_trace', lambda: found.append('stop'))
    return found


def run(events, span, done, steps, folder='F', fails_at=0) -> None:
    def train_step(state, batch):
        events.append(state + 1)
        if events[-1] == fails_at:
            raise jax.errors.JaxRuntimeError('a device is gone')
        return state + 1, {}

    with profile.traced(train_step, folder, span, done) as step:
        state = done
        for _ in range(steps):
            state, _ = step(state, None)


@pytest.mark.parametrize(('span', 'done', 'steps', 'expected'), [
    ((2, 3), 0, 5, [1, 'start F', 2, 3, 'stop', 4, 5]),
    ((1, 1), 0, 2, ['start F', 1, 'stop', 2]),
    ((2, 9), 0, 3, [1, 'start F', 2, 3, 'stop']),  # the run ends, or is stopped, before
    ((2, 5), 3, 3, ['start F', 4, 5, 'stop', 6]),  # resumed within
    ((2, 3), 3, 2, [4, 5]),  # resumed behind
    (None, 0, 2, [1, 2]),
])  # fmt: skip
def test_the_steps_that_are_profiled(span, done, steps, expected, events):
    run(events, span, done, steps)
    assert events == expected


def test_other_processes_write_none(events):
    run(events, (1, 2), 0, 2, folder=None)
    assert events == [1, 2]


def test_a_fault_within_stays_what_it_is(events):
    with pytest.raises(jax.errors.JaxRuntimeError, match='a device is gone'):
        run(events, (1, 5), 0, 3, fails_at=2)
    assert events == ['start F', 1, 2, 'stop']


def test_a_profile_that_cannot_be_written_is_reported(tmp_path):
    (tmp_path / 'file').write_text('')
    step = jax.jit(lambda state, batch: (state + 1, {}))
    with (
        pytest.raises(StorageError, match='file/profile/ cannot be written: '),
        profile.traced(step, tmp_path / 'file' / 'profile', (1, 1), 0) as traced,
    ):
        traced(jnp.int32(0), None)
    _profile_state.reset()  # JAX thinks that it goes on


@pytest.mark.thorough
def test_a_run_leaves_the_profile_of_its_steps(tmp_path, data_dir, capsys):
    """Their numbers stand in the trace; its file is a protocol buffer, with texts as they are."""
    argv = driver.command(
        tmp_path / 'run', data_dir, **{'train.steps': '5', 'train.profile': '3:4'}
    )
    assert main.main(argv) == DONE
    (trace,) = (tmp_path / 'run' / 'profile').rglob('*.xplane.pb')
    content = trace.read_bytes()
    assert b'step_num' in content and b'train_step' in content
    capsys.readouterr()
    assert main.main([*argv, '--config.train.steps=6']) == DONE
    warned = 'warning: no profile: step 4, the last of train.profile, was done before'
    assert warned in capsys.readouterr().out


@pytest.mark.parametrize(('text', 'message'), [
    ('3:2', r"train.profile is '3:2'; allowed: FIRST:LAST, steps from 1 to 2147483647 in this order"),
    ('0:2', "train.profile is '0:2'"), ('1', "train.profile is '1'"), ('1:', "train.profile is '1:'"),
    ('1:2147483648', "train.profile is '1:2147483648'"), ('1:2:3', "train.profile is '1:2:3'"),
    ('6:9', r"train.profile is '6:9'; allowed: steps that the run has, up to 5"),
])  # fmt: skip
def test_a_span_that_is_none_is_refused(text, message, tmp_path, data_dir, capsys):
    argv = driver.command(tmp_path / 'run', data_dir, **{'train.steps': '5', 'train.profile': text})
    assert main.main(argv) == BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    with contextlib.suppress(FileNotFoundError):
        assert not list((tmp_path / 'run').iterdir())
