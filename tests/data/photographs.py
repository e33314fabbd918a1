"""Image files of all kinds for the tests, made from the two photographs that
scikit-learn ships."""

import functools
import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import sklearn.datasets
from PIL import Image

KINDS = ('RGB', 'L', 'CMYK', 'P', 'RGBA', 'RGB')


@functools.cache
def _photos() -> tuple[Image.Image, ...]:
    return tuple(Image.fromarray(image) for image in sklearn.datasets.load_sample_images().images)


def photograph(number: int) -> Image.Image:
    """A part of a photograph, another for each number; 30 to 300 pixels a side."""
    random = np.random.default_rng(number)
    photo = _photos()[number % 2]
    width, height = (int(random.integers(30, 300)) for _ in range(2))
    left = int(random.integers(0, photo.width - width))
    top = int(random.integers(0, photo.height - height))
    return photo.crop((left, top, left + width, top + height))


def save(image: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def image_file(number: int) -> tuple[str, bytes]:
    """Suffix and content: JPEG and PNG in turns of color, gray, CMYK, palette and
    alpha."""
    kind = KINDS[number % len(KINDS)]
    form = 'PNG' if kind in ('P', 'RGBA') else 'JPEG'
    return form.lower(), save(photograph(number).convert(kind), form)


def without_shard_digests(folder: Path) -> Path:
    """Makes a prepared set like one whose shards are too large to hash at every opening, so that
    damage in them is met by whoever reads the record."""
    path = folder / 'prepared.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | {'shard_digests': {}}))
    return folder


def write_classes(top: Path, each: int, names: tuple[str, ...] = ('ant hill', 'bee', 'çà')) -> None:
    """Class folders with `each` images."""
    for label, name in enumerate(names):
        (top / name).mkdir(parents=True)
        for number in range(each):
            suffix, content = image_file(label * 600 + number)
            (top / name / f'{number:03d}.{suffix}').write_bytes(content)


def chunk(kind: bytes, content: bytes) -> bytes:
    """A part of a PNG."""
    crc = zlib.crc32(kind + content)
    return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', crc)


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it has so many pixels, and has none."""
    header = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
    return b'\x89PNG\r\n\x1a\n' + header + chunk(b'IDAT', zlib.compress(bytes(1000)))
