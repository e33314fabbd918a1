"""The numbers behind a figure, as a table that any program reads."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from alexnet_jax.runtime import files

# How a formula begins, in one spreadsheet or another; some first take spaces away.
FORMULA = ('=', '+', '-', '@', '\t', '\r', '\n', ' ', '＝', '＋', '－', '＠')


def write(path: Path, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes path.csv; floats so that they read back as they were, None as nothing. A file's name
    that is no text is escaped, and a text that a spreadsheet would run as a formula begins with an
    apostrophe."""
    table = io.StringIO(newline='')
    writer = csv.writer(table)
    writer.writerow(map(_cell, names))
    writer.writerows(map(_cell, row) for row in rows)
    files.write_bytes(
        path.with_suffix('.csv'), table.getvalue().encode('utf-8', 'backslashreplace')
    )


def _cell(value: Any) -> Any:
    """Numbers as they are; class names and file names come from strangers."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
