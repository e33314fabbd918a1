"""Tensors in PyTorch's pickles: their storage, and their place in it."""

import dataclasses
import math
from typing import Any, BinaryIO

import numpy as np
from numpy.lib.stride_tricks import as_strided

from alexnet_jax.weights import pickled
from alexnet_jax.weights.arrays import BFLOAT16, ContentError, as_float32, printable
from alexnet_jax.weights.pickled import Name, Opaque

DAMAGED = 'is cut short or garbled'
_STORAGES = {
    'torch.HalfStorage': np.float16, 'torch.BFloat16Storage': BFLOAT16,
    'torch.FloatStorage': np.float32, 'torch.DoubleStorage': np.float64,
    'torch.BoolStorage': np.bool_, 'torch.ByteStorage': np.uint8, 'torch.CharStorage': np.int8,
    'torch.ShortStorage': np.int16, 'torch.IntStorage': np.int32, 'torch.LongStorage': np.int64,
    'torch.ComplexFloatStorage': np.complex64, 'torch.ComplexDoubleStorage': np.complex128,
    # Of quantized tensors, which are skipped: numbers of as many bytes.
    'torch.QInt8Storage': np.int8, 'torch.QUInt8Storage': np.uint8, 'torch.QInt32Storage': np.int32,
    'torch.storage.UntypedStorage': np.uint8,
}  # fmt: skip
_TYPES = {
    'torch.float16': np.float16, 'torch.bfloat16': BFLOAT16, 'torch.float32': np.float32,
    'torch.float64': np.float64,
}  # fmt: skip
_DICTS = ('collections.OrderedDict', 'collections.defaultdict')
_TENSORS = ('torch._utils._rebuild_tensor_v2', 'torch._utils._rebuild_tensor')
_TYPED_TENSOR = 'torch._utils._rebuild_tensor_v3'  # types without their own storage class
_PARAMETERS = (
    'torch._utils._rebuild_parameter', 'torch._utils._rebuild_parameter_with_state',
    'torch.nn.parameter.Parameter',
)  # fmt: skip
_OTHER_TENSORS = 'torch._utils._rebuild_'  # and what kind: sparse, quantized, nested

_MOST_DIMENSIONS = 8


@dataclasses.dataclass(frozen=True)
class Storage:
    """`kind`: of its numbers, None if it is not known here; `size`: how many."""

    key: str
    name: str
    kind: np.dtype | None
    size: int

    @property
    def bytes(self) -> int:
        """Number of bytes."""
        return self.size * (self.kind.itemsize if self.kind else 1)


@dataclasses.dataclass(frozen=True)
class Tensor:
    """The place of an array in its storage.

    Offset and strides count numbers of `kind`; for kinds that are not supported it is text.
    """

    storage: Storage
    kind: np.dtype | str
    offset: Any
    shape: tuple
    strides: tuple


@dataclasses.dataclass(frozen=True)
class OtherTensor:
    """A tensor that is not a plain part of a storage. `form`: sparse_tensor, qtensor, ..."""

    name: str  # as the pickle has it: the part of a long name, once a step, would fill memory

    @property
    def form(self) -> str:
        """Name of the kind of tensor."""
        return self.name.removeprefix(_OTHER_TENSORS)


class Reader:
    """Unpickles, and records the named storages."""

    def __init__(self):
        self.storages: dict[str, Storage] = {}

    def unpickled(self, file: BinaryIO) -> Any:
        """Returns what the pickle of a PyTorch file holds, its tensors as `Tensor`."""
        return pickled.read(file, _made, self._storage)

    def _storage(self, identity: Any) -> Storage | Opaque:
        """Returns the storage of a persistent id: 'storage', type, key, device, size, and in the
        older form None or the storage that it is a part of."""
        match identity:
            case ('storage', Name(name), str(key), str(), int(size), *rest) if (
                size >= 0 and len(key) <= pickled.LONGEST_NAME
            ):
                kind = np.dtype(_STORAGES[name]) if name in _STORAGES else None
                storage = Storage(key, name, kind, size)
                if self.storages.setdefault(key, storage) == storage:
                    return storage if rest in ([], [None]) else Opaque('a part of a storage')
            case tuple() if identity[:1] != ('storage',):
                return Opaque('an object with an id')
        raise TypeError


def _made(name: str, arguments: tuple[Any, ...]) -> Any:
    """Returns the placeholder of a call's result."""
    match arguments:
        case [list(items)] if name in _DICTS:  # written by Python 2
            return pickled.set_items({}, [x for item in items for x in _pair(item)])
        case _ if name in _DICTS:
            return {}
        case [Storage(), _, tuple(), tuple(), *_] if _is_view(name, arguments):
            return OtherTensor('negated or conjugated view')
        case [Storage() as storage, offset, tuple(shape), tuple(strides), *_] if name in _TENSORS:
            return Tensor(storage, storage.kind or storage.name, offset, shape, strides)
        case [Storage() as storage, offset, tuple(shape), tuple(strides), _, _, Name(kind), *_] if (
            name == _TYPED_TENSOR
        ):
            dtype = np.dtype(_TYPES[kind]) if kind in _TYPES else kind
            return Tensor(storage, dtype, offset, shape, strides)
        case [Tensor() | OtherTensor() as tensor, *_] if name in _PARAMETERS:
            return tensor
        case [Name(inner), _, tuple(given), *_] if name == 'torch._tensor._rebuild_from_type_v2':
            return _made(inner, given) if inner in _TENSORS else OtherTensor(inner)
    if name in _TENSORS and not any(isinstance(x, Opaque) for x in arguments[:1]):
        raise TypeError
    if name.startswith(_OTHER_TENSORS):
        return OtherTensor(name)
    return Opaque(name)


def _is_view(name: str, arguments: tuple[Any, ...]) -> bool:
    """Returns whether a tensor's last argument, its metadata, requires that the numbers are negated
    or conjugated, or is not one that PyTorch writes."""
    place = 7 if name == _TYPED_TENSOR else 6 if name in _TENSORS else len(arguments)
    about = arguments[place] if len(arguments) > place else None
    return about is not None and not (
        isinstance(about, dict) and not about.get('neg') and not about.get('conj')
    )


def _pair(item: Any) -> list[Any]:
    if isinstance(item, list | tuple) and len(item) == 2:
        return list(item)
    raise TypeError


def checked(tensor: Tensor) -> Tensor:
    """Checks that an array lies within its storage, and returns it.

    Raises:
      ContentError: the array would reach out of its storage, or repeat what is there.
    """
    offset, shape, strides = tensor.offset, tensor.shape, tensor.strides
    numbers = all(isinstance(x, int) and x >= 0 for x in (offset, *shape, *strides))
    if not numbers or len(shape) != len(strides) or len(shape) > _MOST_DIMENSIONS:
        raise ContentError(f'{DAMAGED}: its pickle makes no sense')
    # The stride of an axis with one element has no meaning and may be any number.
    strides = tuple(
        stride if extent > 1 else 0 for extent, stride in zip(shape, strides, strict=True)
    )
    last = offset + sum(
        (extent - 1) * stride for extent, stride in zip(shape, strides, strict=True)
    )
    there = tensor.storage.bytes // np.dtype(tensor.kind).itemsize
    if not 0 < math.prod(shape) <= there or last >= there:
        raise ContentError(
            f'{DAMAGED}: it has an array of shape {printable(str(shape))} in a storage of {there}'
        )
    return dataclasses.replace(tensor, strides=strides)


def array(tensor: Tensor, data: bytes, order: str) -> np.ndarray:
    """Returns a tensor as a float32 array.

    Args:
      data: the bytes of its storage.
      order: of the bytes, '<' or '>'.
    """
    kind = np.dtype(tensor.kind)
    whole = len(data) // kind.itemsize * kind.itemsize
    bits = np.frombuffer(data[:whole], f'{order}u{kind.itemsize}')
    numbers = bits.astype(f'=u{kind.itemsize}', copy=False).view(kind)[tensor.offset :]
    strides = [stride * kind.itemsize for stride in tensor.strides]
    return as_float32(as_strided(numbers, tensor.shape, strides, writeable=False))
