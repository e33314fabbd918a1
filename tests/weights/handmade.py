"""Weight files put together byte by byte, so that any part of them can be a lie.

Only the standard library: what PyTorch, Caffe and safetensors write, written once more.
"""

import dataclasses
import json
import math
import pickle
import struct
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
ORDERED_DICT = b'ccollections\nOrderedDict\n)R'


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An array as a state dict's pickle speaks of it."""

    key: str
    size: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0
    kind: str = 'FloatStorage'


def whole(key: str, values: np.ndarray) -> Tensor:
    """The tensor that is all of its storage."""
    strides = tuple(stride // values.itemsize for stride in values.strides)
    return Tensor(key, values.size, values.shape, strides)


def plain(value) -> bytes:
    """The steps that put numbers, text or tuples of them on the stack."""
    return pickle.dumps(value, protocol=2)[2:-1]


def tensor_steps(tensor: Tensor, legacy: bool) -> bytes:
    storage = b'(' + plain('storage') + b'ctorch\n' + tensor.kind.encode() + b'\n'
    storage += plain(tensor.key) + plain('cpu') + plain(tensor.size) + (b'N' if legacy else b'')
    place = plain(tensor.offset) + plain(tensor.shape) + plain(tensor.strides)
    return (
        b'ctorch._utils\n_rebuild_tensor_v2\n(' + storage + b'tQ' + place
        + b'\x89' + ORDERED_DICT + b'tR'
    )  # fmt: skip


def state_dict(tensors: Iterable[tuple[str, Tensor]], legacy: bool = False) -> bytes:
    """A whole pickle of an OrderedDict."""
    items = b''.join(plain(name) + tensor_steps(tensor, legacy) for name, tensor in tensors)
    return b'\x80\x02' + ORDERED_DICT + b'(' + items + b'u.'


@dataclasses.dataclass(frozen=True)
class Steps:
    """Steps of a pickle as they are."""

    content: bytes


def tree_steps(value, legacy: bool = False) -> bytes:
    """The steps for dictionaries, lists, tensors, `Steps`, and whatever pickle knows."""
    match value:
        case dict():
            items = [plain(key) + tree_steps(x, legacy) for key, x in value.items()]
            return b'}(' + b''.join(items) + b'u'
        case list():
            return b'](' + b''.join(tree_steps(x, legacy) for x in value) + b'e'
        case Tensor():
            return tensor_steps(value, legacy)
        case Steps(content):
            return content
    return plain(value)


def write_zip(
    path: Path,
    pickled: bytes,
    storages: Mapping[str, bytes],
    byteorder: bytes = b'little',
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    with zipfile.ZipFile(path, 'w', compression) as archive:
        archive.writestr('archive/data.pkl', pickled)
        archive.writestr('archive/byteorder', byteorder)
        for key, content in storages.items():
            archive.writestr(f'archive/data/{key}', content)
        archive.writestr('archive/version', b'3\n')
    return path


def write_legacy(path: Path, pickled: bytes, storages: Mapping[str, tuple[int, bytes]]) -> Path:
    """`storages`: how many numbers, and their bytes."""
    sizes = {'protocol_version': 1001, 'little_endian': True, 'type_sizes': {'int': 4}}
    head = [pickle.dumps(x, protocol=2) for x in (LEGACY_MAGIC, 1001, sizes)]
    tail = [struct.pack('<q', size) + content for size, content in storages.values()]
    path.write_bytes(b''.join([*head, pickled, pickle.dumps(list(storages), protocol=2), *tail]))
    return path


def varint(value: int) -> bytes:
    """Base 128, the low digits first; negative ones as 64 bits."""
    value %= 1 << 64
    digits = bytearray()
    while value > 127:
        digits.append(value % 128 + 128)
        value //= 128
    return bytes([*digits, value])


def field(number: int, content: bytes | int) -> bytes:
    """A protobuf field: a number, or bytes with their length."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def caffe_blob(values: np.ndarray, shape: Sequence[int], old: bool) -> bytes:
    """`shape`: what it says of itself."""
    data = field(5, values.astype('<f4').tobytes())
    if old:
        four = [1] * (4 - len(shape)) + list(shape)
        return b''.join(field(number, extent) for number, extent in enumerate(four, 1)) + data
    return data + field(7, field(1, b''.join(map(varint, shape))))


# caffe.proto: numbers of types of layers before 2014, and of their parameters then and today.
OLD_TYPES = {
    'Convolution': 4, 'Data': 5, 'Dropout': 6, 'InnerProduct': 14, 'LRN': 15, 'Pooling': 17,
    'ReLU': 18, 'Sigmoid': 19, 'Softmax': 20, 'Split': 22, 'TanH': 23,
}  # fmt: skip
PARAMETERS = {
    'Convolution': (10, 106), 'Dropout': (12, 108), 'InnerProduct': (17, 117), 'LRN': (18, 118),
    'Pooling': (19, 121), 'ReLU': (30, 123), 'Data': (36, 100), 'Input': (36, 100),
}  # fmt: skip
KINDS = {
    'conv': 'Convolution', 'fc': 'InnerProduct', 'relu': 'ReLU', 'norm': 'LRN', 'pool': 'Pooling',
    'drop': 'Dropout', 'data': 'Input',
}  # fmt: skip


def real(number: int, value: float) -> bytes:
    """A protobuf field of a float."""
    return varint(number << 3 | 5) + struct.pack('<f', value)


def caffe_layer(
    name: str,
    blobs: Iterable[bytes],
    old: bool,
    kind: str = '',
    parameters: bytes | None = None,
    rest: bytes = b'',
) -> bytes:
    """A layer of a net. `kind`: '': as its name says; `rest`: other fields as they are."""
    kind = kind or KINDS.get(name.split('_')[0].rstrip('0123456789'), '')
    kind = 'Data' if old and kind == 'Input' else kind
    own = b'' if parameters is None else field(PARAMETERS[kind][0 if old else 1], parameters)
    if old:  # layers, of V1LayerParameter
        number = field(5, OLD_TYPES[kind]) if kind in OLD_TYPES else b''
        parts = b''.join(field(6, x) for x in blobs)
        return field(2, field(4, name.encode()) + number + parts + own + rest)
    parts = b''.join(field(7, x) for x in blobs)
    return field(100, field(1, name.encode()) + field(2, kind.encode()) + parts + own + rest)


def safetensors(header: Mapping, content: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack('<Q', len(text)) + text + content


def safetensors_header(arrays: Mapping[str, np.ndarray]) -> dict[str, dict]:
    header, place = {}, 0
    for name, values in arrays.items():
        size = 4 * math.prod(values.shape)
        header[name] = {
            'dtype': 'F32', 'shape': values.shape, 'data_offsets': [place, place + size],
        }  # fmt: skip
        place += size
    return header
