"""metrics.jsonl: one JSON object a line, in the order of the steps."""

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import InputError, StorageError

# What every row holds, and every train row.
NUMBERS = ('step', 'epoch', 'loss', 'top1_error', 'top5_error')
RATES = ('learning_rate', 'images_per_second')
# The order of a step's rows. The test row comes at the very end, after the last checkpoint.
RANKS = {'train': 0, 'val': 1, 'test': 2}
LONGEST = 2**16  # bytes of a row; they have 400


class MetricsLog:
    """Appends rows to a file.

    A row is on its way to disk when `write` returns: the end of this process does not lose it.
    """

    def __init__(self, path: Path | None, last_step: int, validated: bool = True):
        """Opens the file, or starts it; None: rows go nowhere. What was written after the checkpoint of
        `last_step` was saved is dropped, and a line cut short: it comes again.

        Args:
          validated: whether that checkpoint has the validation of its step behind it.

        Raises:
          InputError: there is something else in its place.
          StorageError: the file cannot be written; what is in it is as it was.
        """
        self._file, self._path = None, path
        if path is None:
            return
        last = last_step, RANKS['val' if validated else 'train']
        kept = b''.join(line for line in _lines(path) if _written_before(line, last))
        with _disk_errors(path, len(kept)):
            files.write_bytes(path, kept)
            self._file = path.open('ab', buffering=0)

    def write(self, row: dict[str, Any]) -> None:
        """Appends a row to the file.

        Raises:
          StorageError: it cannot be written.
        """
        if self._file is not None and self._path is not None:
            line = (json.dumps(row, allow_nan=False) + '\n').encode()
            with _disk_errors(self._path, len(line)):
                while line:  # a disk that fills up takes a part, and then nothing
                    line = line[self._file.write(line) :]

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()


def require_usable(path: Path) -> None:
    """Lets pass a file that can be read, or none, before a run touches anything.

    Raises:
      InputError: there is something else in its place.
    """
    for _ in _lines(path):
        return


@contextlib.contextmanager
def _disk_errors(path: Path, count: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f'{path}: {count} bytes cannot be written: {error.strerror}\n'
            'Saved files are intact; once that is repaired, the same command resumes'
        ) from error


def read(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Returns the rows of a metrics.jsonl, and how many lines are none.

    An interrupted run may have written half of its last row. Without a file there are
    neither.

    Raises:
      InputError: there is something else in its place.
    """
    rows, lost = [], 0
    for line in _lines(path):
        row = _row(line)
        if row is None:
            lost += 1
        else:
            rows.append(row)
    return rows, lost


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
        numbers = NUMBERS + (RATES if row['split'] == 'train' else ())
        seconds = [row[name] for name in row if name.startswith('seconds_')]
        whole = row['split'] in RANKS and type(row['step']) is int and all(
            math.isfinite(number) for number in (*(row[name] for name in numbers), *seconds)
        )  # fmt: skip
        return row if whole else None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _lines(path: Path) -> Iterator[bytes]:
    """Yields each line; of one that is longer than any row, its beginning.

    Raises:
      InputError: there is something else in its place.
    """
    try:
        with files.opened(path) as file:
            while line := file.readline(LONGEST):
                yield line
                while len(line) == LONGEST and not line.endswith(b'\n'):
                    line = file.readline(LONGEST)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise InputError(f'{path} cannot be read: {error.strerror}') from error


def _written_before(line: bytes, last: tuple[int, int]) -> bool:
    """`last`: the step that was saved, and the rank of its last row."""
    try:
        row = json.loads(line)
        return line.endswith(b'\n') and (row['step'], RANKS[row['split']]) <= last
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
