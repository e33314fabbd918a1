"""Caffe's files, written here field by field in both of its forms."""

import numpy as np
import pytest

from alexnet_jax.errors import InputError
from alexnet_jax.weights import caffe
from tests.weights import forms
from tests.weights.handmade import caffe_blob, caffe_layer, field


@pytest.fixture
def kernel(random) -> np.ndarray:
    return random.standard_normal((6, 3, 2, 2)).astype(np.float32)


def refusal(path) -> str:
    with pytest.raises(InputError) as error:
        caffe.read(path)
    told = str(error.value)
    assert str(path) in told and len(told.splitlines()) <= 2 and len(told) < 400
    return told


def test_there_and_back_and_byte_for_byte(random, tmp_path):
    blobs = forms.caffe_blobs(random)
    model = caffe.Model(blobs, ['conv1', 'relu1', 'norm1', 'pool1', *forms.CAFFE_LAYERS[1:]])
    caffe.write(tmp_path / 'a.caffemodel', 'caffe', model)
    caffe.write(tmp_path / 'b.caffemodel', 'caffe', model)
    assert (tmp_path / 'a.caffemodel').read_bytes() == (tmp_path / 'b.caffemodel').read_bytes()
    assert len(list(tmp_path.iterdir())) == 2  # nothing is left beside
    read = caffe.read(tmp_path / 'a.caffemodel')
    assert read.order == model.order
    assert read.blobs.keys() == blobs.keys()
    for layer, both in blobs.items():
        assert all(np.array_equal(a, b) for a, b in zip(both, read.blobs[layer], strict=True))


def test_what_is_written(kernel, tmp_path):
    """The bytes, worked out by caffe.proto."""
    path = tmp_path / 'a.caffemodel'
    caffe.write(path, 'net', caffe.Model({'conv1': [kernel]}, ['conv1', 'relu1']))
    blob = field(5, kernel.tobytes()) + field(7, field(1, bytes([6, 3, 2, 2])))
    conv = field(1, b'conv1') + field(2, b'Convolution') + field(7, blob)
    relu = field(1, b'relu1') + field(2, b'ReLU')
    assert path.read_bytes() == field(1, b'net') + field(100, conv) + field(100, relu)


@pytest.mark.parametrize('old', [True, False], ids=['layers', 'layer'])
def test_both_forms(old, kernel, tmp_path):
    bias, units = kernel[:, 0, 0, 0], kernel.reshape(6, 12)
    path = tmp_path / 'a.caffemodel'
    layers = [
        ('data', []),
        ('conv1', [kernel, bias]),
        ('pool1', []),
        ('norm1', []),
        ('fc6', [units, bias]),
    ]
    path.write_bytes(
        field(1, b'net')
        + b''.join(
            caffe_layer(name, [caffe_blob(x, x.shape, old) for x in blobs], old)
            for name, blobs in layers
        )
    )
    read = caffe.read(path)
    assert read.order == ['data', 'conv1', 'pool1', 'norm1', 'fc6']
    assert caffe.net_of(read.order) == 'caffenet'
    shapes = {name: [x.shape for x in blobs] for name, blobs in read.blobs.items()}
    four = [(1, 1, 6, 12), (1, 1, 1, 6)] if old else [(6, 12), (6,)]
    assert shapes == {'conv1': [(6, 3, 2, 2), four[1]], 'fc6': four}
    for name, blobs in layers:
        for values, stored in zip(blobs, read.blobs.get(name, []), strict=True):
            assert stored.dtype == np.float32 and np.array_equal(stored.ravel(), values.ravel())


def test_doubles_and_numbers_in_parts(kernel, tmp_path):
    path = tmp_path / 'a.caffemodel'
    shape = field(7, field(1, bytes(kernel.shape)))
    doubles = shape + field(8, kernel.astype('<f8').tobytes())
    parts = shape + field(5, kernel[:2].tobytes()) + field(5, kernel[2:].tobytes())
    path.write_bytes(caffe_layer('a', [doubles, parts], False))
    assert all(np.array_equal(x, kernel) for x in caffe.read(path).blobs['a'])


def test_which_net():
    assert caffe.net_of(['conv1', 'norm1', 'pool1']) == 'caffe'
    assert caffe.net_of(['conv1', 'pool1', 'norm1']) == 'caffenet'
    assert caffe.net_of(['conv1', 'pool1']) is None
    assert caffe.net_of(['conv1', 'conv2']) is None


@pytest.mark.parametrize(
    'shape',
    [
        (6, 3, 2, 3),
        (1 << 62,),
        (1 << 40, 1 << 40),
        (-1, 72),
        (-6, -3, 2, 2),
        (0,),
        (72, *(1,) * 70),
    ],
    ids=str,
)
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
        caffe.write(tmp_path / 'no' / 'a', 'n', caffe.Model({'conv1': [kernel]}, ['conv1']))
