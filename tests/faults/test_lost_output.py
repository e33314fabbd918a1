"""The reader of a run's output goes away, its terminal is closed, its log is on a full disk: the
run goes on or is saved, and comes to the same end."""

import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from alexnet_jax.runtime.command_line import DONE, STOPPED
from tests.faults import driver


@pytest.mark.thorough
def test_no_reader_then_a_closed_terminal_then_a_full_disk(undisturbed, data_dir, tmp_path):
    argv, fifo = driver.command(tmp_path / 'run', data_dir), tmp_path / 'fifo'
    argv.append('--config.train.print_every_steps=1')
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    process = driver.start(argv, fifo, driver.Moment('row', 20, number=signal.SIGHUP))
    driver.wait_for(lambda: bool(select.select([reader], [], [], 0)[0]), process)
    os.close(reader)
    process.join(120)
    assert process.exitcode == STOPPED
    steps = [row['step'] for row in driver.rows(tmp_path / 'run') if row['split'] == 'train']
    assert max(steps) == driver.saved_step(tmp_path / 'run') >= 19
    assert driver.run(argv, Path('/dev/full')) == DONE
    driver.assert_same_run(tmp_path / 'run', undisturbed)


@pytest.mark.slow
def test_a_terminal_that_is_closed(undisturbed, data_dir, tmp_path):
    argv = driver.command(tmp_path / 'run', data_dir)
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(
        ['setsid', '--ctty', sys.executable, '-m', 'alexnet_jax.main', *argv],
        stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    while driver.saved_step(tmp_path / 'run') < 14:
        if select.select([terminal], [], [], 0.05)[0]:
            assert os.read(terminal, 65536)
    os.close(terminal)
    assert process.wait(60) == STOPPED
    assert driver.saved_step(tmp_path / 'run') >= 14
    assert driver.run(argv, tmp_path / 'printed') == DONE, (tmp_path / 'printed').read_text()
    driver.assert_same_run(tmp_path / 'run', undisturbed)
