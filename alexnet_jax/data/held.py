"""Splits in memory: all images are read and decoded once."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from alexnet_jax.data.image_set import Records

AT_ONCE = 256  # records per task of a thread


@dataclasses.dataclass(frozen=True)
class Held:
    """images: uint8 [records, size, size, 3]. labels: int32 [records]."""

    images: np.ndarray
    labels: np.ndarray


def hold(records: Records, size: int, threads: int) -> Held:
    """Reads all records, squares of `size` pixels, in `threads` threads (at least one).

    Raises:
      RecordError: a record is damaged.
    """
    count = len(records)
    held = Held(np.empty((count, size, size, 3), np.uint8), np.empty(count, np.int32))

    def read(first: int) -> None:
        for row in range(first, min(count, first + AT_ONCE)):
            held.images[row], held.labels[row], _ = records.read(row, held.images[row])

    with ThreadPoolExecutor(max(1, threads)) as executor:
        list(executor.map(read, range(0, count, AT_ONCE)))
    return held
