"""metrics.jsonl: one JSON object per line, in the order of the steps."""

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import InputError, StorageError

# Keys of every row, and of every train row.
NUMBERS = ('step', 'epoch', 'loss', 'top1_error', 'top5_error')
RATES = ('learning_rate', 'images_per_second')
# The order of a step's rows. The test row is the last one, after the last checkpoint.
RANKS = {'train': 0, 'val': 1, 'test': 2}
LONGEST = 2**16  # bytes of a row; they have 400


class MetricsLog:
    """Appends rows to a file.

    After `write` a row survives the end of this process.
    """

    def __init__(self, path: Path | None, last_step: int, validated: bool = True):
        """Opens or creates the file; None: rows are discarded. Rows after the checkpoint of
        `last_step`, and a truncated line, are removed, because the run writes them again.

        Args:
          validated: whether the validation of that checkpoint's step is done.

        Raises:
          InputError: there is something else in its place.
          StorageError: the file cannot be written; its content is unchanged.
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
                while line:  # a full disk accepts a part first, then nothing
                    line = line[self._file.write(line) :]

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()


def require_usable(path: Path) -> None:
    """Checks that the file is readable or absent, before a run changes anything.

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
            'Saved files are intact; after a repair the same command resumes'
        ) from error


def read(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Returns the rows of a metrics.jsonl, and the number of invalid lines.

    An interrupted run may have written half of its last row. Without a file both are empty.

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
    """Yields each line, or the beginning of a line that is longer than any row.

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
