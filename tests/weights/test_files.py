"""Our own files: what is written is read again, and damage is found."""

import functools
import json
import os

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from alexnet_jax.runtime.errors import InputError, StorageError
from alexnet_jax.weights import files
from tests.weights import forms, handmade

METADATA = {'network': 'small', 'line': 'two\nlines'}


@pytest.fixture
def layers(random) -> files.Layers:
    return {
        'conv1': {
            'kernel': random.standard_normal((2, 3, 3, 3, 4)).astype(np.float32),
            'bias': random.standard_normal((2, 4)).astype(np.float32),
        },
        'fc8': {'kernel': random.standard_normal((2, 5, 7)).astype(np.float32).swapaxes(1, 2)},
    }


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'a.safetensors'


refusal = functools.partial(forms.refusal, files.read)


def test_there_and_back(layers, path):
    files.write(path, layers, METADATA)
    read = files.read(path)
    assert read.keys() == layers.keys()
    assert all(forms.same(read[layer], layers[layer]) for layer in layers)
    arrays, metadata = files.read_arrays(path)
    assert metadata == METADATA
    assert forms.same(arrays, load_file(path))
    assert os.listdir(path.parent) == [path.name]  # nothing is left beside


def test_every_flipped_bit_of_the_arrays_is_found(layers, path):
    files.write(path, layers, {})
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], 'little')
    for place in range(start, len(content), 7):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        assert 'is damaged' in refusal(path)


def test_arrays_that_changed_names_are_found(layers, path):
    files.write(path, layers, {})
    path.write_bytes(path.read_bytes().replace(b'"fc8/', b'"fc9/'))
    assert 'is damaged' in refusal(path)


def test_metadata_that_changed_is_found_and_an_older_file_is_read(layers, path):
    files.write(path, layers, METADATA)
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"small"', b'"smell"'))
    assert 'is damaged: its metadata is not' in refusal(path)
    with safe_open(path, 'np') as file:
        metadata = file.metadata()
    del metadata['metadata_sha256']
    save_file(load_file(path), path, metadata)
    assert files.read_arrays(path)[1] == METADATA | {'network': 'smell'}


@pytest.mark.parametrize('kind', [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_floats_come_as_float32(kind, path):
    save_file({'conv1/bias': np.array([1.5, -2], kind)}, path)
    assert forms.same(files.read(path)['conv1'], {'bias': np.array([1.5, -2], np.float32)})


@pytest.mark.parametrize('value', [np.nan, np.inf, 1e300])
def test_values_that_are_not_finite(value, path):
    save_file({'conv1/bias': np.array([0, value])}, path)
    assert 'conv1/bias of' in refusal(path) and 'finite' in refusal(path)
    with pytest.raises(InputError, match='conv1/bias'):
        files.write(path.with_name('b'), {'conv1': {'bias': np.array([np.inf])}}, {})
    assert os.listdir(path.parent) == [path.name]


def test_whole_numbers(path):
    save_file({'conv1/bias': np.arange(3)}, path)
    assert 'conv1/bias of' in refusal(path) and 'int64; allowed: float16' in refusal(path)


def test_other_names(path):
    save_file({'features.0.weight': np.ones(3, np.float32)}, path)
    assert 'allowed: LAYER/PART' in refusal(path)
    arrays, metadata = files.read_arrays(path)
    assert arrays.keys() == {'features.0.weight'} and metadata == {}


LIES = {
    'shape': {'a/b': {'dtype': 'F32', 'shape': [1 << 40], 'data_offsets': [0, 16]}},
    'shape and end': {'a/b': {'dtype': 'F32', 'shape': [1 << 40], 'data_offsets': [0, 1 << 42]}},
    'more than 64 bits': {'a/b': {'dtype': 'F32', 'shape': [1 << 70], 'data_offsets': [0, 16]}},
    'product': {'a/b': {'dtype': 'F32', 'shape': [1 << 33, 1 << 33], 'data_offsets': [0, 16]}},
    'begins late': {'a/b': {'dtype': 'F32', 'shape': [3], 'data_offsets': [4, 16]}},
    'ends early': {'a/b': {'dtype': 'F32', 'shape': [3], 'data_offsets': [0, 12]}},
    'backwards': {'a/b': {'dtype': 'F32', 'shape': [4], 'data_offsets': [16, 0]}},
    'negative': {'a/b': {'dtype': 'F32', 'shape': [-4], 'data_offsets': [0, 16]}},
    'type': {'a/b': {'dtype': 'F' * 9000, 'shape': [4], 'data_offsets': [0, 16]}},
    'twice the same': {
        name: {'dtype': 'F32', 'shape': [4], 'data_offsets': [0, 16]} for name in ('a/b', 'a/c')
    },
    'axes': {'a/b': {'dtype': 'F32', 'shape': [1] * 70 + [4], 'data_offsets': [0, 16]}},
    'metadata': {'__metadata__': {'a': 3}},
    'nothing': {},
}


@pytest.mark.parametrize('lie', LIES)
def test_headers_that_lie(lie, path):
    path.write_bytes(handmade.safetensors(LIES[lie], bytes(16)))
    assert 'cannot be read as safetensors' in refusal(path)


def test_a_name_that_is_there_twice(path):
    one = json.dumps({'a/b': {'dtype': 'F32', 'shape': [2], 'data_offsets': [0, 8]}})[1:-1]
    two = one.replace('[0, 8]', '[8, 16]')
    text = f'{{{one},{two}}}'.encode()
    path.write_bytes(len(text).to_bytes(8, 'little') + text + bytes(16))
    assert 'cannot be read as safetensors' in refusal(path)


@pytest.mark.parametrize('content', [b'', b'abc', b'\xff' * 100, bytes(100)])
def test_files_that_are_no_safetensors(content, path):
    path.write_bytes(content)
    assert 'cannot be read as safetensors' in refusal(path)


def test_a_file_that_cannot_be_read_or_written(path, layers):
    assert 'cannot be read as safetensors' in refusal(path)
    assert 'cannot be read as safetensors' in refusal(path.parent)
    with pytest.raises(InputError, match='cannot be written'):
        files.write(path / 'b', layers, {})


@pytest.mark.parametrize('fails', ['fsync', 'replace'])
def test_a_write_that_fails_leaves_the_old_file(fails, path, layers, monkeypatch):
    files.write(path, layers, {})
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, fails, full)
    with pytest.raises(StorageError, match='cannot be written: No space left'):
        files.write(path, {'fc8': layers['fc8']}, {})
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]
