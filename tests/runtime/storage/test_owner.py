"""Who writes below a URL, on fsspec's own file system in memory."""

import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from alexnet_jax.runtime import storage
from alexnet_jax.runtime.errors import InputError, StorageError
from alexnet_jax.runtime.storage import owner
from tests.runtime.storage.conftest import URL


def own(host: str = 'elsewhere', **changes) -> bytes:
    about = {'host': host, 'pid': 1, 'started': 'x', 'token': 'theirs', 'sign': '1'}
    return json.dumps(about | changes).encode()


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(owner, 'BEAT', 0.05)
    monkeypatch.setattr(owner, 'SILENCE', 0.4)
    monkeypatch.setattr(owner, 'LOOK', 0.05)


def test_a_url_that_another_process_writes_is_refused(store, quick, capsys):
    store[owner.NAME] = own()
    threading.Timer(0.15, lambda: store.__setitem__(owner.NAME, own(sign='2'))).start()
    with (
        pytest.raises(InputError, match='bucket/run is in use by process 1 on elsewhere'),
        storage.session(),
        storage.owned(storage.folder(URL, '--workdir')),
    ):
        pass
    assert store[owner.NAME] == own(sign='2')  # theirs is not taken away
    assert 'was used by process 1 on elsewhere' in capsys.readouterr().out


def test_a_silent_owner_is_replaced_and_finds_that_out(store, quick, tmp_path):
    with pytest.raises(StorageError, match='was taken over by process'), storage.session():  # noqa: SIM117
        with storage.owned(folder := storage.folder(URL, '--workdir')):
            store[owner.NAME] = own()  # as if this one had been silent
            folder.mkdir()
            (folder / 'a').write_text('ours')
            storage.push(folder)
    assert 'a' not in store
    begun = time.monotonic()
    with storage.session(), storage.owned(storage.folder(URL, '--workdir')):
        assert time.monotonic() - begun > 0.35  # it was watched
        assert json.loads(store[owner.NAME])['pid'] == os.getpid()
    assert owner.NAME not in store


def test_an_owner_that_was_killed_on_this_machine_is_not_waited_for(store):
    ended = subprocess.Popen([sys.executable, '-c', ''])
    ended.wait()
    store[owner.NAME] = own(socket.gethostname(), pid=ended.pid)
    begun = time.monotonic()
    with storage.session(), storage.owned(storage.folder(URL, '--workdir')):
        assert time.monotonic() - begun < 5


def test_an_owner_gives_signs(store, quick):
    with storage.session(), storage.owned(storage.folder(URL, '--workdir')):
        first = store[owner.NAME]
        time.sleep(0.3)
        assert store[owner.NAME] != first
