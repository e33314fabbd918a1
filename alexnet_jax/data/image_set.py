"""Prepared image sets: random access to records, and statistics of the training set.

A prepared set is a folder that TFDS opens (`tfds.builder_from_directory`), with two more files:
`prepared.json` (source and options of its preparation) and `statistics.npz`.
"""

import bisect
import dataclasses
import itertools
import re
import shlex
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader
from tensorflow_datasets.proto import tf_example_pb2

from alexnet_jax.data import images, set_files
from alexnet_jax.data.set_files import DATASET_INFO, PREPARED, damage_of, read_about
from alexnet_jax.data.statistics import Statistics
from alexnet_jax.runtime.errors import InputError, RecordError, counted, plain

Example = tf_example_pb2.Example  # pyright: ignore

UNCOMPRESSED = 'uncompressed'  # a compressed record may need any amount of memory
READER_OPTIONS = 'readahead_buffer_size:0,max_parallelism:0'
READER_BUFFER = 2**16  # bytes; the reader's own default is a megabyte, three times as slow for JPEG


class Record(NamedTuple):
    """image: uint8 [size, size, 3], read-only. id: bytes."""

    image: np.ndarray
    label: int
    id: bytes


class Records(Protocol):
    """Thread-safe random access to the records of a split."""

    def __len__(self) -> int: ...

    def read(self, row: int, scratch: np.ndarray | None = None) -> Record:
        """Returns the record of a row.

        Args:
          scratch: uint8 [size, size, 3]. The image may be written there, to save time; it is
            overwritten at the next use of `scratch`.
        """
        ...


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Prepared images.

    splits: random access to the records of each split.
    classes: names of the classes, in the order of the labels.
    statistics: statistics of the training images; in a set without them, of all images.
    mirror: whether mirror images belong to the same class.
    identity: text that identifies the set: `source`, `version`, a digest of the `classes` in order,
      the `splits` with their lengths, and a digest of the images and labels (`content`).
    """

    splits: Mapping[str, Records]
    classes: tuple[str, ...]
    statistics: Statistics
    mirror: bool
    identity: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class SomeRecords:
    """A selection of rows of a split."""

    records: Records
    rows: Sequence[int]

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, row: int, scratch: np.ndarray | None = None) -> Record:
        """Returns the record of a row of this selection, as `Records.read`."""
        return self.records.read(self.rows[row], scratch)


def sample(records: Records, most: int) -> Records:
    """Returns all records, or `most` random ones, the same every time."""
    return SomeRecords(records, drawn(len(records), most)) if len(records) > most else records


def drawn(count: int, most: int) -> list[int]:
    """Returns `most` random rows of `count`, or all if there are fewer, ascending.

    They are random because sets are often sorted by class.
    """
    random = np.random.default_rng(0)
    return sorted(random.choice(count, min(count, most), replace=False).tolist())


class StoredRecords:
    """Random access to the records of ArrayRecord files.

    Args:
      files: expected number of records by path, in order.
      encoding, size: how images are stored, and their side in pixels.
      classes: number of classes; labels are smaller.
    """

    def __init__(self, files: Mapping[Path, int], encoding: str, size: int, classes: int):
        self._paths, self._lengths = tuple(map(str, files)), tuple(files.values())
        self._encoding, self._size, self._classes = encoding, size, classes
        self._ends = list(itertools.accumulate(self._lengths))
        self._readers: dict[int, ArrayRecordReader] = {}
        self._opening = threading.Lock()

    def __len__(self) -> int:
        return self._ends[-1]

    def read(self, row: int, scratch: np.ndarray | None = None) -> Record:
        """Reads the record of a row, as `Records.read`.

        Raises:
          IndexError: there is no such row.
          RecordError: the record is damaged.
        """
        if not 0 <= row < self._ends[-1]:
            raise IndexError(row)
        shard = bisect.bisect_right(self._ends, row)
        place = row - self._ends[shard] + self._lengths[shard]
        try:
            reader = self._readers.get(shard) or self._reader(shard)
            feature = Example.FromString(reader.read([place])[0]).features.feature
            stored = _only(feature['image'].bytes_list.value, 'image')
            label = _only(feature['label'].int64_list.value, 'label')
            name = _only(feature['id'].bytes_list.value, 'id')
            if not 0 <= label < self._classes:
                raise ValueError(f'it has the label {label}; allowed: 0 to {self._classes - 1}')
            return Record(images.decode(stored, self._encoding, self._size, scratch), label, name)
        except RecordError:
            raise
        except Exception as error:  # Whatever a broken file makes its reader raise.
            reason = plain(re.sub(r'\s+', ' ', str(error)))
            raise RecordError(
                f'record {place} of {plain(self._paths[shard])} cannot be read: {reason}'
            ) from error

    def _reader(self, shard: int) -> ArrayRecordReader:
        with self._opening:
            if shard not in self._readers:
                self._readers[shard] = self._open(shard)
            return self._readers[shard]

    def _open(self, shard: int) -> ArrayRecordReader:
        path, length = self._paths[shard], self._lengths[shard]
        reader = ArrayRecordReader(path, READER_OPTIONS, file_reader_buffer_size=READER_BUFFER)
        found = reader.num_records()  # 0 for files of another format
        if found != length:
            raise RecordError(
                f'{plain(path)} holds {counted(found, "record")}; the set needs {length}'
            )
        if length and UNCOMPRESSED not in reader.writer_options_string():
            raise RecordError(f'{plain(path)} is compressed; this package writes no such files')
        return reader

    def __getstate__(self) -> dict[str, Any]:
        """Drops the open files: another process opens them again."""
        return self.__dict__ | {'_readers': {}, '_opening': None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _opening=threading.Lock())


def _only(values: Sequence[Any], name: str) -> Any:
    if len(values) != 1:
        raise ValueError(f'it has {len(values)} values of {name}; allowed: 1')
    return values[0]


def open_set(folder: Path) -> ImageSet:
    """Opens a prepared set.

    Raises:
      InputError: the set is damaged.
    """
    about = read_about(folder)
    try:
        damage = damage_of(folder, about)
        options = about['options'] | about['where']
        if about['skipped']:
            options['skip_bad'] = len(about['skipped'])
        again = command(folder, **options)
        if not damage:
            contents = set_files.read_contents(folder, about)
            identity = set_files.identity(folder, about, contents)
            splits = {
                split: StoredRecords(
                    {folder / name: length for name, length in shards.items()},
                    about['encoding'],
                    about['size'],
                    len(contents.classes),
                )
                for split, shards in contents.splits.items()
            }
            mirror = about['mirror']
            return ImageSet(splits, contents.classes, contents.statistics, mirror, identity)
    except Exception as error:  # Whatever a broken file makes its reader raise.
        reason = plain(re.sub(r'\s+', ' ', str(error)))
        raise InputError(
            f'the prepared set {plain(folder)} cannot be read: {type(error).__name__}: {reason}'
        ) from error
    raise InputError(
        f'the prepared set {plain(folder)} is damaged: {damage}; prepare it again:\n' + again
    )


def is_whole(folder: Path) -> bool:
    """Returns whether the set's preparation is complete: TFDS's own file is written last."""
    return (folder / DATASET_INFO).exists() and (folder / PREPARED).exists()


def command(folder: Path, source: str, **options: Any) -> str:
    """Returns the command that prepares a source, valid in any working folder."""
    out = f'--out={folder.absolute()}'
    words = ['python', '-m', 'alexnet_jax.data.prepare', f'--source={source}', out]
    words += [
        f'--{name}' if value is True else f'--{name}={value}' for name, value in options.items()
    ]
    return shlex.join(words)
