import io
import itertools
import platform
import re

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageFilter, ImageOps

from alexnet_jax.data.images import (
    CENTER_SQUARE,
    RESIZES,
    SHORT_SIDE,
    SQUASH,
    BadImageError,
    bilinear,
    decode,
    encode,
    read_square,
)
from tests.data.photographs import photograph, png_header, save
from tests.weights.authors import resize_and_center_crop

# On x86-64 equal to the bit; OpenCV's builds for other processors may round in another way.
OPENCV_LEVELS = 0 if platform.machine() == 'x86_64' else 1


def by_hand(image: Image.Image, size: int) -> np.ndarray:
    """Short side to `size`, then the middle, in two steps as the paper says it."""
    width, height = image.size
    scale = size / min(width, height)
    whole = image.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
    left, top = (whole.width - size) // 2, (whole.height - size) // 2
    return np.asarray(whole.crop((left, top, left + size, top + size)), float)


@pytest.mark.parametrize('number', range(8))
def test_the_middle_of_the_image_with_its_short_side_resized(number):
    # They may lie half a pixel apart; where the image is smooth that is little.
    image = photograph(number).filter(ImageFilter.GaussianBlur(3))
    square = read_square(save(image, 'PNG'), 64)
    assert square.shape == (64, 64, 3) and square.dtype == np.uint8
    assert np.abs(square - by_hand(image, 64)).mean() < 3
    square_image = image.crop((0, 0, 30, 30))
    same = read_square(save(square_image, 'PNG'), 60)
    np.testing.assert_array_equal(same, by_hand(square_image, 60))


def test_reducing_does_not_alias():
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255  # as fine as can be: must become gray
    square = read_square(save(Image.fromarray(stripes), 'PNG'), 64)
    assert np.abs(square.astype(int) - 127).max() < 12


def between_pixels(image: np.ndarray, size: int) -> np.ndarray:
    """The whole image to size×size, bilinear, pixel by pixel in float64. Centers of
    pixels lie at halves; what lies beyond those at the edge is as they are."""
    height, width = image.shape[:2]
    resized = np.empty((size, size, 3))
    for row, column in itertools.product(range(size), repeat=2):
        y = min(max((row + 0.5) * height / size - 0.5, 0), height - 1)
        x = min(max((column + 0.5) * width / size - 0.5, 0), width - 1)
        top, left = int(y), int(x)
        bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
        down, along = y - top, x - left
        upper = (1 - along) * image[top, left] + along * image[top, right]
        lower = (1 - along) * image[bottom, left] + along * image[bottom, right]
        resized[row, column] = (1 - down) * upper + down * lower
    return resized


def sides(count: int) -> list[tuple[int, int]]:
    """Widths and heights: squares, portraits and landscapes, larger and smaller."""
    random = np.random.default_rng(7)
    drawn = random.integers(20, 400, (count, 2)).tolist()
    return [(64, 64), (64, 65), (67, 64), (30, 30), (500, 375), (333, 500), *map(tuple, drawn)]


def part(width: int, height: int) -> Image.Image:
    photo = photograph(width).resize((width, height))
    noise = np.random.default_rng(height).integers(-40, 40, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(photo) + noise, 0, 255).astype(np.uint8))


@pytest.mark.parametrize('size', [64, 63, 227])
def test_the_short_side_resized_as_torchvision_does(size):
    margins = set()
    for width, height in sides(40):
        image = part(width, height)
        square = read_square(save(image, 'PNG'), size, resize=SHORT_SIDE)
        np.testing.assert_array_equal(square, resize_and_center_crop(image, size, size))
        left_over = int(size * max(width, height) / min(width, height)) - size
        margins.add((width <= height, left_over % 4))
    assert margins == set(itertools.product((True, False), range(4)))


def test_squashed_as_caffe_does():
    for width, height in sides(10):
        image = part(width, height)
        square = read_square(save(image, 'PNG'), 32, resize=SQUASH)
        assert square.shape == (32, 32, 3) and square.dtype == np.uint8
        pixels = np.asarray(image)
        np.testing.assert_allclose(square, cv2.resize(pixels, (32, 32)), atol=OPENCV_LEVELS)
        np.testing.assert_allclose(square, between_pixels(pixels.astype(float), 32), atol=1)


def test_bilinear_is_opencv_s(random):
    """Sides down to one pixel, enlarged and reduced; noise, black and white, and flat."""
    for number in range(300):
        size = int(random.integers(1, 40))
        longest = (12, 70, 400)[number % 3]
        height, width = random.integers(1, longest, 2)
        if number % 10 == 0:
            height = width = size * int(random.integers(1, 4))  # OpenCV has shortcuts for these
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        pixels = (pixels, pixels // 128 * 255, np.full_like(pixels, pixels[0, 0]))[number % 7 % 3]
        square = bilinear(pixels, size)
        expected = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_LINEAR)
        assert square.shape == (size, size, 3) and square.dtype == np.uint8
        np.testing.assert_allclose(
            square, expected, atol=OPENCV_LEVELS, err_msg=f'{height}×{width} to {size}'
        )
        exact = between_pixels(pixels.astype(float), size)
        np.testing.assert_allclose(square, exact, atol=1)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_photographs_are_turned_upright(orientation):
    """What PIL's own transposition gives, for a picture whose corners differ."""
    corners = np.zeros((48, 48, 3), np.uint8)
    corners[:16, :16], corners[:16, 32:], corners[32:, :16] = 250, 120, 60
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = save(Image.fromarray(corners), 'PNG', exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    np.testing.assert_array_equal(read_square(content, 48), expected)
    np.testing.assert_array_equal(read_square(Image.open(io.BytesIO(content)), 48), expected)


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('form', ['PNG', 'JPEG'])
@pytest.mark.parametrize('size', [(97, 150), (150, 97)])
def test_an_image_is_turned_before_its_shape_matters(size, form, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = save(part(*size), form, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    for file in (content, Image.open(io.BytesIO(content))):  # turned last, it may round otherwise
        assert np.abs(read_square(file, 48).astype(int) - read_square(upright, 48)).mean() < 1
    np.testing.assert_array_equal(
        read_square(content, 48, resize=SHORT_SIDE), resize_and_center_crop(upright, 48, 48)
    )
    np.testing.assert_array_equal(
        read_square(content, 48, resize=SQUASH), bilinear(np.asarray(upright), 48)
    )


FLAT = Image.new('RGB', (40, 50), (200, 100, 50))


@pytest.mark.parametrize(
    ('content', 'expected'),
    [
        (save(FLAT.convert('L'), 'JPEG'), (124, 124, 124)),
        (save(FLAT.convert('L'), 'PNG'), (124, 124, 124)),
        (save(FLAT.convert('1', dither=Image.Dither.NONE), 'PNG'), (0, 0, 0)),
        (save(FLAT.convert('CMYK'), 'JPEG'), (200, 100, 50)),
        (save(FLAT.quantize(4), 'PNG'), (200, 100, 50)),
        (save(FLAT.convert('RGBA'), 'PNG'), (200, 100, 50)),
        (save(Image.new('RGBA', (40, 50), (200, 100, 50, 0)), 'PNG'), (255, 255, 255)),
        (save(Image.new('LA', (40, 50), (0, 127)), 'PNG'), (128, 128, 128)),
        (save(Image.fromarray(np.full((50, 40), 257 * 90, np.uint16)), 'PNG'), (90, 90, 90)),
        (save(FLAT, 'PNG', transparency=(200, 100, 50)), (255, 255, 255)),
        (save(FLAT, 'PNG', save_all=True, append_images=[Image.new('RGB', (40, 50))]), (200, 100, 50)),
    ],
    ids=['gray jpeg', 'gray', '1 bit', 'cmyk', 'palette', 'alpha', 'transparent', 'gray alpha',
         '16 bit', 'transparent color', 'animated png'],
)  # fmt: skip
def test_all_modes_become_rgb(content, expected):
    for resize in RESIZES:
        square = read_square(content, 32, resize=resize)
        assert np.abs(square.astype(int) - expected).max() <= 4
        # As a Pillow image, before it is decoded and after.
        image = Image.open(io.BytesIO(content))
        for _ in range(2):
            np.testing.assert_array_equal(read_square(image, 32, resize=resize), square)


@pytest.mark.parametrize('resize', RESIZES)
def test_pixels_are_read_as_the_file_that_holds_them(resize, random):
    for shape in ((41, 57, 3), (57, 41)):
        pixels = random.integers(0, 256, shape).astype(np.uint8)
        expected = read_square(save(Image.fromarray(pixels), 'PNG'), 32, resize=resize)
        np.testing.assert_array_equal(read_square(pixels, 32, resize=resize), expected)


@pytest.mark.parametrize('pixels', [
    np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 1), np.uint8), np.zeros(9, np.uint8),
    np.zeros((1, 9, 9, 3), np.uint8), np.zeros((9, 9, 3)), np.zeros((9, 9), bool),
], ids=lambda pixels: f'{pixels.dtype}{list(pixels.shape)}')  # fmt: skip
def test_other_arrays_are_refused(pixels):
    fault = f'^is {pixels.dtype} {re.escape(str(list(pixels.shape)))}; allowed: uint8 '
    with pytest.raises(BadImageError, match=fault):
        read_square(pixels, 32)


BAD = [
    (b'', 'is no JPEG or PNG'),
    (b'hello, I am no image', 'is no JPEG or PNG'),
    (save(FLAT, 'GIF', save_all=True, append_images=[FLAT.rotate(90)]), 'is no JPEG or PNG'),
    (save(FLAT, 'BMP'), 'is no JPEG or PNG'),
    (save(photograph(0), 'JPEG')[:-400], 'truncated'),
    (save(photograph(0), 'PNG')[:-400], 'truncated|broken'),
    (save(Image.new('RGB', (1, 1)), 'PNG'), r'has 1×1 pixels; allowed: at least 8'),
    (save(Image.new('RGB', (7, 900)), 'JPEG'), r'has 7×900 pixels; allowed: at least 8'),
    (png_header(20000, 20000), 'more pixels than the 50000000'),
    (png_header(10000, 10000), r'has 10000×10000 pixels; allowed: 50000000'),
]


@pytest.mark.parametrize(('content', 'reason'), BAD, ids=[reason for _, reason in BAD])
def test_what_is_no_image_is_refused(content, reason):
    for resize in RESIZES:
        with pytest.raises(BadImageError, match=reason):
            read_square(content, 32, resize=resize)


@pytest.mark.parametrize('size', [(8, 100), (100, 8)])
def test_what_would_grow_beyond_measure_is_refused(size):
    """A short side of 8 pixels becomes 64: 64 times as many in all."""
    content, resized = save(Image.new('RGB', size), 'PNG'), '64×800' if size[0] == 8 else '800×64'
    reason = f'has {size[0]}×{size[1]} pixels, {resized} with its short side at 64; allowed: 51199'
    with pytest.raises(BadImageError, match=reason):
        read_square(content, 64, 51199, SHORT_SIDE)
    for allowed, resize in ((51200, SHORT_SIDE), (800, SQUASH), (800, CENTER_SQUARE)):
        assert read_square(content, 64, allowed, resize).shape == (64, 64, 3)
    with pytest.raises(BadImageError, match='256×192000000 with its short side'):
        read_square(png_header(8, 6_000_000), 256, resize=SHORT_SIDE)  # 140 GB, if decoded


def test_records_come_back(random):
    image = np.asarray(photograph(3).resize((48, 48)))
    np.testing.assert_array_equal(decode(encode(image, 'raw', 0), 'raw', 48), image)
    jpeg = encode(image, 'jpeg', 95)
    again = decode(jpeg, 'jpeg', 48)
    assert np.abs(again.astype(int) - image).mean() < 3
    scratch = np.empty((48, 48, 3), np.uint8)
    assert np.shares_memory(decode(jpeg, 'jpeg', 48, scratch), scratch)
    np.testing.assert_array_equal(scratch, np.asarray(Image.open(io.BytesIO(jpeg))))
    assert len(encode(image, 'jpeg', 50)) < len(jpeg)
    assert simplejpeg.decode_jpeg_header(jpeg)[3] == '444'
    for size, broken in itertools.product((40, 64), (jpeg, jpeg[:100])):
        with pytest.raises(ValueError):
            decode(broken, 'jpeg', size)
