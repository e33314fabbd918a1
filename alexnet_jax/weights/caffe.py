"""Caffe's weight files (.caffemodel): a protobuf message NetParameter.

Only the fields weights need are declared here, with the numbers they have in Caffe's
src/caffe/proto/caffe.proto; all others are passed over.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from alexnet_jax.errors import InputError
from alexnet_jax.weights.arrays import as_float32, told, write_whole

# Message: field: (number, type, whether repeated). Names are bytes, since a file may
# hold any; so are packed numbers, which NumPy then reads without a Python object each.
_FIELDS = {
    'BlobShape': {'dim': (1, 'int64', True)},
    'BlobProto': {
        'num': (1, 'int32', False), 'channels': (2, 'int32', False),
        'height': (3, 'int32', False), 'width': (4, 'int32', False),
        'data': (5, 'bytes', True), 'shape': (7, 'BlobShape', False),
        'double_data': (8, 'bytes', True),
    },
    'LayerParameter': {
        'name': (1, 'bytes', False), 'type': (2, 'bytes', False), 'blobs': (7, 'BlobProto', True),
    },
    # Until 2014; `type` is a number there.
    'V1LayerParameter': {'name': (4, 'bytes', False), 'blobs': (6, 'BlobProto', True)},
    'NetParameter': {
        'name': (1, 'bytes', False), 'layers': (2, 'V1LayerParameter', True),
        'layer': (100, 'LayerParameter', True),
    },
}  # fmt: skip

_MOST_AXES = 32  # Caffe's own limit

# What a layer is by what it is called, its number left out.
_TYPES = {
    'conv': 'Convolution', 'fc': 'InnerProduct', 'relu': 'ReLU', 'norm': 'LRN', 'pool': 'Pooling',
    'drop': 'Dropout',
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Model:
    """A file's arrays by layer (weights, then bias, as float32), and the names of all
    layers from below to above."""

    blobs: Mapping[str, Sequence[np.ndarray]]
    order: Sequence[str]


def read(path: Path) -> Model:
    """Reads both forms: `layer`, and `layers` of before 2014, whose arrays have four axes.

    Raises:
      InputError: the file cannot be read, is damaged, or two layers with weights have
        one name.
    """
    try:
        net = _NET.FromString(path.read_bytes())
    except OSError as error:
        raise InputError(f'{path} cannot be read: {error.strerror}') from error
    except DecodeError as error:
        raise InputError(f'{path} is no .caffemodel, or is cut short or garbled') from error
    order, blobs = [], {}
    for layer in net.layer or net.layers:
        name = layer.name.decode(errors='backslashreplace')
        order.append(name)
        if layer.blobs and name in blobs:
            raise InputError(f'{path} holds weights of {told(name)} twice')
        if layer.blobs:
            where = f'{told(name)} of {path}'
            blobs[name] = [_array(blob, where) for blob in layer.blobs]
    if not blobs:
        raise InputError(f'{path} holds no weights; allowed: a .caffemodel')
    return Model(blobs, order)


def net_of(order: Sequence[str]) -> str | None:
    """Which of Caffe's two nets has its layers in this order: 'caffe' normalises before
    it pools, 'caffenet' after. None: the order does not say."""
    if 'norm1' not in order or 'pool1' not in order:
        return None
    return 'caffe' if order.index('norm1') < order.index('pool1') else 'caffenet'


def write(path: Path, name: str, model: Model) -> None:
    """Writes the form that Caffe writes today: whole or not at all, and equal weights
    byte by byte alike. `name`: the net's.

    Raises:
      InputError: the file cannot be written.
    """
    net = _NET(name=name.encode())
    for layer_name in model.order:
        kind = _TYPES[layer_name.rstrip('0123456789')]
        layer = net.layer.add(name=layer_name.encode(), type=kind.encode())
        for values in model.blobs.get(layer_name, ()):
            blob = layer.blobs.add(data=[values.astype('<f4').tobytes()])
            blob.shape.dim.extend(values.shape)
    write_whole(path, net.SerializeToString(deterministic=True))


def _array(blob: Any, where: str) -> np.ndarray:
    """
    Raises:
      InputError: the blob holds not as many numbers as its shape has.
    """
    old = (blob.num, blob.channels, blob.height, blob.width)
    shape = tuple(blob.shape.dim) if blob.HasField('shape') else old
    kind, data = ('<f8', blob.double_data) if blob.double_data else ('<f4', blob.data)
    content = b''.join(data)
    size = np.dtype(kind).itemsize
    lies = min(shape, default=1) < 1 or len(shape) > _MOST_AXES
    if lies or math.prod(shape) * size != len(content):
        raise InputError(
            f'{where} is cut short or garbled: shape {told(str(shape))},'
            f' {len(content)} bytes; allowed: {size} bytes a number'
        )
    return as_float32(np.frombuffer(content, kind).reshape(shape))


def _net_message() -> Any:
    """The class of NetParameter, in a pool of its own: another library may have Caffe's
    messages under the same names in the common one."""
    file = descriptor_pb2.FileDescriptorProto(name='weights.proto', package='caffe')
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, repeated) in fields.items():
            _declare(message.field.add(name=field, number=number), kind, repeated)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName('caffe.NetParameter'))


def _declare(field: descriptor_pb2.FieldDescriptorProto, kind: str, repeated: bool) -> None:
    field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
    if kind in _FIELDS:
        field.type, field.type_name = field.TYPE_MESSAGE, f'.caffe.{kind}'
    else:
        field.type = field.Type.Value(f'TYPE_{kind.upper()}')
    if repeated and kind == 'int64':
        field.options.packed = True


_NET = _net_message()
