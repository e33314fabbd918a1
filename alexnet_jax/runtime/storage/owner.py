"""Ownership of a URL: an object that its owner rewrites regularly.

Stores have no locks. In stores with exclusive create (S3, Google Cloud Storage) only one of two
simultaneous runs becomes the owner; a killed owner is detected by its silence. This is no
guarantee: an owner without connection to the store for longer than SILENCE is considered killed. It
detects this before its next upload.
"""

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from alexnet_jax.runtime import heartbeat
from alexnet_jax.runtime.errors import InputError, StorageError, plain
from alexnet_jax.runtime.storage.client import Store

NAME = '.owner.json'
BEAT = 20.0  # seconds between an owner's heartbeats
SILENCE = 70.0  # seconds without a heartbeat after which an owner is considered killed
LOOK = 2.0  # seconds between checks of another owner's heartbeat


class TakenOverError(StorageError):
    """Another process has become the owner."""


@contextlib.contextmanager
def owned(store: Store, prefix: str) -> Iterator[Callable[[], None]]:
    """Makes this process the owner of the files below `prefix` in the block.

    Yields a function that raises TakenOverError if another process has become the owner since.

    Raises:
      InputError: another process is the owner.
      StorageError: the store cannot be written.
    """
    name, token, ended = prefix + NAME, secrets.token_hex(8), threading.Event()
    _acquire(store, name, token)
    signs = Store(store.url)  # which does not wait: the next sign comes soon
    beating = threading.Thread(target=_beat, args=(signs, name, token, ended), daemon=True)
    beating.start()
    try:
        yield lambda: _require_own(store, name, token)
    finally:
        ended.set()
        beating.join()
        with contextlib.suppress(StorageError):
            if (found := _read(signs, name)) and found.get('token') == token:
                signs.delete(name)


def _acquire(store: Store, name: str, token: str) -> None:
    while not store.create(name, _content(token)):
        found = _read(store, name)
        if found is None:
            continue  # it has ended meanwhile
        if found.get('token') == token:
            break  # the answer to a first try was lost
        if not _has_ended_here(found):
            _require_silence(store, name, found)
        store.put(name, _content(token))
        break
    _require_own(store, name, token)


def _require_silence(store: Store, name: str, found: dict[str, Any]) -> None:
    """Returns when an owner has given no sign for SILENCE.

    Raises:
      InputError: it gives one.
    """
    print(
        f'{plain(store.url)} was used by {_who(found)} and not given back: waiting'
        f' {SILENCE:.0f} s to see whether that still runs',
        flush=True,
    )
    end = time.monotonic() + SILENCE
    while time.monotonic() < end:
        heartbeat.slow(f'waiting for the owner of {plain(store.url)}')
        time.sleep(min(LOOK, max(0.0, end - time.monotonic())))
        now = _read(store, name)
        if now is None:
            return
        if now != found:
            raise InputError(
                f'{plain(store.url)} is in use by {_who(now)}; wait for it, end it, or take another'
                ' folder'
            )


def _has_ended_here(found: dict[str, Any]) -> bool:
    """Returns whether an owner was a process of this machine that is no more, or had this one's
    number, as the first process of a container that was started again."""
    pid = found.get('pid')
    if found.get('host') != socket.gethostname() or not isinstance(pid, int):
        return False
    if pid == os.getpid():
        return found.get('started') != _STARTED
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


_STARTED = secrets.token_hex(8)  # of this process


def _require_own(store: Store, name: str, token: str) -> None:
    found = _read(store, name)
    if found is None:
        store.put(name, _content(token))
    elif found.get('token') != token:
        raise TakenOverError(
            f'{plain(store.url)} was taken over by {_who(found)}, as this run was silent for more than'
            f' {SILENCE:.0f} s; it ends, so that the two do not mix'
        )


def _beat(store: Store, name: str, token: str, ended: threading.Event) -> None:
    while not ended.wait(BEAT):
        with contextlib.suppress(StorageError):
            if (found := _read(store, name)) and found.get('token') == token:
                store.put(name, _content(token))


def _content(token: str) -> bytes:
    about = {
        'host': socket.gethostname(), 'pid': os.getpid(), 'started': _STARTED, 'token': token,
        'time': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()), 'sign': secrets.token_hex(4),
    }  # fmt: skip
    return json.dumps(about).encode()


def _read(store: Store, name: str) -> dict[str, Any] | None:
    """Returns what an owner wrote; None if there is none. Of something else, no names."""
    try:
        found = json.loads(store.read(name))
        return found if isinstance(found, dict) else {}
    except FileNotFoundError:
        return None
    except ValueError:
        return {}


def _who(found: dict[str, Any]) -> str:
    return f'process {plain(found.get("pid", "?"))} on {plain(found.get("host", "?"))}'
