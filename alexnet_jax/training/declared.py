"""Arrays that a checkpoint declares, compared with the expected ones before any is read.

A small file may declare an array that is too large for the memory.
"""

import itertools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from alexnet_jax.runtime.errors import InputError, counted, shown
from alexnet_jax.runtime.files import read_json

# Objects with a shape and a dtype, by the keys of their path in the tree.
Arrays = Mapping[tuple[str, ...], Any]
# In an array's .zarray.
PLAIN = {
    'zarr_format': 2, 'compressor': None, 'filters': None, 'fill_value': None, 'order': 'C',
    'dimension_separator': '.',
}  # fmt: skip
DTYPES = ('<f4', '<i4')


def by_path(tree: Any) -> Arrays:
    """Returns the leaves of a tree by their path, a tuple of keys."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        tuple(jax.tree_util.keystr((key,), simple=True) for key in path): leaf
        for path, leaf in leaves
    }


def nested(arrays: Arrays) -> dict[str, Any]:
    """Returns the tree of `by_path`, as dictionaries."""
    tree: dict[str, Any] = {}
    for (*path, name), array in arrays.items():
        at = tree
        for key in path:
            at = at.setdefault(key, {})
        at[name] = array
    return tree


def size(tree: Any) -> int:
    """Returns the bytes of all arrays of a tree."""
    return sum(
        int(np.prod(x.shape, dtype=object)) * np.dtype(x.dtype).itemsize
        for x in jax.tree.leaves(tree)
    )


def require_same(folder: Path, found: Arrays, expected: Arrays) -> None:
    """Checks that a checkpoint's arrays are those expected.

    Raises:
      InputError: one is missing, unexpected, or has another shape or type.
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
                ' saved by another version of this program; train again in another --workdir'
            )


def require_own_form(state: Path) -> None:
    """Checks that each array is a separate file, as this program saves them.

    Otherwise Orbax would read a compressed database (OCDBT), which this module cannot check.

    Raises:
      InputError: they are not separate files, or _METADATA cannot be read.
    """
    path = state / '_METADATA'
    try:
        tree = read_json(path)
        forms = [tree.get(name) for name in ('use_ocdbt', 'use_zarr3')]
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f'{path} cannot be read: {error}') from error
    if forms != [False, False]:
        raise InputError(f'{path} has another checkpoint format than this program saves')


def require_whole(state: Path, arrays: Arrays) -> None:
    """Checks that the arrays are stored as this program stores them.

    The format is uncompressed, little-endian, in C order, with one full-size file per chunk.
    Tensorstore reads a missing chunk as zeros, and a compressed chunk may exhaust the memory.

    Raises:
      InputError: an array has another format.
    """
    for name in arrays:
        folder = state / '.'.join(name)
        try:
            fault = _fault_of(read_json(folder / '.zarray'), folder)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            fault = 'it cannot be read'
        if fault:
            raise InputError(f'{folder} is no array of a checkpoint of this program: {fault}')


def _fault_of(about: dict[str, Any], folder: Path) -> str:
    """Describes how the storage of an array differs from this format; '' if it does not."""
    for key, value in PLAIN.items():
        if about[key] != value:
            return f'{key} is {shown(about[key])}; allowed: {json.dumps(value)}'
    if about['dtype'] not in DTYPES:
        return f'dtype is {shown(about["dtype"])}; allowed: {", ".join(DTYPES)}'
    shape, chunks = about['shape'], about['chunks']
    if len(shape) != len(chunks) or not all(type(x) is int and x > 0 for x in [*shape, *chunks]):
        return f'shape is {shown(shape)}, with chunks of {shown(chunks)}'
    grid = [-(-size // chunk) for size, chunk in zip(shape, chunks, strict=True)]
    names = {path.name for path in folder.iterdir()} - {'.zarray'}
    if len(names) != math.prod(grid):
        return f'it has {counted(len(names), "chunk")}, not {shown(math.prod(grid))}'
    size = math.prod(chunks) * np.dtype(about['dtype']).itemsize
    for place in itertools.product(*map(range, grid)):
        name = '.'.join(map(str, place)) or '0'
        if name not in names:
            return f'chunk {name} is missing'
        if (found := (folder / name).stat().st_size) != size:
            return f'chunk {name} has {counted(found, "byte")}, not {shown(size)}'
    return ''
