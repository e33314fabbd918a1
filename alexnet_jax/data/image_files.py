"""Looks at the structure of an image file before it is decoded: whether it would take long, and
the checksums of a PNG's pixels, which Pillow does not compare."""

import re
import zlib

MOST_BYTES = 2**29  # of a file: 50 million pixels of eight bytes, stored as they are
# Real progressive JPEGs have 10 to 20 scans. Each goes over all pixels, and can take a few bytes.
MOST_SCANS = 64
# Pillow parses segments of JPEG, and fill bytes between them, in Python, and so chunks of PNG.
MOST_SEGMENTS = 10_000
MOST_CHUNKS = 100_000

JPEG, PNG = b'\xff\xd8', b'\x89PNG\r\n\x1a\n'
# A marker: FF bytes and a byte that is neither that, nor the 0 of an FF in pixels, nor a restart.
_MARKER = re.compile(rb'\xff+([^\x00\xff\xd0-\xd7])', re.DOTALL)
_START, _END, _SCAN, _ALONE = 0xD8, 0xD9, 0xDA, 0x01


def fault(content: bytes) -> str:
    """Returns why a JPEG or PNG should not be decoded; '' for nothing, or another kind of file."""
    if content.startswith(JPEG):
        return _fault_of_jpeg(content)
    if content.startswith(PNG):
        return _fault_of_png(content)
    return ''


def _fault_of_jpeg(content: bytes) -> str:
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


def _fault_of_png(content: bytes) -> str:
    place = len(PNG)
    for _ in range(MOST_CHUNKS):
        if place >= len(content):
            return ''
        end = place + 8 + int.from_bytes(content[place : place + 4])
        kind = content[place + 4 : place + 8]
        if kind == b'IDAT' and end + 4 <= len(content):  # else it is cut short, as Pillow says
            checksum = int.from_bytes(content[end : end + 4])
            if zlib.crc32(memoryview(content)[place + 4 : end]) != checksum:
                return 'cannot be read: its pixels do not have their checksum'
        place = end + 4
    return f'has more than {MOST_CHUNKS} chunks, which are not allowed'
