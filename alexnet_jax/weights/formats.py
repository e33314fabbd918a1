"""Detects the format of a weight file from its first bytes."""

from pathlib import Path

_ZIP, _LEGACY_TORCH = b'PK\x03\x04', 0x1950A86A20F9469CFC6C.to_bytes(10, 'little')
_TAR = slice(257, 262), b'ustar'
# A NetParameter begins with its name, a layer of either form, or a size of its input.
_CAFFE = (b'\x0a', b'\x12', b'\xa2\x06', b'\x1a', b'\x20')
# Other common files that users may pass instead of weights.
_OTHERS = {
    b'\x1f\x8b': 'packed by gzip; unpack it first',
    b'BZh': 'packed by bzip2; unpack it first',
    b'\xfd7zXZ': 'packed by xz; unpack it first',
    b'\x89HDF': 'an HDF5 file, as of Keras',
    b'\x93NUMPY': "an array of NumPy's",
    b'version https://git-lfs': 'a pointer of Git LFS; `git lfs pull` fetches the file itself',
    b'<!': 'a web page, not the file that was to be fetched',
    b'<html': 'a web page, not the file that was to be fetched',
    b'<?xml': 'XML, not the file that was to be fetched',
}
_BY_SUFFIX = {
    '.pth': 'torch', '.pt': 'torch', '.safetensors': 'safetensors', '.caffemodel': 'caffe',
}  # fmt: skip


def kind_of(path: Path, start: bytes, size: int) -> str | None:
    """Returns 'torch', 'safetensors', 'caffe', words on another kind, or None.

    Args:
      path: of the file; its name counts where its content does not decide.
      start: the first few hundred bytes.
      size: of the whole file, in bytes.
    """
    place, tar = _TAR
    if start.startswith(_ZIP) or _LEGACY_TORCH in start[:32]:
        return 'torch'
    if start[place] == tar:
        return 'a tar archive; unpack it first (only PyTorch of before 2017 wrote such weights)'
    fits = 8 + int.from_bytes(start[:8], 'little') <= size
    if start[8:9] == b'{' and (fits or path.suffix == '.safetensors'):
        return 'safetensors'
    for magic, words in _OTHERS.items():
        if start.startswith(magic):
            return words
    if start[:1] == b'\x80' and path.suffix not in _BY_SUFFIX:
        return 'a pickle, but none that torch.save wrote'
    return 'caffe' if start.startswith(_CAFFE) else _BY_SUFFIX.get(path.suffix)
