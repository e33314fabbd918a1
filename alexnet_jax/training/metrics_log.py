"""metrics.jsonl: one JSON object a line, in the order of the steps."""

import json
import os
from pathlib import Path
from typing import Any


class MetricsLog:
    """Appends rows to a file. A row is on its way to disk when `write` returns:
    the end of this process does not lose it."""

    def __init__(self, path: Path | None, last_step: int):
        """Opens the file, or starts it; None: rows go nowhere. What was written after the checkpoint of
        `last_step` was saved is dropped, and a line cut short: it comes again."""
        self._file = None
        if path is None:
            return
        kept = [line for line in _lines(path) if _written_before(line, last_step)]
        beside = path.with_suffix('.tmp')
        beside.write_text(''.join(kept))
        os.replace(beside, path)
        self._file = path.open('a')

    def write(self, row: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(row) + '\n')
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines(keepends=True) if path.exists() else []


def _written_before(line: str, last_step: int) -> bool:
    try:
        row = json.loads(line)
        # The test row comes at the very end, after the last checkpoint.
        return line.endswith('\n') and (row['step'], row['split'] == 'test') <= (last_step, False)
    except (ValueError, KeyError, TypeError):
        return False
