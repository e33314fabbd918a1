"""Common parts of the formats: allowed float types, and writing of files."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import InputError, unwritable

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = (np.dtype(np.float16), BFLOAT16, np.dtype(np.float32), np.dtype(np.float64))
LONGEST = 80  # maximum characters of a file in an error message


class ContentError(ValueError):
    """A weight file that cannot be used. The message follows the file's path."""


def allowed_floats() -> str:
    """Returns the names of the allowed types of numbers, separated by commas."""
    return ', '.join(map(str, FLOATS))


def shortest(values: Iterable[float]) -> tuple[float, ...]:
    """Returns float32 numbers for a setting, each by the fewest digits that identify it."""
    return tuple(float(str(np.float32(value))) for value in values)


def as_float32(values: np.ndarray) -> np.ndarray:
    """Converts numbers to float32; too large ones become infinite."""
    with np.errstate(over='ignore', invalid='ignore'):
        return values.astype(np.float32, copy=False)


def require_finite(arrays: Mapping[str, np.ndarray], source: Path) -> None:
    """Checks that all values of arrays are finite.

    Raises:
      InputError: an array holds a value that is not a number, or infinite.
    """
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            raise InputError(
                f'{printable(name)} of {source} holds values that are not finite; allowed: finite ones'
            )


def printable(name: object) -> str:
    """Returns a name from a file on one line, truncated if long."""
    text = ascii(name)[1:-1] if isinstance(name, str) else f'a {type(name).__name__}'
    return text if len(text) <= LONGEST else f'{text[:LONGEST]}...'


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file atomically.

    Raises:
      InputError, StorageError: as `unwritable`.
    """
    try:
        with files.replacing(path, flush=True) as file:
            file.write(content)
    except OSError as error:
        raise unwritable(path, error) from error
