"""metrics.jsonl: one JSON object a line, in the order of the steps."""

import contextlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alexnet_jax.errors import StorageError

# What every row holds, and every train row.
NUMBERS = ('step', 'epoch', 'loss', 'top1_error', 'top5_error')
RATES = ('learning_rate', 'images_per_second')


class MetricsLog:
    """Appends rows to a file. A row is on its way to disk when `write` returns:
    the end of this process does not lose it."""

    def __init__(self, path: Path | None, last_step: int):
        """Opens the file, or starts it; None: rows go nowhere. What was written after the checkpoint of
        `last_step` was saved is dropped, and a line cut short: it comes again.

        Raises:
          StorageError: the file cannot be written; what is in it is as it was.
        """
        self._file, self._path = None, path
        if path is None:
            return
        kept = ''.join(line for line in _lines(path) if _written_before(line, last_step)).encode()
        beside = path.with_suffix('.tmp')
        with _told(path, len(kept)):
            beside.write_bytes(kept)
            os.replace(beside, path)
            self._file = path.open('ab', buffering=0)

    def write(self, row: dict[str, Any]) -> None:
        """
        Raises:
          StorageError: it cannot be written.
        """
        if self._file is not None and self._path is not None:
            line = (json.dumps(row) + '\n').encode()
            with _told(self._path, len(line)):
                while line:  # a disk that fills up takes a part, and then nothing
                    line = line[self._file.write(line) :]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


@contextlib.contextmanager
def _told(path: Path, count: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f'{path}: {count} bytes cannot be written: {error.strerror}\n'
            'What was saved is whole; once that is mended, the same command goes on'
        ) from error


def read(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The rows of a metrics.jsonl, and how many lines are none: a run that is going on, or was
    killed, may have written half of its last. None of either where there is no such file."""
    lines = _lines(path)
    rows = [row for row in map(_row, lines) if row is not None]
    return rows, len(lines) - len(rows)


def _row(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
        numbers = NUMBERS + (RATES if row['split'] == 'train' else ())
        return row if all(math.isfinite(row[name]) for name in numbers) else None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    return path.read_text(errors='replace').splitlines(keepends=True)


def _written_before(line: str, last_step: int) -> bool:
    try:
        row = json.loads(line)
        # The test row comes at the very end, after the last checkpoint.
        return line.endswith('\n') and (row['step'], row['split'] == 'test') <= (last_step, False)
    except (ValueError, KeyError, TypeError):
        return False
