"""Features of images on disk, written as they are computed; an interrupted command resumes.

Until all images are done, the files are in FOLDER.partial: one .npy file per array, to which rows
are appended, `ids.csv`, and `state.json` with the number of valid rows. Then the folder is
converted to the requested format (that of `arrays.read`, one safetensors file, or ArrayRecord) and
renamed.
"""

import csv
import dataclasses
import fcntl
import io
import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from alexnet_jax.evaluation import arrays
from alexnet_jax.evaluation.feature_records import RecordWriter
from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import InputError, StorageError, counted, plain, reason, unwritable

FORMS = ('npy', 'safetensors', 'array_record')
SAFETENSORS = 'features.safetensors'
CSV, STATE, LABELS = 'ids.csv', 'state.json', 'labels'
PROGRESS = 'progress'  # in STATE
SAVED_EVERY = 1.0  # seconds
AT_ONCE = 2**26  # bytes copied
_TYPES = {'float32': 'F32', 'float16': 'F16', 'int64': 'I64'}  # safetensors' names


@dataclasses.dataclass
class State:
    """Progress of a partial folder.

    images: finished images of the source. rows: of the arrays. ids_bytes: of ids.csv. skipped: id
    and reason of images without a row.
    """

    images: int = 0
    rows: int = 0
    ids_bytes: int = 0
    skipped: list[list[str]] = dataclasses.field(default_factory=list)


class FeatureFiles:
    """Writes a folder of features. If closed before `finish`, it keeps the partial folder.

    Args:
      folder: the final folder.
      request: everything that affects the features, as JSON: a partial folder is continued only for
        an equal request.
      shapes: of one image's row, by array. dtype: of the arrays.

      anew: whether to discard a partial folder.

    Raises:
      InputError: something else is in the folder's place; the partial folder is of another
        request, or another process writes there. InputError, StorageError: as `unwritable`.
    """

    def __init__(
        self, folder: Path, request: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], dtype: str,
        anew: bool = False,
    ):  # fmt: skip
        files.require_own_folder(folder, arrays.ABOUT)
        files.require_same_command(folder / arrays.ABOUT, request)
        self.folder, self.partial = folder, folder.with_name(folder.name + '.partial')
        self._request = json.loads(json.dumps(request))
        self._dtypes = {name: np.dtype(dtype) for name in shapes} | {LABELS: np.dtype('int64')}
        self._shapes = {name: tuple(shape) for name, shape in shapes.items()} | {LABELS: ()}
        self._files: dict[str, BinaryIO] = {}
        self._saved_at = time.monotonic()
        try:
            self.partial.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.partial, os.O_RDONLY)
        except OSError as error:
            raise unwritable(self.partial, error) from error
        try:
            self._take_lock()
            found = self._read_state()
            self.state = State() if anew else found
            self.save()  # first, to mark the folder as created by this package
            self._open_files()
        except OSError as error:
            os.close(self._lock)
            raise unwritable(self.partial, error) from error
        except BaseException:
            os.close(self._lock)
            raise

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f'another process writes to {plain(self.partial)}; wait for it, or take another folder'
            ) from None
        except OSError:
            pass  # a file system without locks

    def _read_state(self) -> State:
        path = self.partial / STATE
        if not path.exists():
            if any(self.partial.iterdir()):
                raise InputError(
                    f'{plain(self.partial)} is there and holds something else; remove it, or take'
                    ' another folder'
                )
            return State()
        files.require_same_command(path, self._request)
        try:
            return State(**files.read_json(path)[PROGRESS])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f'{plain(path)} cannot be read: {plain(error)}; remove the folder'
            ) from error

    def _open_files(self) -> None:
        """Opens each file for appending and removes rows written after the saved state."""
        for name, shape in self._shapes.items():
            header = self._header(name, self.state.rows)
            row = math.prod(shape) * self._dtypes[name].itemsize
            self._open(arrays.file_name(name), len(header) + self.state.rows * row, header)
        self._open(CSV, self.state.ids_bytes, b'')
        if not self.state.ids_bytes:
            self._write_ids([('row', 'id')])

    def _open(self, name: str, size: int, header: bytes) -> None:
        path = self.partial / name
        if size == len(header) or not path.exists():  # a kill may have left part of a header
            path.write_bytes(header)
        file = self._files[name] = path.open('r+b')
        if os.fstat(file.fileno()).st_size < size:
            raise InputError(
                f'{plain(path)} is shorter than {STATE} says; remove {plain(self.partial)}'
            )
        file.truncate(size)
        file.seek(size)

    def _header(self, name: str, rows: int) -> bytes:
        """Returns the header of an .npy file; its length does not depend on the rows."""
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {
            'descr': np.lib.format.dtype_to_descr(self._dtypes[name]),
            'fortran_order': False,
            'shape': (rows, *self._shapes[name]),
        })  # fmt: skip
        return header.getvalue()

    def _write_ids(self, rows: Sequence[tuple[Any, str]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator='\n').writerows(rows)
        content = text.getvalue().encode('utf-8', 'surrogateescape')
        self._files[CSV].write(content)
        self.state.ids_bytes += len(content)

    def add(
        self,
        ids: Sequence[str],
        labels: np.ndarray,
        rows: Mapping[str, np.ndarray],
        skipped: Mapping[str, str],
    ) -> None:
        """Appends the next images of the source.

        Args:
          rows: by array, [images, ...]. skipped: the reason for each image without a row, by id.

        Raises:
          StorageError: the disk is full or not available. InputError: a number exceeds the type.
        """
        kept = np.array([name not in skipped for name in ids], bool)
        names = [name for name in ids if name not in skipped]
        try:
            for name, values in {**rows, LABELS: labels}.items():
                self._files[arrays.file_name(name)].write(self._cast(name, values[kept], names))
            first = self.state.rows
            self._write_ids([(first + place, name) for place, name in enumerate(names)])
            self.state.rows += len(names)
            self.state.images += len(ids)
            self.state.skipped += [[name, skipped[name]] for name in ids if name in skipped]
            if time.monotonic() - self._saved_at > SAVED_EVERY:
                self.save()
        except OSError as error:
            raise StorageError(
                f'{plain(self.partial)} cannot be written: {error.strerror or error};'
                f' the same command resumes from {counted(self.state.images, "image")}'
            ) from error

    def _cast(self, name: str, values: np.ndarray, ids: Sequence[str]) -> bytes:
        with np.errstate(over='ignore'):
            cast = np.ascontiguousarray(values, self._dtypes[name])
        if cast.dtype != values.dtype and not np.isfinite(cast).all():
            row = next(row for row, one in enumerate(cast) if not np.isfinite(one).all())
            raise InputError(
                f'{name} of {plain(ids[row])} has {np.abs(values[row]).max():.6g}, which'
                f' {cast.dtype} cannot hold; allowed: --type float32'
            )
        return cast.tobytes()

    def save(self) -> None:
        """Saves the state after flushing its rows to disk."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        tree = self._request | {PROGRESS: dataclasses.asdict(self.state)}
        files.write_bytes(self.partial / STATE, (json.dumps(tree) + '\n').encode())
        self._saved_at = time.monotonic()

    def finish(self, form: str, least: int = 1) -> None:
        """Converts the folder to its format and renames it.

        If it is interrupted, the same command repeats it.

        Raises:
          InputError: fewer images than `least` have a row. StorageError: as `add`.
        """
        if self.state.rows < least:
            raise InputError(f'none of {counted(self.state.images, "image")} could be read')
        try:
            for name in self._shapes:
                file = self._files[arrays.file_name(name)]
                file.seek(0)
                file.write(self._header(name, self.state.rows))
            self._close_files()
            ids = list(_read_ids(self.partial / CSV))
            names = [name for name in self._shapes if name != LABELS]
            replaced = _FORMS[form](self.partial, names, ids)
            left_out = {*replaced, self.partial / STATE, self.partial / arrays.ABOUT}
            seals = {
                path.name: files.sha256(path)
                for path in sorted(self.partial.iterdir())
                if path not in left_out
            }
            about = self._request | {'images': len(ids), 'skipped': self.state.skipped}
            text = json.dumps(about | {arrays.SEALS: seals}, indent=2, allow_nan=False) + '\n'
            (self.partial / arrays.ABOUT).write_text(text)
            if self.folder.exists():
                shutil.rmtree(self.folder)
            self.partial.rename(self.folder)
            for path in (*replaced, self.partial / STATE):  # needed for resuming until here
                (self.folder / path.name).unlink()
        except OSError as error:
            raise StorageError(
                f'{plain(self.partial)} cannot be finished: {reason(error)}'
            ) from error
        finally:
            os.close(self._lock)

    def close(self) -> None:
        """Saves the state, and keeps the partial folder, if it has images, for a later command."""
        try:
            self._close_files()
            if not self.state.images:
                shutil.rmtree(self.partial)
        finally:
            os.close(self._lock)

    def _close_files(self) -> None:
        self.save()
        for file in self._files.values():
            file.close()
        self._files = {}


def _read_ids(path: Path) -> Iterator[str]:
    with path.open(encoding='utf-8', errors='surrogateescape', newline='') as file:
        rows = csv.reader(file)
        next(rows)
        for _, name in rows:
            yield name


# Each function writes the files of a format, and returns the replaced files.


def _as_npy(folder: Path, names: Sequence[str], ids: Sequence[str]) -> list[Path]:
    (folder / arrays.IDS).write_text(json.dumps(ids))
    return []


def _as_safetensors(folder: Path, names: Sequence[str], ids: Sequence[str]) -> list[Path]:
    """Writes one file in the format of safetensors, without holding an array in memory."""
    paths = {name: folder / arrays.file_name(name) for name in (*names, LABELS)}
    mapped = {name: files.map_array(path) for name, path in paths.items()}
    header, end = {}, 0
    for name, array in mapped.items():
        first, end = end, end + array.nbytes
        header[name] = {
            'dtype': _TYPES[array.dtype.name], 'shape': array.shape, 'data_offsets': [first, end],
        }  # fmt: skip
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    with (folder / SAFETENSORS).open('wb') as file:
        file.write(len(text).to_bytes(8, 'little') + text)
        for path, array in zip(paths.values(), mapped.values(), strict=True):
            with path.open('rb') as source:
                source.seek(os.fstat(source.fileno()).st_size - array.nbytes)
                shutil.copyfileobj(source, file, AT_ONCE)
    return list(paths.values())


def _as_records(folder: Path, names: Sequence[str], ids: Sequence[str]) -> list[Path]:
    paths = {name: folder / arrays.file_name(name) for name in names}
    mapped = {name: files.map_array(path) for name, path in paths.items()}
    labels = files.map_array(folder / arrays.LABELS)
    writer = RecordWriter(folder)
    for row, name in enumerate(ids):
        one = {layer: array[row : row + 1] for layer, array in mapped.items()}
        writer.add(np.array([os.fsencode(name)], object), labels[row : row + 1], one)
    writer.finish()
    return [*paths.values(), folder / arrays.LABELS]


_FORMS = {'npy': _as_npy, 'safetensors': _as_safetensors, 'array_record': _as_records}
