"""Folders of object stores and other remote file systems, by URL, through fsspec.

Its drivers (s3fs, gcsfs, adlfs) are installed by the user."""

import contextlib
import datetime
import errno
import functools
import random
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from alexnet_jax.runtime import files, heartbeat
from alexnet_jax.runtime.errors import InputError, StorageError, plain

T = TypeVar('T')
URL = re.compile(r'[A-Za-z][A-Za-z0-9+.-]*://.')
DRIVERS = {
    's3': 's3fs',
    's3a': 's3fs',
    'gs': 'gcsfs',
    'gcs': 'gcsfs',
    'az': 'adlfs',
    'abfs': 'adlfs',
}
PATIENCE = 180  # seconds during which a failed request is retried
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0  # seconds between tries; each wait is twice the one before
# Fields of a listing that identify contents; the first available one is used. Times are for stores
# without the others.
TAGS = ('ETag', 'etag', 'md5Hash', 'crc32c', 'checksum', 'generation')
TIMES = ('LastModified', 'last_modified', 'mtime', 'modified', 'created')
# Errors without retry: missing files, permissions, the local disk.
LASTING = (FileNotFoundError, FileExistsError, PermissionError, NotADirectoryError, TypeError, ValueError)  # fmt: skip
LOCAL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class Stat(NamedTuple):
    """Bytes of an object, and its tag, which changes with the content."""

    size: int
    tag: str


class Entry(NamedTuple):
    """An entry of a folder; size: bytes of a file."""

    name: str
    is_folder: bool
    size: int


def is_url(text: object) -> bool:
    """Returns whether a text is a remote URL such as s3://BUCKET/FOLDER."""
    return isinstance(text, str) and URL.match(text) is not None


class Store:
    """Files below a URL. Names are relative to it; '' is the URL itself.

    Every method raises StorageError, with the URL and the reason, if a request fails, after retries
    for up to `patience` seconds.
    """

    def __init__(self, url: str, patience: float = 0.0):
        """Opens a URL; nothing is sent.

        Raises:
          InputError: its driver is not installed, or there is no such kind of URL.
        """
        import fsspec  # here: it takes time, and most commands open no URL

        self.url, self.patience = url.rstrip('/'), patience
        kind = url.partition('://')[0].lower()
        try:
            self._fs, root = fsspec.url_to_fs(self.url)
        except ImportError as error:
            driver = DRIVERS.get(kind, '')
            advice = f'pip install {driver}' if driver else plain(error)
            raise InputError(
                f'{plain(url)} needs a driver that is not installed: {advice}'
            ) from error
        except ValueError as error:
            raise InputError(
                f'{plain(url)} cannot be opened: {plain(error)}; allowed: a folder, or a URL such as'
                ' s3://BUCKET/FOLDER or gs://BUCKET/FOLDER'
            ) from error
        self._root = root.rstrip('/')

    def listing(self) -> dict[str, Stat]:
        """Returns all files at any depth, by name; {} if there are none."""

        def find() -> Mapping[str, Mapping[str, Any]]:
            self._fs.invalidate_cache()
            return self._fs.find(self._root, detail=True)

        found = self._do('listing', find)
        return {
            name: _stat(entry)
            for path, entry in found.items()
            if entry['type'] == 'file' and (name := self._name(path)) is not None
        }

    def scan(self, folder: str = '') -> list[Entry]:
        """Returns the entries of a folder.

        Raises:
          FileNotFoundError: there is no such folder.
        """

        def ls() -> list[Mapping[str, Any]]:
            self._fs.invalidate_cache()
            return self._fs.ls(self._path(folder), detail=True)

        here = self._path(folder).rstrip('/')
        return [
            Entry(path.rpartition('/')[2], entry['type'] == 'directory', entry['size'] or 0)
            for entry in self._do('listing', ls, may_lack=True)
            if (path := entry['name'].rstrip('/')) != here
        ]

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError if there is no such file."""
        path = self._path(name)
        return self._do(f'{name}: reading it', lambda: self._fs.cat_file(path), may_lack=True)

    def get(self, name: str, path: Path) -> None:
        """Downloads a file atomically.

        Raises:
          FileNotFoundError: there is none.
        """

        def download() -> None:
            with files.replacing(path) as file:
                self._fs.get_file(self._path(name), file.name)

        path.parent.mkdir(parents=True, exist_ok=True)
        self._do(f'{name}: downloading it', download, may_lack=True)

    def put(self, name: str, content: bytes | Path) -> Stat:
        """Uploads a file, or bytes, atomically; returns its entry in listings."""

        def upload() -> Stat:
            self._make_folder(name)
            if isinstance(content, bytes):
                self._fs.pipe_file(self._path(name), content)
            else:
                self._fs.put_file(str(content), self._path(name))
            self._fs.invalidate_cache()
            return _stat(self._fs.info(self._path(name)))

        return self._do(f'{name}: uploading it', upload)

    def create(self, name: str, content: bytes) -> bool:
        """Uploads bytes unless the file exists; returns whether it did.

        Of two simultaneous calls only one succeeds in stores with exclusive create (S3, Google
        Cloud Storage).
        """

        def upload() -> bool:
            path = self._path(name)
            self._make_folder(name)
            try:
                self._fs.pipe_file(path, content, mode='create')
            except FileExistsError:
                return False
            except (TypeError, NotImplementedError):  # a driver that knows no such mode
                if self._fs.exists(path):
                    return False
                self._fs.pipe_file(path, content)
            return True

        return self._do(f'{name}: creating it', upload)

    def delete(self, name: str) -> None:
        """Deletes a file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            path = self._path(name)
            self._do(f'{name}: deleting it', lambda: self._fs.rm_file(path), may_lack=True)

    def _make_folder(self, name: str) -> None:
        """Object stores have no folders; others need them."""
        if not hasattr(self._fs, 'split_path'):  # of drivers whose first folder is a bucket
            self._fs.makedirs(self._path(name).rpartition('/')[0], exist_ok=True)

    def _path(self, name: str) -> str:
        return f'{self._root}/{name}' if name else self._root

    def _name(self, path: str) -> str | None:
        """Returns the name of a file below the URL; None of one that a local folder cannot have."""
        name = path.removeprefix(self._root).removeprefix('/')
        parts = name.split('/') if name else []
        return None if {'', '.', '..'} & set(parts) or '\0' in name else name

    def _do(self, doing: str, call: Callable[[], T], may_lack: bool = False) -> T:
        """Retries the call until it succeeds. may_lack: whether FileNotFoundError is a valid
        answer, rather than a missing bucket.
        """
        end, wait = time.monotonic() + self.patience, FIRST_WAIT
        while True:
            try:
                return call()
            except FileNotFoundError as error:
                if not may_lack:
                    raise StorageError(f'{plain(self.url)}: {_reason(error)}') from error
                raise
            except Exception as error:  # drivers raise what their libraries do
                if _is_lasting(error) or time.monotonic() + wait > end:
                    raise StorageError(
                        f'{plain(self.url)}: {plain(doing)}: {_reason(error)}'
                    ) from error
            heartbeat.slow(f'waiting for {plain(self.url)}')
            time.sleep(wait * random.uniform(0.5, 1))
            wait = min(2 * wait, LONGEST_WAIT)


@functools.cache
def store(url: str) -> Store:
    """Returns the store of a URL, opened once a process, that tries again; raises as `Store`."""
    return Store(url, PATIENCE)


def _is_lasting(error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno in LOCAL_DISK:
        return True
    return isinstance(error, LASTING) or 'Credentials' in type(error).__name__


def _reason(error: Exception) -> str:
    text = ' '.join(str(error).split())
    return plain(text or type(error).__name__)


def _stat(entry: Mapping[str, Any]) -> Stat:
    tag = next((entry[key] for key in (*TAGS, *TIMES) if entry.get(key)), '')
    if isinstance(tag, datetime.datetime):  # some drivers list times as numbers, and show them so
        tag = tag.timestamp()
    return Stat(int(entry['size'] or 0), str(tag).strip('"'))
