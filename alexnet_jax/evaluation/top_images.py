"""Finds the images with the largest activations of units, batch by batch.

It needs memory for `count` images per unit, independent of their total number.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Top:
    """The images with the largest values of each unit.

    The largest are first, with ties in the order of the images; NaN ranks as the largest value.
    Arrays are [units, images].

    values: the maximum over the positions of a map.
    rows: indices of the images.
    places: the first position with that value, as an index of the flattened map; 0 for a unit
    without positions.
    """

    values: np.ndarray
    rows: np.ndarray
    places: np.ndarray


def none(units: int) -> Top:
    """Returns the empty state."""
    return Top(np.zeros((units, 0)), *np.zeros((2, units, 0), np.int64))


def add(top: Top, activations: np.ndarray, first: int, count: int) -> Top:
    """Returns the `count` largest of `top` and of more images.

    Args:
      activations: of a batch, [images, ..., units].
      first: the number of its first image, larger than any in `top`.
    """
    images, units = len(activations), len(top.values)
    maps = activations.reshape(images, -1, units)
    places = maps.argmax(axis=1)
    values = np.take_along_axis(maps, places[:, None], axis=1)[:, 0]
    rows = np.broadcast_to(first + np.arange(images), (units, images))
    every = Top(
        np.concatenate([top.values, values.T], axis=1),
        np.concatenate([top.rows, rows], axis=1),
        np.concatenate([top.places, places.T], axis=1),
    )
    sizes = np.where(np.isnan(every.values), np.inf, every.values)
    order = np.argsort(-sizes, axis=1, kind='stable')[:, :count]
    return Top(*(np.take_along_axis(x, order, axis=1) for x in dataclasses.astuple(every)))
