"""Preparing on a Dask cluster of this machine: a scheduler, and workers that are killed."""

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from alexnet_jax.data.prepare import dask_cluster
from alexnet_jax.data.prepare.begun import PLAN
from alexnet_jax.data.prepare.shards import LIBRARIES, Encoding, Task
from alexnet_jax.data.prepare.sources import open_source
from alexnet_jax.runtime.errors import InputError
from tests.data.photographs import write_classes
from tests.data.prepare.preparing import COMMAND, assert_same_files, run

needs_dask = pytest.mark.skipif(
    not importlib.util.find_spec('distributed'), reason='needs the extra dask'
)


class Cluster:
    """A scheduler and workers, each a process of one thread that a watching process starts again."""

    def __init__(self, folder: Path, workers: int):
        self._folder = folder
        self.scheduler = self._start('scheduler', '--port=0')
        file = folder / 'scheduler.json'
        wait_for(file.exists)
        self.address = json.loads(file.read_text())['address'].removeprefix('tcp://')
        options = ('--nthreads=1', f'--local-directory={folder}')
        self._watching = [self._start('worker', *options) for _ in range(workers)]
        wait_for(lambda: len(self.workers()) == workers)

    def _start(self, kind: str, *options: str) -> psutil.Process:
        file = f'--scheduler-file={self._folder}/scheduler.json'
        words = [sys.executable, '-m', f'distributed.cli.dask_{kind}', file, *options]
        with open(self._folder / f'{kind}.log', 'a') as log:
            return psutil.Popen(
                [*words, '--host=127.0.0.1', '--no-dashboard'], stdout=log, stderr=log
            )

    def workers(self) -> list[psutil.Process]:
        watching = [one for one in self._watching if one.is_running()]
        return [child for one in watching for child in children_of(one) if is_worker(child)]

    def close(self) -> None:
        processes = [self.scheduler, *self._watching, *self.workers()]
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=10)


def children_of(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return process.children()
    return []


def is_worker(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return 'spawn_main' in ' '.join(process.cmdline())
    return False


def wait_for(condition, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'waited too long'
        time.sleep(0.05)


def kill_workers(cluster: Cluster, seconds: float, ended: threading.Event, killed: list) -> None:
    random = np.random.default_rng(0)
    while not ended.wait(seconds * random.uniform(0.5, 1.5)):
        workers = cluster.workers()
        if workers and len(killed) < 10:
            with contextlib.suppress(psutil.NoSuchProcess):
                workers[random.integers(len(workers))].kill()
                killed.append(time.monotonic())


def begin(*words: str) -> subprocess.Popen:
    return subprocess.Popen(
        [*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.fixture
def cluster(tmp_path):
    started = Cluster(tmp_path, 4)
    yield started
    started.close()


@pytest.fixture(scope='module')
def thousand(tmp_path_factory) -> Path:
    """1,200 made-up images, ten shards."""
    top = tmp_path_factory.mktemp('thousand')
    write_classes(top / 'train', 380)
    write_classes(top / 'val', 20)
    return top


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--dask=nowhere'], '--dask nowhere; allowed: HOST:PORT of a Dask scheduler'),
        (['--dask=h:1', '--beam_runner=DirectRunner'], 'allowed: one of them'),
    ],
)
def test_addresses_that_are_none(words, message, tmp_path, folder):
    done = run('--source', f'folder:{folder}', f'--out={tmp_path}/set', *words)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count('\n') == 1
    assert not (tmp_path / 'set').exists()


@needs_dask
@pytest.mark.thorough
@pytest.mark.parametrize('answers', [False, True], ids=['nobody', 'another server'])
def test_no_scheduler_answers(answers, tmp_path, folder):
    """A server that never answers a client of Dask is not waited for."""
    code = (
        'import sys\n'
        'from alexnet_jax.data.prepare import __main__, dask_cluster\n'
        'dask_cluster.CONNECT_SECONDS = 1\n'
        'sys.exit(__main__.main(sys.argv[1:]))\n'
    )
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        if answers:
            server.listen()
        address = f'127.0.0.1:{server.getsockname()[1]}'
        words = [f'--source=folder:{folder}', f'--out={tmp_path}/set', f'--dask={address}']
        done = subprocess.run(
            [sys.executable, '-c', code, *words], capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 2, done.stderr
    assert done.stderr == f'error: --dask {address}: no Dask scheduler answers there within 1 s\n'


@needs_dask
@pytest.mark.thorough
def test_a_worker_that_would_make_another_set(tmp_path, monkeypatch):
    import distributed

    worker = SimpleNamespace(address='tcp://10.0.0.1:1')
    monkeypatch.setattr(distributed, 'get_worker', lambda: worker)
    write_classes(tmp_path / 'images', 5)
    source = open_source(f'folder:{tmp_path}/images')
    encoding = Encoding(32, 'jpeg', 95)
    task = Task(
        tmp_path / 'shard', tmp_path, source.splits['train'], 3, encoding, 'train', 10**6, 0
    )
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    unseen = 'the Dask worker tcp://10.0.0.1:1 does not see'
    assert str(dask_cluster._work(task, versions)).startswith(f'{unseen} {tmp_path}/{PLAN}')
    (tmp_path / PLAN).touch()
    assert dask_cluster._work(task, versions).records == 15
    other = dask_cluster._work(task, versions | {'pillow': '1.0'})
    assert isinstance(other, InputError)
    assert str(other).startswith('the Dask worker tcp://10.0.0.1:1 has pillow 1')
    gone = dataclasses.replace(task.originals, root=tmp_path / 'gone')
    moved = dataclasses.replace(task, originals=gone)
    assert f'{unseen} {tmp_path}/gone' in str(dask_cluster._work(moved, versions))


@needs_dask
@pytest.mark.slow
def test_with_ten_workers_killed_it_makes_the_same_files(cluster, thousand, tmp_path):
    words = [f'--source=folder:{thousand}', '--size=256']
    assert run(*words, f'--out={tmp_path}/one', '--workers=1').returncode == 0
    killed, ended = [], threading.Event()
    killer = threading.Thread(target=kill_workers, args=(cluster, 1.0, ended, killed))
    command = begin(*words, f'--out={tmp_path}/set', f'--dask={cluster.address}')
    killer.start()
    printed, _ = command.communicate(timeout=300)
    ended.set()
    killer.join()
    assert command.returncode == 0 and 'Traceback' not in printed, printed
    assert len(killed) >= 3
    assert_same_files(tmp_path / 'set', tmp_path / 'one')


@needs_dask
@pytest.mark.slow
def test_stopped_and_with_a_lost_scheduler_it_goes_on(cluster, thousand, tmp_path):
    words = [f'--source=folder:{thousand}', '--size=256']
    assert run(*words, f'--out={tmp_path}/one', '--workers=1').returncode == 0
    same = [*words, f'--out={tmp_path}/set', f'--dask={cluster.address}']

    def begun(shards: int) -> subprocess.Popen:
        command = begin(*same)
        wait_for(lambda: shards_made() >= shards)
        return command

    def shards_made() -> int:
        return len(list((tmp_path / 'set').glob('[!.]*.array_record-*')))

    command = begun(1)
    os.kill(command.pid, signal.SIGTERM)
    printed, _ = command.communicate(timeout=30)
    assert (command.returncode, printed.splitlines()[-1]) == (
        75, 'stopped; the same command resumes'
    )  # fmt: skip
    # Workers finish the shards that they have begun.
    wait_for(lambda: not list((tmp_path / 'set').glob('.*.array_record-*')))
    command = begun(shards_made() + 1)
    cluster.scheduler.kill()
    printed, _ = command.communicate(timeout=30)
    lost = f'error: the Dask scheduler at {cluster.address} was lost; what is finished is kept'
    assert command.returncode == 1 and printed.splitlines()[-1].startswith(lost), printed
    cluster.close()
    (tmp_path / 'scheduler.json').unlink()
    other = Cluster(tmp_path, 2)
    try:
        done = run(*words, f'--out={tmp_path}/set', f'--dask={other.address}')
        assert done.returncode == 0 and 'going on: ' in done.stdout, done.stderr
        assert_same_files(tmp_path / 'set', tmp_path / 'one')
        (thousand / 'train' / 'bee' / 'no image.png').write_bytes(b'no image')
        done = run(*words, f'--out={tmp_path}/bad', f'--dask={other.address}')
        assert done.returncode == 2 and 'no image.png is no JPEG or PNG' in done.stderr
        assert 'Traceback' not in done.stderr
    finally:
        other.close()
