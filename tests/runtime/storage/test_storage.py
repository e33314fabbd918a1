"""URLs as local folders, on fsspec's own file system in memory."""

import contextlib
import shutil
from pathlib import Path

import fsspec
import pytest

from alexnet_jax.runtime import storage
from alexnet_jax.runtime.storage import client, mirror, owner
from alexnet_jax.training import checkpoint_reader, manifest

URL = 'memory://bucket/run'


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv('ALEXNET_JAX_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(client, 'PATIENCE', 0)
    return tmp_path / 'cache'


@pytest.fixture(autouse=True)
def store():
    """What lies below URL, as a mapping from names to bytes."""
    files = fsspec.filesystem('memory')
    with contextlib.suppress(FileNotFoundError):
        files.rm('/bucket', recursive=True)
    return fsspec.get_mapper(URL)


def write(folder: Path, contents: dict[str, str]) -> None:
    for name, text in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def held(folder: Path) -> dict[str, str]:
    names = [path for path in folder.rglob('*') if path.is_file() and path.name != '.lock']
    return {path.relative_to(folder).as_posix(): path.read_text() for path in names}


def kept(store) -> dict[str, str]:
    return {name: store[name].decode() for name in store if name != owner.NAME}


def save(folder: Path, step: int, text: str, error: float | None = None) -> None:
    """Puts a checkpoint of two files into a workdir, as `Checkpoints` does."""
    place = folder / 'checkpoints' / str(step)
    shutil.rmtree(place, ignore_errors=True)
    write(place, {'state/w/.zarray': f'header {text}', 'state/w/0': text})
    manifest.write(place, {'step': step, 'top1_error': error})


def last_of(folder: Path) -> tuple[int | None, str]:
    """Returns the checkpoint that a run would go on from, and its content."""
    step, faults = checkpoint_reader.newest_whole(folder / 'checkpoints')
    assert not faults
    return step, '' if step is None else (
        folder / 'checkpoints' / str(step) / 'state/w/0'
    ).read_text()  # fmt: skip


def on_another_machine(tmp_path: Path, monkeypatch, name: str) -> None:
    monkeypatch.setenv('ALEXNET_JAX_CACHE', str(tmp_path / name))


def test_what_changed_in_a_folder_is_uploaded(store):
    with storage.session():
        folder = storage.folder(URL, '--out')
        write(folder, {'a': '1', 'sub/b': '2', '.lock': 'x', '.a.12.tmp': 'x'})
    assert kept(store) == {'a': '1', 'sub/b': '2'}
    with storage.session():
        folder = storage.folder(URL, '--out')
        (folder / 'a').unlink()
        write(folder, {'sub/b': '3', 'c': '4'})
    assert kept(store) == {'sub/b': '3', 'c': '4'}


@pytest.mark.parametrize('copy', ['older', 'newer', 'same size and time', 'of another run', 'none'])
def test_the_store_is_the_truth(copy, store, cache):
    with storage.session():
        folder = storage.folder(URL, '--workdir')
        write(folder, {'metrics.jsonl': 'one', 'config.json': 'this'})
    place = folder / 'metrics.jsonl'
    about = place.stat()
    if copy == 'older':
        store['metrics.jsonl'] = b'two'
    elif copy == 'newer':
        write(folder, {'metrics.jsonl': 'onetwo', 'model.json': 'x'})
    elif copy == 'of another run':
        write(folder, {'config.json': 'that', 'checkpoints/3/manifest.json': '{}'})
    elif copy == 'none':
        shutil.rmtree(cache)
    else:
        import os

        place.write_text('owe')
        os.utime(place, ns=(about.st_atime_ns, about.st_mtime_ns))
    with storage.session():
        assert held(storage.folder(URL, '--workdir')) == kept(store)
    assert not (folder / 'checkpoints').exists()  # an empty folder would count as a step


def new_checkpoint(folder: Path) -> None:
    save(folder, 30, 'thirty')
    shutil.rmtree(folder / 'checkpoints' / '10')
    write(folder, {'metrics.jsonl': 'rows of 30'})


def saved_again(folder: Path) -> None:
    """As a run that was stopped before the validation of its last step."""
    save(folder, 20, 'twenty and validated', 0.5)


@pytest.mark.parametrize(
    ('change', 'after'),
    [(new_checkpoint, (30, 'thirty')), (saved_again, (20, 'twenty and validated'))],
)
def test_a_kill_at_any_request_leaves_a_run_that_goes_on(
    change, after, store, tmp_path, monkeypatch
):
    """The requests of an upload are counted; it is killed at each. What another machine then finds
    is whole, of before or after, and it can go on and upload in its turn."""
    monkeypatch.setattr(mirror, 'AT_ONCE', 1)
    do, left = client.Store._do, [10**6]

    def killed_at(self, doing, call, may_lack=False):
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        return do(self, doing, call, may_lack)

    monkeypatch.setattr(client.Store, '_do', killed_at)
    before = (20, 'twenty')
    seen = []
    for requests in range(100):
        fsspec.filesystem('memory').rm('/bucket', recursive=True) if seen else None
        on_another_machine(tmp_path, monkeypatch, f'first{requests}')
        left[0] = 10**6
        with storage.session():
            folder = storage.folder(URL, '--workdir')
            with storage.owned(folder):
                save(folder, 10, 'ten')
                save(folder, 20, 'twenty')
                write(folder, {'config.json': 'c', 'metrics.jsonl': 'rows of 20'})
        done = False
        with contextlib.suppress(Killed), storage.session():
            folder = storage.folder(URL, '--workdir')
            with storage.owned(folder):
                change(folder)
                left[0] = requests
                storage.push(folder)
            done = True
        left[0] = 10**6
        on_another_machine(tmp_path, monkeypatch, f'second{requests}')
        monkeypatch.setattr(owner, '_has_ended_here', lambda found: True)
        with storage.session():
            folder = storage.folder(URL, '--workdir')
            seen.append(last_of(folder))
            with storage.owned(folder):
                assert last_of(folder) == seen[-1]
                save(folder, 40, 'forty')
        with storage.session():
            assert last_of(storage.folder(URL, '--workdir')) == (40, 'forty')
        assert not [name for name in store if '.new/' in name]
        if done:
            break
    assert set(seen) == {before, after}
    assert seen == sorted(seen, key=[before, after].index)  # once after, never before again
    assert len(seen) > 4
