"""Records by strangers, and the identity of a set's content."""

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet_jax.data import image_set, set_files
from alexnet_jax.data.patterns import patterns_set
from alexnet_jax.data.prepare import engines, make
from alexnet_jax.data.prepare.make import Request
from alexnet_jax.data.prepare.shards import Encoding
from alexnet_jax.data.prepare.sources import open_source
from alexnet_jax.data.synthetic import synthetic_set
from alexnet_jax.runtime.errors import RecordError
from tests.data.photographs import png_header, save, without_shard_digests
from tests.data.strange_sets import (
    GOOD,
    SIZE,
    VAL,
    assert_refused,
    example,
    prepare,
    sealed,
    write_val,
)


def jpeg_of(width: int, height: int) -> bytes:
    """A JPEG whose header says it is so large."""
    content = save(Image.new('RGB', (SIZE, SIZE), 'red'), 'JPEG')
    place = content.index(b'\xff\xc0') + 5
    return content[:place] + struct.pack('>HH', height, width) + content[place + 4 :]


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
    assert f'{VAL} was modified; prepare it again' in assert_refused(copy)
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
    assert said[:1] == [f'{copy} is damaged ({VAL} was modified): preparing it again']
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
