"""Several processes of this machine train as one does, and none of them is left alone."""

import contextlib
import json
import os
import random as python_random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from alexnet_jax import main
from alexnet_jax.runtime import multihost
from alexnet_jax.runtime.command_line import DONE, FAULT, STOPPED
from alexnet_jax.runtime.errors import LostProcessError
from tests import several
from tests.faults import driver
from tests.several import files

# What training and evaluating do after so many steps when they are to block for ever.
BLOCKS = """
import os, runpy, time
from alexnet_jax.training import metrics_log
get_config = runpy.run_path('configs/digits.py')['get_config']
write = metrics_log.MetricsLog.write
def block(self, row):
    write(self, row)
    if row['step'] == 5:
        time.sleep(1000)
metrics_log.MetricsLog.write = block
"""
# Initial biases from which a column's units give 0 for every image.
DIES = """
import jax, runpy
from alexnet_jax.training import step
get_config = runpy.run_path('configs/digits.py')['get_config']
create = step.create_state
def create_dead(net, seed, mesh):
    state = create(net, seed, mesh)
    for layer in 'conv5', 'fc6':
        parts = state.params[layer]
        kill = jax.jit(lambda bias: bias.at[1].set(-1e4), out_shardings=parts['bias'].sharding)
        parts['bias'] = kill(parts['bias'])
    return state
step.create_state = create_dead
"""


def rows(workdir: Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


def wait_for_step(workdir: Path, step: int, processes: list[subprocess.Popen]) -> None:
    end = time.monotonic() + 120
    while not ((workdir / 'metrics.jsonl').exists() and len(rows(workdir)) >= step):
        assert time.monotonic() < end
        assert all(process.poll() is None for process in processes), processes[0].communicate()
        time.sleep(0.05)


def assert_same_run(workdir: Path, other: Path) -> None:
    """The same rows; losses may differ by rounding."""
    ours, theirs = rows(workdir), rows(other)
    assert [(row['split'], row['step'], row['epoch']) for row in ours] == [
        (row['split'], row['step'], row['epoch']) for row in theirs
    ]
    losses = [[row['loss'] for row in found] for found in (ours, theirs)]
    np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.thorough
def test_two_processes_stop_on_request_and_one_goes_on(command, tmp_path):
    """Across them lies the pair of columns; then it is one device's, then four have both."""
    assert main.main(command('alone')) == DONE
    more = ['--config.mesh.column=2', '--config.checkpoint.keep=9']
    with several.started(2, command('together', *more)) as processes:
        wait_for_step(tmp_path / 'together', 8, processes)
        processes[1].send_signal(signal.SIGINT)
        printed = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [STOPPED, STOPPED], printed
    assert 'stopped; step' in printed[0][0]
    assert (
        'stopped after' not in printed[1][0] and 'training' not in printed[1][0]
    )  # one of them talks
    kept = json.loads((tmp_path / 'together' / 'config.json').read_text())
    assert kept['processes'] == 2 and kept['mesh'] == {'data': 1, 'column': 2}

    mesh = ['--config.mesh.data=2', '--config.mesh.column=2']
    assert main.main(command('together', *mesh)) == DONE
    assert_same_run(tmp_path / 'together', tmp_path / 'alone')


@pytest.mark.thorough
def test_two_processes_evaluate_as_one_does(command, tmp_path):
    """Every image once, in order, and the same bits; ids and labels of both processes' rows."""
    assert main.main(command('run', '--config.train.steps=3')) == DONE
    arguments = ['--workdir', str(tmp_path / 'run'), '--mode=eval', '--config.eval.batch_size=50']
    arguments += ['--config.eval.save=predictions', '--config.eval.split=train']
    assert main.main(arguments) == DONE
    eval_files = tmp_path / 'run' / 'eval'
    for path in eval_files.glob('test-*'):
        path.unlink()
    alone = [files(eval_files), files(eval_files / 'train-1-predictions')]
    shutil.rmtree(eval_files)
    (first, out, errors), (second, silence, _) = several.run(2, arguments)
    assert (first, second) == (DONE, DONE), errors
    assert 'train: top1_error' in out and 'top1_error' not in silence
    assert [files(eval_files), files(eval_files / 'train-1-predictions')] == alone
    assert len(json.loads(alone[1]['ids.json'])) > 1000


@pytest.mark.thorough
@pytest.mark.parametrize(('victim', 'number'), [
    (1, signal.SIGKILL),
    *(
        pytest.param(victim, number, marks=pytest.mark.slow)
        for victim, number in [(0, signal.SIGKILL), (0, signal.SIGSTOP), (1, signal.SIGSTOP)]
    ),
])  # fmt: skip
def test_when_one_is_lost_all_end_with_plain_lines(victim, number, command, tmp_path):
    with several.started(2, command('run', '--config.train.steps=5000')) as processes:
        wait_for_step(tmp_path / 'run', 5, processes)
        child = several.children_of(processes[victim].pid)[0]
        begun = time.monotonic()
        subprocess.run(['kill', f'-{number}', str(child)], check=True)
        printed = [process.communicate(timeout=60)[1] for process in processes]
        assert time.monotonic() - begun < several.HEARTBEAT + 10
    assert [process.returncode for process in processes] == [FAULT, FAULT]
    for text in printed:
        lines = text.splitlines()
        assert 1 <= len(lines) <= 2 and all(line.startswith('error: ') for line in lines), text
        assert 'The same command resumes' in text
    how = 'ended by SIGKILL' if number == signal.SIGKILL else 'frozen'
    assert f'process {victim}: it was {how}' in printed[victim]


@pytest.mark.parametrize(('processes', 'text', 'lost'), [
    (2, 'FAILED_PRECONDITION: Gloo all-reduce failed: connection closed by peer', True),
    (2, 'UNAVAILABLE: failed to connect to all addresses', True),
    (2, 'RESOURCE_EXHAUSTED: Out of memory', False),
    (1, 'UNAVAILABLE: a single process has lost nobody', False),
])  # fmt: skip
def test_errors_of_collectives_are_those_of_a_lost_process(processes, text, lost, monkeypatch):
    monkeypatch.setattr(multihost, 'count', lambda: processes)
    line = rf'process 0 of {processes} lost .* The same command resumes from the last checkpoint$'
    kind, message = (LostProcessError, line) if lost else (jax.errors.JaxRuntimeError, text)
    with pytest.raises(kind, match=message), multihost.lost_process_errors():
        raise jax.errors.JaxRuntimeError(text)


@pytest.mark.thorough
def test_one_that_is_alive_but_stuck_is_found(command, tmp_path):
    blocks = tmp_path / 'blocks.py'
    blocks.write_text(BLOCKS)
    arguments = command('run', '--config.train.steps=5000')[2:]
    with several.started(2, ['--config', str(blocks), *arguments]) as processes:
        wait_for_step(tmp_path / 'run', 5, processes)
        begun = time.monotonic()
        printed = [process.communicate(timeout=60)[1] for process in processes]
        assert time.monotonic() - begun < several.HEARTBEAT + 10
    assert [process.returncode for process in processes] == [FAULT, FAULT]
    assert any('it or another one stood still' in text for text in printed), printed


@pytest.mark.slow
def test_killed_ten_times_a_run_ends_as_if_it_never_was(command, tmp_path):
    """By launch/local.sh; of each process the one that trains or the one that watches."""
    arguments = ['--config.train.steps=1500', '--config.schedule.patience=100']
    arguments += [f'--heartbeat={several.HEARTBEAT}']
    assert [status for status, _, _ in several.run(2, command('whole', *arguments))] == [DONE] * 2
    random = python_random.Random(0)
    with subprocess.Popen(
        ['launch/local.sh', '2', *command('killed', *arguments)],
        env=os.environ | {'PYTHON': sys.executable, 'XLA_FLAGS': ''},
        stderr=subprocess.PIPE, text=True,
    ) as launcher:  # fmt: skip
        for _ in range(10):
            time.sleep(random.uniform(2, 10))
            watching = several.children_of(launcher.pid)
            victims = [
                *watching,
                *(child for pid in watching for child in several.children_of(pid)),
            ]
            assert launcher.poll() is None, 'it ended too soon: give it more steps'
            if victims:  # or else they are just being started
                with contextlib.suppress(ProcessLookupError):
                    os.kill(random.choice(victims), signal.SIGKILL)
        _, printed = launcher.communicate()
    assert launcher.returncode == DONE, printed
    assert printed.count('all are started again') >= 5

    assert driver.rows(tmp_path / 'killed') == driver.rows(tmp_path / 'whole')


@pytest.mark.slow
def test_what_slurm_tells_its_tasks_is_enough(command, tmp_path):
    slurm = {'SLURM_JOB_ID': '3141', 'SLURM_STEP_NODELIST': 'localhost', 'SLURM_NTASKS': '2'}
    tasks = [
        subprocess.Popen(
            [sys.executable, '-m', 'alexnet_jax.main', '--processes=auto', *command('run')],
            env=os.environ | slurm | {'SLURM_PROCID': task, 'SLURM_LOCALID': task, 'XLA_FLAGS': ''},
            stdout=subprocess.PIPE, text=True,
        )
        for task in '01'
    ]  # fmt: skip
    printed = [task.communicate(timeout=120)[0] for task in tasks]
    assert [task.returncode for task in tasks] == [DONE, DONE], printed
    assert '1×2 cpu devices of 2 processes' in printed[0]


@pytest.mark.slow
def test_a_dead_column_of_another_process_is_reported_by_the_first(command, tmp_path):
    """Column 2 of conv5, which process 1 alone holds, and of fc6, which takes nothing from it."""
    dies = tmp_path / 'dies.py'
    dies.write_text(DIES)
    arguments = command('run')[2:]
    (first, printed, _), (second, silent, _) = several.run(2, ['--config', str(dies), *arguments])
    assert (first, second) == (DONE, DONE)
    warnings = [line for line in printed.splitlines() if line.startswith('warning: ')]
    assert [line.partition(':')[2].partition(':')[0] for line in warnings] == [
        ' column 2 of conv5 is dead', ' column 2 of fc6 is dead',
    ]  # fmt: skip
    assert 'warning' not in silent
