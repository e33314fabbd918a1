"""PyTorch's weight files, read without PyTorch and without running what is in them.

Both of its forms (torch/serialization.py): a zip archive of a pickle and one entry a
storage, and before 1.6 five pickles in a row with the storages behind them. The pickle
says where in which storage each array lies.
"""

import dataclasses
import io
import math
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib.stride_tricks import as_strided

from alexnet_jax.errors import InputError
from alexnet_jax.weights import pickled
from alexnet_jax.weights.arrays import BFLOAT16, FLOATS, as_float32, floats_told, told
from alexnet_jax.weights.pickled import Name, PickleError

_STORAGES = {
    'torch.HalfStorage': np.float16, 'torch.BFloat16Storage': BFLOAT16,
    'torch.FloatStorage': np.float32, 'torch.DoubleStorage': np.float64,
    'torch.BoolStorage': np.bool_, 'torch.ByteStorage': np.uint8, 'torch.CharStorage': np.int8,
    'torch.ShortStorage': np.int16, 'torch.IntStorage': np.int32, 'torch.LongStorage': np.int64,
}  # fmt: skip
_ORDERED_DICT = 'collections.OrderedDict'
_TENSORS = ('torch._utils._rebuild_tensor_v2', 'torch._utils._rebuild_tensor')
_PARAMETERS = ('torch._utils._rebuild_parameter', 'torch.nn.parameter.Parameter')
_KNOWN = (_ORDERED_DICT, *_TENSORS, *_PARAMETERS, *_STORAGES)

_ZIP_MAGIC = b'PK\x03\x04'
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C.to_bytes(10, 'little')  # in the first of the five
_MOST_DIMENSIONS = 8
_DAMAGED = 'is cut short or garbled'


@dataclasses.dataclass(frozen=True)
class _Storage:
    key: str
    kind: np.dtype
    size: int  # numbers

    @property
    def bytes(self) -> int:
        return self.size * self.kind.itemsize


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """Where an array lies in its storage; offset and strides count numbers."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a state dict by name, as float32; of a training checkpoint those
    under 'state_dict'. A prefix 'module.' of all names (of `DataParallel`) is left out.

    Raises:
      InputError: the file is none of PyTorch's, is damaged, or holds anything else.
    """
    try:
        content = path.read_bytes()
        return _read_zip(content) if content.startswith(_ZIP_MAGIC) else _read_legacy(content)
    except PickleError as error:
        raise InputError(f'{path} {error}') from error
    except OSError as error:
        raise InputError(f'{path} cannot be read: {error.strerror}') from error


def _read_zip(content: bytes) -> dict[str, np.ndarray]:
    entries = _entries(content)
    found = [name for name in entries if name.endswith('/data.pkl')]
    if len(found) != 1:
        raise PickleError(
            f'holds {len(found)} entries data.pkl; allowed: one, as torch.save writes'
        )
    folder = found[0].removesuffix('data.pkl')
    if (size := len(entries[found[0]])) > pickled.LARGEST:
        raise PickleError(f'has a pickle of {size} bytes; allowed: up to {pickled.LARGEST}')
    order = entries.get(f'{folder}byteorder', b'little')
    if order not in (b'little', b'big'):
        raise PickleError('does not say little or big in its entry byteorder')
    reader = _Reader()
    tensors = _state_dict(reader.unpickled(io.BytesIO(entries[found[0]])))
    data = {key: entries.get(f'{folder}data/{key}', b'') for key in reader.storages}
    return _arrays(tensors, data, '<' if order == b'little' else '>', len(content))


def _entries(content: bytes) -> dict[str, bytes]:
    """What a zip archive holds: entries stored as they are, so that all together are no
    larger than the file. `zipfile` checks their sums."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise PickleError('holds compressed entries; allowed: stored, as torch.save does')
            if len({entry.filename for entry in entries}) < len(entries):
                raise PickleError('holds two entries of one name')
            if sum(entry.file_size for entry in entries) > len(content):
                raise PickleError(f'{_DAMAGED}: its entries are larger than all of it')
            return {entry.filename: archive.read(entry) for entry in entries}
    except PickleError:
        raise
    except (zipfile.BadZipFile, EOFError, struct.error, RuntimeError, ValueError) as error:
        raise PickleError(f'{_DAMAGED}: {told(str(error))}') from error


def _read_legacy(content: bytes) -> dict[str, np.ndarray]:
    pickles = io.BytesIO(content[: pickled.LARGEST])
    if _LEGACY_MAGIC not in content[:32]:
        raise PickleError("is none of PyTorch's files; allowed: what torch.save writes")
    reader = _Reader()
    for _ in range(3):  # the magic number, a version, the sizes of that machine's types
        reader.unpickled(pickles)
    tensors = _state_dict(reader.unpickled(pickles))
    keys = reader.unpickled(pickles)
    if not _same_keys(keys, reader.storages):
        raise PickleError(f'{_DAMAGED}: it lists other storages than it has arrays of')
    data = _legacy_data(
        memoryview(content)[pickles.tell() :], [reader.storages[key] for key in keys]
    )
    return _arrays(tensors, data, '<', len(content))


def _legacy_data(content: memoryview, storages: list[_Storage]) -> dict[str, memoryview]:
    """The bytes of storages that lie one behind the other: each how many numbers, and
    the numbers, little-endian whatever the machine."""
    data = {}
    for storage in storages:
        size = int.from_bytes(content[:8], 'little')
        if size != storage.size:
            raise PickleError(
                f'{_DAMAGED}: storage {told(storage.key)} has {size} numbers,'
                f' should have {storage.size}'
            )
        data[storage.key] = content[8 : 8 + storage.bytes]
        content = content[8 + storage.bytes :]
    if content:
        raise PickleError(f'{_DAMAGED}: it goes on for {len(content)} bytes behind its arrays')
    return data


def _same_keys(keys: Any, storages: dict[str, _Storage]) -> bool:
    named = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    return named and sorted(keys) == sorted(storages)


class _Reader:
    """Unpickles, and keeps which storages were spoken of."""

    def __init__(self):
        self.storages: dict[str, _Storage] = {}

    def unpickled(self, file: BinaryIO) -> Any:
        return pickled.read(file, _made, self._storage, _KNOWN)

    def _storage(self, identity: Any) -> _Storage:
        """A persistent id: 'storage', type, key, device, size, and in the older form None."""
        match identity:
            case ('storage', Name(kind), str(key), str(), int(size), *_) if size >= 0:
                storage = _Storage(key, np.dtype(_STORAGES[kind]), size)
                if self.storages.setdefault(key, storage) == storage:
                    return storage
        raise TypeError(identity)


def _made(name: str, arguments: tuple[Any, ...]) -> Any:
    """What the call of a name would make."""
    match arguments:
        case () if name == _ORDERED_DICT:
            return {}
        case [list(items)] if name == _ORDERED_DICT:  # written by Python 2
            return pickled.set_items({}, items)
        case [_Storage() as storage, int(offset), tuple(shape), tuple(strides), *_] if (
            name in _TENSORS
        ):
            return _tensor(storage, offset, shape, strides)
        case [_Tensor() as tensor, *_] if name in _PARAMETERS:
            return tensor
    raise TypeError(name)


def _tensor(storage: _Storage, offset: int, shape: tuple, strides: tuple) -> _Tensor:
    """
    Raises:
      PickleError: the array would reach out of its storage, or repeat what is there.
    """
    numbers = all(isinstance(x, int) and x >= 0 for x in (offset, *shape, *strides))
    if not numbers or len(shape) != len(strides) or len(shape) > _MOST_DIMENSIONS:
        raise TypeError(shape)
    # How far an axis of one element steps is of no meaning, and may be any number.
    strides = tuple(
        stride if extent > 1 else 0 for extent, stride in zip(shape, strides, strict=True)
    )
    last = offset + sum(
        (extent - 1) * stride for extent, stride in zip(shape, strides, strict=True)
    )
    if not 0 < math.prod(shape) <= storage.size or last >= storage.size:
        raise PickleError(
            f'{_DAMAGED}: it has an array of shape {told(str(shape))} in a storage of {storage.size}'
        )
    return _Tensor(storage, offset, shape, strides)


def _state_dict(value: Any) -> dict[str, _Tensor]:
    """
    Raises:
      PickleError: it is something else.
    """
    if isinstance(value, dict) and 'state_dict' in value:
        value = value['state_dict']
    if not isinstance(value, dict) or not value:
        raise PickleError('holds no weights by name; allowed: a state dict')
    for name, tensor in value.items():
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            raise PickleError(f'holds {told(name)}, which is no array; allowed: a state dict')
        if tensor.storage.kind not in FLOATS:
            raise PickleError(
                f'holds {told(name)} of {tensor.storage.kind}; allowed: {floats_told()}'
            )
    prefix = 'module.' if all(name.startswith('module.') for name in value) else ''
    return {name.removeprefix(prefix): tensor for name, tensor in value.items()}


def _arrays(
    tensors: Mapping[str, _Tensor], data: Mapping[str, bytes | memoryview], order: str, size: int
) -> dict[str, np.ndarray]:
    """
    Args:
      data: the bytes of the storages by key.
      order: '<' or '>', of their numbers.
      size: of the whole file, in bytes.

    Raises:
      PickleError: a storage has another size than the pickle says; arrays that share
        their storages would together hold more numbers than the file has bytes.
    """
    for storage in {tensor.storage for tensor in tensors.values()}:
        if len(data[storage.key]) != storage.bytes:
            raise PickleError(
                f'{_DAMAGED}: storage {told(storage.key)} has {len(data[storage.key])} bytes,'
                f' should have {storage.bytes}'
            )
    if sum(math.prod(tensor.shape) for tensor in tensors.values()) > size:
        raise PickleError(f'{_DAMAGED}: its arrays have more numbers than it has bytes')
    return {
        name: _array(tensor, data[tensor.storage.key], order) for name, tensor in tensors.items()
    }


def _array(tensor: _Tensor, data: bytes | memoryview, order: str) -> np.ndarray:
    kind = tensor.storage.kind
    bits = np.frombuffer(data, f'{order}u{kind.itemsize}').astype(f'=u{kind.itemsize}', copy=False)
    numbers = bits.view(kind)[tensor.offset :]
    strides = [stride * kind.itemsize for stride in tensor.strides]
    return as_float32(as_strided(numbers, tensor.shape, strides, writeable=False))
