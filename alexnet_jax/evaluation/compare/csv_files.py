"""Reads .csv files that may be untrusted."""

import csv
import io
from pathlib import Path

from alexnet_jax.runtime import files

MOST_BYTES = 2**31  # a matrix of 10,000 images has about 10⁹


def read_rows(path: Path) -> list[list[str]]:
    """Reads the lines of a .csv file in UTF-8, without empty ones.

    Raises:
      OSError: it cannot be read.
      ValueError: it is too large, or not such a file.
    """
    text = files.read_bytes(path, MOST_BYTES).decode('utf-8', 'surrogateescape')
    lines = io.StringIO(text.removeprefix('\ufeff'), newline='')  # spreadsheets put it there
    try:
        return [row for row in csv.reader(lines) if row]
    except csv.Error as error:
        raise ValueError(str(error)) from error
