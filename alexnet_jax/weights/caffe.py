"""Caffe's weight files (.caffemodel): a protobuf message NetParameter.

Only the necessary fields are declared, with their numbers in Caffe's src/caffe/proto/caffe.proto;
all others are skipped.
"""

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from alexnet_jax.runtime.errors import InputError
from alexnet_jax.runtime.files import opened
from alexnet_jax.weights.arrays import as_float32, printable, write_whole

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
    'TransformationParameter': {
        'scale': (1, 'float', False), 'crop_size': (3, 'uint32', False),
        'mean_file': (4, 'bytes', False), 'mean_value': (5, 'float', True),
    },
    # Common fields of DataParameter, ImageDataParameter and WindowDataParameter of `layers`.
    'SourceParameter': {
        'scale': (2, 'float', False), 'mean_file': (3, 'bytes', False),
        'crop_size': (5, 'uint32', False),
    },
    'InputParameter': {'shape': (1, 'BlobShape', True)},
    'ConvolutionParameter': {
        'num_output': (1, 'uint32', False), 'bias_term': (2, 'bool', False),
        'pad': (3, 'uint32', True), 'kernel_size': (4, 'uint32', True),
        'group': (5, 'uint32', False), 'stride': (6, 'uint32', True),
        'pad_h': (9, 'uint32', False), 'pad_w': (10, 'uint32', False),
        'kernel_h': (11, 'uint32', False), 'kernel_w': (12, 'uint32', False),
        'stride_h': (13, 'uint32', False), 'stride_w': (14, 'uint32', False),
        'axis': (16, 'int32', False), 'dilation': (18, 'uint32', True),
    },
    'InnerProductParameter': {
        'num_output': (1, 'uint32', False), 'bias_term': (2, 'bool', False),
        'axis': (5, 'int32', False), 'transpose': (6, 'bool', False),
    },
    'LRNParameter': {
        'local_size': (1, 'uint32', False), 'alpha': (2, 'float', False),
        'beta': (3, 'float', False), 'norm_region': (4, 'int32', False), 'k': (5, 'float', False),
    },
    'PoolingParameter': {
        'pool': (1, 'int32', False), 'kernel_size': (2, 'uint32', False),
        'stride': (3, 'uint32', False), 'pad': (4, 'uint32', False),
        'kernel_h': (5, 'uint32', False), 'kernel_w': (6, 'uint32', False),
        'stride_h': (7, 'uint32', False), 'stride_w': (8, 'uint32', False),
        'pad_h': (9, 'uint32', False), 'pad_w': (10, 'uint32', False),
        'global_pooling': (12, 'bool', False), 'round_mode': (13, 'int32', False),
    },
    'DropoutParameter': {'dropout_ratio': (1, 'float', False)},
    'ReLUParameter': {'negative_slope': (1, 'float', False)},
    'LayerParameter': {
        'name': (1, 'bytes', False), 'type': (2, 'bytes', False), 'bottom': (3, 'bytes', True),
        'top': (4, 'bytes', True), 'blobs': (7, 'BlobProto', True),
        'include': (8, 'bytes', True), 'exclude': (9, 'bytes', True),
        'transform_param': (100, 'TransformationParameter', False),
        'convolution_param': (106, 'ConvolutionParameter', False),
        'dropout_param': (108, 'DropoutParameter', False),
        'inner_product_param': (117, 'InnerProductParameter', False),
        'lrn_param': (118, 'LRNParameter', False),
        'pooling_param': (121, 'PoolingParameter', False),
        'relu_param': (123, 'ReLUParameter', False),
        'input_param': (143, 'InputParameter', False),
    },
    # Format until 2014, where `type` is a number. `layer` is the format before 2013.
    'V1LayerParameter': {
        'layer': (1, 'bytes', False), 'bottom': (2, 'bytes', True), 'top': (3, 'bytes', True),
        'name': (4, 'bytes', False), 'type': (5, 'int32', False), 'blobs': (6, 'BlobProto', True),
        'convolution_param': (10, 'ConvolutionParameter', False),
        'data_param': (11, 'SourceParameter', False),
        'dropout_param': (12, 'DropoutParameter', False),
        'image_data_param': (15, 'SourceParameter', False),
        'inner_product_param': (17, 'InnerProductParameter', False),
        'lrn_param': (18, 'LRNParameter', False),
        'pooling_param': (19, 'PoolingParameter', False),
        'window_data_param': (20, 'SourceParameter', False),
        'relu_param': (30, 'ReLUParameter', False),
        'include': (32, 'bytes', True), 'exclude': (33, 'bytes', True),
        'transform_param': (36, 'TransformationParameter', False),
    },
    'NetParameter': {
        'name': (1, 'bytes', False), 'layers': (2, 'V1LayerParameter', True),
        'input_dim': (4, 'int32', True), 'input_shape': (8, 'BlobShape', True),
        'layer': (100, 'LayerParameter', True),
    },
}  # fmt: skip
_OLD_TYPES = {
    1: 'Accuracy', 4: 'Convolution', 5: 'Data', 6: 'Dropout', 9: 'HDF5Data', 12: 'ImageData',
    14: 'InnerProduct', 15: 'LRN', 17: 'Pooling', 18: 'ReLU', 19: 'Sigmoid', 20: 'Softmax',
    21: 'SoftmaxWithLoss', 22: 'Split', 23: 'TanH', 24: 'WindowData', 29: 'MemoryData',
    30: 'ArgMax', 32: 'DummyData', 36: 'Silence',
}  # fmt: skip
# Where a layer's own parameters are, by its type.
_PARAMETERS = {
    'Convolution': 'convolution_param', 'InnerProduct': 'inner_product_param', 'LRN': 'lrn_param',
    'Pooling': 'pooling_param', 'Dropout': 'dropout_param', 'ReLU': 'relu_param',
}  # fmt: skip
# Where the data layers of `layers` state their preprocessing, if not in transform_param.
_SOURCES = {
    'Data': 'data_param', 'ImageData': 'image_data_param', 'WindowData': 'window_data_param',
}  # fmt: skip

_MOST_AXES = 32  # Caffe's own limit


@dataclasses.dataclass(frozen=True)
class Layer:
    """One of Caffe's layers.

    kind: its type, as 'Convolution'.
    blobs: weights, then bias, as float32.
    bottoms, tops: names of what it reads and writes.
    parameters: fields of the message of its type that are set, by name; None: no message.
    transform: the same for the preprocessing of images.
    input_shape: of images, batch, maps, height, width; () if not stated.
    in_phases: whether it belongs to some phases, training or test, and not to others.
    """

    name: str
    kind: str
    blobs: Sequence[np.ndarray] = ()
    bottoms: tuple[str, ...] = ()
    tops: tuple[str, ...] = ()
    parameters: Mapping[str, Any] | None = None
    transform: Mapping[str, Any] | None = None
    input_shape: tuple[int, ...] = ()
    in_phases: bool = False


def read(path: Path) -> list[Layer]:
    """Reads the layers of a model from bottom to top, in either format.

    The forms are `layer`, and `layers` of before 2014, whose arrays have four axes. The net's own
    statement of its input is a layer, too.

    Raises:
      InputError: the file cannot be read, is damaged, or two layers with weights have
        one name.
    """
    try:
        with opened(path) as file:
            net = _NET.FromString(file.read())
    except OSError as error:
        raise InputError(f'{path} cannot be read: {error.strerror}') from error
    except DecodeError as error:
        raise InputError(f'{path} is no .caffemodel, or is cut short or garbled') from error
    layers = []
    if net.input_shape or net.input_dim:
        shape = net.input_shape[0].dim if net.input_shape else net.input_dim
        layers.append(Layer('input', 'Input', input_shape=tuple(shape)))
    layers += [_layer(layer, path) for layer in net.layer or net.layers]
    names = collections.Counter(layer.name for layer in layers if layer.blobs)
    if twice := [name for name, count in names.items() if count > 1]:
        raise InputError(f'{path} holds weights of {printable(twice[0])} twice')
    if any(layer.HasField('layer') for layer in net.layers):
        raise InputError(
            f"{path} is in Caffe's form of before 2013; allowed: what its program"
            ' upgrade_net_proto_binary makes of it'
        )
    if not names:
        raise InputError(f'{path} holds no weights; allowed: a .caffemodel')
    return layers


def write(path: Path, name: str, layers: Sequence[Layer]) -> None:
    """Writes Caffe's present format atomically.

    Equal weights give equal bytes. `name`: the net's.

    Raises:
      InputError, StorageError: as `unwritable`.
    """
    net = _NET(name=name.encode())
    for layer in layers:
        message = net.layer.add(name=layer.name.encode(), type=layer.kind.encode())
        message.bottom.extend(bottom.encode() for bottom in layer.bottoms)
        message.top.extend(top.encode() for top in layer.tops)
        for values in layer.blobs:
            blob = message.blobs.add(data=[values.astype('<f4').tobytes()])
            blob.shape.dim.extend(values.shape)
        if layer.parameters is not None:
            _set(getattr(message, _PARAMETERS[layer.kind]), layer.parameters)
        if layer.transform is not None:
            _set(message.transform_param, layer.transform)
        if layer.input_shape:
            message.input_param.shape.add().dim.extend(layer.input_shape)
    write_whole(path, net.SerializeToString(deterministic=True))


def _layer(message: Any, path: Path) -> Layer:
    name, kind = _text(message.name), message.type
    kind = _text(kind) if isinstance(kind, bytes) else _OLD_TYPES.get(kind, f'number {kind}')
    own = _PARAMETERS.get(kind)
    shapes = message.input_param.shape if 'input_param' in message.DESCRIPTOR.fields_by_name else ()
    return Layer(
        name,
        kind,
        [_array(blob, f'{printable(name)} of {path}') for blob in message.blobs],
        tuple(map(_text, message.bottom)),
        tuple(map(_text, message.top)),
        _fields(message, own) if own else None,
        _transform(message, kind),
        tuple(shapes[0].dim) if shapes else (),
        bool(message.include or message.exclude),
    )


def _transform(message: Any, kind: str) -> dict[str, Any] | None:
    """Returns a layer's preprocessing of images. In `layers` the message of its data source has
    precedence (Caffe's upgrade_proto.cpp); in `layer` Caffe ignores that message."""
    stated, source = _fields(message, 'transform_param'), _SOURCES.get(kind, '')
    if source not in message.DESCRIPTOR.fields_by_name or not (old := _fields(message, source)):
        return stated
    return (stated or {}) | old


def _fields(message: Any, part: str) -> dict[str, Any] | None:
    """Returns the fields that are set in a part of a message, or None if it has no such part."""
    if not message.HasField(part):
        return None
    return {
        field.name: value if isinstance(value, int | float | bytes) else list(value)
        for field, value in getattr(message, part).ListFields()
    }


def _set(message: Any, fields: Mapping[str, Any]) -> None:
    message.SetInParent()  # also where all fields have their defaults
    for name, value in fields.items():
        if isinstance(value, list):
            getattr(message, name).extend(value)
        else:
            setattr(message, name, value)


def _text(name: bytes) -> str:
    return name.decode(errors='backslashreplace')


def _array(blob: Any, where: str) -> np.ndarray:
    """Returns the array of a blob.

    Raises:
      InputError: the number of values does not match the blob's shape.
    """
    old = (blob.num, blob.channels, blob.height, blob.width)
    shape = tuple(blob.shape.dim) if blob.HasField('shape') else old
    kind, data = ('<f8', blob.double_data) if blob.double_data else ('<f4', blob.data)
    content = b''.join(data)
    size = np.dtype(kind).itemsize
    lies = min(shape, default=1) < 1 or len(shape) > _MOST_AXES
    if lies or math.prod(shape) * size != len(content):
        raise InputError(
            f'{where} is cut short or garbled: shape {printable(str(shape))},'
            f' {len(content)} bytes; allowed: {size} bytes a number'
        )
    return as_float32(np.frombuffer(content, kind).reshape(shape))


def _net_message() -> Any:
    """Returns the class of NetParameter, from a separate descriptor pool: another library may
    register Caffe's messages under the same names in the default pool."""
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
