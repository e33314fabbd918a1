"""Shuffled order of the training images.

Every epoch is a different permutation, computed separately for each position: it needs no memory,
and positions can be read in any order.
"""

import numpy as np

ROUNDS = 6
_KEY = 1  # separates these random numbers from the augmentation's with the same seed


def rows_at(places: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Returns the rows, below `count`, at these positions of the endless stream of epochs, int64."""
    epochs, places = np.divmod(places, count)
    rows = np.empty(len(places), np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        rows[here] = _permuted(places[here], count, seed, int(epoch))
    return rows


def _permuted(places: np.ndarray, count: int, seed: int, epoch: int) -> np.ndarray:
    """Permutes numbers with a Feistel network on an even number of bits. A result of `count` or
    more is permuted again until it is smaller.
    """
    half = np.uint64(max(1, ((count - 1).bit_length() + 1) // 2))
    keys = np.random.Philox(key=[seed, _KEY], counter=epoch * ROUNDS).random_raw(ROUNDS)
    rows = places.astype(np.uint64)
    outside = np.ones(len(rows), bool)
    while outside.any():
        rows[outside] = _feistel(rows[outside], half, keys)
        outside = rows >= count
    return rows.astype(np.int64)


def _feistel(numbers: np.ndarray, half: np.uint64, keys: np.ndarray) -> np.ndarray:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = numbers >> half, numbers & mask
    for key in keys:
        left, right = right, left ^ (_mixed(right + key) & mask)
    return left << half | right


def _mixed(x: np.ndarray) -> np.ndarray:
    """Mixes the bits of x by multiplication and shift (MurmurHash3's finalizer)."""
    x = (x ^ x >> np.uint64(33)) * np.uint64(0xFF51AFD7ED558CCD)
    x = (x ^ x >> np.uint64(33)) * np.uint64(0xC4CEB9FE1A85EC53)
    return x ^ x >> np.uint64(33)
