"""Checks of the structure of an image file, before and after it is decoded.

Before decoding: expensive structures, and the checksums of a PNG's pixels, which Pillow does not
check. After decoding: missing pixels, because Pillow accepts truncated files.
"""

import re
import zlib
from collections.abc import Iterator

import numpy as np

MOST_BYTES = 2**29  # of a file: 50 million pixels of eight bytes, uncompressed
# Real progressive JPEGs have 10 to 20 scans. Each scan covers all pixels, even if it has only a few
# bytes.
MOST_SCANS = 64
# Pillow parses JPEG segments, the fill bytes between them, and PNG chunks in Python.
MOST_SEGMENTS = 10_000
MOST_CHUNKS = 100_000

JPEG, PNG = b'\xff\xd8', b'\x89PNG\r\n\x1a\n'
# A marker: FF bytes, then a byte other than FF, 0 (an FF in pixels) and restart markers.
_MARKER = re.compile(rb'\xff+([^\x00\xff\xd0-\xd7])', re.DOTALL)
_START, _END, _SCAN, _ALONE = 0xD8, 0xD9, 0xDA, 0x01
# PNG: the channels of each color type; the start of each pass and its steps: left, top, across,
# down.
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))  # fmt: skip
_AT_ONCE = 2**20  # bytes inflated


def fault(content: bytes) -> str:
    """Returns the reason not to decode a JPEG or PNG; '' if there is none, or for other files."""
    if content.startswith(JPEG):
        return _fault_of_jpeg(content)
    if content.startswith(PNG):
        return _fault_of_png(content)
    return ''


def _fault_of_jpeg(content: bytes) -> str:
    if _bytes_of_markers(content) <= MOST_SCANS:  # takes a tenth of the time of the search below
        return ''
    scans = segments = place = 0
    while found := _MARKER.search(content, place):
        place, code = found.end(), found[1][0]
        segments += len(found[0]) - 1
        scans += code == _SCAN
        if scans > MOST_SCANS:
            return f'has more than {MOST_SCANS} scans, which are not allowed'
        if segments > MOST_SEGMENTS:
            return f'has more than {MOST_SEGMENTS} segments, which are not allowed'
        if code == _END:
            break
        if code not in (_START, _ALONE):
            place += int.from_bytes(content[place : place + 2])
    return ''


def _bytes_of_markers(content: bytes) -> int:
    """Returns the number of FF bytes without a following 0: an upper bound of the number of markers
    and fill bytes.
    """
    values = np.frombuffer(content, np.uint8)
    return int(np.count_nonzero(values[1:][values[:-1] == 0xFF]))


def _fault_of_png(content: bytes) -> str:
    for number, (kind, place, end) in enumerate(_chunks(content), start=1):
        if number > MOST_CHUNKS:
            return f'has more than {MOST_CHUNKS} chunks, which are not allowed'
        if kind == b'IDAT' and end + 4 <= len(content):  # else truncated: Pillow raises
            checksum = int.from_bytes(content[end : end + 4])
            if zlib.crc32(memoryview(content)[place - 4 : end]) != checksum:
                return 'cannot be read: its pixels do not have their checksum'
    return ''


def _chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yields the kind of each chunk of a PNG, and the start and end of its content."""
    place = len(PNG)
    while place < len(content):
        end = place + 8 + int.from_bytes(content[place : place + 4])
        yield content[place + 4 : place + 8], place + 8, end
        place = end + 4


def png_lacks_pixels(content: bytes) -> bool:
    """Returns whether a decoded PNG has fewer pixels than its header states."""
    missing, inflate = 0, zlib.decompressobj()
    try:
        for kind, place, end in _chunks(content):
            if kind == b'IHDR':
                missing = _bytes_of_pixels(content[place:end])
            waiting = content[place:end] if kind == b'IDAT' else b''
            while waiting and missing > 0:
                missing -= len(inflate.decompress(waiting, min(missing, _AT_ONCE)))
                waiting = inflate.unconsumed_tail
    except zlib.error:  # of the checksum after the pixels; without them Pillow raised an error
        return False
    return missing > 0 and missing > len(inflate.flush())


def _bytes_of_pixels(header: bytes) -> int:
    """Returns the number of bytes of all rows of a PNG, including their filter numbers."""
    width, height = int.from_bytes(header[:4]), int.from_bytes(header[4:8])
    depth, color, interlaced = header[8], header[9], header[12]
    total = 0
    for left, top, across, down in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -((left - width) // across), -((top - height) // down)
        row = 1 + -(-columns * _CHANNELS[color] * depth // 8)
        total += max(rows, 0) * row if columns > 0 else 0
    return total
