"""Prepared sets by strangers: no code, no path that leaves the set, no waiting, bounded memory."""

import contextlib
import io
import json
import os
import shutil
import signal
import struct
import sys
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

from alexnet_jax.data import image_set, set_files
from alexnet_jax.data.patterns import patterns_set
from alexnet_jax.data.prepare import engines, make, stored
from alexnet_jax.data.prepare.make import Request, make_set
from alexnet_jax.data.prepare.shards import Encoding
from alexnet_jax.data.prepare.sources import open_source
from alexnet_jax.data.synthetic import synthetic_set
from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import InputError, RecordError
from tests.data.photographs import save, without_shard_digests, write_classes

SIZE = 16
NAMES = ('dataset_info.json', 'features.json', 'label.labels.txt', 'prepared.json', 'statistics.npz')  # fmt: skip
VAL = 'images-val.array_record-00000-of-00001'


def prepare(images: Path, out: Path, form: str = 'jpeg') -> Path:
    spec = f'folder:{images}'
    return make_set(
        Request(spec, Encoding(SIZE, form, 90)), out, lambda: open_source(spec), engines.one_by_one
    )


@pytest.fixture(scope='module')
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('source') / 'images'
    write_classes(folder / 'train', 3)
    write_classes(folder / 'val', 2)
    return folder


@pytest.fixture(scope='module')
def made(images, tmp_path_factory) -> dict[str, Path]:
    top = tmp_path_factory.mktemp('sets')
    return {form: prepare(images, top / form, form) for form in ('jpeg', 'raw')}


@pytest.fixture
def copy(made, tmp_path) -> Path:
    return shutil.copytree(made['jpeg'], tmp_path / 'set')


def sealed(folder: Path) -> Path:
    """Writes digests and sizes as they are now: a stranger can do that, too."""
    about = json.loads((folder / 'prepared.json').read_text())
    about['digests'] = {name: files.sha256(folder / name) for name in about['digests']}
    about['shards'] = {name: (folder / name).stat().st_size for name in about['shards']}
    about['shard_digests'] = {name: files.sha256(folder / name) for name in about['shards']}
    (folder / 'prepared.json').write_text(json.dumps(about))
    return folder


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


def assert_refused(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        image_set.open_set(folder)
    lines = str(caught.value).split('\n')
    assert len(lines) <= 2 and str(folder) in lines[0] and all(map(str.isprintable, lines))
    assert len(lines[0]) < 1000
    return str(caught.value)


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
    assert 'features.json is not as it was made' in assert_refused(copy)
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


@contextlib.contextmanager
def at_once():
    """Fails instead of waiting for ever."""

    def late(*_):
        raise AssertionError('it waits')

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


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
    with at_once():
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


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(kind + content)
        return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', crc)

    header = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
    return b'\x89PNG\r\n\x1a\n' + header + chunk(b'IDAT', zlib.compress(bytes(1000)))


def jpeg_of(width: int, height: int) -> bytes:
    """A JPEG whose header says it is so large."""
    content = save(Image.new('RGB', (SIZE, SIZE), 'red'), 'JPEG')
    place = content.index(b'\xff\xc0') + 5
    return content[:place] + struct.pack('>HH', height, width) + content[place + 4 :]


GOOD = save(Image.new('RGB', (SIZE, SIZE), 'red'), 'JPEG')
SCAN = GOOD[GOOD.index(b'\xff\xda') : -2]
RECORDS = {
    'no image': ({'label': [0], 'id': [b'x']}, 'it has 0 values of image; allowed: 1'),
    'two images': ({'image': [GOOD, GOOD]}, 'it has 2 values of image; allowed: 1'),
    'no label': ({'label': []}, 'it has 0 values of label; allowed: 1'),
    'two labels': ({'label': [1, 2]}, 'it has 2 values of label; allowed: 1'),
    'a label of real numbers': ({'label': [1.5]}, 'it has 0 values of label; allowed: 1'),
    'label -1': ({'label': [-1]}, 'it has the label -1; allowed: 0 to 2'),
    'label 3': ({'label': [3]}, 'it has the label 3; allowed: 0 to 2'),
    'label 2**62': ({'label': [2**62]}, f'it has the label {2**62}; allowed: 0 to 2'),
    'label 2**32': ({'label': [2**32]}, f'it has the label {2**32}; allowed: 0 to 2'),
    'no id': ({'id': []}, 'it has 0 values of id; allowed: 1'),
    'nothing': (b'', 'it has 0 values of image'),
    'no example': (b'\xff' * 50, 'cannot be read'),
    'empty image': ({'image': [b'']}, 'cannot be read'),
    'png': ({'image': [save(Image.new('RGB', (SIZE, SIZE)), 'PNG')]}, 'cannot be read'),
    'png of 10⁹ pixels': ({'image': [png_header(40_000, 40_000)]}, 'cannot be read'),
    'jpeg of 4·10⁹ pixels': ({'image': [jpeg_of(65_000, 65_000)]}, 'cannot be read'),
    'smaller jpeg': ({'image': [jpeg_of(8, 8)]}, 'has the shape'),
    'cut jpeg': ({'image': [GOOD[:300]]}, 'cannot be read'),
    'many scans': ({'image': [GOOD[:-2] + SCAN * 1000]}, 'has more than 8 scans'),
    'more features': ({'more': [b'x' * 1000], 'label': [2]}, ''),
}  # fmt: skip


def example(features: dict | bytes) -> bytes:
    if isinstance(features, bytes):
        return features
    message = tf_example_pb2.Example()  # pyright: ignore
    if 'image' not in features and 'id' not in features:
        features = {'image': [GOOD]} | features
    for name, values in ({'label': [0], 'id': [b'x']} | features).items():
        feature = message.features.feature[name]
        for value in values:
            kind = {bytes: 'bytes_list', int: 'int64_list', float: 'float_list'}[type(value)]
            getattr(feature, kind).value.append(value)
    return message.SerializeToString()


def write_val(folder: Path, content: bytes, options: str = 'group_size:1,uncompressed') -> None:
    """Another shard `val` of six records, of which the first is this."""
    writer = ArrayRecordWriter(str(folder / VAL), options)
    for record in (content, *[example({})] * 5):
        writer.write(record)
    writer.close()


@pytest.mark.parametrize('kind', RECORDS)
def test_records_of_strangers(kind, copy):
    features, message = RECORDS[kind]
    if (
        isinstance(features, dict)
        and 'id' in features
        and 'image' not in features
        and kind != 'no image'
    ):
        features = {'image': [GOOD]} | features  # fmt: skip
    write_val(copy, example(features))
    records = image_set.open_set(sealed(copy)).splits['val']
    if not message:
        assert records.read(0).label == 2
    else:
        with pytest.raises(RecordError, match=f'record 0 of {copy / VAL} cannot be read') as caught:
            records.read(0)
        assert message in str(caught.value) and len(str(caught.value)) < 600
    assert records.read(1).label == 0


@pytest.mark.parametrize('how', ['brotli:9', 'zstd:9', 'snappy'])
def test_compressed_records_are_refused(how, copy):
    """200 MB of zeros in a few kilobytes."""
    write_val(copy, bytes(2**20), f'group_size:1,{how}')
    records = image_set.open_set(sealed(copy)).splits['val']
    with pytest.raises(RecordError, match=f'{VAL} is compressed'):
        records.read(1)


# Identity


def test_an_identity_tells_sets_apart(made, images, tmp_path):
    kept = image_set.open_set(made['jpeg']).identity
    assert list(kept) == ['source', 'version', 'classes', 'splits', 'content']
    assert kept['source'] == f'folder:{images}' and kept['splits'] == 'train 9, val 6'
    assert image_set.open_set(prepare(images, tmp_path / 'again')).identity == kept
    raw = image_set.open_set(made['raw']).identity
    assert raw == kept | {'content': raw['content']} and raw['content'] != kept['content']
    moved = shutil.copytree(images, tmp_path / 'images')
    (moved / 'train' / 'bee').rename(moved / 'train' / 'wasp')
    (moved / 'val' / 'bee').rename(moved / 'val' / 'wasp')
    named = image_set.open_set(prepare(moved, tmp_path / 'named')).identity
    assert named['splits'] == kept['splits']
    assert all(named[name] != kept[name] for name in kept if name != 'splits')


def other_shard(copy: Path, tmp_path: Path) -> tuple[bytes, bytes]:
    """A shard of the set, and one of as many bytes and records with another label."""
    write_val(copy, example({'label': [0]}))
    one = (copy / VAL).read_bytes()
    write_val(copy, example({'label': [1]}))
    other = (copy / VAL).read_bytes()
    assert len(one) == len(other) and one != other
    return one, other


def test_a_shard_swapped_for_another_is_noticed(copy, tmp_path, monkeypatch):
    one, other = other_shard(copy, tmp_path)
    (copy / VAL).write_bytes(one)
    kept = image_set.open_set(sealed(copy)).identity
    (copy / VAL).write_bytes(other)
    assert f'{VAL} is not as it was made; prepare it again' in assert_refused(copy)
    assert image_set.open_set(sealed(copy)).identity['content'] != kept['content']
    # An older set has no digests of its shards; if it is small, they are made as it is opened.
    without_shard_digests(copy)
    other_identity = image_set.open_set(copy).identity
    (copy / VAL).write_bytes(one)
    assert image_set.open_set(copy).identity == kept != other_identity
    # Of a large set the stored digests count; they are checked when it is prepared again.
    monkeypatch.setattr(set_files, 'VERIFIED', 10)
    sealed(copy)
    (copy / VAL).write_bytes(other)
    assert image_set.open_set(copy).identity == kept
    said = []
    request = Request(kept['source'], Encoding(SIZE, 'jpeg', 90))
    make.make_set(request, copy, lambda: open_source(kept['source']), engines.one_by_one, say=said.append)  # fmt: skip
    assert said[:1] == [f'{copy} is not whole ({VAL} is not as it was made): making it again']
    # An older large set has nothing but sizes and the digest of its statistics.
    without_shard_digests(copy)
    sizes = image_set.open_set(copy).identity
    assert sizes['content'] != kept['content']
    with np.load(copy / 'statistics.npz') as arrays:
        changed = {name: array + 1 for name, array in arrays.items()}
    np.savez(copy / 'statistics.npz', **changed)
    without_shard_digests(sealed(copy))
    assert image_set.open_set(copy).identity['content'] != sizes['content']


def test_made_up_images_have_identities_as_well():
    base = synthetic_set(30, 4, 16, 7).identity
    assert base['source'] == 'synthetic' and base['splits'] == 'train 30, val 3'
    assert synthetic_set(30, 4, 16, 7).identity == base
    others = [synthetic_set(*arguments).identity for arguments in
              ((40, 4, 16, 7), (30, 5, 16, 7), (30, 4, 24, 7), (30, 4, 16, 8))]  # fmt: skip
    others += [patterns_set(16).identity, patterns_set(24).identity]
    assert len({tuple(other.items()) for other in (base, *others)}) == 7
