"""An opened image of any mode -> 8-bit RGB, on white where it is transparent.

Pillow does most of it. It reduces PNGs of 16 bits to the high byte, and compares their
transparent color, and that of gray PNGs of 2 and 4 bits, with other numbers than the file's:
those are done here.
"""

import io

import numpy as np
from PIL import Image

# What Pillow scales gray of so many bits by, and how it names them.
_FEW_BITS = {'L;2': 85, 'L;4': 17}
# Each 16-bit layout of PNG: the mode and the layout that Pillow has for its low bytes. Gray with
# alpha has four bytes a pixel, high and low ones by turns, as RGBA has.
_LOW_BYTES = {'RGB;16B': ('RGB', 'RGB;16L'), 'RGBA;16B': ('RGBA', 'RGBA;16L'), 'LA;16B': ('RGBA', 'RGBA')}  # fmt: skip
_ROWS = 64  # composed at a time, so that the memory does not grow with the image


def as_rgb(image: Image.Image, content: bytes) -> Image.Image:
    """Returns the image as RGB.

    Args:
      image: opened, and not decoded yet if it is of a file.
      content: the bytes of its file; if there are none, as Pillow decodes it.
    """
    tile = getattr(image, 'tile', None)  # of a file that is not decoded yet
    layout = tile[0].args if image.format == 'PNG' and tile else None
    if content and layout in _LOW_BYTES:
        return _of_16_bits(image, content, layout)
    key = image.info.get('transparency')
    if image.mode.startswith('I'):
        return _of_16_bit_gray(image, key)
    if layout in _FEW_BITS and isinstance(key, int):
        image.info['transparency'] = key * _FEW_BITS[layout]
    if image.has_transparency_data:
        ground = Image.new('RGBA', image.size, 'white')
        ground.alpha_composite(image.convert('RGBA'))
        return ground.convert('RGB')
    return image.convert('RGB')


def _of_16_bit_gray(image: Image.Image, key: int | None) -> Image.Image:
    values = np.asarray(image)
    gray = _to_8_bits(values)
    if key is not None:
        gray[values == key] = 255
    return Image.fromarray(gray).convert('RGB')


def _of_16_bits(image: Image.Image, content: bytes, layout: str) -> Image.Image:
    high, low = np.asarray(image), _decoded_as(content, *_LOW_BYTES[layout])
    key = image.info.get('transparency')
    rgb = np.empty((*high.shape[:2], 3), np.uint8)
    for top in range(0, len(rgb), _ROWS):
        rows = slice(top, top + _ROWS)
        if layout == 'LA;16B':
            values = low[rows, :, 0::2].astype(np.uint16) << 8 | low[rows, :, 1::2]
            values = values[:, :, [0, 0, 0, 1]]
        else:
            values = high[rows].astype(np.uint16) << 8 | low[rows]
        rgb[rows] = _on_white(values, key)
    return Image.fromarray(rgb)


def _on_white(values: np.ndarray, key: tuple[int, ...] | None) -> np.ndarray:
    """uint16 [rows, columns, 3 or 4] -> uint8 [rows, columns, 3]. key: the transparent color."""
    if values.shape[2] == 4:
        alpha = values[:, :, 3:] / 65535
        return np.rint((values[:, :, :3] * alpha + 65535 * (1 - alpha)) / 257).astype(np.uint8)
    rgb = _to_8_bits(values)
    if key is not None:
        rgb[(values == np.array(key)).all(axis=2)] = 255
    return rgb


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    """uint16, 0 to 65535 -> the nearest of uint8, 0 to 255."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _decoded_as(content: bytes, mode: str, layout: str) -> np.ndarray:
    """Decodes a file as if its pixels had another layout of as many bytes."""
    with Image.open(io.BytesIO(content), formats=('PNG',)) as image:
        image._mode = mode
        image.tile = [image.tile[0]._replace(args=layout)]
        return np.asarray(image)
