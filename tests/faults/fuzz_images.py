"""Image files with something wrong in them, and what reading them comes to."""

import functools
import struct
import types
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from alexnet_jax.data.images import RESIZES, BadImageError, read_square
from alexnet_jax.experiment import config_file
from alexnet_jax.experiment.model import Model
from tests.data.photographs import chunk, photograph, save
from tests.weights.mutations import damaged, some

Random = np.random.Generator

SIZE, CROP = 48, 32  # pixels of a record, and of what the net takes
LONGEST = 400  # of a reason
EXTENTS = (
    0, 1, 7, 8, 50, 5000, 7071, 7072, 50_000, 65535, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1,
)  # fmt: skip
MAGIC = b'\x89PNG\r\n\x1a\n'


def png(header: tuple[int, ...], rows: bytes, *more: bytes) -> bytes:
    """header: width, height, bits, kind of color, 0, 0, 1 if interlaced."""
    ends = chunk(b'IDAT', zlib.compress(rows)), chunk(b'IEND', b'')
    return MAGIC + b''.join([chunk(b'IHDR', struct.pack('>IIBBBBB', *header)), *more, *ends])


def interlaced(pixels: np.ndarray) -> bytes:
    """uint8 [height, width, 3] in the seven passes of Adam7, which Pillow does not write."""
    passes = (
        (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
        (1, 0, 2, 1),
    )  # fmt: skip
    rows = b''
    for top, left, down, right in passes:
        part = pixels[top::down, left::right]
        rows += b''.join(b'\0' + row.tobytes() for row in part if part.size)
    return png((*pixels.shape[1::-1], 8, 2, 0, 0, 1), rows)


def by_opencv(pixels: np.ndarray) -> bytes:
    return cv2.imencode('.png', pixels)[1].tobytes()


@functools.cache
def sound_files() -> tuple[bytes, ...]:
    """JPEG and PNG of every kind there is."""
    image, exif = photograph(0), Image.Exif()
    exif[0x0112], exif[0x010E] = 6, 'a photograph'
    pixels = np.asarray(image)
    deep = pixels.astype(np.uint16) * 257
    frames = {'save_all': True, 'append_images': [image.rotate(90).resize(image.size)]}
    return (
        save(image, 'JPEG'), save(image, 'JPEG', progressive=True, exif=exif),
        save(image.convert('L'), 'JPEG'), save(image.convert('CMYK'), 'JPEG'),
        save(image, 'JPEG', quality=100, subsampling=0, comment=b'x' * 100, dpi=(300, 300)),
        save(image, 'MPO', **frames), save(image, 'PNG'), save(image.convert('RGBA'), 'PNG'),
        save(image.convert('LA'), 'PNG'), save(image.convert('1'), 'PNG'), save(image.quantize(9), 'PNG'),
        save(image.quantize(9), 'PNG', transparency=bytes(range(9))), save(image, 'PNG', exif=exif),
        save(image, 'PNG', **frames), interlaced(pixels), by_opencv(deep), by_opencv(deep[..., 0]),
        save(image, 'PNG', transparency=(1, 2, 3), icc_profile=b'x' * 200),
    )  # fmt: skip


@functools.cache
def bomb() -> bytes:
    """64 KiB that become 64 MiB."""
    return zlib.compress(bytes(1 << 26), 9)


def damaged_file(random: Random) -> bytes:
    return damaged(some(sound_files(), random), random)


def lying_png(random: Random) -> bytes:
    """A header whose checksum is right and nothing else."""
    header = [40, 50, 8, 2, 0, 0, 0]
    for _ in range(random.integers(1, 3)):
        place = random.integers(7)
        header[place] = some(EXTENTS, random) if place < 2 else int(random.integers(17))
    more = ()
    if random.integers(3) == 0:  # texts far larger than they seem, a palette and frames that lie
        more = some((
            (chunk(b'zTXt', b'a\0\0' + bomb()),), (chunk(b'iCCP', b'a\0\0' + bomb()),),
            (chunk(b'PLTE', random.bytes(int(random.integers(800)))),), (chunk(b'tRNS', random.bytes(7)),),
            (chunk(b'acTL', struct.pack('>II', (1 << 31) - 1, 0)),), (chunk(b'eXIf', random.bytes(40)),),
            (chunk(b'IHDR', struct.pack('>IIBBBBB', *header)),), (b'\xff\xff\xff\xffIDAT',),
        ), random)  # fmt: skip
    rows = random.bytes(int(random.integers(1, 20_000)))
    return png(tuple(header), rows * int(random.integers(1, 3)), *more)


def lying_jpeg(random: Random) -> bytes:
    """Sizes, bits, components or the length of a segment are not what follows."""
    content = bytearray(some(sound_files()[:6], random))
    frame = max(content.find(b'\xff\xc0'), content.find(b'\xff\xc2'))
    match random.integers(4):
        case 0:
            content[frame + 4] = random.integers(256)  # bits
        case 1:
            content[frame + 9] = random.integers(256)  # components
        case 2:
            content[frame + 2 : frame + 4] = struct.pack('>H', random.integers(65536))
        case _:
            sides = [min(65535, some(EXTENTS, random)) for _ in range(2)]
            content[frame + 5 : frame + 9] = struct.pack('>HH', *sides)
    return bytes(content)


def other_file(random: Random) -> bytes:
    """No JPEG and no PNG, though it may begin like one."""
    image = photograph(1)
    others: list[Callable[[], bytes]] = [
        *(functools.partial(save, image, form) for form in ('GIF', 'BMP', 'TIFF', 'WEBP', 'PPM', 'ICO', 'PDF', 'EPS')),
        lambda: b'', lambda: b'\0' * 1000, lambda: b'hello', lambda: random.bytes(3000),
        lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        lambda: b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><svg>&b;</svg>',
        lambda: MAGIC, lambda: b'\xff\xd8', lambda: b'\xff\xd8\xff\xd9', lambda: MAGIC + random.bytes(500),
        lambda: b'\xff\xd8\xff\xe0' + random.bytes(500), lambda: MAGIC + save(image, 'JPEG'),
        lambda: b'\xff\xd8' + save(image, 'PNG'), lambda: b'\xff\xd8\xff' * 500, lambda: b'PK\3\4' * 50,
    ]  # fmt: skip
    return some(others, random)()


FORMS = (damaged_file, damaged_file, lying_png, lying_jpeg, other_file)


def file_of(seed: int) -> bytes:
    random = np.random.default_rng(seed)
    return FORMS[seed % len(FORMS)](random)


def outcome(path: Path, seed: int) -> str:
    """'read' or 'refused' if all is well, else what happened."""
    path.write_bytes(file_of(seed))
    where, found = f'{FORMS[seed % len(FORMS)].__name__} {seed}', []
    for file in (path, path.read_bytes()):
        try:
            square = read_square(file, SIZE, resize=RESIZES[seed % 3])
        except BadImageError as error:
            if not 0 < len(str(error)) <= LONGEST or not str(error).isprintable():
                return f'{where}: {str(error)[:500]!r}'
            found.append('refused')
        else:
            if square.shape != (SIZE, SIZE, 3) or square.dtype != np.uint8:
                return f'{where}: {square.shape} {square.dtype}'
            found.append('read')
    return found[0] if found[0] == found[1] else f'{where}: {found}'


class Constant:
    """Stands for a module whose logits are all zeros."""

    architecture = types.SimpleNamespace(input_size=CROP)

    def apply(self, variables, images, **interventions) -> tuple:
        return np.zeros((len(images), 3)) + images.mean() * 0, {}


def constant_model() -> Model:
    """A net of three classes that sees nothing, to read images for."""
    sizes = {'network.name': 'small', 'data.record_size': str(SIZE)}
    net: Any = Constant()
    return Model(
        config_file.load(None, sizes), net, ('one', '$two$', 'three\n'), True, {},
        np.zeros(3, np.float32), np.ones(3, np.float32), 1,
    )  # fmt: skip
