"""A preparation that is killed, stopped, out of disk space or not alone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from alexnet_jax.data import image_set
from alexnet_jax.data.prepare import stored
from tests.data.prepare.preparing import COMMAND, assert_same_files, make, run, words


def kill_and_finish(folder: Path, out: Path, seconds: float, workers: int) -> bool:
    """Whether the kill came before the end."""
    command = [*COMMAND, *words(folder, out, f'--workers={workers}')]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    process.kill()
    killed = process.wait() == -signal.SIGKILL
    if killed and not image_set.is_whole(out):
        with pytest.raises(Exception):  # noqa: B017 (TFDS has many)
            tfds.builder_from_directory(out)
        assert stored.find(f'folder:{folder}', 48, str(out)) is None
    assert subprocess.run(command, capture_output=True, timeout=120).returncode == 0
    return killed


def check_killed_often(folder: Path, whole: Path, top: Path, times: int) -> None:
    random = np.random.default_rng(0)
    begun = time.monotonic()
    run(*words(folder, top / 'timed'))
    full = time.monotonic() - begun
    killed = 0
    for number in range(times):
        out = top / str(number)
        workers = 1 + number % 2
        killed += kill_and_finish(folder, out, random.uniform(0.2, 1.0) * full, workers)
        assert_same_files(out, whole)
    assert killed >= times / 2


@pytest.mark.thorough
def test_killed_and_run_again_it_makes_the_same_files(folder, whole, tmp_path):
    check_killed_often(folder, whole, tmp_path, 6)


@pytest.mark.slow
def test_killed_twenty_times(folder, whole, tmp_path):
    check_killed_often(folder, whole, tmp_path, 20)


@pytest.mark.thorough
@pytest.mark.parametrize('moved', range(6))
def test_ended_among_its_last_moves_it_is_not_taken_for_whole(
    moved, folder, whole, tmp_path, monkeypatch
):
    """The files beside the shards are put in place one by one, TFDS's own last."""
    replace, moves = os.replace, []

    def replace_some(source, target):
        if Path(source).parent.name == 'final':
            if len(moves) == moved:
                raise KeyboardInterrupt
            moves.append(target)
        replace(source, target)

    out = tmp_path / 'set'
    monkeypatch.setattr(os, 'replace', replace_some)
    if moved < 5:
        with pytest.raises(KeyboardInterrupt):
            make(folder, out)
        assert not image_set.is_whole(out)
    monkeypatch.undo()
    make(folder, out)
    assert_same_files(out, whole)


@pytest.mark.thorough
@pytest.mark.parametrize(('how', 'seconds'), [
    (signal.SIGTERM, 0.0), (signal.SIGTERM, 0.4), (signal.SIGINT, 0.15),
])  # fmt: skip
def test_stopped_it_says_so_and_goes_on(how, seconds, folder, whole, tmp_path):
    """SIGTERM to the main process, or Ctrl-C, which all processes hear."""
    same = words(folder, tmp_path / 'set')
    process = subprocess.Popen(
        [*COMMAND, *same, '--workers=2'], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    begun = tmp_path / 'set' / '.preparing' / 'plan.json'
    while not begun.exists():
        time.sleep(0.01)
    time.sleep(seconds)
    (os.kill if how == signal.SIGTERM else os.killpg)(process.pid, how)
    _, printed = process.communicate(timeout=30)
    # On a quick machine it may have come to its end.
    assert (process.returncode, printed) in [(75, 'stopped; the same command resumes\n'), (0, '')]
    assert seconds or process.returncode == 75
    assert run(*same).returncode == 0
    assert_same_files(tmp_path / 'set', whole)


def test_a_full_disk_is_told_and_nothing_is_lost(folder, whole, tmp_path):
    """A limit on the size of a file stands for the disk: the first two shards fit."""
    code = (
        'import resource, runpy, signal, sys\n'
        'signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n'
        'resource.setrlimit(resource.RLIMIT_FSIZE, (2**18, 2**18))\n'
        "sys.argv[0] = 'prepare'\n"
        "runpy.run_module('alexnet_jax.data.prepare', run_name='__main__')\n"
    )
    same = words(folder, tmp_path / 'set', '--workers=1')
    done = subprocess.run([sys.executable, '-c', code, *same], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert 'cannot be written' in done.stderr and len(done.stderr.splitlines()) == 1
    assert run(*same).returncode == 0
    assert_same_files(tmp_path / 'set', whole)


def test_two_at_once(folder, whole, tmp_path):
    command = [*COMMAND, *words(folder, tmp_path / 'set')]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum('is prepared already' in text for text in printed) == 1
    assert_same_files(tmp_path / 'set', whole)


def test_nothing_is_left_running(folder, tmp_path):
    """Workers end with a main process that was killed."""
    command = [*COMMAND, *words(folder, tmp_path / 'set', '--workers=2')]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while len(children(process.pid)) < 2:
        time.sleep(0.01)
    workers = children(process.pid)
    process.kill()
    process.wait()
    end = time.monotonic() + 10
    while any(Path(f'/proc/{worker}').exists() for worker in workers):
        assert time.monotonic() < end
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]
    except FileNotFoundError:
        return []
