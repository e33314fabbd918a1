"""Dissimilarity matrices on disk: folders with rdm.npy and ids.csv, and other files.

Other matrices, such as human judgments, are .npy or .csv files.
"""

import contextlib
import csv
import dataclasses
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.evaluation import arrays
from alexnet_jax.evaluation.compare.csv_files import read_rows
from alexnet_jax.evaluation.compare.features import order, repeated
from alexnet_jax.runtime import files, memory
from alexnet_jax.runtime.errors import InputError, counted, reason, shown

VALUES, IDS = 'rdm.npy', 'ids.csv'
HEADER = ['row', 'id']
LEAST = 3  # images: two have a single pair, and nothing to correlate
COPIES = 4  # of a matrix in float64, at most, while it is checked
TOLERANCE = 1e-6  # of the largest value: that of float32


@dataclasses.dataclass(frozen=True)
class Matrix:
    """A symmetric dissimilarity matrix.

    values: [images, images], float64; the diagonal is ignored.
    ids: [images]; None: the file has none.
    """

    path: Path
    values: np.ndarray
    ids: list[str] | None


@contextlib.contextmanager
def writing(
    folder: Path, about: Mapping[str, Any], values: np.ndarray, ids: Sequence[str]
) -> Iterator[Path]:
    """Writes a folder of rdm.npy, ids.csv and about.json.

    Yields it for further files before it takes its place, as `arrays.sealing`.
    """
    with arrays.sealing(folder, about) as made:
        np.save(made / VALUES, values)
        table = io.StringIO(newline='')
        csv.writer(table).writerows([HEADER, *enumerate(ids)])
        (made / IDS).write_bytes(table.getvalue().encode('utf-8', 'surrogateescape'))
        yield made


def read(path: Path) -> Matrix:
    """Reads a folder that `writing` has written, a .npy file, or a .csv file.

    A .csv file has rows of numbers, or with ids a first line of them and one before each row.

    Raises:
      InputError: it cannot be read, or is not a symmetric matrix of finite numbers of three images
        or more; it holds similarities; two images have one id.
    """
    try:
        if path.is_dir():
            values, ids = _read_folder(path)
        elif path.suffix == '.csv':
            values, ids = _read_csv(path)
        elif path.suffix == '.npy':
            values, ids = files.map_array(path), None
        else:
            raise ValueError('it is neither a folder nor a .npy or .csv file')
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f'{path} cannot be read as a matrix: {reason(error)}') from error
    memory.require(COPIES * values.size * 8, f'reading {path}')
    values = np.array(values, np.float64)
    require_matrix(values, str(path), ids)
    return Matrix(path, values, ids)


def require_matrix(values: np.ndarray, name: str, ids: Sequence[str] | None = None) -> None:
    """Checks that values are a symmetric dissimilarity matrix, [images, images].

    It must have finite numbers (the diagonal excepted), of three images or more.

    Raises:
      InputError: they are not; the message begins with `name`.
    """
    if values.ndim != 2 or values.shape[0] != values.shape[1]:
        raise InputError(f'{name} has the shape {shown(values.shape)}; allowed: [images, images]')
    count = len(values)
    if count < LEAST:
        raise InputError(f'{name} is of {counted(count, "image")}; {LEAST} at least are needed')
    if ids is not None and len(ids) != count:
        raise InputError(f'{name} has {counted(len(ids), "id")} for {counted(count, "image")}')
    twice = repeated(ids) if ids is not None else None
    if twice is not None:
        raise InputError(f'{name} has the id {shown(twice)} twice; ids must differ')
    off = ~np.eye(count, dtype=bool)
    broken = ~np.isfinite(values) & off
    if broken.any():
        row = int(broken.sum(axis=1).argmax())
        which = f' ({shown(ids[row])})' if ids is not None else ''
        raise InputError(
            f'{name} has {counted(int(broken.sum()), "value")} off the diagonal that are not finite,'
            f' most in row {row}{which}; leave such images out'
        )
    largest = np.abs(values[off]).max()
    apart = np.where(off, np.abs(values - values.T), 0)
    if apart.max() > TOLERANCE * largest:
        row, column = map(int, np.unravel_index(apart.argmax(), apart.shape))
        raise InputError(
            f'{name} is not symmetric: row {row}, column {column} has {values[row, column]:g} and'
            f' row {column}, column {row} has {values[column, row]:g}'
        )
    if np.diag(values).min() > values[off].max():
        raise InputError(
            f'{name} holds similarities: its diagonal is larger than all else; give dissimilarities,'
            ' for example 1 minus these'
        )


def matched(first: Matrix, second: Matrix) -> tuple[Matrix, str]:
    """Returns the second matrix in the order of the first one's images.

    With it comes a line on how they were matched.

    Raises:
      InputError: they are not of the same images.
    """
    if first.ids is None or second.ids is None:
        if len(first.values) != len(second.values):
            raise InputError(
                f'{first.path} is of {counted(len(first.values), "image")} and {second.path} of'
                f' {len(second.values)}; allowed: the same images'
            )
        without = first.path if first.ids is None else second.path
        return second, f'{without} has no ids: rows are matched as they stand'
    places = order(first.ids, second.ids, (str(first.path), str(second.path)))
    if (places == np.arange(len(places))).all():
        return second, 'the ids agree, in the same order'
    values = second.values[np.ix_(places, places)]
    line = f'{second.path} is reordered: its images are those of {first.path} in another order'
    return Matrix(second.path, values, list(first.ids)), line


def _read_folder(folder: Path) -> tuple[np.ndarray, list[str]]:
    if (folder / arrays.IDS).exists() and not (folder / VALUES).exists():
        raise ValueError('it holds features; rdm makes a matrix of them')
    if (folder / arrays.ABOUT).exists():
        about = arrays.read_about(folder)
        for name in (VALUES, IDS):
            arrays.require_unmodified(folder / name, about)
    rows = read_rows(folder / IDS)
    if not rows or rows[0] != HEADER or any(len(row) != 2 for row in rows):
        raise ValueError(f'{IDS} does not begin with the line {",".join(HEADER)}')
    if [row[0] for row in rows[1:]] != [str(number) for number in range(len(rows) - 1)]:
        raise ValueError(f'{IDS} does not number its rows from 0')
    return files.map_array(folder / VALUES), [row[1] for row in rows[1:]]


def _read_csv(path: Path) -> tuple[np.ndarray, list[str] | None]:
    rows = read_rows(path)
    ids = None
    if rows and rows[0] and not _is_number(rows[0][0]):
        ids = rows[0][1:]
        if len(rows) - 1 != len(ids):
            raise ValueError(
                f'it has {counted(len(rows) - 1, "row")} for {counted(len(ids), "id")} in its first line'
            )
        if [row[:1] for row in rows[1:]] != [[name] for name in ids]:
            raise ValueError('its first column does not have the ids of its first line')
        rows = [row[1:] for row in rows[1:]]
    if len({len(row) for row in rows}) != 1:
        raise ValueError('its lines have different numbers of values')
    return np.stack([np.array([float(value) for value in row]) for row in rows]), ids


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
