"""URLs as local folders, on fsspec's own file system in memory."""

import contextlib
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import fsspec
import pytest

from alexnet_jax.runtime import storage
from alexnet_jax.runtime.errors import InputError, StorageError
from alexnet_jax.runtime.storage import client, copies, mirror, owner
from alexnet_jax.training import checkpoint_reader, manifest
from tests.runtime.storage.conftest import URL


class Killed(BaseException):
    """Stands for the end of the process."""


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
    """Returns the checkpoint that a run would go on from, and its content; all have to be whole."""
    steps = checkpoint_reader.steps(folder / 'checkpoints')
    for step in steps:
        manifest.verify(folder / 'checkpoints' / str(step))
    if not steps:
        return None, ''
    return steps[-1], (folder / 'checkpoints' / str(steps[-1]) / 'state/w/0').read_text()


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


@pytest.mark.thorough
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
        store.clear()
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


def failing_after(monkeypatch, requests: int) -> list[int]:
    """Lets so many requests through; those that follow fail as of a network that is away, until
    the list's number is set again."""
    do, left = client.Store._do, [requests]

    def failing(self, doing, call, may_lack=False):
        def failing_call():
            left[0] -= 1
            if left[0] < 0:
                raise OSError(None, 'the network is away')
            return call()

        return do(self, doing, failing_call, may_lack)

    monkeypatch.setattr(client.Store, '_do', failing)
    return left


@pytest.mark.thorough
def test_after_an_upload_that_failed_the_local_copy_goes_on(store, tmp_path, monkeypatch):
    """At each request; and if another machine has trained meanwhile, the store is the truth."""
    monkeypatch.setattr(mirror, 'AT_ONCE', 1)
    left = failing_after(monkeypatch, 10**6)
    failed = 0
    for requests in range(8):
        on_another_machine(tmp_path, monkeypatch, f'machine{requests}')
        left[0] = 10**6
        store.clear()
        with storage.session():
            folder = storage.folder(URL, '--workdir')
            with storage.owned(folder):
                save(folder, 20, 'twenty')
        try:
            with storage.session():
                folder = storage.folder(URL, '--workdir')
                with storage.owned(folder):
                    save(folder, 30, 'thirty')
                    left[0] = requests
                    storage.push(folder)
        except StorageError as error:
            assert 'the network is away' in str(error) and 'the same command resumes' in str(error)
            failed += 1
        assert last_of(folder) == (30, 'thirty')
        left[0] = 10**6
        monkeypatch.setattr(owner, '_has_ended_here', lambda found: True)
        with storage.session():
            folder = storage.folder(URL, '--workdir')
            assert last_of(folder) == (30, 'thirty')
            with storage.owned(folder):
                assert last_of(folder) == (30, 'thirty')
        on_another_machine(tmp_path, monkeypatch, f'other{requests}')
        with storage.session():
            assert last_of(storage.folder(URL, '--workdir')) == (30, 'thirty')
    assert failed > 3


def test_a_copy_that_is_ahead_gives_way_to_what_others_have_uploaded(store, tmp_path, monkeypatch):
    left = failing_after(monkeypatch, 10**6)
    monkeypatch.setattr(owner, '_has_ended_here', lambda found: True)
    with pytest.raises(StorageError), storage.session():
        folder = storage.folder(URL, '--workdir')
        with storage.owned(folder):
            save(folder, 30, 'thirty')
            left[0] = 0
    left[0] = 10**6
    first = os.environ['ALEXNET_JAX_CACHE']
    on_another_machine(tmp_path, monkeypatch, 'other')
    with storage.session():
        folder = storage.folder(URL, '--workdir')
        with storage.owned(folder):
            save(folder, 20, 'twenty of another')
    monkeypatch.setenv('ALEXNET_JAX_CACHE', first)
    with storage.session():
        assert last_of(storage.folder(URL, '--workdir')) == (20, 'twenty of another')


def test_a_store_that_fails_for_a_while_is_waited_for(store, monkeypatch):
    monkeypatch.setattr(client, 'FIRST_WAIT', 0.01)
    left = failing_after(monkeypatch, 10**6)
    with storage.session():
        folder = storage.folder(URL, '--workdir')
        with storage.owned(folder):
            monkeypatch.setattr(copies._current.mirrors[URL].store, 'patience', 10)
            write(folder, {'a': '1'})
            left[0] = 0
            threading.Timer(0.1, lambda: left.__setitem__(0, 10**6)).start()
            storage.push(folder)
            assert kept(store) == {'a': '1'}


@contextlib.contextmanager
def another_process(call: str):
    """Opens a URL in another process of this machine, within; yields its local folder."""
    code = f"""
from alexnet_jax.runtime import storage
with storage.session():
    print(storage.{call})
    input()
"""
    pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'text': True}
    with subprocess.Popen([sys.executable, '-c', code], **pipes) as other:
        assert other.stdout
        yield Path(other.stdout.readline().strip())
        other.communicate('\n')


def test_a_copy_that_another_process_uses_is_left_alone(tmp_path):
    """A run trains; a second process evaluates it, and keeps nothing of the run from going on."""
    url = f'file://{tmp_path}/store'
    with another_process(f'folder({url!r}, "--workdir")') as theirs, storage.session():
        ours = storage.folder(url, '--workdir')
        assert ours.name == theirs.name and ours != theirs


def test_processes_that_only_read_share_a_copy(tmp_path):
    """Unless the store has changed since: then each has its own."""
    (tmp_path / 'store').mkdir()
    (tmp_path / 'store' / 'dataset_info.json').write_text('1')
    url, needs = f'file://{tmp_path}/store', 'dataset_info.json'
    with another_process(f'fetched({url!r}, "data.dir", {needs!r})') as theirs:
        with storage.session():
            assert storage.fetched(url, 'data.dir', needs) == theirs
        (tmp_path / 'store' / 'dataset_info.json').write_text('22')
        with storage.session():
            ours = storage.fetched(url, 'data.dir', needs)
            assert (ours / needs).read_text() == '22' and (theirs / needs).read_text() == '1'


def test_who_only_reads_leaves_alone_what_another_uploads(store):
    """A run on another machine is uploading a checkpoint, whose manifest is not there yet."""
    store['config.json'] = b'c'
    store['checkpoints/30/state/w/0'] = b'half'
    with storage.session():
        folder = storage.folder(URL, '--workdir')
        assert held(folder) == {'config.json': 'c'}
        write(folder, {'eval/test-1.json': '{}'})
    assert sorted(kept(store)) == ['checkpoints/30/state/w/0', 'config.json', 'eval/test-1.json']
    with storage.session(), storage.owned(storage.folder(URL, '--workdir')):
        pass
    assert sorted(kept(store)) == ['config.json', 'eval/test-1.json']


def test_what_a_study_has_made_is_uploaded_before_its_next_run(store):
    with storage.session():
        folder = storage.folder(URL, '--workdir')
        write(folder, {'study.json': '{}'})
        with storage.owned(folder / 'seed-0'):
            assert store['study.json'] == b'{}'
            save(folder / 'seed-0', 5, 'five')
            storage.push(folder / 'seed-0')
            assert 'seed-0/checkpoints/5/manifest.json' in store


def test_what_was_uploaded_since_a_command_began_is_taken_up(store, tmp_path, monkeypatch):
    with storage.session():
        folder = storage.folder(URL, '--workdir')
        store['metrics.jsonl'] = b'of another, which ended meanwhile'
        with storage.owned(folder):
            assert held(folder) == kept(store)


def test_names_that_leave_the_folder_are_not_listed(store, monkeypatch):
    """As keys of an object store may."""
    files = type(fsspec.filesystem('memory'))
    find = files.find

    def listed(self, path, **options):
        strange = {
            f'{path}/../../x': {'type': 'file', 'size': 1},
            f'{path}//y': {'type': 'file', 'size': 1},
        }
        return find(self, path, **options) | strange

    monkeypatch.setattr(files, 'find', listed)
    store['inside'] = b'2'
    assert list(client.Store(URL).listing()) == ['inside']


def test_a_single_file_has_a_url_too(store):
    with storage.session():
        storage.folder(f'{URL}/net.bin', '--out').write_text('1')
    assert kept(store) == {'net.bin': '1'}
    store['net.bin'] = b'22'
    with storage.session():
        assert storage.folder(f'{URL}/net.bin', 'FILE').read_text() == '22'


def test_what_is_too_large_for_the_disk_is_refused(store, monkeypatch):
    store['set'] = b'x' * 2000
    usage = shutil.disk_usage('/')._replace(free=1500)
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage)
    with (
        pytest.raises(InputError, match=r'takes 2\.0 kB, and .* has 1\.5 kB free: make room'),
        storage.session(),
    ):
        storage.folder(URL, '--workdir')


def test_a_digest_tells_what_a_size_does_not(store, cache):
    """Of data that is only read, a file is hashed when its time is another."""
    store['dataset_info.json'] = b'1'
    with storage.session():
        place = storage.fetched(URL, 'data.dir', 'dataset_info.json') / 'dataset_info.json'
    place.write_text('2')
    with storage.session():
        storage.fetched(URL, 'data.dir', 'dataset_info.json')
        assert place.read_text() == '1'
    with (
        pytest.raises(InputError, match=r'memory://bucket/run holds no other\.json'),
        storage.session(),
    ):
        storage.fetched(URL, 'data.dir', 'other.json')
