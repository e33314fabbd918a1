"""What a checkpoint says of its arrays, held against what is expected before any is read: a
small file may claim an array that no memory holds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from alexnet_jax.errors import InputError

# By the names on the way to each in its tree: what has a shape and a dtype, an array or not.
Arrays = Mapping[tuple[str, ...], Any]


def by_path(tree: Any) -> Arrays:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        tuple(jax.tree_util.keystr((key,), simple=True) for key in path): leaf
        for path, leaf in leaves
    }


def nested(arrays: Arrays) -> dict[str, Any]:
    """The tree of `by_path`, as dictionaries."""
    tree: dict[str, Any] = {}
    for (*path, name), array in arrays.items():
        at = tree
        for key in path:
            at = at.setdefault(key, {})
        at[name] = array
    return tree


def size(tree: Any) -> int:
    """Bytes of all arrays of a tree."""
    return sum(
        int(np.prod(x.shape, dtype=object)) * np.dtype(x.dtype).itemsize
        for x in jax.tree.leaves(tree)
    )


def require_same(folder: Path, found: Arrays, expected: Arrays) -> None:
    """
    Raises:
      InputError: one is missing, not asked for, or of another shape or type.
    """

    def form(arrays: Arrays, path: tuple[str, ...]) -> str:
        if path not in arrays:
            return 'missing'
        return f'{np.dtype(arrays[path].dtype).name}{list(arrays[path].shape)}'

    for path in {**expected, **found}:
        there, here = form(found, path), form(expected, path)
        if there != here:
            raise InputError(
                f'{folder}: {"/".join(path)} is {there} there, and {here} in this net: it was'
                ' saved by another version of this program; train anew in another --workdir'
            )


def require_room(folder: Path, arrays: Arrays) -> None:
    """
    Raises:
      InputError: the arrays are larger than the files under the folder, which has them
        uncompressed.
    """
    needed = size(dict(arrays))
    there = sum(path.stat().st_size for path in folder.rglob('*') if path.is_file())
    if needed > there:
        raise InputError(
            f'{folder} says it has {needed} bytes of arrays, in files of {there} bytes'
        )
