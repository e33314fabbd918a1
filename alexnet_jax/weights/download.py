"""Downloads published files, checks their digests, and resumes interrupted downloads."""

import contextlib
import dataclasses
import fcntl
import hashlib
import http.client
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from alexnet_jax.runtime.errors import InputError, StorageError, plain

CHUNK = 1 << 20  # bytes that are read at a time
TIMEOUT = 30  # seconds without an answer, or a byte
TRIES = 5  # maximum number of interrupted connections
MOST = 1 << 31  # bytes of a file
BETWEEN = 10  # seconds between lines on the progress, where there is no terminal
PART = '.part'  # end of the name of an incomplete file


@dataclasses.dataclass(frozen=True)
class Published:
    """A file that its authors publish.

    digest: hexadecimal, by `algorithm`, a name of hashlib.
    size: in bytes; 0 where it is not published.
    """

    url: str
    algorithm: str
    digest: str
    size: int = 0

    @property
    def name(self) -> str:
        """Name of the file, from its URL."""
        return self.url.rpartition('/')[2]


class _CutError(Exception):
    """The connection failed or ended early."""


def fetch(published: Published, place: Path) -> Path:
    """Downloads a file to `place`, unless it already has the published content.

    Without a network, the file can be put there by hand. Prints the progress to stderr.

    The received part of an interrupted download is kept beside `place`, and the next one resumes from
    there. Of two processes that download into one folder, one waits for the other.

    Raises:
      InputError: the server cannot be reached, has no such file, or has another file than the
        published one, which is deleted; the folder cannot be made.
      StorageError: the disk is full, or cannot be written.
    """
    if _is_as_published(place, published):
        return place
    part = place.with_name(place.name + PART)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with _alone_in(place.parent):
            if _is_as_published(place, published):  # downloaded while this process waited
                return place
            if place.exists():
                _say(f'{plain(place)} is not the published file; downloading it again')
            _download(published, part, place)
            _require_digest(published, part)
            os.replace(part, place)
    except OSError as error:
        bytes_there = part.stat().st_size if part.exists() else 0
        raise StorageError(
            f'{plain(error.filename or part)}, {bytes_there} bytes, cannot be written:'
            f' {error.strerror or error}; with free disk space the same command resumes'
        ) from error
    return place


def _is_as_published(path: Path, published: Published) -> bool:
    if not path.is_file() or published.size not in (0, path.stat().st_size):
        return False
    return _digest(path, published.algorithm) == published.digest


def _digest(path: Path, algorithm: str) -> str:
    with path.open('rb') as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _require_digest(published: Published, part: Path) -> None:
    """Compares the download with the published digest, and deletes it if they differ."""
    found = _digest(part, published.algorithm)
    if found != published.digest:
        part.unlink()
        raise InputError(
            f'{published.url} is not as it was published: its {published.algorithm.upper()} is'
            f' {found}, not {published.digest}; nothing of it is kept'
        )


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Waits for other processes that download into the folder."""
    number = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


def _download(published: Published, part: Path, place: Path) -> None:
    """Receives the missing bytes of `part`; reconnects after interruptions."""
    for tries_left in reversed(range(TRIES)):
        before = part.stat().st_size if part.exists() else 0
        try:
            return _receive(published, part)
        except _CutError as error:
            there = part.stat().st_size if part.exists() else 0
            if there > before and tries_left:
                continue
            kept = f'; {there} bytes are kept, and the same command resumes' if there else ''
            raise InputError(
                f'{published.url} cannot be downloaded: {plain(error)}{kept}; without a network,'
                f' put the file at {plain(place)}'
            ) from error


def _receive(published: Published, part: Path) -> None:
    """Appends the data of one connection to `part`.

    Raises:
      _CutError: the connection failed or ended early.
    """
    there = part.stat().st_size if part.exists() else 0
    if published.size and there == published.size:
        return
    with _open(published, there) as response:
        if response.status == http.client.PARTIAL_CONTENT:
            start, total = _range_of(response, published.url)
        else:  # the whole file, whatever was asked for
            start, total = 0, int(response.headers.get('Content-Length') or 0)
        if start not in (0, there):
            raise _CutError(f'bytes from {start} on came, not from {there}')
        wanted = published.size or total
        if total not in (0, wanted) or wanted > MOST:
            part.unlink(missing_ok=True)
            raise InputError(
                f'{published.url} is not as it was published: the server has {total} bytes;'
                f' allowed: {published.size or f"at most {MOST}"}'
            )
        progress = _Progress(published.name, wanted)
        done = _write(part, start, response, progress, wanted or MOST)
    if wanted and done != wanted:
        raise _CutError(f'it ended after {done} of {wanted} bytes')


def _write(
    part: Path, start: int, response: http.client.HTTPResponse, progress: '_Progress', most: int
) -> int:
    """Writes received data after the first `start` bytes of `part`; returns its new size, at most
    slightly above `most`.
    """
    done = start
    try:
        with part.open('ab' if start else 'wb') as file:
            for chunk in _chunks(response):
                file.write(chunk)
                done += len(chunk)
                progress.show(done)
                if done > most:
                    break
    finally:
        progress.end()
    return done


def _open(published: Published, there: int) -> http.client.HTTPResponse:
    """Requests all bytes from `there` on."""
    headers = {'User-Agent': 'alexnet_jax'} | ({'Range': f'bytes={there}-'} if there else {})
    request = urllib.request.Request(published.url, headers=headers)
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and there:
            return _open(published, 0)  # there is more than the file has
        raise InputError(
            f'{published.url} cannot be downloaded: the server answers {error.code}'
            f' {plain(error.reason)}'
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise _CutError(getattr(error, 'reason', None) or error) from error


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            chunk = response.read(CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _CutError(error) from error
        if not chunk:
            return
        yield chunk


def _range_of(response: http.client.HTTPResponse, url: str) -> tuple[int, int]:
    """Returns the first byte of a part of a file, and the size of the whole, 0 if unknown."""
    text = response.headers.get('Content-Range', '')
    found = re.fullmatch(r'bytes ([0-9]{1,12})-[0-9]{1,12}/([0-9]{1,12}|\*)', text)
    if not found:
        raise InputError(
            f'{url}: the server answers with the range {plain(text)}; allowed: bytes A-B/C'
        )
    return int(found[1]), 0 if found[2] == '*' else int(found[2])


class _Progress:
    """Prints the progress of a download: on a terminal in one line, otherwise at intervals."""

    def __init__(self, name: str, total: int):
        self._name, self._total, self._last = name, total, -float(BETWEEN)
        self._live = sys.stderr.isatty()

    def show(self, done: int) -> None:
        now = time.monotonic()
        if now - self._last < (0.2 if self._live else BETWEEN):
            return
        self._last = now
        of = f' of {self._total / 1e6:.1f}' if self._total else ''
        text = f'{self._name}: {done / 1e6:.1f}{of} MB'
        print(f'\r{text}' if self._live else text, end='' if self._live else '\n', file=sys.stderr)

    def end(self) -> None:
        if self._live:
            print(file=sys.stderr)


def _say(line: str) -> None:
    print(line, file=sys.stderr)
