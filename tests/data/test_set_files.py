"""Prepared sets by strangers: no code, no path that leaves the set, no waiting, bounded memory."""

import io
import json
import os
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from alexnet_jax.data import image_set, set_files
from alexnet_jax.data.prepare import stored
from tests.data.strange_sets import SIZE, VAL, assert_refused, sealed
from tests.faults.fuzz_settings import at_most

NAMES = ('dataset_info.json', 'features.json', 'label.labels.txt', 'prepared.json', 'statistics.npz')  # fmt: skip


def change(folder: Path, name: str, path: tuple, value) -> None:
    """Puts a value at a path in a JSON file; `...` removes what is there."""
    tree = branch = json.loads((folder / name).read_text())
    for key in path[:-1]:
        branch = branch[key]
    if value is ...:
        del branch[path[-1]]
    else:
        branch[path[-1]] = value
    (folder / name).write_text(json.dumps(tree))


# Code

EVIL = 'evil_module_of_a_set.Text'
FEATURES = [(), *(('featuresDict', 'features', name) for name in ('id', 'image', 'label'))]


@pytest.mark.parametrize('where', FEATURES, ids=lambda path: '/'.join(path[-1:]) or 'all')
@pytest.mark.parametrize('spelling', ['pythonClassName', 'python_class_name', 'both', 'twice'])
def test_a_module_that_a_set_names_and_carries_is_not_run(where, spelling, copy, monkeypatch):
    """The set lies under the current folder, where Python finds modules."""
    monkeypatch.syspath_prepend(copy)
    (copy / 'evil_module_of_a_set.py').write_text('raise SystemExit("code of the set was run")')
    kept = json.loads((copy / 'features.json').read_text())
    branch = kept
    for key in where:
        branch = branch[key]
    name = branch['pythonClassName']
    if spelling in ('python_class_name', 'both'):
        branch['python_class_name'] = EVIL
    if spelling != 'both':
        del branch['pythonClassName']
    if spelling == 'pythonClassName':
        branch['pythonClassName'] = EVIL
    text = json.dumps(kept)
    if spelling == 'twice':
        branch['evil'] = 0
        both = f'"pythonClassName": "{name}", "python\\u0043lassName": "{EVIL}"'
        text = json.dumps(kept).replace('"evil": 0', both)
    (copy / 'features.json').write_text(text)
    assert 'features.json was modified' in assert_refused(copy)
    assert 'features.json is not what this package writes' in assert_refused(sealed(copy))
    assert 'evil_module_of_a_set' not in sys.modules


def test_tfds_and_its_parser_are_never_asked(copy, monkeypatch):
    def not_here(*_, **__):
        raise AssertionError('TFDS was asked')

    for name in ('builder_from_directory', 'builder', 'load'):
        monkeypatch.setattr(tfds, name, not_here)
    assert len(image_set.open_set(copy).splits['train']) == 9
    assert stored.find('tfds:mnist', SIZE, str(copy.parent)) is None


@pytest.mark.parametrize('form', ['jpeg', 'raw'])
def test_our_reader_and_tfds_agree(form, made):
    """And features.json is what TFDS writes: it is compared with a copy of that."""
    images, theirs = image_set.open_set(made[form]), tfds.builder_from_directory(made[form])
    assert list(images.classes) == theirs.info.features['label'].names
    assert {split: len(rows) for split, rows in images.splits.items()} == {
        split: info.num_examples for split, info in theirs.info.splits.items()
    }
    written = json.loads((made[form] / 'features.json').read_text())
    assert written == set_files.features_json(SIZE, form, 3)
    assert written != set_files.features_json(SIZE, form, 4)


# Paths and other values

SPLIT = ('splits', 0)
VALUES = [
    ('dataset_info.json', (*SPLIT, 'filepathTemplate'), '/etc/{DATASET}'),
    ('dataset_info.json', (*SPLIT, 'filepathTemplate'), '../{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}'),
    ('dataset_info.json', (*SPLIT, 'filepathTemplate'), ...),
    ('dataset_info.json', (*SPLIT, 'name'), '../train'),
    ('dataset_info.json', (*SPLIT, 'name'), 'val'),
    ('dataset_info.json', (*SPLIT, 'name'), 7),
    ('dataset_info.json', (*SPLIT, 'shardLengths'), ['-9']),
    ('dataset_info.json', (*SPLIT, 'shardLengths'), ['٩']),
    ('dataset_info.json', (*SPLIT, 'shardLengths'), [9]),
    ('dataset_info.json', (*SPLIT, 'shardLengths'), ['999999999999']),
    ('dataset_info.json', (*SPLIT, 'shardLengths'), ['9' * 10_000]),
    ('dataset_info.json', (*SPLIT, 'shardLengths'), ['9', '9']),
    ('dataset_info.json', (*SPLIT, 'shardLengths'), ['0']),
    ('dataset_info.json', (*SPLIT, 'shardLengths'), []),
    ('dataset_info.json', (*SPLIT, 'shardLengths'), ...),
    ('dataset_info.json', SPLIT, 'train'),
    ('dataset_info.json', ('splits',), ...),
    ('dataset_info.json', ('splits',), {'train': 9}),
    ('dataset_info.json', ('splits',), []),
    ('dataset_info.json', ('name',), '../images'),
    ('dataset_info.json', ('name',), '/etc/passwd'),
    ('dataset_info.json', ('name',), ''),
    ('dataset_info.json', ('name',), 'other'),
    ('dataset_info.json', ('name',), None),
    ('dataset_info.json', ('fileFormat',), 'tfrecord'),
    ('dataset_info.json', ('fileFormat',), ...),
    ('prepared.json', ('shards', '../images'), 3),
    ('prepared.json', ('shards', '/etc/hostname'), Path('/etc/hostname').stat().st_size),
    ('prepared.json', ('shards', VAL), -1),
    ('prepared.json', ('shards', VAL), '131072'),
    ('prepared.json', ('shards', VAL), 131072.0),
    ('prepared.json', ('digests', '/dev/zero'), '0' * 64),
    ('prepared.json', ('digests', '../../../../dev/zero'), '0' * 64),
    ('prepared.json', ('digests', 'statistics.npz'), None),
    ('prepared.json', ('shard_digests', '/dev/zero'), '0' * 64),
    ('prepared.json', ('shard_digests', VAL), 7),
    ('prepared.json', ('options', 'beam_runner'), 'DirectRunner'),
    ('prepared.json', ('options', 'folder'), '/'),
    ('prepared.json', ('options', 'size'), '48; reboot'),
    ('prepared.json', ('options', 'source'), 'digits\nsudo reboot'),
    ('prepared.json', ('options', 'source'), 'digits\x1b[2J'),
    ('prepared.json', ('where',), {'manual_dir': 'a\nsudo reboot'}),
    ('prepared.json', ('options', 'source'), ...),
    ('prepared.json', ('size',), 0),
    ('prepared.json', ('size',), 10**9),
    ('prepared.json', ('size',), True),
    ('prepared.json', ('size',), SIZE + 1),
    ('prepared.json', ('encoding',), 'pickle'),
    ('prepared.json', ('resize',), 'crop'),
    ('prepared.json', ('mirror',), 1),
    ('prepared.json', ('skipped',), [['a', 7]]),
    ('prepared.json', ('skipped',), ['ab']),
    ('prepared.json', ('counts',), []),
]  # fmt: skip


@pytest.mark.parametrize(('name', 'path', 'value'), VALUES)
def test_what_this_package_does_not_write_is_refused(name, path, value, copy):
    change(copy, name, path, value)
    if name == 'dataset_info.json':
        sealed(copy)
    assert name in assert_refused(copy) or 'prepared set' in assert_refused(copy)


@pytest.mark.parametrize('path', [('moduleName',), ('dataDir',), ('splits', 0, 'filepathPrefix')])
def test_other_entries_of_dataset_info_are_not_looked_at(path, copy, monkeypatch):
    change(copy, 'dataset_info.json', path, 'gs://stranger/evil_module_of_a_set')
    assert len(image_set.open_set(sealed(copy)).splits['train']) == 9


@pytest.mark.parametrize('names', ['', '\n\n', 'a\nb\na\n', 'a\nb\n', 'a\nb\nc\nd\n'])
def test_class_names_are_as_many_as_classes_and_differ(names, copy):
    (copy / 'label.labels.txt').write_text(names)
    assert_refused(sealed(copy))


@pytest.mark.parametrize('content', [
    b'', b'{', b'[]', b'null', b'"x"', b'\xff\xfe{}', b'[' * 100_000, b'{"size": NaN}', b'9' * 5000,
])  # fmt: skip
@pytest.mark.parametrize('name', ['prepared.json', 'features.json', 'dataset_info.json'])
def test_json_that_is_none(name, content, copy):
    (copy / name).write_bytes(content)
    assert_refused(copy)
    if name != 'prepared.json':
        assert_refused(sealed(copy))


def test_variances_below_0_are_refused(copy):
    with np.load(copy / 'statistics.npz') as file:
        arrays = dict(file)
    np.savez(copy / 'statistics.npz', **arrays | {'color_variances': np.array([-1.0, 0, 1])})
    assert 'color_variances of statistics.npz has numbers below 0' in assert_refused(sealed(copy))


# Time and memory


@pytest.mark.parametrize('name', [*NAMES, VAL])
@pytest.mark.parametrize('kind', ['pipe', 'endless', 'folder', 'dangling'])
def test_what_is_no_file_is_refused_at_once(kind, name, copy):
    path = copy / name
    about = json.loads((copy / 'prepared.json').read_text())
    path.unlink()
    if kind == 'pipe':
        os.mkfifo(path)
    elif kind == 'folder':
        path.mkdir()
    else:
        path.symlink_to('/dev/zero' if kind == 'endless' else copy / 'nowhere')
    with at_most(20):
        assert_refused(copy)
        if name != 'prepared.json':  # sizes and digests that a pipe or device would have
            about |= {'digests': {}, 'shard_digests': {}}
            about['shards'] |= {VAL: 0} if name == VAL else {}
            (copy / 'prepared.json').write_text(json.dumps(about))
            assert_refused(copy)


def npy(shape: tuple[int, ...], content: bytes) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {'descr': '<f8', 'fortran_order': False, 'shape': shape}
    )
    return header.getvalue() + content


@pytest.mark.parametrize('bomb', ['another array', 'shape', 'beyond its shape', 'pickle'])
def test_statistics_that_inflate_take_no_memory(bomb, copy):
    with np.load(copy / 'statistics.npz') as arrays:
        entries = {f'{name}.npy': npy(array.shape, array.tobytes()) for name, array in arrays.items()}  # fmt: skip
    zeros = bytes(200_000_000)
    if bomb == 'another array':
        entries['more.npy'] = npy((25_000_000,), zeros)
    elif bomb == 'shape':
        entries['mean_image.npy'] = npy((5000, 5000, 1), zeros)
    elif bomb == 'beyond its shape':
        entries['mean_image.npy'] += zeros
    else:
        file = io.BytesIO()
        np.save(file, np.array([print], object), allow_pickle=True)
        entries['mean_image.npy'] = file.getvalue()
    with zipfile.ZipFile(copy / 'statistics.npz', 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    del zeros, entries
    sealed(copy)
    tracemalloc.start()
    if bomb == 'another array':
        image_set.open_set(copy)  # it is not looked at
    else:
        assert_refused(copy)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30_000_000
