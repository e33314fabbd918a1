"""URLs as local folders, for as long as a command runs.

Everything else in this package works on local folders. `folder` gives a URL one, in a cache, with
what the URL holds; `push`, and the end of the session, upload what has changed in it.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from alexnet_jax.runtime import files, heartbeat
from alexnet_jax.runtime.errors import InputError, StorageError, counted, plain
from alexnet_jax.runtime.storage import client, owner
from alexnet_jax.runtime.storage.client import Store, is_url
from alexnet_jax.runtime.storage.mirror import Mirror, in_units


@dataclasses.dataclass
class _Session:
    """The mirrors that are open.

    mirrors: by URL.
    read_only: URLs of those that are never uploaded.
    owners: by URL and prefix, what raises if another process has become the owner.
    locks: lock files, held until the session ends.
    """

    mirrors: dict[str, Mirror] = dataclasses.field(default_factory=dict)
    read_only: set[str] = dataclasses.field(default_factory=set)
    owners: dict[tuple[str, str], Callable[[], None]] = dataclasses.field(default_factory=dict)
    locks: contextlib.ExitStack = dataclasses.field(default_factory=contextlib.ExitStack)


_current = _outside = _Session()  # `_outside`: of a process that has begun none
_urls: dict[str, str] = {}  # by local folder, for messages


@contextlib.contextmanager
def session() -> Iterator[None]:
    """Uploads at its end the changed files of all URLs that were opened within.

    A session within another one is a part of that.

    Raises:
      StorageError: the upload failed.
    """
    global _current
    if _current is not _outside:
        yield
        return
    _current = opened = _Session()
    try:
        with opened.locks, _then(lambda: _push_all(opened)):
            yield
    finally:
        _current = _outside


def place(path: str | Path, option: str) -> Path:
    """Returns the path of a folder that is there or may be made; of a URL, its local folder.

    Args:
      option: what a message calls it.

    Raises:
      InputError: there can be no such folder.
    """
    if isinstance(path, str) and is_url(path):
        return folder(path, option)
    return files.possible_folder(path, option)


def folder(url: str, option: str) -> Path:
    """Returns the local folder of a URL, with what the URL holds. Nobody else uses it.

    Args:
      option: what a message calls it.

    Raises:
      InputError: it cannot be read, or there is no room for it.
    """
    return _opened(url, option, '')


def fetched(url: str, option: str, needs: str) -> Path:
    """Returns the local folder of a URL that is only read, and not downloaded twice.

    Args:
      needs: a file that the URL has to hold.

    Raises:
      InputError: as `folder`, or there is no such file.
    """
    return _opened(url, option, needs)


@contextlib.contextmanager
def owned(path: Path) -> Iterator[None]:
    """Makes this process the owner of a local folder's URL within.

    The folder is brought up to date first and uploaded at the end. A folder without a URL is left
    alone.

    Raises:
      InputError: another process is the owner, or it cannot be written.
      StorageError: the upload failed.
    """
    mirror, prefix = _mirror_of(path)
    if mirror is None:
        yield
        return
    store, opened = mirror.store, _current
    with contextlib.ExitStack() as stack:
        try:
            require_own = stack.enter_context(owner.owned(store, prefix))
            mirror.pull(prefix, trust=True)
            mirror.push(prefix, owned=True)  # to put right what a cut-short upload has left
            mirror.push()  # of a study, what its runs so far have made
        except StorageError as error:
            raise InputError(str(error)) from error
        opened.owners[store.url, prefix] = require_own
        stack.callback(opened.owners.pop, (store.url, prefix))
        stack.enter_context(_then(lambda: None if mirror.gave_up else push(path)))
        yield


def push(path: Path) -> None:
    """Uploads what has changed in a local folder that is `owned`; of any other, nothing.

    Raises:
      StorageError: the store cannot be written, or has another owner.
    """
    mirror, prefix = _mirror_of(path)
    require_own = mirror and _current.owners.get((mirror.store.url, prefix))
    if mirror is None or require_own is None:
        return
    heartbeat.slow(f'uploading to {plain(mirror.store.url)}')
    try:
        require_own()
        mirror.push(prefix, owned=True)
    except owner.TakenOverError:
        mirror.gave_up = True
        raise
    except StorageError as error:
        mirror.fail()
        raise StorageError(_not_uploaded(error)) from error


def as_urls(text: str) -> str:
    """Returns a text with URLs in place of their local folders."""
    for path, url in _urls.items():
        text = text.replace(path, url)
    return text


def cache() -> Path:
    """Returns the folder of the local copies."""
    if own := os.getenv('ALEXNET_JAX_CACHE'):
        return Path(own).expanduser().absolute()
    root = os.getenv('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(root, 'alexnet_jax', 'storage').absolute()


def _opened(url: str, option: str, needs: str) -> Path:
    url, opened = url.rstrip('/'), _current
    if url in opened.mirrors:
        return opened.mirrors[url].folder
    heartbeat.slow(f'opening {plain(url)}')
    try:
        mirror, size = _open(Store(url), opened.locks, needs)
    except (InputError, StorageError) as error:
        raise InputError(f'{option} {error}') from error
    except OSError as error:
        raise InputError(
            f'{option} {plain(url)}: no local copy can be made in {cache()}: {error.strerror}'
        ) from error
    mirror.store.patience = client.PATIENCE
    opened.mirrors[url] = mirror
    if needs:
        opened.read_only.add(url)
    _urls[str(mirror.folder)] = url
    if size:
        print(f'{in_units(size)} of {plain(url)} downloaded', file=sys.stderr, flush=True)
    return mirror.folder


def _open(store: Store, locks: contextlib.ExitStack, needs: str) -> tuple[Mirror, int]:
    """Returns a local copy, brought up to date, and how many bytes were downloaded. A copy that
    another process of this machine uses is left alone, unless both only read the same."""
    digest = hashlib.sha256(store.url.encode()).hexdigest()[:12]
    name = re.sub(r'[^\w.-]', '_', store.url.rpartition('/')[2])
    for number in itertools.count(1):
        place = cache() / f'{digest}-{number}'
        place.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(open(place / '.lock', 'a'))
            alone = _locked(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not alone and not (needs and _locked(file, fcntl.LOCK_SH)):
                continue
            mirror = Mirror(store, place / name, place / '.index.json')
            if not alone and not mirror.is_current():
                continue
            size = mirror.pull(trust=bool(needs), needs=needs) if alone else 0
            if needs:
                _locked(file, fcntl.LOCK_SH)
            locks.push(stack.pop_all())
            return mirror, size
    raise AssertionError


def _locked(file: IO, how: int) -> bool:
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a file system without locks
    return True


def _mirror_of(path: Path) -> tuple[Mirror | None, str]:
    """Returns the mirror that a local folder is of or in, and its prefix there."""
    for mirror in _current.mirrors.values():
        if path.absolute().is_relative_to(mirror.folder):
            inside = path.absolute().relative_to(mirror.folder).as_posix()
            return mirror, '' if inside == '.' else f'{inside}/'
    return None, ''


def _push_all(opened: _Session) -> None:
    for url, mirror in opened.mirrors.items():
        if url in opened.read_only or mirror.gave_up:
            continue
        heartbeat.slow(f'uploading to {plain(url)}')
        try:
            count = mirror.push()
        except StorageError as error:
            raise StorageError(_not_uploaded(error)) from error
        if count:
            print(f'{counted(count, "file")} of {plain(url)} uploaded', file=sys.stderr, flush=True)


def _not_uploaded(error: StorageError) -> str:
    return (
        f'{error}\nWhat could not be uploaded stays in {cache()}; the same command resumes from there,'
        ' or on another machine from what was uploaded'
    )


@contextlib.contextmanager
def _then(finish: Callable[[], None]) -> Iterator[None]:
    """Calls `finish` at the end; where it fails after an error, it is that error that is raised."""
    try:
        yield
    except BaseException:
        try:
            finish()
        except StorageError as error:
            print(as_urls(f'warning: {error}'), file=sys.stderr)
        raise
    finish()
