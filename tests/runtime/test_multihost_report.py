"""Process 0 makes the report of several processes; the others wait for it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alexnet_jax.runtime import multihost
from alexnet_jax.runtime.command_line import DONE, FAULT, STOPPED
from alexnet_jax.runtime.errors import StopRequestedError
from tests import several
from tests.several import files

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
