"""One image file as people have them -> one square of RGB pixels (paper §2)."""

import io
import warnings
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

FORMATS = ('JPEG', 'PNG')
LEAST_SIDE = 8
# Half a gigabyte at the worst: a progressive CMYK JPEG needs twelve bytes a pixel.
MAX_PIXELS = 50_000_000
# Beyond this Pillow itself refuses to open a file.
PILLOW_LIMIT = 178_956_970

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: [Image.Transpose.FLIP_LEFT_RIGHT],
    3: [Image.Transpose.ROTATE_180],
    4: [Image.Transpose.FLIP_TOP_BOTTOM],
    5: [Image.Transpose.TRANSPOSE],
    6: [Image.Transpose.ROTATE_270],
    7: [Image.Transpose.TRANSVERSE],
    8: [Image.Transpose.ROTATE_90],
}


class BadImageError(Exception):
    """A file that cannot be read as an image. The message says why."""


def read_square(file: Path | bytes, size: int, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The central square of a JPEG or PNG, resized to size×size: uint8 [size, size, 3].

    The shorter side becomes `size` with a bicubic filter that is widened when it
    reduces, so that nothing aliases. Grey, palette, CMYK and 16-bit images become
    8-bit RGB; what is transparent becomes white; a photograph is turned upright
    as its EXIF orientation says. The first picture of an animation is taken.

    Args:
      file: where it is, or its bytes.
      max_pixels: larger images are refused by their header, before they are decoded.

    Raises:
      BadImageError: it is no such file, or broken, too large or too small.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # Pillow's, of odd metadata.
            source = io.BytesIO(file) if isinstance(file, bytes) else file
            with Image.open(source, formats=FORMATS) as image:
                _check_size(image, max_pixels)
                return _square(image, size)
    except BadImageError:
        raise
    except UnidentifiedImageError:
        raise BadImageError('is no JPEG or PNG') from None
    except Image.DecompressionBombError:
        raise BadImageError(f'has more pixels than the {max_pixels} allowed') from None
    except OSError as error:
        raise BadImageError(f'cannot be read: {error.strerror or error}') from error
    except Exception as error:  # Whatever a broken file makes a decoder stumble over.
        raise BadImageError(f'cannot be read: {type(error).__name__}: {error}') from error


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise BadImageError(
            f'has {width}×{height} pixels; allowed: {max_pixels} in all (--max_pixels)'
        )
    if min(width, height) < LEAST_SIDE:
        raise BadImageError(f'has {width}×{height} pixels; allowed: at least {LEAST_SIDE} a side')


def _square(image: Image.Image, size: int) -> np.ndarray:
    turns = _UPRIGHT.get(_orientation(image), [])
    image = _as_rgb(image)
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    image = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    for turn in turns:  # A central square is one however it is turned.
        image = image.transpose(turn)
    return np.asarray(image)


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Broken metadata of a good image.
        return 1


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith('I'):  # 16 bits a pixel; Pillow would clip them to 8.
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if image.has_transparency_data:
        ground = Image.new('RGBA', image.size, 'white')
        ground.alpha_composite(image.convert('RGBA'))
        image = ground
    return image.convert('RGB')


def encode(image: np.ndarray, encoding: str, quality: int) -> bytes:
    """uint8 [size, size, 3] -> what a record holds: JPEG with colours at full
    resolution (at half, what is red and green errs twice as much), or raw bytes."""
    if encoding == 'raw':
        return image.tobytes()
    return simplejpeg.encode_jpeg(image, quality=quality, colorsubsampling='444')


def decode(
    stored: bytes, encoding: str, size: int, scratch: np.ndarray | None = None
) -> np.ndarray:
    """What `encode` has made -> uint8 [size, size, 3], maybe in `scratch`, an array
    like it: a new one for each image costs a tenth of the time.

    Raises:
      ValueError: it is broken.
    """
    if encoding == 'raw':
        return np.frombuffer(stored, np.uint8).reshape(size, size, 3)
    if scratch is None:
        scratch = np.empty((size, size, 3), np.uint8)
    image = simplejpeg.decode_jpeg(stored, buffer=scratch)  # refuses what is too large for it
    if image.shape != (size, size, 3):
        raise ValueError(f'has the shape {image.shape}')
    return image
