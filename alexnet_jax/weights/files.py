"""Weight files of this package: safetensors, one array per parameter, named LAYER/PART.

The metadata have those of the caller, a SHA-256 of the arrays and one of these metadata, so that
flipped bits are detected on reading. Earlier versions wrote only that of the arrays.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from alexnet_jax.runtime.errors import InputError
from alexnet_jax.runtime.files import opened
from alexnet_jax.weights.arrays import (
    FLOATS,
    allowed_floats,
    as_float32,
    printable,
    require_finite,
    write_whole,
)

OF_ARRAYS, OF_METADATA = 'sha256', 'metadata_sha256'
Layers = dict[str, dict[str, np.ndarray]]


def read(path: Path) -> Layers:
    """Reads a weight file: {'conv1': {'kernel': [columns, ...], 'bias': ...}, ...}.

    Layers are as a net's parameters (`network/alexnet.py`); `conv1_norm` holds batch
    normalization's numbers too.

    Raises:
      InputError: as for `read_arrays`; an array is not named LAYER/PART.
    """
    arrays, _ = read_arrays(path)
    return by_layer(arrays, path)


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads the arrays of any safetensors file by name, as float32, and its metadata.

    The two SHA-256 are removed from the metadata.

    Raises:
      InputError: the file cannot be read, holds other numbers than finite floats, or
        other arrays or metadata than those that a SHA-256 was made of.
    """
    stored, metadata = _stored(path)
    for name, values in stored.items():
        if values.dtype not in FLOATS:
            raise InputError(
                f'{printable(name)} of {path} is of {values.dtype}; allowed: {allowed_floats()}'
            )
    of_metadata = metadata.pop(OF_METADATA, None)
    if metadata.pop(OF_ARRAYS, None) not in (None, _sha256(stored)):
        raise InputError(f'{path} is damaged: its arrays are not those its SHA-256 was made of')
    if of_metadata not in (None, _sha256_of_metadata(metadata)):
        raise InputError(f'{path} is damaged: its metadata is not that its SHA-256 was made of')
    arrays = {name: as_float32(values) for name, values in stored.items()}
    require_finite(arrays, path)
    return arrays, metadata


def by_layer(arrays: Mapping[str, np.ndarray], path: Path) -> Layers:
    """Groups arrays named LAYER/PART by layer and part.

    Raises:
      InputError: an array is not named so. `path`: where they are from, for the message.
    """
    layers: Layers = {}
    for name, values in arrays.items():
        layer, slash, part = name.partition('/')
        if not (layer and slash and part):
            raise InputError(
                f'{path} holds {printable(name)!r}; allowed: LAYER/PART, as conv1/kernel'
            )
        layers.setdefault(layer, {})[part] = values
    return layers


def write(path: Path, layers: Layers, metadata: Mapping[str, str]) -> None:
    """Writes a file for `read` atomically.

    Raises:
      InputError: a value is not finite. InputError, StorageError: as `unwritable`.
    """
    arrays = {f'{layer}/{part}': x for layer, parts in layers.items() for part, x in parts.items()}
    write_arrays(path, arrays, metadata)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Writes arrays under any names, as other programs' are, to a safetensors file."""
    require_finite(arrays, path)
    whole = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    seals = {OF_ARRAYS: _sha256(whole), OF_METADATA: _sha256_of_metadata(metadata)}
    write_whole(path, save(whole, {**metadata, **seals}))


def _stored(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    try:
        with opened(path), safe_open(path, 'np') as file:  # the library would wait for a pipe
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise InputError(
            f'{path} cannot be read as safetensors: {printable(str(error))}'
        ) from error


def _sha256_of_metadata(metadata: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode()).hexdigest()


def _sha256(arrays: Mapping[str, np.ndarray]) -> str:
    """Of names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name, values in sorted(arrays.items()):
        digest.update(f'{name} {values.dtype} {values.shape}\n'.encode())
        digest.update(values.tobytes())
    return digest.hexdigest()
