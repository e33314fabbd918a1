"""Converts opened images of any mode to 8-bit RGB on a white background.

Pillow converts most modes. But it reduces 16-bit PNGs to their high byte, and compares their
transparent color, and that of 2-bit and 4-bit gray PNGs, with other numbers than the file's. This
module converts these.
"""

import io

import numpy as np
from PIL import Image

# Pillow's scale factors and names of gray modes, by their bits.
_FEW_BITS = {'L;2': 85, 'L;4': 17}
# Each 16-bit layout of PNG: Pillow's mode and layout for its low bytes. Gray with alpha has four
# bytes per pixel like RGBA, with alternating high and low bytes.
_LOW_BYTES = {'RGB;16B': ('RGB', 'RGB;16L'), 'RGBA;16B': ('RGBA', 'RGBA;16L'), 'LA;16B': ('RGBA', 'RGBA')}  # fmt: skip
_ROWS = 64  # composed at a time, to limit the memory


def as_rgb(image: Image.Image, content: bytes) -> Image.Image:
    """Returns the image as RGB.

    Args:
      image: opened image, not decoded yet if it is from a file.
      content: the bytes of its file; if empty, Pillow decodes the image.
    """
    tile = getattr(image, 'tile', None)  # from a file that is not decoded yet
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
    """Converts uint16 [rows, columns, 3 or 4] to uint8 [rows, columns, 3]. key: the transparent
    color.
    """
    if values.shape[2] == 4:
        alpha = values[:, :, 3:] / 65535
        return np.rint((values[:, :, :3] * alpha + 65535 * (1 - alpha)) / 257).astype(np.uint8)
    rgb = _to_8_bits(values)
    if key is not None:
        rgb[(values == np.array(key)).all(axis=2)] = 255
    return rgb


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    """Converts uint16, 0 to 65535, to the nearest uint8, 0 to 255."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _decoded_as(content: bytes, mode: str, layout: str) -> np.ndarray:
    """Decodes a file as if its pixels had another layout with the same number of bytes."""
    with Image.open(io.BytesIO(content), formats=('PNG',)) as image:
        image._mode = mode
        image.tile = [image.tile[0]._replace(args=layout)]
        return np.asarray(image)
