"""Random access to the TFRecord files that TFDS writes by default, without TensorFlow."""

import bisect
import functools
import itertools
import os
import struct
from collections.abc import Sequence

import numpy as np

from alexnet_jax.runtime.errors import counted

# A record is its length (8 bytes), a checksum of that (4), the data, a checksum (4).
# The checksums, CRC32C, are not checked.
HEADER, FOOTER = 12, 4


class TfRecords:
    """The records of several files, in order.

    Args:
      lengths: expected number of records of each file.
    """

    def __init__(self, paths: Sequence[str], lengths: Sequence[int]):
        self._paths, self._lengths = tuple(paths), tuple(lengths)
        self._ends = list(itertools.accumulate(lengths))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, row: int) -> bytes:
        """Returns the record of a row, as bytes.

        Raises:
          OSError, ValueError: the file cannot be read, or is no such file.
        """
        shard = bisect.bisect_right(self._ends, row)
        path, length = self._paths[shard], self._lengths[shard]
        starts = record_starts(path)
        if len(starts) != length + 1:
            raise ValueError(f'{path} holds {counted(len(starts) - 1, "record")}, not {length}')
        place = row - self._ends[shard] + length
        start, end = int(starts[place]) + HEADER, int(starts[place + 1]) - FOOTER
        with open(path, 'rb') as file:
            return os.pread(file.fileno(), end - start, start)


@functools.cache
def record_starts(path: str) -> np.ndarray:
    """Returns where each record of a file begins, and where the last one ends.

    Raises:
      ValueError: it is not a complete TFRecord file.
    """
    starts = [0]
    with open(path, 'rb') as file:
        size = os.fstat(file.fileno()).st_size
        while starts[-1] < size:
            header = os.pread(file.fileno(), HEADER, starts[-1])
            if len(header) < HEADER:
                raise ValueError(f'{path} ends in the middle of a record')
            (length,) = struct.unpack('<Q', header[:8])
            starts.append(starts[-1] + HEADER + length + FOOTER)
    if starts[-1] != size:
        raise ValueError(f'{path} ends in the middle of a record')
    return np.array(starts)
