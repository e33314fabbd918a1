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

import numpy as np
import pytest

from alexnet_jax import main
from alexnet_jax.data.prepare import __main__ as prepare
from alexnet_jax.runtime import multihost
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE, FAULT, STOPPED
from alexnet_jax.runtime.errors import StopRequestedError
from tests import several
from tests.data.photographs import write_classes
from tests.faults import driver

STEPS = 30
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

# Figures are made, but not drawn: that is most of the time of a report.
UNDRAWN = """
import runpy
from matplotlib.figure import Figure
get_config = runpy.run_path('configs/digits.py')['get_config']
Figure.savefig = lambda self, fname, **options: fname.write(b'<svg><defs></defs></svg>')
"""

# A report that waits for a request to stop, or, where the file `fails` is beside it, fails.
REPORTS = """
import pathlib, runpy, time
from alexnet_jax.report import run_page
from alexnet_jax.runtime.errors import StopRequestedError, StorageError
get_config = runpy.run_path('configs/digits.py')['get_config']
beside = pathlib.Path(__file__).parent
def make(config, workdir, stop_requested):
    if (beside / 'fails').exists():
        raise StorageError('no report today')
    (beside / 'reporting').touch()
    end = time.monotonic() + 60
    while not stop_requested():
        assert time.monotonic() < end
        time.sleep(0.05)
    raise StopRequestedError
run_page.make = make
"""


@pytest.fixture
def command(data_dir, tmp_path):
    """(workdir, more arguments) -> the arguments of a short run of half the net on the digits."""

    def command(name: str, *more: str) -> list[str]:
        return [
            '--config', 'configs/digits.py', '--workdir', str(tmp_path / name),
            '--noconfig.train.report',
            f'--config.data.dir={data_dir}', '--config.network.width=0.5',
            f'--config.train.steps={STEPS}', *more,
        ]  # fmt: skip

    return command


def rows(workdir: Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


def wait_for_step(workdir: Path, step: int, processes: list[subprocess.Popen]) -> None:
    end = time.monotonic() + 120
    while not ((workdir / 'metrics.jsonl').exists() and len(rows(workdir)) >= step):
        assert time.monotonic() < end
        assert all(process.poll() is None for process in processes), processes[0].communicate()
        time.sleep(0.05)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


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
def test_two_processes_make_the_report_of_one(command, tmp_path):
    """Each has one column's parameters. The first makes it, and one process again."""
    workdir, undrawn = tmp_path / 'run', tmp_path / 'undrawn.py'
    undrawn.write_text(UNDRAWN)
    arguments = command('run', '--config.train.report', '--config.train.steps=3')[2:]
    arguments = ['--config', str(undrawn), *arguments]
    (first, out, errors), (second, silence, _) = several.run(
        2, [*arguments, '--config.mesh.column=2']
    )
    assert (first, second) == (DONE, DONE), errors
    assert out.endswith(f'report -> {workdir}/report/index.html\n') and 'report' not in silence
    made = files(workdir / 'report')
    environment = {name: text for name, text in os.environ.items() if name != 'PJRT_NPROC'}
    again = ['-m', 'alexnet_jax.main', *arguments, '--mode=report']
    subprocess.run([sys.executable, *again], env=environment | {'XLA_FLAGS': ''}, check=True)
    assert made == files(workdir / 'report') and len(made) > 10
    assert not list(workdir.glob('.turn*'))


def wait_for_report(folder: Path) -> None:
    end = time.monotonic() + 120
    while not (folder / 'reporting').exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    (folder / 'reporting').unlink()


@pytest.fixture
def reporting(command, tmp_path) -> list[str]:
    """The arguments of a short run with a report of REPORTS."""
    (tmp_path / 'reports.py').write_text(REPORTS)
    arguments = command('run', '--config.train.report', '--config.train.steps=3')[2:]
    return ['--config', str(tmp_path / 'reports.py'), *arguments]


@pytest.mark.thorough
def test_a_report_that_is_killed_or_fails(reporting, tmp_path):
    """The others end as the first does; the same command begins the report again."""
    with several.started(2, reporting) as processes:
        wait_for_report(tmp_path)
        os.kill(several.children_of(processes[0].pid)[0], signal.SIGKILL)
        printed = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [FAULT, FAULT], printed
    assert 'another process was lost; this one was at: waiting for process 0' in printed[1]

    (tmp_path / 'fails').touch()
    (first, _, warning), (second, _, silence) = several.run(2, reporting)
    assert (first, second) == (DONE, DONE), warning
    assert warning == (
        'warning: there is no new report: no report today\n'
        f'python -m alexnet_jax.main --workdir {tmp_path}/run --mode=report\n'
    )
    assert not silence
    assert not list((tmp_path / 'run').glob('.turn*'))


@pytest.mark.slow
@pytest.mark.parametrize('asked', [0, 1])
def test_a_report_is_stopped_by_a_request_to_any_process(asked, reporting, tmp_path):
    with several.started(2, reporting) as processes:
        wait_for_report(tmp_path)
        processes[asked].send_signal(signal.SIGTERM)
        printed = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [STOPPED, STOPPED], printed
    assert [text.count('stopped; the same command resumes') for text in printed] == [1, 0]
    assert not list((tmp_path / 'run').glob('.turn*'))


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


def test_a_turn_of_the_first_of_one_process(tmp_path):
    """It is the first; what a killed one left is removed."""
    (tmp_path / f'{multihost.TURN}0.stop').touch()
    requests = []
    multihost.by_first(tmp_path, lambda stop_requested: requests.append(stop_requested()))
    assert requests == [False]

    def stopped(stop_requested):
        os.kill(os.getpid(), signal.SIGTERM)
        end = time.monotonic() + 10
        while not stop_requested():
            assert time.monotonic() < end
            time.sleep(0.001)
        raise StopRequestedError

    with pytest.raises(StopRequestedError):
        multihost.by_first(tmp_path, stopped)
    assert not list(tmp_path.iterdir())


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


def test_processes_that_differ_are_refused_by_all(command, tmp_path):
    own = [['--config.seed=1'], ['--config.seed=2']]
    found = several.run(2, command('run'), own)
    line = 'error: process 1 differs from process 0: seed is 2, not 1\n'
    assert [(status, error) for status, _, error in found] == [(BAD_INPUT, line)] * 2
    assert not (tmp_path / 'run').exists()


@pytest.mark.thorough
@pytest.mark.parametrize('mode', ['train', 'eval'])
def test_processes_on_different_sets_are_refused_by_all(mode, tmp_path):
    """As many images and classes, other names: each would train on labels of its own."""
    photos, source = tmp_path / 'photos', f'--config.data.source=folder:{tmp_path}/photos'
    write_classes(photos, 4, ('a', 'b', 'c'))
    for name in ('one', 'other'):
        arguments = ['--source', f'folder:{photos}', '--out', str(tmp_path / name), '--size=32']
        assert prepare.main([*arguments, '--val_fraction=0.25']) == DONE
        if name == 'one':
            (photos / 'a').rename(photos / 'z')
    arguments = [
        '--config', 'configs/digits.py', '--workdir', str(tmp_path / 'run'), source,
        '--config.data.batch_size=4', '--config.train.steps=2', '--noconfig.train.report',
    ]  # fmt: skip
    own = [[f'--config.data.dir={tmp_path / name}'] for name in ('one', 'other')]
    if mode == 'eval':
        assert main.main([*arguments, *own[0]]) == DONE
    found = several.run(2, [*arguments, f'--mode={mode}'], own)
    for status, _, error in found:
        assert status == BAD_INPUT
        named = ('b, c, z', "'z', which is none")  # in training, in an evaluation
        of_first = error.startswith('error: process 1') and any(text in error for text in named)
        assert of_first or "'b'" in error
    assert (tmp_path / 'run').exists() == (mode == 'eval')


@pytest.mark.thorough
def test_processes_that_do_not_share_the_workdir_are_refused(command, tmp_path):
    own = [['--workdir', str(tmp_path / str(index))] for index in range(2)]
    found = several.run(2, command('run'), own)
    line = (
        f'error: process 1 of 2: --workdir {tmp_path}/1 is not the folder that process 0 has;'
        ' allowed: one on a file system that all processes share\n'
    )
    assert [(status, error) for status, _, error in found] == [(BAD_INPUT, line)] * 2


@pytest.mark.slow
def test_a_mesh_that_leaves_a_process_out_is_refused(command, tmp_path):
    found = several.run(2, command('run', '--config.mesh.data=1', '--config.mesh.column=1'))
    for status, _, error in found:
        assert status == BAD_INPUT
        assert (
            'mesh.data × mesh.column is 1 × 1; allowed: all devices of the 2 processes, 2' in error
        )


def test_a_coordinator_that_does_not_answer_is_named(command):
    place = f'127.0.0.1:{several.free_port()}'
    [(status, _, error)] = several.run(
        1, command('run'),
        [['--processes=2', '--process=1', f'--coordinator={place}', '--join_timeout=1']],
    )  # fmt: skip
    assert status == BAD_INPUT
    assert f'--coordinator {place} did not answer within 1 s: Connection refused' in error


@pytest.mark.thorough
def test_a_process_that_is_missing_at_the_start_ends_the_wait(command):
    [(status, _, error)] = several.run(1, command('run'), [['--processes=2', '--join_timeout=3']])
    assert status == BAD_INPUT
    assert error.startswith('error: process 0: process 1 of 2 did not come to 127.0.0.1:')
    assert 'within 3 s; allowed: each process started' in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(('arguments', 'line'), [
    ('--processes=0', "--processes is '0'; allowed: a whole number from 1 on, or auto"),
    ('--processes=2', '--processes=N needs --process=I and --coordinator=HOST:PORT too'),
    ('--processes=2 --process=2 --coordinator=a:1', '--process is 2; allowed: from 0 to 1'),
    ('--processes=2 --process=0 --coordinator=a', "--coordinator is 'a'; allowed: HOST:PORT"),
    ('--processes=2 --process=0 --coordinator=a:0', "--coordinator is 'a:0'; allowed: HOST:PORT"),
    ('--process=1', '--process and --coordinator go with --processes=N'),
    ('--processes=auto --process=1', '--process and --coordinator go with --processes=N'),
    ('--processes=auto --heartbeat=1', '--heartbeat is 1; allowed: from 5 to 86400 seconds'),
    ('--processes=auto --mode=report',
     '--mode=report runs in one process; leave out --processes; see --help'),
])  # fmt: skip
def test_options_that_do_not_go_together_are_refused(arguments, line, command, capsys):
    assert main.main(command('run', *arguments.split())) == BAD_INPUT
    assert capsys.readouterr().err == f'error: {line}\n'


@pytest.mark.thorough
def test_what_the_first_alone_lacks_is_told_by_both(command, tmp_path, monkeypatch):
    """Weights & Biases, which the first alone opens."""
    (tmp_path / 'wandb.py').write_text('raise ImportError')
    monkeypatch.setenv('PYTHONPATH', f'{tmp_path}:{os.getcwd()}')
    for status, _, error in several.run(2, command('run', '--config.train.log_to=wandb')):
        assert status == 2
        assert 'process 0 of 2: train.log_to names wandb, which is not installed' in error


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
