"""Weight files of any name: printed by their content, and never waited for."""

import functools
import gzip
import io
import os
import shutil
import socket
import tarfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from alexnet_jax.experiment import loading
from alexnet_jax.runtime import files as small_files
from alexnet_jax.runtime.errors import InputError
from alexnet_jax.weights import __main__ as commands
from alexnet_jax.weights import caffe, files, pretrained
from tests.weights import authors, forms, handmade

ARRAYS = forms.torchvision_arrays('torchvision', np.random.default_rng(0))


refusal = functools.partial(forms.refusal, pretrained.open_file)


def writers(folder: Path) -> dict[str, Path]:
    blobs = forms.caffe_blobs(np.random.default_rng(0))
    save_file(ARRAYS, folder / 'safetensors')
    return {
        'zip': authors.write_state_dict(folder / 'zip', ARRAYS),
        'legacy': authors.write_state_dict(folder / 'legacy', ARRAYS, legacy=True),
        'safetensors': folder / 'safetensors',
        'layer': authors.write_caffemodel(folder / 'layer', blobs, authors.caffe_order('caffe')),
        'layers': authors.write_caffemodel(
            folder / 'layers', blobs, authors.caffe_order('caffe'), old=True
        ),
    }


@pytest.fixture(scope='module')
def written(tmp_path_factory) -> dict[str, Path]:
    return writers(tmp_path_factory.mktemp('written'))


NAMES = ('a', 'a.pth', 'a.pt', 'a.pth.tar', 'a.ckpt', 'a.bin', 'a.tar', 'a.pkl', 'a.safetensors',
         'a.caffemodel', 'a.h5', 'model_best', '.hidden')  # fmt: skip


@pytest.mark.parametrize('name', NAMES)
def test_the_name_of_a_file_does_not_count(name, written, tmp_path):
    for form, source in written.items():
        path = tmp_path / name
        shutil.copy(source, path)
        net = 'caffe' if form.startswith('layer') else 'torchvision'
        opened = pretrained.open_file(path)
        assert opened.settings['network.name'] == net, (form, name)
        layers = opened.layers(opened.architecture(forms.reduced(net)))
        assert layers.keys() == set(forms.CAFFE_LAYERS)
        assert pretrained.is_weight_file(path)


def packed(content: bytes) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode='w') as tar:
        entry = tarfile.TarInfo('weights')
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()


OTHERS = {
    'gzip': (gzip.compress(b'x'), 'packed by gzip'), 'bzip2': (b'BZh91AY', 'packed by bzip2'),
    'tar': (packed(b'x'), 'a tar archive; unpack it first'),
    'xz': (b'\xfd7zXZ\0', 'packed by xz'), 'HDF5': (b'\x89HDF\r\n', 'an HDF5 file'),
    'NumPy': (b'\x93NUMPY\1\0', "an array of NumPy's"),
    'a page': (b'<!DOCTYPE html>', 'a web page'), 'another page': (b'<html>', 'a web page'),
    'Git LFS': (b'version https://git-lfs.github.com/spec/v1\n', 'a pointer of Git LFS'),
    'a pickle': (b'\x80\x04}.', 'a pickle, but none that torch.save wrote'),
    'nothing': (b'', 'of no known kind; allowed: .safetensors'), 'text': (b'abc', 'of no known'),
    'a photograph': (b'\xff\xd8\xff\xe0', 'of no known kind'),
    'an archive': (b'PK\x03\x04', 'cut short or garbled'),
}  # fmt: skip


@pytest.mark.parametrize('name', OTHERS)
def test_files_that_hold_something_else(name, tmp_path):
    content, printed = OTHERS[name]
    (tmp_path / 'a.bin').write_bytes(content)
    assert printed in refusal(tmp_path / 'a.bin')


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors', '.caffemodel', '', '.bin'])
def test_what_is_no_file_is_not_waited_for(suffix, tmp_path):
    pipe, folder = tmp_path / f'pipe{suffix}', tmp_path / f'folder{suffix}'
    os.mkfifo(pipe)
    folder.mkdir()
    link = tmp_path / f'link{suffix}'
    link.symlink_to('/dev/zero')
    dangling = tmp_path / f'dangling{suffix}'
    dangling.symlink_to(tmp_path / 'none')
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / f's{suffix}'))
        for path in (pipe, link, tmp_path / f's{suffix}', dangling, folder):
            refusal(path)
            with pytest.raises(InputError):
                loading.load(path)
    for path in (pipe, link):
        with pytest.raises(InputError, match='not a regular file'):
            caffe.read(path)
        with pytest.raises(InputError, match='not a regular file'):
            files.read_arrays(path)


def test_prefixes_in_safetensors(tmp_path):
    for number, prefix in enumerate(('module.', 'model._orig_mod.', 'net.')):
        path = tmp_path / str(number)
        save_file({f'{prefix}{name}': x for name, x in ARRAYS.items()}, path)
        opened = pretrained.open_file(path)
        assert opened.layers(forms.reduced('torchvision')).keys() == set(forms.CAFFE_LAYERS)
    save_file(ARRAYS | {'module.features.0.bias': ARRAYS['features.0.bias']}, path)
    assert 'features.0.bias twice' in refusal(path)


def names(folder: Path, content: bytes) -> tuple[str, ...]:
    (folder / 'names').write_bytes(content)
    return commands.read_names(folder / 'names')


HARMLESS = {
    'plain': b'a\nb c\n', 'no end': b'a\nb c', 'CRLF': b'a\r\nb c\r\n', 'a mark': b'\xef\xbb\xbfa\nb c\n',
    'spaces': b'  a \nb c\t \n', 'blank lines': b'\n\na\n \n\r\nb c\n\n\n', 'old Mac ends': b'a\r\nb c\r',
    'a mark and CRLF': b'\xef\xbb\xbfa\r\nb c\r\n\r\n',
}  # fmt: skip
WRONG = {
    'twice': (b'a\nb\n\na\n', r"line 4, is 'a', as line 1 is"),
    'twice but for spaces': (b'a\nb\n a \n', 'line 3, is'),
    'NUL': (b'a\nb\0c\n', r"line 2, is 'b\x00c'; allowed: no control characters"),
    'escape': (b'a\n\x1b[2J\n', 'line 2, is'), 'a vertical tab': (b'a\nb\x0bc', 'line 2'),
    'a tab inside': (b'a\tb\nc', 'line 1'), 'next line': (b'a\nb\xc2\x85c', 'line 2'),
    'a return inside': (b'a\rb\n', 'line 1'),
    'Latin 1': (b'a\n\nd\xf6ner\n', 'line 3, is not UTF-8'), 'UTF-16': ('a\nb'.encode('utf-16'), 'line 1'),
    'long': (b'a\n' + b'x' * 1001, 'line 2, has 1001 characters; allowed: at most 1000'),
    'very large': (b'a\n' * (small_files.MOST_BYTES // 2 + 1), 'has more than 67108864 bytes'),
}  # fmt: skip


@pytest.mark.parametrize('name', HARMLESS)
def test_names_with_what_does_not_count(name, tmp_path):
    assert names(tmp_path, HARMLESS[name]) == ('a', 'b c')


@pytest.mark.parametrize('name', WRONG)
def test_names_that_are_wrong(name, tmp_path):
    content, printed = WRONG[name]
    with pytest.raises(InputError) as error:
        names(tmp_path, content)
    assert printed in str(error.value) and f'--classes {tmp_path / "names"}' in str(error.value)
    assert str(error.value).isprintable()


def test_names_of_any_language_and_none(tmp_path):
    assert names(tmp_path, '고양이\nا ب\nd\u2028e\n'.encode()) == ('고양이', 'ا ب', 'd\u2028e')
    assert names(tmp_path, b'') == names(tmp_path, b'\xef\xbb\xbf\n') == ()


def test_names_that_are_no_file(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    for path in (tmp_path / 'pipe', tmp_path, Path('/dev/zero'), tmp_path / 'none'):
        with pytest.raises(InputError, match=f'--classes {path} cannot be read'):
            commands.read_names(path)


def test_bytes_by_hand():
    """`handmade` agrees with what it is to write."""
    assert handmade.real(1, 0.5) == b'\x0d\x00\x00\x00\x3f'
