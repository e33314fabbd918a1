"""Reads and writes small files that may be untrusted.

They are read in bounded memory, without blocking, and written atomically.
"""

import contextlib
import errno
import fcntl
import glob
import hashlib
import io
import json
import math
import os
import secrets
import shutil
import stat
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from alexnet_jax.runtime.errors import InputError, plain, reason

MOST_BYTES = 2**26  # of a file of text; a configuration has 4,000, 100,000 class names 2 million
HEADER_BYTES = 10_000  # of an array in an .npz file, at most
ABANDONED_SECONDS = 60  # after which a temporary folder without a lock is abandoned
Shape = tuple[int, ...]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """Opens a regular file for reading.

    Raises:
      OSError: it cannot be opened, or is a pipe, socket or device, which could block.
    """
    with open(path, 'rb', opener=_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(None, 'it is not a regular file', str(path))
        yield file


def possible_folder(path: str | Path, name: str) -> Path:
    """Returns the path of a folder that exists or can be created.

    Args:
      path: the given path.
      name: its name in messages.

    Raises:
      InputError: there can be no such folder.
    """
    try:
        if not str(path):  # of a shell variable that is not set; Path('') is the current folder
            raise ValueError('it is empty')
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # its creation may fail later
    except (OSError, ValueError) as error:
        reason = getattr(error, 'strerror', None) or str(error)
        raise InputError(f'{name} {plain(path, 500)} cannot be used: {reason}') from None
    return Path(path)


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """Reads a regular file of at most `most` bytes.

    Raises:
      OSError: as `opened`.
      ValueError: the file is larger.
    """
    with opened(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f'it has more than {most} bytes')
    return content


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a regular file in hexadecimal; raises as `opened`."""
    with opened(path) as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()  # pyright: ignore[reportArgumentType]


def read_json(path: Path, most: int = MOST_BYTES) -> Any:
    """Reads JSON of at most `most` bytes in UTF-8.

    NaN and Infinity are not JSON; repeated names in an object are ambiguous.

    Raises:
      OSError: as `opened`.
      ValueError: the file is larger, or is not JSON.
    """
    try:
        text = read_bytes(path, most).decode()
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_object)
    except RecursionError as error:
        raise ValueError('it is nested too deep') from error


def require_own_folder(folder: Path, record: str) -> None:
    """Checks that a folder is absent, is empty, or has the file `record` of the command.

    Raises:
      InputError: it has other content, or is not a folder.
    """
    empty = folder.is_dir() and not any(folder.iterdir())
    if folder.exists() and not empty and not (folder / record).exists():
        raise InputError(f'{plain(folder)} is there and holds something else; take another folder')


def require_same_command(path: Path, asked: Mapping[str, Any]) -> None:
    """Checks that a JSON file may be written by a command.

    It is absent, or has all the values of the command, which then writes them again.

    Raises:
      InputError: it belongs to another command, or cannot be read.
    """
    if not path.exists():
        return
    try:
        found = read_json(path)
    except (OSError, ValueError) as error:
        raise InputError(f'{plain(path)} cannot be read: {reason(error)}') from error
    wanted = json.loads(json.dumps(asked))
    known = found if isinstance(found, dict) else {}
    differ = [name for name in wanted if known.get(name) != wanted[name]]
    if differ:
        raise InputError(
            f'{plain(path.parent)} is of another command: {", ".join(differ)} differ; remove it, or'
            ' take another folder'
        )


def read_arrays(path: Path, shapes: Mapping[str, Sequence[Shape]]) -> dict[str, np.ndarray]:
    """Reads the named arrays of an .npz file.

    Headers are checked before arrays are allocated: a small file cannot fill the memory.

    Args:
      shapes: by array, the allowed shapes.

    Raises:
      OSError: as `opened`.
      ValueError: the file is not such an archive; an array is missing, is not of finite real
        numbers, or has another shape.
    """
    with opened(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return {name: _read_array(archive, name, shapes[name]) for name in shapes}
        except OSError:
            raise
        except ValueError:
            raise
        except Exception as error:  # Whatever a broken archive makes its reader raise.
            raise ValueError(f'{type(error).__name__}: {error}') from error


def map_array(path: Path) -> np.memmap:
    """Opens the real numbers of an .npy file; they are read from disk on use.

    Raises:
      OSError: as `opened`.
      ValueError: it is no such file, or has another number of bytes than its header states.
    """
    with opened(path) as file:
        shape, fortran, dtype = _header(file, 'it')
        start, size = file.tell(), math.prod(shape) * dtype.itemsize
        if os.fstat(file.fileno()).st_size - start != size:
            raise ValueError('it has another number of bytes than its header states')
        if not size:
            raise ValueError('it holds no numbers')
        order = 'F' if fortran else 'C'
        return np.memmap(file, dtype, 'r', start, shape, order)  # pyright: ignore[reportCallIssue, reportArgumentType]


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all; of two processes that do so at once, one comes last.

    Raises:
      OSError: it cannot be written; what was there before is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(content)


@contextlib.contextmanager
def replacing(path: Path, flush: bool = False) -> Iterator[io.BufferedWriter]:
    """Opens a file that replaces `path` if the block succeeds, and is deleted otherwise.

    Args:
      flush: whether to flush its content to disk.

    Raises:
      OSError: it cannot be written; what was there before is as it was.
    """
    beside = path.parent / f'.{path.name}.{os.getpid()}.tmp'
    try:
        beside.unlink(missing_ok=True)
        with beside.open('xb') as file:  # never to the target of a link
            yield file
            if flush:
                file.flush()
                os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def flush_folder(folder: Path) -> None:
    """Flushes the names in a folder to disk."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextlib.contextmanager
def new_folder(place: Path) -> Iterator[Path]:
    """Yields an empty folder that replaces `place` if the block succeeds.

    Otherwise it is deleted. Of two simultaneous processes the last one wins.

    Raises:
      OSError: it cannot be created or moved; the previous folder is unchanged.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    _clear_abandoned(place)
    made = place.with_name(f'.{place.name}.{secrets.token_hex(8)}.tmp')
    made.mkdir()
    number = os.open(made, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield made
        _replace(made, place)
    finally:
        os.close(number)
        shutil.rmtree(made, ignore_errors=True)


def _replace(made: Path, place: Path) -> None:
    for _ in range(100):
        old = made.with_name(f'{made.name}.old')
        with contextlib.suppress(FileNotFoundError):
            os.rename(place, old)
        try:
            os.rename(made, place)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                continue  # another process was there first
            with contextlib.suppress(OSError):
                os.rename(old, place)
            raise
        finally:
            shutil.rmtree(old, ignore_errors=True)
        return
    raise OSError(errno.EEXIST, 'others write there all the time', str(place))


def _clear_abandoned(place: Path) -> None:
    """Removes temporary folders of killed processes, whose locks are released."""
    for left in place.parent.glob(f'.{glob.escape(place.name)}.*.tmp'):
        with contextlib.suppress(OSError):
            if time.time() < left.lstat().st_mtime + ABANDONED_SECONDS:
                continue  # it may be not locked yet
            number = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(number)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # or a pipe without a writer would block


def _refuse_constant(name: str) -> None:
    raise ValueError(f'it holds {name}, which is not JSON')


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError('an object in it has a name twice')
    return found


def _read_array(archive: zipfile.ZipFile, name: str, allowed: Sequence[Shape]) -> np.ndarray:
    if f'{name}.npy' not in archive.namelist():
        raise ValueError(f'it has no array {name}')
    with archive.open(f'{name}.npy') as member:
        shape, fortran, dtype = _header(member, name)
        if shape not in allowed:
            raise ValueError(f'{name} has the shape {shape}; allowed: {_either(allowed)}')
        size = math.prod(shape) * dtype.itemsize
        content = member.read(size + 1)
    if len(content) != size:
        raise ValueError(f'{name} has another number of bytes than its header states')
    array = np.frombuffer(content, dtype).reshape(shape, order='F' if fortran else 'C')
    if not np.isfinite(array).all():
        raise ValueError(f'{name} has numbers that are not finite')
    return array


def _header(file: IO[bytes], name: str) -> tuple[Shape, bool, np.dtype]:
    """Reads the header of an array: shape, Fortran order, type.

    Raises:
      ValueError: it has none, or is not of real numbers.
    """
    version = np.lib.format.read_magic(file)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read_header is None:
        raise ValueError(f'{name} has the format {version}; allowed: (1, 0) and (2, 0)')
    try:
        shape, fortran, dtype = read_header(file, max_header_size=HEADER_BYTES)
    except (OSError, ValueError):
        raise
    except Exception as error:  # It is parsed as Python, which raises various errors.
        raise ValueError(f'{name} has a broken header: {type(error).__name__}') from error
    if dtype.kind not in 'fiu':
        raise ValueError(f'{name} has the type {dtype}; allowed: real numbers')
    return shape, fortran, dtype


def _either(shapes: Sequence[Shape]) -> str:
    return ' or '.join(map(str, shapes))


def npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Returns the bytes of an .npz file of the arrays."""
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    return content.getvalue()
