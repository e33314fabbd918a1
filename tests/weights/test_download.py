"""Downloads from a server on loopback: whole, cut and resumed, and what must not be kept."""

import hashlib
import os
import socket
import subprocess
import threading
from typing import Any

import numpy as np
import pytest

from alexnet_jax.runtime.errors import InputError, StorageError
from alexnet_jax.weights import download
from alexnet_jax.weights.download import Published, fetch
from tests.weights.file_server import FileServer

CONTENT = np.random.default_rng(0).bytes(3_000_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server():
    with FileServer(CONTENT) as running:
        yield running


@pytest.fixture
def place(tmp_path):
    return tmp_path / 'cache' / 'file.pth'


def published(server: FileServer, **changes) -> Published:
    fields: dict[str, Any] = {'algorithm': 'sha256', 'digest': DIGEST, 'size': len(CONTENT)}
    return Published(**({'url': f'{server.address}/models/file.pth'} | fields | changes))


def assert_whole(place):
    assert place.read_bytes() == CONTENT
    assert os.listdir(place.parent) == [place.name]


@pytest.mark.parametrize('size', [len(CONTENT), 0])
def test_a_file_is_downloaded_once(size, server, place, capsys):
    assert fetch(published(server, size=size), place) == place
    assert_whole(place)
    assert capsys.readouterr().err.startswith('file.pth: 1.0 of 3.0 MB\n')
    assert fetch(published(server, size=size), place) == place
    assert server.asked == [''] and capsys.readouterr().err == ''


def test_a_sha_1_is_one_too(server, place):
    digest = hashlib.sha1(CONTENT).hexdigest()
    assert_whole(fetch(published(server, algorithm='sha1', digest=digest, size=0), place))


def test_a_connection_that_is_cut_is_resumed(server, place):
    """At once, as long as something comes; then by the next call."""
    server.cuts = [1_000_000, 500_000]
    assert_whole(fetch(published(server), place))
    assert server.asked == ['', 'bytes=1000000-', 'bytes=1500000-']
    place.unlink()
    server.cuts, server.asked = [1_200_000, 0], []
    with pytest.raises(
        InputError, match=r'cannot be downloaded: it ended after 1200000 of'
    ) as caught:
        fetch(published(server), place)
    assert '1200000 bytes are kept, and the same command resumes' in str(caught.value)
    assert f'put the file at {place}' in str(caught.value)
    assert os.listdir(place.parent) == ['file.pth.part']
    assert_whole(fetch(published(server), place))
    assert server.asked == ['', 'bytes=1200000-', 'bytes=1200000-']


def test_a_server_that_sends_no_parts_sends_the_whole_again(server, place):
    server.ranges, server.cuts = False, [2_000_000]
    assert_whole(fetch(published(server), place))
    assert server.asked == ['', 'bytes=2000000-']


@pytest.mark.parametrize('more', [0, 5])
def test_a_part_that_is_whole_or_longer(more, server, place):
    place.parent.mkdir()
    part = place.with_name('file.pth.part')
    part.write_bytes(CONTENT + bytes(more))
    assert_whole(fetch(published(server), place))
    assert server.asked == ([f'bytes={len(CONTENT) + 5}-', ''] if more else [])
    place.unlink()
    part.write_bytes(CONTENT + bytes(more))  # and where the size is not known
    assert_whole(fetch(published(server, size=0), place))


def test_another_content_is_not_kept(server, place):
    place.parent.mkdir()
    place.with_name('file.pth.part').write_bytes(b'of another file')
    with pytest.raises(InputError, match='is not as it was published: its SHA256 is') as caught:
        fetch(published(server), place)
    assert DIGEST in str(caught.value) and 'nothing of it is kept' in str(caught.value)
    assert os.listdir(place.parent) == []
    assert_whole(fetch(published(server), place))


@pytest.mark.parametrize('length', [len(CONTENT) - 1, len(CONTENT) + 1, 10])
def test_another_size_is_refused_before_it_comes(length, server, place):
    server.content = CONTENT[:length] + bytes(max(0, length - len(CONTENT)))
    message = f'the server has {length} bytes; allowed: {len(CONTENT)}'
    with pytest.raises(InputError, match=message):
        fetch(published(server), place)
    assert os.listdir(place.parent) == []
    server.content, server.stated = CONTENT, 2**40
    with pytest.raises(InputError, match=f'has {2**40} bytes; allowed: at most {2**31}'):
        fetch(published(server, size=0), place)
    assert os.listdir(place.parent) == []


def test_parts_from_elsewhere_are_not_put_together(server, place):
    server.cuts, server.shift = [1_000_000], 7
    with pytest.raises(InputError, match='bytes from 1000007 on came, not from 1000000'):
        fetch(published(server), place)
    server.shift = 0
    assert_whole(fetch(published(server), place))


@pytest.mark.parametrize('status', [403, 404, 503])
def test_what_the_server_answers_is_named(status, server, place):
    server.status = status
    with pytest.raises(InputError, match=rf'/models/file\.pth cannot be .* answers {status} '):
        fetch(published(server), place)
    assert os.listdir(place.parent) == [] and len(server.asked) == 1


def test_offline(place):
    with socket.socket() as unheard:  # bound, so that nobody else listens there
        unheard.bind(('127.0.0.1', 0))
        url = f'http://127.0.0.1:{unheard.getsockname()[1]}/file.pth'
        with pytest.raises(InputError, match='refused') as caught:
            fetch(Published(url, 'sha256', DIGEST), place)
    message = str(caught.value)
    assert len(message.splitlines()) == 1 and url in message and str(place) in message
    place.write_bytes(CONTENT)  # by hand
    assert fetch(Published(url, 'sha256', DIGEST), place) == place


def test_a_server_that_falls_silent(server, place, monkeypatch):
    monkeypatch.setattr(download, 'TIMEOUT', 0.1)
    server.pause = 0.5
    monkeypatch.setattr(download, 'TRIES', 1)
    with pytest.raises(InputError, match=r'timed out; \d+ bytes are kept'):
        fetch(published(server), place)


def test_a_file_that_is_another_is_replaced(server, place, capsys):
    place.parent.mkdir()
    place.write_bytes(CONTENT[:-1] + b'\0')
    server.status = 404
    with pytest.raises(InputError):
        fetch(published(server), place)
    assert place.exists()  # whatever it was
    server.status = 200
    assert_whole(fetch(published(server), place))
    assert f'{place} is not the published file; downloading it again' in capsys.readouterr().err


def test_two_at_once_download_it_once(server, place):
    server.pause = 0.2
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(fetch(published(server), place)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [place, place] and server.asked == ['']
    assert_whole(place)


def test_a_full_disk(server, tmp_path):
    disk = tmp_path / 'disk'
    disk.mkdir()
    made = subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', str(disk)], check=False
    )
    if made.returncode:
        pytest.skip('file systems can be mounted by root only')
    place = disk / 'cache' / 'file.pth'
    try:
        with pytest.raises(
            StorageError, match='No space left on device; with free disk space'
        ) as caught:
            fetch(published(server), place)
        assert f'{place}.part, ' in str(caught.value) and not place.exists()
        subprocess.run(['mount', '-o', 'remount,size=8m', str(disk)], check=True)
        assert_whole(fetch(published(server), place))
        assert server.asked[0] == '' and server.asked[1].startswith('bytes=')
    finally:
        subprocess.run(['umount', '-l', str(disk)], check=True)


def test_a_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / 'cache').touch()
    with pytest.raises(StorageError, match='cannot be written: '):
        fetch(published(server), tmp_path / 'cache' / 'sub' / 'file.pth')
