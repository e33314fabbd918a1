"""Image files that would take long, or much memory, in all that reads images."""

import json
import os
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from alexnet_jax.data import image_files
from alexnet_jax.data.images import BadImageError, read_square
from alexnet_jax.data.prepare.__main__ import main as prepare
from tests.data.photographs import image_file, photograph, save
from tests.data.test_rgb import GRAY, RGB, chunk, png, values_of
from tests.faults.fuzz_images import constant_model

JPEG = save(photograph(1), 'JPEG', quality=60)
PROGRESSIVE = save(photograph(1), 'JPEG', progressive=True)
PNG = png(values_of(RGB, 8), RGB, 8)
HEADER = PNG.index(b'IDAT') - 4
AFTER_START = 2


def after_start(more: bytes, content: bytes = JPEG) -> bytes:
    return content[:AFTER_START] + more + content[AFTER_START:]


def scan_of(content: bytes, number: int) -> bytes:
    """One of the scans, with the tables before the next."""
    starts = [place for place in range(len(content)) if content.startswith(b'\xff\xda', place)]
    ends = [*starts[1:], len(content) - 2]
    return content[starts[number] : ends[number]]


def with_scans(count: int) -> bytes:
    """A progressive JPEG with a scan repeated until there are so many."""
    there = PROGRESSIVE.count(b'\xff\xda')
    return PROGRESSIVE[:-2] + scan_of(PROGRESSIVE, there - 1) * (count - there) + b'\xff\xd9'


def segment(code: int, content: bytes) -> bytes:
    return bytes([255, code]) + struct.pack('>H', 2 + len(content)) + content


MANY = 200_000
FLOODS = {
    'scans of a progressive JPEG': (with_scans(400), 'more than 64 scans'),
    'scans of a baseline JPEG': (JPEG[:-2] + scan_of(JPEG, 0) * 100 + b'\xff\xd9', 'more than 64 scans'),
    'scans after fill bytes': (JPEG[:-2] + (b'\xff' + scan_of(JPEG, 0)) * 100, 'more than 64 scans'),
    'comments': (after_start(segment(0xFE, b'') * MANY), 'more than 10000 segments'),
    'APP1': (after_start(segment(0xE1, b'') * MANY), 'more than 10000 segments'),
    'ICC profiles': (after_start(segment(0xE2, b'ICC_PROFILE\0\1\1') * MANY), 'more than 10000 segments'),
    'Photoshop': (after_start(segment(0xED, b'Photoshop 3.0\0') * MANY), 'more than 10000 segments'),
    'tables': (after_start(segment(0xDB, bytes([0] * 65)) * 20_000), 'more than 10000 segments'),
    'fill bytes': (after_start(b'\xff' * 10_000_000), 'more than 10000 segments'),
    'starts': (after_start(b'\xff\xd8' * MANY), 'more than 10000 segments'),
    'comments of a PNG': (PNG[:HEADER] + chunk(b'tEXt', b'a\0b') * MANY + PNG[HEADER:], 'more than 100000 chunks'),
    'unknown chunks': (PNG[:HEADER] + chunk(b'aaAa', b'') * MANY + PNG[HEADER:], 'more than 100000 chunks'),
    'empty chunks of pixels': (PNG[:HEADER] + chunk(b'IDAT', b'') * MANY + PNG[HEADER:], 'more than 100000 chunks'),
}  # fmt: skip


@pytest.mark.parametrize('kind', FLOODS)
def test_floods_are_refused_before_they_are_decoded(kind, monkeypatch):
    content, reason = FLOODS[kind]

    def decoded(*_, **__):
        raise AssertionError('Pillow was asked')

    monkeypatch.setattr(Image, 'open', decoded)
    begun = time.process_time()
    with pytest.raises(BadImageError, match=f'^has {reason}, which are not allowed$'):
        read_square(content, 32)
    assert time.process_time() - begun < 1


def test_real_files_are_far_below():
    """Of both photographs: progressive and baseline, every optimization, with all metadata."""
    for number in range(12):
        assert image_files.fault(image_file(number)[1]) == ''
    for options in ({}, {'progressive': True}, {'optimize': True}, {'restart_marker_blocks': 1}):
        content = save(photograph(1), 'JPEG', quality=98, **options)
        assert image_files.fault(content) == ''
        assert read_square(content, 32).shape == (32, 32, 3)
    assert PROGRESSIVE.count(b'\xff\xda') <= 16
    assert image_files.fault(with_scans(64)) == '' != image_files.fault(with_scans(65))
    # Markers within metadata, such as a thumbnail's, are not counted.
    thumbnail = segment(0xE1, b'Exif\0\0' + b'\xff\xda\0\x0c' * 2000)
    np.testing.assert_array_equal(
        read_square(after_start(thumbnail), 32), read_square(JPEG, 32)
    )  # fmt: skip
    # Nor is what lies behind the end.
    assert read_square(JPEG + with_scans(400), 32).shape == (32, 32, 3)


def zeros(count: int) -> bytes:
    return zlib.compress(bytes(count), 9)


BOMBS = {
    'profile': chunk(b'iCCP', b'x\0\0' + zeros(300_000_000)),
    'text': chunk(b'zTXt', b'x\0\0' + zeros(300_000_000)),
    'texts': b''.join(chunk(b'zTXt', b'x%d\0\0' % n + zeros(1_000_000)) for n in range(200)),
    'international text': chunk(b'iTXt', b'x\0\1\0\0\0' + zeros(300_000_000)),
    'exif as text': chunk(b'zTXt', b'Raw profile type exif\0\0' + zeros(300_000_000)),
}  # fmt: skip


@pytest.mark.parametrize('kind', [*BOMBS, 'pixels', 'a palette'])
def test_what_inflates_takes_no_memory(kind):
    if kind == 'pixels':  # far more of them than the header says
        end = PNG.index(b'IDAT') - 4
        content = PNG[:end] + chunk(b'IDAT', zeros(300_000_000)) + chunk(b'IEND', b'')
    elif kind == 'a palette':
        content = PNG[:HEADER] + chunk(b'PLTE', bytes(3 * 10**6)) + PNG[HEADER:]
    else:
        content = PNG[:HEADER] + BOMBS[kind] + PNG[HEADER:]
    tracemalloc.start()
    try:
        read_square(content, 32)
    except BadImageError as error:
        assert len(str(error)) < 300 and str(error).isprintable()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 150_000_000


@pytest.mark.parametrize(('width', 'height'), [(2**31 - 1, 1), (1, 2**31 - 1), (60_000, 60_000), (2**31 - 1,) * 2])  # fmt: skip
@pytest.mark.parametrize(('color', 'depth'), [(GRAY, 1), (GRAY, 16), (RGB, 16)])
def test_sizes_beyond_measure(color, depth, width, height):
    content = bytearray(png(values_of(color, depth), color, depth))
    content[16:24] = struct.pack('>II', width, height)
    content[29:33] = struct.pack('>I', zlib.crc32(content[12:29]))
    with pytest.raises(BadImageError, match='pixels'):
        read_square(bytes(content), 32)


def test_a_file_too_large_is_not_read(tmp_path):
    path = tmp_path / 'large.png'
    with path.open('wb') as file:
        file.write(PNG)
        file.truncate(image_files.MOST_BYTES + 1)
    with pytest.raises(BadImageError, match=r'has 536870913 bytes; allowed: 536870912'):
        read_square(path, 32)


@pytest.mark.parametrize('kind', ['pipe', 'folder', 'device', 'nothing'])
def test_what_is_no_file(kind, tmp_path):
    path = tmp_path / 'x.png'
    if kind == 'pipe':
        os.mkfifo(path)
    elif kind == 'folder':
        path.mkdir()
    elif kind == 'device':
        path.symlink_to('/dev/zero')
    with pytest.raises(BadImageError, match='cannot be read: '):
        read_square(path, 32)


def test_preparing_names_them(tmp_path, capsys):
    for label in 'ab':
        (tmp_path / 'images' / label).mkdir(parents=True)
        for number in range(2):
            (tmp_path / 'images' / label / f'{number}.jpg').write_bytes(JPEG)
    (tmp_path / 'images' / 'a' / 'slow.jpg').write_bytes(with_scans(400))
    words = [f'--source=folder:{tmp_path}/images', f'--out={tmp_path}/set', '--size=16']
    words += ['--val_fraction=0.3', '--workers=1']
    assert prepare(words) == 2
    assert 'a/slow.jpg has more than 64 scans, which are not allowed' in capsys.readouterr().err
    assert prepare([*words, '--skip_bad=1']) == 0
    about = json.loads((tmp_path / 'set' / 'prepared.json').read_text())
    assert about['skipped'] == [[f'{tmp_path}/images/a/slow.jpg', FLOODS['scans of a progressive JPEG'][1].join(('has ', ', which are not allowed'))]]  # fmt: skip


@pytest.mark.parametrize('kind', ['scans of a progressive JPEG', 'comments of a PNG'])
def test_so_are_images_that_a_model_reads(kind, tmp_path):
    content, reason = FLOODS[kind]
    (tmp_path / 'x').write_bytes(content)
    for file in (content, tmp_path / 'x', str(tmp_path / 'x')):
        with pytest.raises(BadImageError, match=reason):
            constant_model().read(file)
