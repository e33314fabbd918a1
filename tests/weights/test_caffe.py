"""Caffe's files, written here field by field in both of its forms."""

import dataclasses
import functools

import numpy as np
import pytest

from alexnet_jax.runtime.errors import InputError
from alexnet_jax.weights import caffe
from alexnet_jax.weights.caffe import Layer
from tests.weights import forms
from tests.weights.handmade import caffe_blob, caffe_layer, field, real


@pytest.fixture
def kernel(random) -> np.ndarray:
    return random.standard_normal((6, 3, 2, 2)).astype(np.float32)


refusal = functools.partial(forms.refusal, caffe.read, lines=2)


def blobs_of(layers) -> dict[str, list[np.ndarray]]:
    return {layer.name: layer.blobs for layer in layers if layer.blobs}


def test_there_and_back_and_byte_for_byte(random, tmp_path):
    blobs = forms.caffe_blobs(random)
    layers = [
        Layer('data', 'Input', (), (), ('data',), None, {'mean_value': [1.5, 2.0, 3.0]}, (1, 3, 9, 9)),
        Layer('conv1', 'Convolution', blobs['conv1'], ('data',), ('conv1',), {'kernel_size': [11]}),
        Layer('relu1', 'ReLU', (), ('conv1',), ('conv1',)),
        Layer('norm1', 'LRN', (), ('conv1',), ('norm1',), {'local_size': 5, 'alpha': 0.5}),
        Layer('pool1', 'Pooling', (), ('norm1',), ('pool1',), {}),
        *(Layer(name, 'InnerProduct', both) for name, both in blobs.items() if name != 'conv1'),
    ]  # fmt: skip
    caffe.write(tmp_path / 'a.caffemodel', 'caffe', layers)
    caffe.write(tmp_path / 'b.caffemodel', 'caffe', layers)
    assert (tmp_path / 'a.caffemodel').read_bytes() == (tmp_path / 'b.caffemodel').read_bytes()
    assert len(list(tmp_path.iterdir())) == 2  # nothing is left beside
    found = caffe.read(tmp_path / 'a.caffemodel')
    bare = [dataclasses.replace(layer, blobs=()) for layer in layers]
    assert [dataclasses.replace(layer, blobs=()) for layer in found] == bare
    assert blobs_of(found).keys() == blobs.keys()
    for layer, both in blobs.items():
        assert all(np.array_equal(a, b) for a, b in zip(both, blobs_of(found)[layer], strict=True))


def test_what_is_written(kernel, tmp_path):
    """The bytes, worked out by caffe.proto."""
    path = tmp_path / 'a.caffemodel'
    conv1 = Layer(
        'conv1', 'Convolution', [kernel], ('data',), ('conv1',),
        {'num_output': 6, 'pad': [2], 'kernel_size': [2], 'group': 2},
    )  # fmt: skip
    norm1 = Layer('norm1', 'LRN', parameters={'alpha': 0.5})
    caffe.write(path, 'net', [conv1, Layer('relu1', 'ReLU'), norm1])
    blob = field(5, kernel.tobytes()) + field(7, field(1, bytes([6, 3, 2, 2])))
    stated = field(1, 6) + field(3, 2) + field(4, 2) + field(5, 2)
    conv = field(1, b'conv1') + field(2, b'Convolution') + field(3, b'data') + field(4, b'conv1')
    conv += field(7, blob) + field(106, stated)
    relu = field(1, b'relu1') + field(2, b'ReLU')
    norm = field(1, b'norm1') + field(2, b'LRN') + field(118, real(2, 0.5))
    written = b''.join(field(100, layer) for layer in (conv, relu, norm))
    assert path.read_bytes() == field(1, b'net') + written


@pytest.mark.parametrize('old', [True, False], ids=['layers', 'layer'])
def test_both_forms(old, kernel, tmp_path):
    bias, units = kernel[:, 0, 0, 0], kernel.reshape(6, 12)
    path = tmp_path / 'a.caffemodel'
    layers = [
        ('data', []), ('conv1', [kernel, bias]), ('pool1', []), ('norm1', []),
        ('fc6', [units, bias]),
    ]  # fmt: skip
    path.write_bytes(
        field(1, b'net')
        + b''.join(
            caffe_layer(name, [caffe_blob(x, x.shape, old) for x in blobs], old)
            for name, blobs in layers
        )
    )
    found = caffe.read(path)
    assert [layer.name for layer in found] == ['data', 'conv1', 'pool1', 'norm1', 'fc6']
    kinds = ['Data' if old else 'Input', 'Convolution', 'Pooling', 'LRN', 'InnerProduct']
    assert [layer.kind for layer in found] == kinds
    shapes = {name: [x.shape for x in blobs] for name, blobs in blobs_of(found).items()}
    four = [(1, 1, 6, 12), (1, 1, 1, 6)] if old else [(6, 12), (6,)]
    assert shapes == {'conv1': [(6, 3, 2, 2), four[1]], 'fc6': four}
    for name, blobs in layers:
        for values, stored in zip(blobs, blobs_of(found).get(name, []), strict=True):
            assert stored.dtype == np.float32 and np.array_equal(stored.ravel(), values.ravel())


def test_doubles_and_numbers_in_parts(kernel, tmp_path):
    path = tmp_path / 'a.caffemodel'
    shape = field(7, field(1, bytes(kernel.shape)))
    doubles = shape + field(8, kernel.astype('<f8').tobytes())
    parts = shape + field(5, kernel[:2].tobytes()) + field(5, kernel[2:].tobytes())
    path.write_bytes(caffe_layer('a', [doubles, parts], False))
    assert all(np.array_equal(x, kernel) for x in blobs_of(caffe.read(path))['a'])


@pytest.mark.parametrize('shape', [
    (6, 3, 2, 3), (1 << 62,), (1 << 40, 1 << 40), (-1, 72), (-6, -3, 2, 2), (0,), (72, *(1,) * 70),
], ids=str)  # fmt: skip
def test_shapes_that_lie(shape, kernel, tmp_path):
    path = tmp_path / 'a.caffemodel'
    path.write_bytes(caffe_layer('conv1', [caffe_blob(kernel, shape, False)], False))
    assert 'conv1 of' in refusal(path)


def test_an_array_without_a_shape(kernel, tmp_path):
    path = tmp_path / 'a.caffemodel'
    path.write_bytes(caffe_layer('conv1', [field(5, kernel.tobytes())], False))
    assert 'shape (0, 0, 0, 0)' in refusal(path)


def test_files_that_are_none_of_caffes(kernel, tmp_path):
    path = tmp_path / 'a.caffemodel'
    assert 'cannot be read: No such file' in refusal(path)
    path.write_bytes(b'')
    assert 'holds no weights' in refusal(path)
    path.write_bytes(b'a photograph')
    assert 'cut short or garbled' in refusal(path)
    layer = caffe_layer('con\nv1', [caffe_blob(kernel, kernel.shape, False)], False)
    path.write_bytes(layer[:-3])
    assert 'cut short or garbled' in refusal(path)
    path.write_bytes(layer + layer)
    assert 'twice' in refusal(path)


def test_a_folder_that_is_not_there(kernel, tmp_path):
    with pytest.raises(InputError, match='cannot be written: No such file'):
        caffe.write(tmp_path / 'no' / 'a', 'n', [Layer('conv1', 'Convolution', [kernel])])
