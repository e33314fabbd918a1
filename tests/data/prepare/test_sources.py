import json
import os
import pickle
import shutil
import struct
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits
from tensorflow_datasets.core import constants

from alexnet_jax.data.images import RESIZES, BadImageError, read_square
from alexnet_jax.data.prepare import stored, tfrecord
from alexnet_jax.data.prepare.digits import enlarge_digit, split_digits
from alexnet_jax.data.prepare.sources import open_source, with_val_split
from alexnet_jax.data.prepare.tfds import TfdsRows
from alexnet_jax.runtime.errors import InputError
from tests.data.photographs import photograph, save, write_classes

# Folders


def test_class_folders_below_train_and_val(tmp_path):
    write_classes(tmp_path / 'train', 4)
    write_classes(tmp_path / 'validation', 2, ('ant hill', 'bee'))
    (tmp_path / 'train' / 'bee' / 'deep').mkdir()
    (tmp_path / 'train' / 'bee' / 'deep' / 'a').write_bytes(save(photograph(5), 'JPEG'))
    (tmp_path / 'train' / 'bee' / '.DS_Store').write_bytes(b'hidden')
    (tmp_path / 'train' / '.git').mkdir()
    (tmp_path / 'README.txt').write_text('notes lie where they like')
    source = open_source(f'folder:{tmp_path}')
    assert source.classes == ('ant hill', 'bee', 'çà') and source.mirror
    assert {split: len(files) for split, files in source.splits.items()} == {'train': 13, 'val': 4}
    train = source.splits['train']
    assert [train.id(row) for row in (0, 7, 8, 9)] == [
        'train/ant hill/000.jpeg', 'train/bee/003.png', 'train/bee/deep/a', 'train/çà/000.jpeg',
    ]  # fmt: skip
    labels = [train.square(row, 16, 10**6)[1] for row in range(13)]
    assert labels == [0] * 4 + [1] * 5 + [2] * 4
    part = pickle.loads(pickle.dumps(train.take([8, 2])))
    assert [part.id(0), part.name(1)] == ['train/bee/deep/a', f'{tmp_path}/train/ant hill/002.jpeg']
    assert with_val_split(source, 0.0) is source
    with pytest.raises(InputError, match='has a val split'):
        with_val_split(source, 0.1)


def test_a_folder_s_version_tells_whether_it_changed(tmp_path):
    write_classes(tmp_path, 2)
    version = open_source(f'folder:{tmp_path}').version
    assert open_source(f'folder:{tmp_path}/').version == version
    file = tmp_path / 'bee' / '000.jpeg'
    content = file.read_bytes()
    file.write_bytes(content + b'x')
    assert open_source(f'folder:{tmp_path}').version != version
    file.write_bytes(content)
    file.rename(file.with_name('y.jpeg'))
    assert open_source(f'folder:{tmp_path}').version != version


@pytest.mark.parametrize(('spoil', 'message'), [
    (lambda top: os.rename(top / 'bee', top / unicodedata.normalize('NFD', 'çà')),
     'have the same name'),
    (lambda top: os.mkfifo(top / 'bee' / 'pipe.jpg'), r'pipe\.jpg is no file'),
    (lambda top: os.rename(top / 'çà', top / 'two\nlines'),
     r"'two\\nlines' has a name that cannot be printed"),
    (lambda top: os.symlink(top / 'nowhere', top / 'bee' / 'link.jpg'), r'link\.jpg is no file'),
])  # fmt: skip
def test_a_folder_that_is_no_source_is_refused(spoil, message, tmp_path):
    """Other folders that are none: test_layout.py."""
    write_classes(tmp_path, 1)
    spoil(tmp_path)
    with pytest.raises(InputError, match=message):
        open_source(f'folder:{tmp_path}')


@pytest.mark.parametrize(('spec', 'message'), [
    ('folder:/no/such/place', 'no such folder'),
    ('imagenet2012', r'allowed: digits, folder:PATH, tfds:NAME'),
    ('synthetic', 'synthetic images need no preparing'),
    ('tfds:imagnet2012', "knows no 'imagnet2012'; the nearest is 'imagenet2012'"),
    ('tfds:cifar10:9.9.9', r'cannot be loaded at version 9\.9\.9, only: 3\.0\.2'),
    ('tfds:no name', r'allowed: tfds:NAME\[/config\]\[:version\]'),
])  # fmt: skip
def test_a_source_that_does_not_exist_is_named(spec, message, tmp_path):
    with pytest.raises(InputError, match=message) as caught:
        open_source(spec, data_dir=str(tmp_path))
    assert spec in str(caught.value) and len(str(caught.value).splitlines()) == 1


# TFDS


def as_tfrecord(examples: list[bytes]) -> bytes:
    """TFRecord by its description: length, checksum, data, checksum (left 0 here)."""
    parts = [
        struct.pack('<Q', len(example)) + b'\0' * 4 + example + b'\0' * 4 for example in examples
    ]
    return b''.join(parts)


def test_a_set_stored_as_tfrecord(tiny_set, tmp_path):
    """The same set with its files rewritten; TFDS writes them only with TensorFlow."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    folder = tmp_path / 'tiny_set' / '1.2.0'
    shutil.copytree(Path(tiny_set) / 'tiny_set' / '1.2.0', folder)
    for path in folder.glob('*.array_record-*'):
        records = ArrayRecordDataSource([str(path)])
        content = as_tfrecord([records[row] for row in range(len(records))])
        path.with_name(path.name.replace('array_record', 'tfrecord')).write_bytes(content)
        path.unlink()
    info = folder / 'dataset_info.json'
    info.write_text(info.read_text().replace('array_record', 'tfrecord'))
    source = open_source('tfds:tiny_set', data_dir=str(tmp_path))
    like = open_source('tfds:tiny_set', data_dir=tiny_set)
    for split in ('train', 'val'):
        rows, others = source.splits[split], like.splits[split]
        assert len(rows) == len(others)
        assert [rows.example(row) for row in range(len(rows))] == [
            others.example(row) for row in range(len(rows))
        ]
    (train,) = folder.glob('*train*')
    train.write_bytes(train.read_bytes()[:-7])
    tfrecord.record_starts.cache_clear()
    with pytest.raises(BadImageError, match='ends in the middle of a record'):
        source.splits['train'].square(3, 32, 10**6)


def test_a_tfds_set_of_one_s_own(tiny_set):
    source = open_source('tfds:tiny_set', data_dir=tiny_set)
    assert source.classes == ('x', 'y', 'z') and source.version == 'tiny_set/1.2.0'
    assert {split: len(rows) for split, rows in source.splits.items()} == {'train': 12, 'val': 5}
    train = pickle.loads(pickle.dumps(source.splits['train'].take(range(4, 9))))
    assert train.id(1) == 'train[5]'
    for resize in RESIZES:
        image, label = train.square(1, 32, 10**6, resize)
        assert label == 2
        expected = read_square(save(photograph(5), 'JPEG'), 32, resize=resize)
        np.testing.assert_array_equal(image, expected)
    del source.splits['val']
    split = with_val_split(source, 0.25).splits
    held_out = [split['val'].id(row) for row in range(len(split['val']))]
    assert held_out == ['train[6]', 'train[7]', 'train[8]']  # the third of four of each class
    assert split['val'].labels.tolist() == [0, 1, 2] and len(split['train']) == 9
    with pytest.raises(InputError, match=r'only: 1\.2\.0|1\.0\.0'):
        open_source('tfds:tiny_set:1.0.0', data_dir=tiny_set)


def test_a_broken_file_of_a_tfds_set_is_named(tiny_set):
    rows = TfdsRows(f'{tiny_set}/tiny_set/1.2.0', 'train', range(99), 'picture', 'kind')
    with pytest.raises(BadImageError, match='cannot be read'):
        rows.square(50, 32, 10**6)


# Digits


def test_digits_are_split_evenly_by_class_and_without_overlap(digits):
    labels = load_digits().target
    rows = split_digits(labels)
    assert sorted(np.concatenate(list(rows.values()))) == list(range(1797))
    np.testing.assert_array_equal(np.bincount(labels[rows['test']]), [30] * 10)
    np.testing.assert_array_equal(np.bincount(labels[rows['val']]), [20] * 10)
    assert {split: len(records) for split, records in digits.splits.items()} == {
        'train': 1297, 'val': 200, 'test': 300,
    }  # fmt: skip


def test_stored_records_are_the_digits(digits):
    data = load_digits()
    rows = split_digits(data.target)
    for split, records in digits.splits.items():
        for place in (0, 7, len(records) - 1):
            record, row = records.read(place), rows[split][place]
            assert record.label == data.target[row]
            assert record.id == b'digit %d' % row
            assert record.image.dtype == np.uint8
            assert record.image.shape == (32, 32, 3)
            # Reduced again to 8×8 by block means, it is still the digit.
            inner = record.image[2:30, 2:30, 0].astype(float)
            blocks = inner.reshape(7, 4, 7, 4).mean(axis=(1, 3))
            coarse = data.images[row][:7, :7]
            assert np.corrcoef(blocks.ravel(), coarse.ravel())[0, 1] > 0.5
    assert digits.classes == tuple('0123456789')
    assert not digits.mirror


def test_every_crop_of_seven_eighths_holds_the_whole_digit():
    full = enlarge_digit(np.full((8, 8), 16.0), 32)
    assert full.max() == 255
    for top, left in [(0, 0), (4, 4), (0, 4)]:
        assert (full[top : top + 28, left : left + 28] > 0).sum() >= (full > 0).sum() * 0.85
    assert (full[:2] == 0).all() and (full[-2:] == 0).all()


@pytest.mark.parametrize('name', [
    'huggingface:someone/evil', 'kaggle:x', 'mnist/data_dir=/tmp/evil', 'mnist:3.0.1/data_dir=x',
    '../mnist', '/tmp/evil', 'gs://bucket/mnist', 'mnist/a/b/c', '', 'a.b', 'mnist:3.0.1:x', 'mnist\n',
])  # fmt: skip
def test_tfds_is_asked_for_nothing_but_sets_of_its_own(name, monkeypatch):
    """It would fetch and run a community's code, and take arguments of a builder from the name,
    which may come from a stranger's config.json."""

    def asked(*_, **__):
        raise AssertionError('TFDS was asked')

    monkeypatch.setattr(tfds, 'builder', asked)
    with pytest.raises(InputError, match=r'allowed: tfds:NAME\[/config\]\[:version\]'):
        open_source(f'tfds:{name}')


def test_the_main_command_has_tfds_look_nowhere_but_in_its_own_place(tmp_path, monkeypatch):
    """A set in `data.dir` may be a stranger's, and TFDS imports what its features.json names."""
    monkeypatch.setattr(constants, 'DATA_DIR', str(tmp_path / 'own'))
    evil = tmp_path / 'sets' / 'strangers_set' / '3.0.1'
    evil.mkdir(parents=True)
    features = {'pythonClassName': 'evil_module_of_tfds.Text', 'text': {}}
    (evil / 'features.json').write_text(json.dumps(features))
    info = {'name': 'strangers_set', 'version': '3.0.1', 'fileFormat': 'array_record', 'splits': []}
    (evil / 'dataset_info.json').write_text(json.dumps(info))
    (tmp_path / 'evil_module_of_tfds.py').write_text('raise SystemExit("run")')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=r"TFDS knows no 'strangers_set'.*--data_dir"):
        stored.of_source('tfds:strangers_set', 32, str(tmp_path / 'sets'))
    with pytest.raises(InputError, match=r'data\.source tfds:mnist is not prepared'):
        stored.of_source('tfds:mnist', 32, str(tmp_path / 'sets'))
