"""Reads an image, from a file or otherwise, as a square of RGB pixels.

It is resized as in the paper (§2), in torchvision or in Caffe.
"""

import io
import os
import warnings
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from alexnet_jax.data import image_files
from alexnet_jax.data.rgb import as_rgb
from alexnet_jax.runtime import files

FORMATS = ('JPEG', 'PNG')
FORMS = ('jpeg', 'raw')  # encodings of images in records
PIXELS = 2  # increased when the same file gives other pixels: 2 since 16-bit gray is rounded
LEAST_SIDE = 8
SCAN = b'\xff\xda'  # JPEG's marker before each scan
MOST_STORED_SCANS = 8  # of a record; `encode` writes one, but its tables may contain the same bytes
# At most half a gigabyte: a progressive CMYK JPEG needs twelve bytes per pixel.
MAX_PIXELS = 50_000_000
# Above this size Pillow itself raises an error.
PILLOW_LIMIT = 178_956_970

# Methods of resizing an image to a square.
CENTER_SQUARE, SHORT_SIDE, SQUASH = RESIZES = ('center_square', 'short_side', 'squash')

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


Picture = Path | bytes | Image.Image | np.ndarray


class BadImageError(Exception):
    """An image that cannot be read. The message states the reason, after the image's name if given.

    reason: the message without the name.
    """

    def __init__(self, reason: str, name: str = ''):
        super().__init__(f'{name} {reason}' if name else reason)
        self.reason = reason


def read_square(
    picture: Picture, size: int, max_pixels: int = MAX_PIXELS, resize: str = CENTER_SQUARE
) -> np.ndarray:
    """Reads a JPEG or PNG as a square of RGB, uint8 [size, size, 3].

    Gray, palette, CMYK and 16-bit images become 8-bit RGB; transparent pixels become white; a
    photograph is rotated according to its EXIF orientation. Of an animation the first picture is
    used.

    Args:
      picture: path or bytes of the file; or a decoded image: a Pillow image or pixels, uint8
        [height, width, 3] or gray [height, width].
      max_pixels: maximum number of pixels, also during resizing; the header is checked before
        decoding.
      resize: 'center_square', the central square with Pillow's bicubic filter, with antialiasing;
        'short_side', torchvision's `Resize(size)` and `CenterCrop(size)`, with Pillow's bilinear
        filter, with antialiasing; 'squash', Caffe's `convert_imageset`: the whole image of any
        shape by bilinear interpolation (`bilinear`), without antialiasing.

    Raises:
      BadImageError: it is no such file, or is damaged, too large or too small.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # Pillow's warnings about unusual metadata.
            if isinstance(picture, np.ndarray):
                picture = _of_pixels(picture)
            if isinstance(picture, Image.Image):
                if picture.mode in ('F', 'I') and not picture.format:  # modes without a fixed scale
                    raise BadImageError(
                        f'has the mode {picture.mode}; allowed: modes of 8 or 16 bits'
                    )
                return _square(picture, b'', size, max_pixels, resize)
            content = picture if isinstance(picture, bytes) else _content(picture)
            if fault := image_files.fault(content):
                raise BadImageError(fault)
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                return _square(image, content, size, max_pixels, resize)
    except BadImageError:
        raise
    except UnidentifiedImageError:
        raise BadImageError('is no JPEG or PNG') from None
    except Image.DecompressionBombError:
        raise BadImageError(f'has more pixels than the {max_pixels} allowed') from None
    except OSError as error:
        raise BadImageError(f'cannot be read: {error.strerror or error}') from error
    except Exception as error:  # Decoders raise various errors for a damaged file.
        raise BadImageError(f'cannot be read: {type(error).__name__}: {error}') from error


def _of_pixels(pixels: np.ndarray) -> Image.Image:
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)):
        raise BadImageError(
            f'is {pixels.dtype} {list(pixels.shape)}; allowed: uint8 [height, width, 3] or'
            ' [height, width]'
        )
    return Image.fromarray(pixels)


def _square(
    image: Image.Image, content: bytes, size: int, max_pixels: int, resize: str
) -> np.ndarray:
    """Returns the square of an image; `content` is its file, or empty."""
    _check_size(image, max_pixels)
    if resize == SHORT_SIDE:
        _check_resized(image, size, max_pixels)
    # Pixels first: Pillow decodes a PNG when metadata are read, so that an error of the pixels
    # would look like one of the metadata.
    rgb = as_rgb(image, content)
    if content:
        _check_pixels(image, content)
    return _SQUARES[resize](rgb, _orientation(image), size)


def _content(path: Path) -> bytes:
    with files.opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > image_files.MOST_BYTES:
            raise BadImageError(f'has {size} bytes; allowed: {image_files.MOST_BYTES}')
        return file.read()


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise BadImageError(
            f'has {width}×{height} pixels; allowed: {max_pixels} in all (--max_pixels)'
        )
    if min(width, height) < LEAST_SIDE:
        raise BadImageError(f'has {width}×{height} pixels; allowed: at least {LEAST_SIDE} a side')


def _check_pixels(image: Image.Image, content: bytes) -> None:
    """Raises an error for a truncated file. Pillow fills missing pixels with 0 in a PNG, where one
    of the last two rows is the end of an interlaced image, and with middle gray in a JPEG; only
    files with such an end are checked. A progressive JPEG may lack all scans but the first.
    """
    ends = [image.getpixel((image.width - 1, image.height - row)) for row in (1, 2)]
    levels = [set(pixel) if isinstance(pixel, tuple) else {pixel} for pixel in ends]
    if not any(found <= {0, 127, 128} for found in levels):
        return
    is_png = image.format == 'PNG'
    if image_files.png_lacks_pixels(content) if is_png else _jpeg_ends_early(content):
        raise BadImageError('cannot be read: image file is truncated')


def _jpeg_ends_early(content: bytes) -> bool:
    try:
        simplejpeg.decode_jpeg(content, min_height=1, min_width=1, min_factor=8)
    except ValueError as error:  # of any warning of libjpeg
        return 'premature end' in str(error)
    return False


def _check_resized(image: Image.Image, size: int, max_pixels: int) -> None:
    width, height = _with_short_side(image, size)
    if width * height > max_pixels:
        raise BadImageError(
            f'has {image.width}×{image.height} pixels, {width}×{height} with its short side'
            f' at {size}; allowed: {max_pixels} in all (--max_pixels)'
        )


def _center_square(image: Image.Image, orientation: int, size: int) -> np.ndarray:
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    image = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    # A rotation keeps the central square, and the small image is rotated faster.
    return np.asarray(_turned(image, orientation))


def _short_side(image: Image.Image, orientation: int, size: int) -> np.ndarray:
    image = _turned(image, orientation)
    image = image.resize(_with_short_side(image, size), Image.Resampling.BILINEAR)
    left, top = (round((extent - size) / 2) for extent in image.size)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def _with_short_side(image: Image.Image, size: int) -> tuple[int, int]:
    """Returns width and height after torchvision's `Resize(size)`, which rounds down."""
    width, height = image.size
    if width <= height:
        return size, int(size * height / width)
    return int(size * width / height), size


def _squash(image: Image.Image, orientation: int, size: int) -> np.ndarray:
    return bilinear(np.asarray(_turned(image, orientation)), size)


def bilinear(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resizes uint8 [height, width, 3] to [size, size, 3] exactly as OpenCV does.

    The call is `cv2.resize(pixels, (size, size), interpolation=cv2.INTER_LINEAR)`.

    OpenCV works in integers: weights are multiples of 1/2048, and products lose their last bits
    along each axis.
    """
    height, width = pixels.shape[:2]
    (rows, row_weights), (columns, column_weights) = _taps(height, size), _taps(width, size)
    corners = rows[:, None, :, None] * width + columns[:, None]  # [2, 2, size, size]
    # Columns and channels are one axis: NumPy is several times as fast along a long axis.
    values = pixels.reshape(-1, 3).take(corners, axis=0).reshape(2, 2, size, size * 3)
    column_weights = column_weights.repeat(3, axis=1)[:, None]
    values = (values * column_weights).sum(axis=1, dtype=np.int32) >> 4
    values = (values * row_weights[:, :, None] >> 16).sum(axis=0)
    return (values + 2 >> 2).astype(np.uint8).reshape(size, size, 3)


def _taps(extent: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the two neighboring pixels of each of `size` positions along `extent` pixels (at the
    edge the same pixel twice), and their weights in 2048ths: int [2, size] each.
    """
    places = ((np.arange(size) + 0.5) * (extent / size) - 0.5).astype(np.float32)
    first = np.floor(places)
    after = places - first
    pixels = np.stack([first, first + 1]).astype(int).clip(0, extent - 1)
    return pixels, np.rint(2048 * np.stack([1 - after, after])).astype(np.int32)


_SQUARES = {CENTER_SQUARE: _center_square, SHORT_SIDE: _short_side, SQUASH: _squash}


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Damaged metadata of an intact image.
        return 1


def encode(image: np.ndarray, encoding: str, quality: int) -> bytes:
    """Encodes an image, uint8 [size, size, 3], as JPEG or as raw bytes.

    JPEGs keep colors at full resolution: at half, errors of red and green are twice as large.
    """
    if encoding == 'raw':
        return image.tobytes()
    return simplejpeg.encode_jpeg(image, quality=quality, colorsubsampling='444')


def decode(
    stored: bytes, encoding: str, size: int, scratch: np.ndarray | None = None
) -> np.ndarray:
    """Decodes the bytes of `encode` into an image, uint8 [size, size, 3].

    The image may be written to `scratch`, an array of the same shape and type: allocating an array
    per image takes a tenth of the time.

    Raises:
      ValueError: the image is damaged.
    """
    if encoding == 'raw':
        return np.frombuffer(stored, np.uint8).reshape(size, size, 3)
    if stored.count(SCAN) > MOST_STORED_SCANS:
        raise ValueError(f'has more than {MOST_STORED_SCANS} scans')
    if scratch is None:
        scratch = np.empty((size, size, 3), np.uint8)
    image = simplejpeg.decode_jpeg(stored, buffer=scratch)  # an error if too large for it
    if image.shape != (size, size, 3):
        raise ValueError(f'has the shape {image.shape}')
    return image
