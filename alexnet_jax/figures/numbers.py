"""The numbers behind a figure, as a table that any program reads."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def write(path: Path, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes path.csv; floats so that they read back as they were, None as nothing. A file's name
    that is no text is escaped."""
    table = path.with_suffix('.csv')
    with table.open('w', newline='', encoding='utf-8', errors='backslashreplace') as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(rows)
