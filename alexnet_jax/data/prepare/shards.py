"""Writes originals to ArrayRecord files, each complete or absent.

A prepared split is a row of shards. Each is a task that any process can do alone
and do again, with the same bytes: in this process, in several, or in a pipeline on
many machines. A note describes the content of a finished shard; tasks with a note are not repeated.
"""

import dataclasses
import errno
import hashlib
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.proto import tf_example_pb2

from alexnet_jax.data import images
from alexnet_jax.data.images import BadImageError
from alexnet_jax.data.prepare.originals import Originals
from alexnet_jax.data.set_files import SHORT
from alexnet_jax.data.statistics import PixelSums
from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import InputError, StopRequestedError, StorageError, counted

Example = tf_example_pb2.Example  # pyright: ignore

# Each record its own chunk, for random access; JPEG does not shrink further, and
# raw images are there for speed.
WRITER_OPTIONS = 'group_size:1,uncompressed'

# Everything that affects the bytes of a record.
LIBRARIES = ('pillow', 'simplejpeg', 'array_record')

Bad = list[tuple[str, str]]  # name and reason


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How images are resized to squares, as in `images.read_square`, and stored.

    form: 'jpeg' or 'raw'.
    """

    size: int
    form: str
    quality: int
    resize: str = images.CENTER_SQUARE


@dataclasses.dataclass(frozen=True)
class Task:
    """A shard to be made.

    path: where it goes.
    notes: folder for what is known of finished shards.
    classes: labels are below it.
    split: of which it is a part.
    measured: whether its pixels count for the statistics.
    max_bad: maximum number of skipped images; one more is an error.
    """

    path: Path
    notes: Path
    originals: Originals
    classes: int
    encoding: Encoding
    split: str
    max_pixels: int
    max_bad: int
    measured: bool = True

    def is_done(self) -> bool:
        """Returns whether the shard and its note exist and state the same size."""
        if not (self.path.exists() and self.note_file('.json').exists()):
            return False
        try:
            note = read_note(self)
        except ValueError:  # of an older version, or damaged: the shard is written again
            return False
        return self.path.stat().st_size == note.bytes

    def note_file(self, suffix: str) -> Path:
        """Returns the path of a note on the shard."""
        return self.notes / (self.path.name + suffix)


@dataclasses.dataclass(frozen=True)
class Shard:
    """A finished shard: records and bytes in it, originals left out, and its SHA-256.

    It also has a digest of each original's image as it is stored, '' where it is left out.
    """

    records: int
    bytes: int
    bad: Bad
    digest: str
    images: list[str]


def write_shard(task: Task, stop_requested: Callable[[], bool] = lambda: False) -> Shard:
    """Does a task.

    Raises:
      InputError: more than `max_bad` originals cannot be read; no room on the disk.
      StorageError: originals in a store cannot be fetched.
      StopRequestedError: a stop was requested. The unfinished shard is deleted.
    """
    # Two machines may have processes of the same number.
    beside = task.path.with_name(f'.{task.path.name}.{secrets.token_hex(4)}')
    sums = PixelSums.zero(task.encoding.size)
    try:
        bad, stored = _write_records(task, beside, sums, stop_requested)
        records = len(task.originals) - len(bad)
        shard = Shard(records, beside.stat().st_size, bad, files.sha256(beside), stored)
        os.replace(beside, task.path)
        if task.measured:
            with files.replacing(task.note_file('.npz'), flush=True) as file:
                np.savez(file, **vars(sums))
        with files.replacing(task.note_file('.json'), flush=True) as file:
            file.write(json.dumps(dataclasses.asdict(shard)).encode())
        return shard
    except OSError as error:
        raise disk_error(task.path, error) from error
    finally:
        beside.unlink(missing_ok=True)


def read_note(task: Task) -> Shard:
    """Reads what is known of a finished task.

    Raises:
      ValueError: it is not such a note.
    """
    kept = files.read_json(task.note_file('.json'))
    try:
        bad = [(name, why) for name, why in kept['bad']]
        return Shard(kept['records'], kept['bytes'], bad, kept['digest'], list(kept['images']))
    except (KeyError, TypeError) as error:
        raise ValueError(f'{task.note_file(".json")} is not a note of a shard') from error


def read_sums(task: Task) -> PixelSums:
    """Reads the sums of a finished task whose pixels count."""
    size = task.encoding.size
    shapes = {'count': ((),), 'total': ((size, size, 3),), 'products': ((3, 3),)}
    sums = files.read_arrays(task.note_file('.npz'), shapes)
    return PixelSums(int(sums['count']), sums['total'], sums['products'])


def disk_error(path: Path, error: OSError) -> InputError:
    """Returns the error for a file that could not be written, with the remedy."""
    hint = ' What is finished is kept: make room and run the same command'
    reason = error.strerror or str(error)
    return InputError(
        f'{path} cannot be written: {reason}.' + (hint if error.errno == errno.ENOSPC else '')
    )


def _write_records(
    task: Task, path: Path, sums: PixelSums, stop_requested: Callable[[], bool]
) -> tuple[Bad, list[str]]:
    """Writes all records; returns what was left out, and `Shard.images`."""
    bad: Bad = []
    digests: list[str] = []
    encoding = task.encoding
    scratch = np.empty((encoding.size, encoding.size, 3), np.uint8)
    try:
        writer = ArrayRecordWriter(str(path), WRITER_OPTIONS)
        for row in range(len(task.originals)):
            if stop_requested():
                raise StopRequestedError
            try:
                image, label = _read(task, row)
            except BadImageError as error:
                bad.append((task.originals.name(row), str(error)))
                digests.append('')
                if len(bad) > task.max_bad:
                    raise InputError(too_many(bad, task.max_bad)) from error
                continue
            stored = images.encode(image, encoding.form, encoding.quality)
            digests.append(hashlib.sha256(stored).hexdigest()[:SHORT])
            if task.measured:  # the decoded pixels, not those before JPEG
                sums.add_image(images.decode(stored, encoding.form, encoding.size, scratch))
            writer.write(_record(task.originals.id(row), stored, label))
        writer.close()
    except StorageError:  # of an image in a store
        raise
    except RuntimeError as error:  # ArrayRecord's way to tell of a full disk
        full = 'No space left' in str(error)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error).split(';')[0]) from error
    with open(path, 'rb') as file:
        os.fsync(file.fileno())
    return bad, digests


def too_many(bad: Bad, allowed: int) -> str:
    """Returns the message for originals that cannot be read."""
    lines = [f'{name} {reason}' for name, reason in bad[:10]]
    if len(bad) > len(lines):
        lines.append(f'and {len(bad) - len(lines)} more')
    skip = f'--skip_bad={max(2 * len(bad), 10)}' if allowed else '--skip_bad=N'
    lines.append(
        f'allowed: {counted(allowed, "such image")};'
        f' {skip} leaves out up to that many and lists them'
    )
    return '\n'.join(lines)


def _read(task: Task, row: int) -> tuple[np.ndarray, int]:
    encoding = task.encoding
    image, label = task.originals.square(row, encoding.size, task.max_pixels, encoding.resize)
    if not 0 <= label < task.classes:
        raise BadImageError(f'has the label {label}; allowed: 0 to {task.classes - 1}')
    return image, label


def _record(original: str, stored: bytes, label: int) -> bytes:
    """A tf.train.Example as TFDS reads it: id, image, label."""
    example = Example()
    feature = example.features.feature
    feature['id'].bytes_list.value.append(original.encode('utf-8', 'backslashreplace'))
    feature['image'].bytes_list.value.append(stored)
    feature['label'].int64_list.value.append(label)
    return example.SerializeToString(deterministic=True)
