"""PNGs of every bit depth and color type, made by hand, beside what they mean in float64."""

import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from alexnet_jax.data.images import RESIZES, BadImageError, read_square
from tests.data.photographs import chunk, photograph, save

SIDE = 24  # of the images, which are not resized
GRAY, RGB, PALETTE, GRAY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
CHANNELS = {GRAY: 1, RGB: 3, PALETTE: 1, GRAY_ALPHA: 2, RGB_ALPHA: 4}
DEPTHS = {
    GRAY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GRAY_ALPHA: (8, 16),
    RGB_ALPHA: (8, 16),
}  # fmt: skip
KINDS = [(color, depth) for color, depths in DEPTHS.items() for depth in depths]
# Where each pass of Adam7 begins, and its steps: left, top, across, down.
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))  # fmt: skip


def lines(values: np.ndarray, depth: int) -> bytes:
    """Rows of whole numbers [height, width, channels] as PNG packs them, without a filter."""
    packed = b''
    for row in values.reshape(len(values), -1):
        if depth == 16:
            packed += b'\0' + row.astype('>u2').tobytes()
        else:
            bits = ''.join(f'{value:0{depth}b}' for value in row.tolist())
            bits += '0' * (-len(bits) % 8)
            packed += b'\0' + bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
    return packed


def png(values: np.ndarray, color: int, depth: int, interlaced: bool = False, **chunks) -> bytes:
    height, width = values.shape[:2]
    header = struct.pack('>IIBBBBB', width, height, depth, color, 0, 0, interlaced)
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    pixels = b''.join(
        lines(values[top::down, left::across], depth) for left, top, across, down in passes
    )
    before = b''.join(chunk(name.encode(), content) for name, content in chunks.items())
    return (
        b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + before
        + chunk(b'IDAT', zlib.compress(pixels)) + chunk(b'IEND', b'')
    )  # fmt: skip


def values_of(color: int, depth: int, seed: int = 0) -> np.ndarray:
    """Whole numbers [SIDE, SIDE, channels], with the least and the greatest among them."""
    random = np.random.default_rng([seed, color, depth])
    values = random.integers(0, 2**depth, (SIDE, SIDE, CHANNELS[color]))
    values[0, 0], values[0, 1] = 0, 2**depth - 1
    return values


def on_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """From 0 to 1, in float64 -> from 0 to 255."""
    return 255 * (rgb * alpha[..., None] + 1 - alpha[..., None])


def meant(values: np.ndarray, color: int, depth: int, key: tuple | None = None) -> np.ndarray:
    """The PNG specification (13.12, 13.16) in float64: color over white, 0 to 255."""
    scaled = values / (2**depth - 1)
    alpha = np.ones(values.shape[:2])
    if color in (GRAY_ALPHA, RGB_ALPHA):
        alpha, scaled = scaled[..., -1], scaled[..., :-1]
    if key is not None:
        alpha = 1.0 - (values == np.array(key)).all(axis=-1)
    rgb = np.broadcast_to(scaled, (SIDE, SIDE, 3))
    return on_white(rgb, alpha)


def check(content: bytes, expected: np.ndarray, most: float = 0.5) -> None:
    for resize in RESIZES:
        square = read_square(content, SIDE, resize=resize)
        error = np.abs(square - expected)
        assert error.max() <= most + 1e-9, (resize, error.max())


@pytest.mark.parametrize('interlaced', [False, True])
@pytest.mark.parametrize(('color', 'depth'), [kind for kind in KINDS if kind[0] != PALETTE])
def test_values_of_every_depth(color, depth, interlaced):
    values = values_of(color, depth)
    # Pillow composes eight bits of alpha in whole numbers.
    most = 1 if depth == 8 and color in (GRAY_ALPHA, RGB_ALPHA) else 0.5
    check(png(values, color, depth, interlaced), meant(values, color, depth), most)


@pytest.mark.parametrize('interlaced', [False, True])
@pytest.mark.parametrize('which', ['least', 'greatest', 'some', 'none'])
@pytest.mark.parametrize(('color', 'depth'), [(c, d) for c, d in KINDS if c in (GRAY, RGB)])
def test_the_transparent_color_of_gray_and_rgb(color, depth, which, interlaced):
    values = values_of(color, depth)
    if which == 'none':
        values[(values == 1).all(axis=-1)] = 0
    key = {'least': values[0, 0], 'greatest': values[0, 1], 'some': values[3, 3],
           'none': np.ones(CHANNELS[color], int)}[which]  # fmt: skip
    content = png(values, color, depth, interlaced, tRNS=key.astype('>u2').tobytes())
    expected = meant(values, color, depth, tuple(key))
    if which != 'none':
        assert (expected == 255).all(axis=-1).any()
    check(content, expected)


def test_a_transparent_color_of_16_bits_is_compared_in_all_of_them():
    for color in (GRAY, RGB):
        values = np.full((SIDE, SIDE, CHANNELS[color]), 0x1234)
        values[:, ::2] += 1  # the same high byte
        content = png(values, color, 16, tRNS=b'\x12\x34' * CHANNELS[color])
        check(content, meant(values, color, 16, (0x1234,) * CHANNELS[color]))


@pytest.mark.parametrize('transparent', ['', 'one', 'some', 'all', 'few'])
@pytest.mark.parametrize('depth', DEPTHS[PALETTE])
def test_palettes(depth, transparent):
    random = np.random.default_rng(depth)
    palette = random.integers(0, 256, (2**depth, 3)).astype(np.uint8)
    values = values_of(PALETTE, depth)
    alpha = np.full(2**depth, 255)
    stored = 2**depth
    if transparent == 'one':
        alpha[1] = 0
    elif transparent == 'some':
        alpha = random.integers(0, 256, 2**depth)
    elif transparent == 'all':
        alpha[:] = 0
    elif transparent == 'few':  # the rest are opaque
        alpha[0], stored = 100, 1
    chunks = {'PLTE': palette.tobytes()}
    if transparent:
        chunks['tRNS'] = alpha[:stored].astype(np.uint8).tobytes()
    index = values[..., 0]
    check(
        png(values, PALETTE, depth, **chunks), on_white(palette[index] / 255, alpha[index] / 255), 1
    )


def test_16_bits_are_rounded_alike_whatever_the_color_type():
    """Every number of 16 bits, as gray, RGB, and both with an alpha that hides nothing."""
    every = np.arange(65536).reshape(64, 32, 32)
    for values in every[::7]:
        expected = np.rint(values / 257)
        opaque = np.full_like(values, 65535)
        for color, planes in (
            (GRAY, [values]), (RGB, [values] * 3), (GRAY_ALPHA, [values, opaque]),
            (RGB_ALPHA, [values] * 3 + [opaque]),
        ):  # fmt: skip
            square = read_square(png(np.stack(planes, axis=-1), color, 16), 32)
            np.testing.assert_array_equal(square, np.repeat(expected[..., None], 3, axis=2))
    # The numbers of the report: 51,300 was 199 as gray and 200 as RGB.
    assert np.rint(51_300 / 257) == 200


@pytest.mark.parametrize(('name', 'content'), [
    ('gAMA', struct.pack('>I', 100_000)), ('gAMA', struct.pack('>I', 22_727)),
    ('sRGB', b'\0'), ('cHRM', struct.pack('>8I', *[31_270] * 8)),
    ('iCCP', b'profile\0\0' + zlib.compress(b'no profile' * 20)),
    ('bKGD', struct.pack('>3H', 255, 0, 0)), ('sBIT', b'\5\5\5'),
])  # fmt: skip
def test_what_is_said_of_colors_is_not_looked_at(name, content):
    values = values_of(RGB, 8)
    check(png(values, RGB, 8, **{name: content}), meant(values, RGB, 8))


@pytest.mark.parametrize('depth', [8, 16])
def test_a_deep_photograph_is_turned_upright(depth):
    values = values_of(RGB, depth)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the right
    content = png(values, RGB, depth, eXIf=exif.tobytes()[6:])
    check(content, np.rot90(meant(values, RGB, depth), -1))


def jpeg_of_four(planes: np.ndarray, transform: int) -> bytes:
    """A JPEG of four components whose Adobe marker says CMYK (0) or YCCK (2)."""
    content = bytearray(save(Image.fromarray(255 - planes, 'CMYK'), 'JPEG', quality=100))
    place = content.index(b'Adobe')
    assert content[place + 11] == 0
    content[place + 11] = transform
    return bytes(content)


@pytest.mark.parametrize('ink', itertools.product((0, 90, 200, 255), repeat=2))
def test_inks(ink):
    """CMYK and YCCK by hand: the light that inks leave of white, (1 - ink) (1 - black). Adobe
    stores 1 - ink. YCCK is Y, Cb, Cr of 255 less that, here without a color; black is as it is."""
    first, black = ink
    stored = np.full((SIDE, SIDE, 4), (first, 128, 128, black), np.uint8)
    check(jpeg_of_four(stored, 0), stored[..., :3] / 255.0 * black, 3)
    gray = np.full((SIDE, SIDE, 3), 255.0 - first)
    check(jpeg_of_four(stored, 2), gray / 255 * black, 3)


def test_interlacing_and_progression_change_nothing():
    image = photograph(3).resize((SIDE, SIDE))
    plain, progressive = (
        read_square(save(image, 'JPEG', quality=95, progressive=progressive), SIDE)
        for progressive in (False, True)
    )
    np.testing.assert_array_equal(plain, progressive)
    pixels = np.asarray(image)
    np.testing.assert_array_equal(read_square(png(pixels, RGB, 8, True), SIDE), pixels)
    assert Image.open(io.BytesIO(png(pixels, RGB, 8, True))).info['interlace'] == 1


def with_rows(content: bytes, rows: bytes, level: int = -1) -> bytes:
    """A PNG with other rows, as `lines` packs them."""
    start = content.index(b'IDAT') - 4
    return content[:start] + chunk(b'IDAT', zlib.compress(rows, level)) + chunk(b'IEND', b'')


def rows_of(content: bytes) -> bytes:
    start = content.index(b'IDAT') + 4
    return zlib.decompress(content[start : start + int.from_bytes(content[start - 8 : start - 4])])


def palette_or_none(color: int, depth: int) -> dict[str, bytes]:
    return {'PLTE': bytes([255] * 3 * 2**depth)} if color == PALETTE else {}


@pytest.mark.parametrize('interlaced', [False, True])
@pytest.mark.parametrize(('color', 'depth'), KINDS)
@pytest.mark.parametrize('kind', ['filter', 'stream', 'checksum', 'none'])
def test_pixels_that_are_broken_are_refused(kind, color, depth, interlaced):
    """And not read as black where they are missing."""
    values = values_of(color, depth)
    content = png(values, color, depth, interlaced, **palette_or_none(color, depth))
    rows = rows_of(content)
    pixels, half = zlib.compress(rows), len(zlib.compress(rows)) // 2
    other = {
        'filter': chunk(b'IDAT', zlib.compress(b'\t' + rows[1:])),
        'stream': chunk(b'IDAT', pixels[:half] + bytes(len(pixels) - half)),
        'checksum': chunk(b'IDAT', pixels)[:-4] + bytes(4),
        'none': b'',
    }[kind]
    broken = content[: content.index(b'IDAT') - 4] + other + chunk(b'IEND', b'')
    with pytest.raises(BadImageError):
        read_square(broken, SIDE)


@pytest.mark.parametrize('interlaced', [False, True])
@pytest.mark.parametrize(('color', 'depth'), KINDS)
def test_pixels_that_end_early_are_refused(color, depth, interlaced):
    """Whole rows are missing of a stream that is valid; of all others, Pillow says so."""
    values = values_of(color, depth)
    content = png(values, color, depth, interlaced, **palette_or_none(color, depth))
    rows = rows_of(content)
    last = 1 + -(-SIDE * CHANNELS[color] * depth // 8)
    if not interlaced:
        assert len(rows) == SIDE * last  # by hand: a filter and the packed numbers, a row
    for missing in (1, last - 1, last, 2 * last, 12 * last, len(rows) - 1, len(rows)):
        for resize in RESIZES:
            with pytest.raises(BadImageError, match='image file is truncated'):
                read_square(with_rows(content, rows[:-missing]), SIDE, resize=resize)
    # What lies behind the last row is nobody's.
    more = with_rows(content, rows + b'more') + b'and more'
    np.testing.assert_array_equal(read_square(more, SIDE), read_square(content, SIDE))


@pytest.mark.parametrize('interlaced', [False, True])
@pytest.mark.parametrize(('color', 'depth'), KINDS)
@pytest.mark.parametrize('width', [8, 9, 31, 1000])
def test_whole_black_images_are_read(width, color, depth, interlaced):
    """Of any width, and packed so well that few bytes hold all of the rows."""
    values = np.zeros((13, width, CHANNELS[color]), int)
    content = png(values, color, depth, interlaced, **palette_or_none(color, depth))
    for level in (0, 1, 9):
        assert read_square(with_rows(content, rows_of(content), level), 8).shape == (8, 8, 3)


@pytest.mark.parametrize('mode', ['RGB', 'L', 'CMYK'])
@pytest.mark.parametrize('options', [{}, {'restart_marker_blocks': 3}, {'subsampling': 0}])
def test_a_jpeg_whose_only_scan_ends_early_is_refused(options, mode):
    content = save(photograph(0).convert(mode), 'JPEG', **options)
    for kept in (0.5, 0.8, 0.95):
        short = content[: int(kept * len(content))] + b'\xff\xd9'
        with pytest.raises(BadImageError, match='image file is truncated'):
            read_square(short, 32)
    assert read_square(content + b'and more', 32).shape == (32, 32, 3)


def test_whole_images_of_middle_gray_are_read():
    for mode, gray in (('RGB', (128,) * 3), ('L', 127), ('L', 128), ('CMYK', (127,) * 4)):
        image = Image.new(mode, (40, 30), gray)
        for progressive in (False, True):
            content = save(image, 'JPEG', progressive=progressive)
            assert read_square(content, 32).shape == (32, 32, 3)
            noisy = content[:-2] + b'between' + content[-2:]  # a warning of libjpeg, no fault
            assert read_square(noisy, 32).shape == (32, 32, 3)
