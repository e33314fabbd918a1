"""Reads PyTorch's weight files without PyTorch and without executing their content.

Both of its forms (torch/serialization.py): a zip archive of a pickle and one entry a
storage, and before 1.6 five pickles in a row with the storages behind them. The pickle has the
storage and the offset of each array. Other storages, such as those of an optimizer, are not read.
"""

import io
import math
import os
import shlex
import struct
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import InputError, counted
from alexnet_jax.weights import pickled, state_dicts
from alexnet_jax.weights.arrays import FLOATS, ContentError, allowed_floats, printable
from alexnet_jax.weights.pickled import Opaque
from alexnet_jax.weights.tensors import (
    DAMAGED,
    OtherTensor,
    Reader,
    Storage,
    Tensor,
    array,
    checked,
)

STATE_DICT = 'state_dict.pth'  # which a printed command writes
_ZIP_MAGIC = b'PK\x03\x04'
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C.to_bytes(10, 'little')  # in the first of the five


def read(
    path: Path, wanted: Callable[[Collection[str]], bool]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Returns the arrays of a net by name, as float32, and notes for the reader.

    They are of a state dict, or of a training checkpoint that holds one beside anything else
    (`state_dicts.choose`, also for `wanted`).

    Raises:
      InputError: the file is none of PyTorch's, is damaged, or holds no weights.
    """
    try:
        with files.opened(path) as file:
            is_zip = file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC
            file.seek(0)
            return (_read_zip if is_zip else _read_legacy)(file, wanted)
    except ContentError as error:
        raise InputError(f'{path} {error}') from error
    except OSError as error:
        raise InputError(f'{path} cannot be read: {error.strerror}') from error


def _read_zip(file: BinaryIO, wanted: Callable) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    size = os.fstat(file.fileno()).st_size
    try:
        with zipfile.ZipFile(file) as archive:
            entries = _entries(archive, size)
            folder, content = _pickle_of(archive, entries)
            order = archive.read(f'{folder}byteorder') if f'{folder}byteorder' in entries else None
            if order not in (None, b'little', b'big'):
                raise ContentError('does not say little or big in its entry byteorder')
            value = Reader().unpickled(io.BytesIO(content))
            tensors, notes = _chosen(value, wanted)
            data = {
                key: archive.read(name) if (name := f'{folder}data/{key}') in entries else b''
                for key in {tensor.storage.key for tensor in tensors.values()}
            }
    except ContentError:
        raise
    except (zipfile.BadZipFile, EOFError, struct.error, RuntimeError, ValueError) as error:
        raise ContentError(f'{DAMAGED}: {printable(str(error))}') from error
    return _arrays(tensors, data, '>' if order == b'big' else '<', size), notes


def _entries(archive: zipfile.ZipFile, size: int) -> set[str]:
    """Returns the names of an archive's entries, which are stored as they are, so that all
    together are no larger than the file. `zipfile` checks their sums as they are read."""
    entries = archive.infolist()
    names = {entry.filename for entry in entries}
    if any(name.endswith('/constants.pkl') or '/code/' in name for name in names):
        source = f'torch.jit.load({os.fspath(archive.filename or "")!r})'
        command = f'import torch; torch.save({source}.state_dict(), {STATE_DICT!r})'
        raise ContentError(
            'is a TorchScript archive, a program with its weights; allowed: a state dict, which'
            f' this writes: python -c {shlex.quote(command)}'
        )
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ContentError('holds compressed entries; allowed: stored, as torch.save does')
    if len(names) < len(entries):
        raise ContentError('holds two entries of one name')
    if sum(entry.file_size for entry in entries) > size:
        raise ContentError(f'{DAMAGED}: its entries are larger than all of it')
    return names


def _pickle_of(archive: zipfile.ZipFile, entries: set[str]) -> tuple[str, bytes]:
    """Returns the folder in which the pickle lies, and the pickle."""
    found = [name for name in entries if name.endswith('/data.pkl') or name == 'data.pkl']
    if len(found) != 1:
        raise ContentError(
            f'holds {len(found)} entries data.pkl; allowed: one, as torch.save writes'
        )
    if (size := archive.getinfo(found[0]).file_size) > pickled.LARGEST:
        raise ContentError(f'has a pickle of {size} bytes; allowed: up to {pickled.LARGEST}')
    return found[0].removesuffix('data.pkl'), archive.read(found[0])


def _read_legacy(file: BinaryIO, wanted: Callable) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    pickles = io.BytesIO(file.read(pickled.LARGEST))
    if _LEGACY_MAGIC not in pickles.getbuffer()[:32].tobytes():
        raise ContentError("is none of PyTorch's files; allowed: what torch.save writes")
    reader = Reader()
    for _ in range(3):  # the magic number, a version, the sizes of that machine's types
        reader.unpickled(pickles)
    value, keys = reader.unpickled(pickles), reader.unpickled(pickles)
    if not _same_keys(keys, reader.storages):
        raise ContentError(f'{DAMAGED}: it lists other storages than it has arrays of')
    tensors, notes = _chosen(value, wanted)
    needed = {tensor.storage.key for tensor in tensors.values()}
    file.seek(pickles.tell())
    data = _legacy_data(file, [reader.storages[key] for key in keys], needed)
    return _arrays(tensors, data, '<', os.fstat(file.fileno()).st_size), notes


def _legacy_data(
    file: BinaryIO, storages: list[Storage], needed: Collection[str]
) -> dict[str, bytes]:
    """Returns the bytes of the needed storages. In the file each storage is its number of values,
    followed by the values, little-endian."""
    data, end = {}, os.fstat(file.fileno()).st_size
    for storage in storages:
        if storage.kind is None:
            raise ContentError(f'holds {printable(storage.name)}; allowed: {allowed_floats()}')
        size = int.from_bytes(file.read(8), 'little')
        if size != storage.size:
            raise ContentError(
                f'{DAMAGED}: storage {printable(storage.key)} has {size} numbers,'
                f' should have {storage.size}'
            )
        if file.tell() + storage.bytes > end:
            raise ContentError(
                f'{DAMAGED}: storage {printable(storage.key)} reaches beyond its end'
            )
        if storage.key in needed:
            data[storage.key] = file.read(storage.bytes)
        else:
            file.seek(storage.bytes, os.SEEK_CUR)
    if more := end - file.tell():
        raise ContentError(f'{DAMAGED}: it has {counted(more, "byte")} after its arrays')
    return data


def _same_keys(keys: Any, storages: dict[str, Storage]) -> bool:
    named = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    return named and sorted(keys) == sorted(storages)


def _chosen(value: Any, wanted: Callable) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Returns the weights among the values of a file, and notes on the choice.

    Raises:
      ContentError: there are no weights, or ones that are not read here.
    """
    if isinstance(value, Opaque):
        raise ContentError(
            f'holds {printable(value.kind)}; allowed: a state dict; no code was executed'
        )
    tensors, notes = state_dicts.choose(value, _is_array, wanted)
    for name, tensor in tensors.items():
        if isinstance(tensor, OtherTensor):
            raise ContentError(
                f'holds {printable(name)} as a {printable(tensor.form)}; allowed: an ordinary tensor'
            )
        if tensor.kind not in FLOATS:
            raise ContentError(
                f'holds {printable(name)} of {printable(str(tensor.kind))}; allowed: {allowed_floats()}'
            )
    return {name: checked(tensor) for name, tensor in tensors.items()}, notes


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor | OtherTensor)


def _arrays(
    tensors: Mapping[str, Tensor], data: Mapping[str, bytes], order: str, size: int
) -> dict[str, np.ndarray]:
    """Returns the tensors as float32 arrays by name.

    Args:
      data: the bytes of the storages by key.
      order: '<' or '>', of their numbers.
      size: of the whole file, in bytes.

    Raises:
      ContentError: a storage has another size than the pickle says; arrays that share
        their storages would together hold more numbers than the file has bytes.
    """
    for storage in {tensor.storage for tensor in tensors.values()}:
        if len(data[storage.key]) != storage.bytes:
            raise ContentError(
                f'{DAMAGED}: storage {printable(storage.key)} has {len(data[storage.key])} bytes,'
                f' should have {storage.bytes}'
            )
    if sum(math.prod(tensor.shape) for tensor in tensors.values()) > size:
        raise ContentError(f'{DAMAGED}: its arrays have more numbers than it has bytes')
    return {
        name: array(tensor, data[tensor.storage.key], order) for name, tensor in tensors.items()
    }
