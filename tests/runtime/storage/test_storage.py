"""URLs as local folders, on fsspec's own file system in memory."""

import contextlib
import hashlib
import json
from pathlib import Path

import fsspec
import pytest

from alexnet_jax.runtime import storage
from alexnet_jax.runtime.errors import InputError, StorageError
from alexnet_jax.runtime.storage import client, mirror, owner

URL = 'memory://bucket/run'


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv('ALEXNET_JAX_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(client, 'PATIENCE', 0)
    return tmp_path / 'cache'


@pytest.fixture
def store():
    """The file system below URL, as a mapping from names to bytes."""
    files = fsspec.filesystem('memory')
    with contextlib.suppress(FileNotFoundError):
        files.rm('/bucket', recursive=True)
    return fsspec.get_mapper(URL)


def put(folder: Path, **contents: str) -> None:
    for name, text in contents.items():
        path = folder / name.replace('__', '/').replace('_DOT_', '.')
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def write(folder: Path, contents: dict[str, str]) -> None:
    for name, text in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def held(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob('*')
        if path.is_file()
    }


def kept(store) -> dict[str, str]:
    return {name: store[name].decode() for name in store}


def test_smoke(store):
    with storage.session():
        folder = storage.folder(URL, '--out')
        write(folder, {'a': '1', 'sub/b': '2', '.lock': 'x'})
    assert kept(store) == {'a': '1', 'sub/b': '2'}
    with storage.session():
        folder = storage.folder(URL, '--out')
        assert held(folder) == {'a': '1', 'sub/b': '2', '.lock': 'x'}
        (folder / 'a').unlink()
    assert kept(store) == {'sub/b': '2'}
