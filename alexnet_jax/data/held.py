"""A split whose images are all in memory, read and decoded once."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from alexnet_jax.data.image_set import Records

AT_ONCE = 256  # records that a thread reads before it takes others


@dataclasses.dataclass(frozen=True)
class Held:
    """images: uint8 [records, size, size, 3]. labels: int32 [records]."""

    images: np.ndarray
    labels: np.ndarray


def hold(records: Records, size: int, threads: int) -> Held:
    """Reads all records, of `size` pixels a side, in `threads` threads, or one.

    Raises:
      RecordError: one is broken.
    """
    count = len(records)
    held = Held(np.empty((count, size, size, 3), np.uint8), np.empty(count, np.int32))

    def read(first: int) -> None:
        for row in range(first, min(count, first + AT_ONCE)):
            held.images[row], held.labels[row], _ = records.read(row, held.images[row])

    with ThreadPoolExecutor(max(1, threads)) as executor:
        list(executor.map(read, range(0, count, AT_ONCE)))
    return held
