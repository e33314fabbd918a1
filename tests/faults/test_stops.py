"""SIGTERM and SIGINT at seeded random moments: status 75, no step lost, soon."""

import os
import random as python_random
import signal
import subprocess
import sys
import time

import pytest

from alexnet_jax.runtime.command_line import DONE, FAULT, STOPPED
from tests import several
from tests.faults import driver

LONGEST = 10  # seconds, from the signal to the end


def stop_at(moment: float, number: int, argv, workdir, output) -> int:
    """The exit status of a run that is sent a signal so many seconds after it began to listen."""
    output.write_text('')
    process = driver.start(argv, output)
    driver.wait_for(lambda: driver.listens(process.pid) or process.exitcode is not None, process)
    time.sleep(moment)
    begun = time.monotonic()
    if process.exitcode is None:
        os.kill(process.pid, number)
    process.join(120)
    assert time.monotonic() - begun < LONGEST, output.read_text()
    return process.exitcode


def stopped_until_done(count: int, seed: int, undisturbed, data_dir, folder) -> int:
    """How many of so many signals met a run that was not at its end."""
    random, stops, workdir = python_random.Random(seed), 0, folder / '0'
    output = folder / 'printed'
    for number in range(count):
        argv = driver.command(workdir, data_dir)
        how = random.choice([signal.SIGTERM, signal.SIGINT])
        status = stop_at(random.uniform(0.0, 2.5), how, argv, workdir, output)
        printed = output.read_text()
        assert status in (STOPPED, DONE), printed
        stops += status == STOPPED
        if status == STOPPED and (workdir / 'metrics.jsonl').exists():
            steps = [row['step'] for row in driver.rows(workdir) if row['split'] == 'train']
            assert max(steps, default=0) == driver.saved_step(workdir)
        if status == DONE:
            driver.assert_same_run(workdir, undisturbed)
            workdir = folder / str(number + 1)
    if workdir.exists():
        assert driver.run(driver.command(workdir, data_dir), output) == DONE
        driver.assert_same_run(workdir, undisturbed)
    return stops


@pytest.mark.thorough
def test_five_stops(undisturbed, data_dir, tmp_path):
    assert stopped_until_done(5, 1, undisturbed, data_dir, tmp_path) >= 3


@pytest.mark.slow
def test_twenty_stops(undisturbed, data_dir, tmp_path):
    assert stopped_until_done(26, 2, undisturbed, data_dir, tmp_path) >= 20


@pytest.mark.thorough
@pytest.mark.parametrize('place', ['evaluated batch', 'result'])
def test_stopped_in_an_evaluation_what_was_trained_is_saved(place, undisturbed, data_dir, tmp_path):
    """In a validation, with `--mode=train`; and in an evaluation of its own."""
    argv, output = driver.command(tmp_path / 'run', data_dir), tmp_path / 'printed'
    moment = driver.Moment(place, 1, number=signal.SIGTERM)
    status = driver.run(argv, output, moment)
    if place == 'result':  # too late to be stopped
        assert status == DONE
    else:
        assert status == STOPPED, output.read_text()
        assert [row['split'] for row in driver.rows(tmp_path / 'run')] == ['train'] * 41
        assert driver.saved_step(tmp_path / 'run') == 41
        assert driver.run(argv, output) == DONE
    driver.assert_same_run(tmp_path / 'run', undisturbed)

    evaluation = ['--workdir', str(tmp_path / 'run'), '--mode=eval']
    (tmp_path / 'run' / 'eval' / 'test-1.json').unlink()
    moment = driver.Moment('evaluated batch', 2, number=signal.SIGINT)
    assert driver.run(evaluation, output, moment) == STOPPED
    assert not (tmp_path / 'run' / 'eval' / 'test-1.json').exists()
    assert driver.run(evaluation, output) == DONE
    driver.assert_same_run(tmp_path / 'run', undisturbed)


@pytest.mark.thorough
def test_a_validation_stopped_then_done_then_killed_is_logged_once(undisturbed, data_dir, tmp_path):
    """The checkpoint that the third run goes on from has no validation behind it; the row is there."""
    run, output = tmp_path / 'run', tmp_path / 'printed'
    argv = driver.command(run, data_dir)
    stopping = driver.Moment('evaluated batch', 1, number=signal.SIGTERM)
    assert driver.run(argv, output, stopping) == STOPPED, output.read_text()
    assert driver.run(argv, output, driver.Moment('row/after', 1)) == -signal.SIGKILL
    assert driver.saved_step(run) == 41 == driver.rows(run)[-1]['step']
    assert driver.rows(run)[-1]['split'] == 'val'
    assert driver.run(argv, output) == DONE, output.read_text()
    driver.assert_same_run(run, undisturbed)


@pytest.mark.thorough
def test_the_second_signal_ends_it_at_once_and_what_was_saved_is_whole(
    undisturbed, data_dir, tmp_path
):
    """While the main thread is held up, as in a long compilation."""
    argv, output = driver.command(tmp_path / 'run', data_dir), tmp_path / 'printed'
    # However busy the machine: step 14 is saved, and step 21 is not begun to be.
    moment = driver.Moment('row', 20, number=None, saved=(tmp_path / 'run', 14))
    assert driver.run(argv, output, moment) == FAULT
    assert 'stopped by the second request' in output.read_text()
    assert driver.saved_step(tmp_path / 'run') == 14
    assert driver.run(argv, output) == DONE
    driver.assert_same_run(tmp_path / 'run', undisturbed)


@pytest.mark.thorough
def test_a_run_in_use_is_refused_to_another(data_dir, tmp_path):
    argv, output = driver.command(tmp_path / 'run', data_dir), tmp_path / 'printed'
    process = driver.start(argv, output)
    driver.wait_for(lambda: driver.saved_step(tmp_path / 'run') > 0, process)
    second = subprocess.run(
        [sys.executable, '-m', 'alexnet_jax.main', *argv], capture_output=True, text=True
    )
    assert second.returncode == 2
    errors = f'error: --workdir {tmp_path / "run"} is in use by process {process.pid} on '
    assert second.stderr.startswith(errors) and second.stderr.count('\n') == 1
    process.join(120)
    assert process.exitcode == DONE, output.read_text()


@pytest.mark.slow
def test_twenty_stops_of_two_processes(data_dir, tmp_path):
    """The columns on one each; at random moments from when both train."""
    random, stops, workdir = python_random.Random(3), 0, tmp_path / '0'
    while stops < 20:
        argv = driver.command(workdir, data_dir, **{'mesh.column': '2'})
        before = driver.saved_step(workdir)
        with several.started(2, argv) as processes:
            deadline = time.monotonic() + 120
            while not training_after(workdir, before):
                assert time.monotonic() < deadline and processes[0].poll() is None
                time.sleep(0.02)
            time.sleep(random.uniform(0.0, 0.3))
            begun = time.monotonic()
            processes[random.randrange(2)].send_signal(signal.SIGTERM)
            errors = [process.communicate(timeout=60) for process in processes]
            statuses = [process.returncode for process in processes]
        assert time.monotonic() - begun < LONGEST
        assert statuses in ([STOPPED, STOPPED], [DONE, DONE]), errors
        steps = [row['step'] for row in driver.rows(workdir) if row['split'] == 'train']
        assert steps == list(range(1, driver.saved_step(workdir) + 1))
        stops += statuses == [STOPPED, STOPPED]
        if statuses == [DONE, DONE] or steps[-1] > 50:
            workdir = tmp_path / str(int(workdir.name) + 1)


def training_after(workdir, step: int) -> bool:
    try:
        return any(row['step'] > step for row in driver.rows(workdir))
    except (OSError, ValueError):  # not there yet, or in the midst of a row
        return False
