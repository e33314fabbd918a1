"""The lock of a workdir: one run at a time, and no file of somebody else's is touched."""

import contextlib
import json
import os
import shutil
import threading

import pytest

import alexnet_jax
from alexnet_jax import main
from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment.workdir import LOCK, locked
from alexnet_jax.runtime import multihost
from alexnet_jax.runtime.command_line import DONE
from alexnet_jax.runtime.errors import InputError


def test_another_is_kept_out(tmp_path):
    with locked(tmp_path / 'run'):
        with pytest.raises(InputError, match=rf'is in use by process {os.getpid()} on '), locked(tmp_path / 'run'):  # fmt: skip
            pass
        assert (tmp_path / 'run' / LOCK).read_text().startswith(f'process {os.getpid()} on ')
    with locked(tmp_path / 'run'):
        pass


@pytest.mark.parametrize(('processes', 'seconds'), [(1, 20), (2, None)])
def test_a_run_may_wait_for_another_to_end(processes, seconds, tmp_path, capsys, monkeypatch):
    """A run of several processes waits by default: a lost process may still hold the lock."""
    with contextlib.ExitStack() as other:
        other.enter_context(locked(tmp_path / 'run'))
        threading.Timer(0.5, other.close).start()
        monkeypatch.setattr(multihost, 'count', lambda: processes)
        with locked(tmp_path / 'run', seconds):
            pass
    monkeypatch.undo()
    assert f'waiting for process {os.getpid()} on ' in capsys.readouterr().out
    refused = pytest.raises(InputError, match='is in use by process')
    with locked(tmp_path / 'run'), refused, locked(tmp_path / 'run', seconds=0.3):
        pass


@pytest.mark.parametrize('kind', ['link', 'loop', 'pipe', 'folder', 'device'])
def test_a_lock_that_is_no_file_is_refused(kind, tmp_path):
    """A link's target would be emptied, a pipe waited for."""
    (tmp_path / 'other').write_text('of somebody')
    lock = tmp_path / 'run' / LOCK
    lock.parent.mkdir()
    match kind:
        case 'link':
            lock.symlink_to(tmp_path / 'other')
        case 'loop':
            lock.symlink_to(lock)
        case 'pipe':
            os.mkfifo(lock)
        case 'folder':
            lock.mkdir()
        case 'device':
            lock.symlink_to('/dev/zero')
    with pytest.raises(InputError, match='cannot be written'), locked(tmp_path / 'run'):
        pass
    assert (tmp_path / 'other').read_text() == 'of somebody'


@pytest.mark.thorough
def test_a_workdir_that_was_never_trained_in_takes_another_set(folder, capsys):
    shutil.rmtree(folder.run / 'checkpoints')
    folder.rename_class()
    assert main.main(folder.arguments()) == DONE
    assert alexnet_jax.load(folder.run).classes == ('b', 'c', 'z')


def test_a_relative_source_is_the_same_run(folder, capsys, monkeypatch):
    """A new run keeps the absolute path; an older one, with the relative, goes on by the same
    command, and can then be evaluated from anywhere."""
    monkeypatch.chdir(folder.top)
    relative = '--config.data.source=folder:photos'
    kept = folder.run / 'config.json'
    absolute = json.loads(kept.read_text())
    for source in ('folder:photos', f'folder:{folder.top}/photos'):
        older = absolute | {'data': absolute['data'] | {'source': source}}
        kept.write_text(json.dumps(older))
        monkeypatch.chdir(folder.top)
        assert main.main(folder.arguments(relative, '--config.train.steps=8')) == DONE
        assert json.loads(kept.read_text())['data']['source'] == f'folder:{folder.top}/photos'
        monkeypatch.chdir('/')
        folder.result(capsys)


def test_a_record_with_a_relative_source_is_of_the_same_run(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder.top)
    shutil.rmtree(folder.run)
    monkeypatch.setattr(configuration, 'absolute', lambda source: source)
    relative = '--config.data.source=folder:photos'
    assert main.main(folder.arguments(relative)) == DONE
    assert '"folder:photos"' in (folder.run / 'config.json').read_text()
    monkeypatch.undo()
    monkeypatch.chdir(folder.top)
    assert main.main(folder.arguments(relative, '--config.train.steps=8')) == DONE
