"""A local folder that is kept equal to what lies below a URL.

Stores have no renames and no locks: a file exists or not. Therefore files are uploaded before the
record that makes them valid, and deleted after it; `in_view` ignores interrupted uploads. An index
stores the common content at the last synchronization, with each file's tag in the store and
SHA-256: contents are compared, not times.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import shutil
import stat
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from alexnet_jax.runtime import files, heartbeat
from alexnet_jax.runtime.errors import InputError, StorageError, counted, plain
from alexnet_jax.runtime.storage.client import Stat, Store
from alexnet_jax.runtime.storage.view import (
    CHECKPOINT,
    MANIFEST,
    NEW,
    by_rank,
    in_order,
    in_view,
    is_shared,
)

AT_ONCE = 8  # requests
SMALL = 2**24  # bytes; a smaller file is read once, as it may grow while it is uploaded
TRIES = 5  # of a download, when files are deleted meanwhile
SECONDS_BETWEEN_LINES = 10


@dataclasses.dataclass(frozen=True)
class Known:
    """A file as it was when the folder and the store had the same.

    key: its name in the store. tag: as in `client.Stat`. mtime: nanoseconds, of the local file.
    """

    key: str
    size: int
    tag: str
    sha256: str
    mtime: int


class Mirror:
    """The local folder of a URL."""

    def __init__(self, store: Store, folder: Path, index: Path):
        """Reads the index, if there is one; nothing else is touched."""
        self.store, self.folder, self._index_file = store, folder, index
        self.failed = False  # whether the last upload failed, of whatever process
        self.gave_up = False  # whether one of this process did
        self._known: dict[str, Known] = {}
        self._leftovers: list[str] = []  # what uploads that were cut short left in the store
        self._lock = threading.Lock()
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            kept = files.read_json(index, 2**30)
            self._known = {name: Known(**known) for name, known in kept['files'].items()}
            self.failed = bool(kept['failed'])

    def pull(self, prefix: str = '', trust: bool = False, needs: str = '') -> int:
        """Makes the folder, or what of it is below `prefix`, equal to the store, whatever it held:
        older, newer or other files. Only after a failed upload the folder is unchanged if the store
        has not changed since.

        Args:
          trust: whether a file of the size and time that the index has is not hashed.
          needs: a file that has to be there.

        Returns:
          how many bytes were downloaded.

        Raises:
          InputError: the store has no such file; there is no room.
          StorageError: the store cannot be read, or the folder not written.
        """
        for _ in range(TRIES):
            listed = self.store.listing()
            seen, self._leftovers = in_view(listed)
            if needs and needs not in seen:
                raise InputError(f'{plain(self.store.url)} holds no {needs}')
            if self.failed and self._is_unchanged(listed):
                return 0
            seen = {name: of for name, of in seen.items() if name.startswith(prefix)}
            missing = [name for name in in_order(seen) if not self._has(name, *seen[name], trust)]
            with self._disk_errors(), contextlib.suppress(FileNotFoundError):
                self._require_room(sum(seen[name][1].size for name in missing))
                self._download({name: seen[name] for name in missing})
                self._remove_others(prefix, seen)
                self.failed = False
                self._keep_index()
                return sum(seen[name][1].size for name in missing)
        raise StorageError(f'{plain(self.store.url)} changes all the time; try again')

    def is_current(self) -> bool:
        """Returns whether the folder has what the store has, by the index. Raises as `pull`."""
        seen, _ = in_view(self.store.listing())
        return seen.keys() == self._known.keys() and all(
            self._has(name, *of, trust=True) for name, of in seen.items()
        )

    def push(self, prefix: str = '', owned: bool = False) -> int:
        """Uploads the new and changed files below `prefix`, records last.

        Then deletes from the store the files that the folder no longer has. Returns the number of
        files that were uploaded or deleted.

        Args:
          owned: whether no other process writes there; otherwise checkpoints are not deleted.

        Raises:
          StorageError: it failed. Nothing that the store held before has lost its record.
        """
        with self._lock, self._disk_errors():

            def ours(name: str) -> bool:
                return name.startswith(prefix) and (owned or not CHECKPOINT.fullmatch(name))

            here = {name: of for name, of in self._local().items() if ours(name)}
            changed = self._changed(here)
            gone = {name for name in self._known if ours(name) and name not in here}
            leftovers = set(filter(ours, self._leftovers))
            if not (changed or gone or leftovers):
                return 0
            try:
                self._upload(here, changed)
                self._delete(leftovers - {known.key for known in self._known.values()})
                self._delete({self._known[name].key for name in gone})
                self._known = {n: known for n, known in self._known.items() if n not in gone}
                self._leftovers = [key for key in self._leftovers if key not in leftovers]
                self.failed = self.failed and not owned
            except BaseException:
                self.fail()
                raise
            self._keep_index()
            return len(changed) + len(gone)

    def fail(self) -> None:
        """Records that the folder is newer than the store."""
        self.failed = self.gave_up = True
        self._keep_index()

    def _upload(self, here: Mapping[str, os.stat_result], changed: Sequence[str]) -> None:
        """Overwrites an existing checkpoint only after its complete successor is in the store."""
        replaced = {
            match['folder']
            for name in changed
            if (match := CHECKPOINT.fullmatch(name)) and f'{match["folder"]}/{MANIFEST}' in self._known
        }  # fmt: skip
        beside = {}  # by name, the key
        for folder in replaced:
            names = in_order(name for name in here if name.startswith(f'{folder}/'))
            beside |= {name: f'{folder}{NEW}{name.removeprefix(folder)}' for name in names}
        self._put(here, beside)
        self._put(here, {name: name for name in changed})
        self._delete(beside.values())

    def _put(self, here: Mapping[str, os.stat_result], keys: Mapping[str, str]) -> None:
        """Uploads files, by name, under keys; the index has what lies under its own name."""

        def put(name: str) -> None:
            path, content = self.folder / name, None
            if not path.exists():
                return  # it was removed meanwhile; the next upload deletes it
            if here[name].st_size < SMALL:
                content = path.read_bytes()
            digest = files.sha256(path) if content is None else hashlib.sha256(content).hexdigest()
            found = self.store.put(keys[name], path if content is None else content)
            if keys[name] == name:
                mtime = here[name].st_mtime_ns
                self._known[name] = Known(name, here[name].st_size, found.tag, digest, mtime)

        for names in by_rank(keys):
            _at_once(put, names)

    def _delete(self, keys: Iterable[str]) -> None:
        for names in reversed(by_rank(keys)):
            _at_once(self.store.delete, names)

    def _changed(self, here: Mapping[str, os.stat_result]) -> list[str]:
        """Returns which files the store does not have as they are. One that was written again with
        the same content is not uploaded."""
        changed = []
        for name, found in here.items():
            known = self._known.get(name)
            same = known and known.key == name and known.size == found.st_size
            if not (known and same):
                changed.append(name)
            elif known.mtime != found.st_mtime_ns:
                if files.sha256(self.folder / name) != known.sha256:
                    changed.append(name)
                else:
                    self._known[name] = dataclasses.replace(known, mtime=found.st_mtime_ns)
        return in_order(changed)

    def _has(self, name: str, key: str, remote: Stat, trust: bool) -> bool:
        known, path = self._known.get(name), self.folder / name
        if not known or (known.key, known.size, known.tag) != (key, remote.size, remote.tag):
            return False
        try:
            found = path.lstat()
        except OSError:
            return False
        if not stat.S_ISREG(found.st_mode) or found.st_size != known.size:
            return False
        if trust and found.st_mtime_ns == known.mtime:
            return True
        return files.sha256(path) == known.sha256

    def _is_unchanged(self, listed: Mapping[str, Stat]) -> bool:
        """Returns whether the store has what it had after our last upload, failed as it did."""
        theirs = {
            key: of.tag for key, of in listed.items() if is_shared(key) and f'{NEW}/' not in key
        }
        return theirs == {known.key: known.tag for known in self._known.values()}

    def _download(self, wanted: Mapping[str, tuple[str, Stat]]) -> None:
        total, done = sum(of.size for _, of in wanted.values()), 0
        last_line = time.monotonic()
        lock = threading.Lock()

        def get(name: str) -> None:
            nonlocal done, last_line
            key, remote = wanted[name]
            path = self.folder / name
            if path.is_dir():
                shutil.rmtree(path)
            self.store.get(key, path)
            found = path.stat()
            if found.st_size != remote.size:
                raise FileNotFoundError(name)  # it was replaced meanwhile
            known = Known(key, remote.size, remote.tag, files.sha256(path), found.st_mtime_ns)
            with lock:
                self._known[name] = known
                done += remote.size
                heartbeat.slow(f'downloading {plain(self.store.url)}')
                if time.monotonic() - last_line > SECONDS_BETWEEN_LINES:
                    last_line = time.monotonic()
                    print(f'{plain(self.store.url)}: {in_units(done)} of {in_units(total)} downloaded', flush=True)  # fmt: skip

        _at_once(get, list(wanted))

    def _remove_others(self, prefix: str, seen: Mapping[str, object]) -> None:
        """Removes what the store does not have, and folders that are empty then: an empty one
        would count as a checkpoint."""
        for name in self._local():
            if name.startswith(prefix) and name not in seen:
                (self.folder / name).unlink()
        self._known = {
            name: known
            for name, known in self._known.items()
            if name in seen or not name.startswith(prefix)
        }
        for top, _, _ in os.walk(self.folder, topdown=False):
            inside = os.path.relpath(top, self.folder)
            if inside != '.' and is_shared(inside) and f'{inside}/'.startswith(prefix):
                with contextlib.suppress(OSError):
                    os.rmdir(top)

    def _local(self) -> dict[str, os.stat_result]:
        """Returns the files that are shared, by name, in order."""
        found = {}
        places = [self.folder] if self.folder.is_file() else sorted(self.folder.rglob('*'))
        for path in places:
            name = '' if path == self.folder else path.relative_to(self.folder).as_posix()
            with contextlib.suppress(FileNotFoundError):
                about = path.lstat()
                if is_shared(name) and stat.S_ISREG(about.st_mode):
                    found[name] = about
        return found

    def _require_room(self, needed: int) -> None:
        """Checks that the disk has room.

        Raises:
          InputError: the disk has no room for so many bytes.
        """
        if not needed:
            return
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder.parent).free
        if free < needed:
            raise InputError(
                f'{plain(self.store.url)} takes {in_units(needed)}, and {self._index_file.parent} has'
                f' {in_units(free)} free: make room, or name a folder elsewhere as ALEXNET_JAX_CACHE'
            )

    @contextlib.contextmanager
    def _disk_errors(self):
        """Turns errors of the local disk within into errors of storage.

        Raises:
          StorageError: the local folder cannot be read or written within.
        """
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StorageError(
                f'the local copy of {plain(self.store.url)} cannot be used:'
                f' {plain(error.strerror or error)}'
            ) from error

    def _keep_index(self) -> None:
        kept = {name: dataclasses.asdict(known) for name, known in self._known.items()}
        tree = {'url': self.store.url, 'failed': self.failed, 'files': kept}
        files.write_bytes(self._index_file, json.dumps(tree).encode())


def _at_once(call, names: Sequence[str]) -> None:
    """Calls it with each name, several at once. After an error, those go on that have begun."""
    if not names:
        return
    pool = concurrent.futures.ThreadPoolExecutor(min(AT_ONCE, len(names)), 'storage')
    try:
        for _ in pool.map(functools.partial(call), names):
            pass
    finally:
        pool.shutdown(cancel_futures=True)


def in_units(count: int) -> str:
    """Returns a number of bytes in words: '3.4 MB'."""
    for power, unit in ((3, 'GB'), (2, 'MB'), (1, 'kB')):
        if count >= 1000**power:
            return f'{count / 1000**power:.1f} {unit}'
    return counted(count, 'byte')
