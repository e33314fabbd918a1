"""ImageNet from its tars, through TFDS's own builder: miniature tars of the same layout."""

import importlib.util
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from alexnet_jax.data import image_set
from alexnet_jax.data.images import read_square
from alexnet_jax.data.prepare.sources import open_source
from alexnet_jax.runtime.errors import InputError
from tests.data.photographs import photograph, save
from tests.data.prepare.test_prepare import run


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


@pytest.fixture(scope='module')
def tars(tmp_path_factory) -> Path:
    """ImageNet's two tars with five classes of six images, one of them CMYK, one a
    PNG named .JPEG and some gray; and ten validation images."""
    folder = tmp_path_factory.mktemp('tars')
    synsets = tfds.core.tfds_path('datasets/imagenet2012/labels.txt').read_text().split()[:5]
    with tarfile.open(folder / 'ILSVRC2012_img_train.tar', 'w') as outer:
        for label, synset in enumerate(synsets):
            file = io.BytesIO()
            with tarfile.open(fileobj=file, mode='w') as inner:
                for number in range(6):
                    mode = {1: 'CMYK', 3: 'L'}.get(number, 'RGB')
                    image = photograph(label * 10 + number).convert(mode)
                    form = 'PNG' if number == 4 else 'JPEG'
                    add(inner, f'{synset}_{number}.JPEG', save(image, form))
            add(outer, f'{synset}.tar', file.getvalue())
    with tarfile.open(folder / 'ILSVRC2012_img_val.tar', 'w') as tar:
        for number in range(1, 11):
            add(tar, f'ILSVRC2012_val_{number:08d}.JPEG', save(photograph(number), 'JPEG'))
    return folder


def test_missing_tars_are_named(tmp_path):
    with pytest.raises(
        InputError, match=r'ILSVRC2012_img_train\.tar and ILSVRC2012_img_val\.tar not in'
    ):
        open_source('tfds:imagenet2012', data_dir=str(tmp_path), manual_dir=str(tmp_path))


@pytest.mark.skipif(
    importlib.util.find_spec('tensorflow') is not None, reason='TensorFlow is there'
)
def test_without_tensorflow_it_says_what_to_install(tars, tmp_path):
    with pytest.raises(InputError, match=r'needs tensorflow .*\npip install tensorflow$'):
        open_source('tfds:imagenet2012', data_dir=str(tmp_path), manual_dir=str(tars))


@pytest.mark.thorough
@pytest.mark.skipif(
    importlib.util.find_spec('tensorflow') is None, reason='needs the extra prepare'
)
def test_imagenet_from_its_tars(tars, tmp_path):
    words = ('--source=tfds:imagenet2012', f'--manual_dir={tars}', f'--data_dir={tmp_path}/tfds',
             f'--out={tmp_path}/set', '--size=48', '--workers=1')  # fmt: skip
    done = run(*words)
    assert done.returncode == 2
    assert (
        '30 training and 10 validation images where ILSVRC-2012 has 1281167 and 50000'
        in done.stderr
    )
    done = run(*words, '--allow_partial')
    assert done.returncode == 0, done.stderr
    images = image_set.open_set(tmp_path / 'set')
    assert len(images.classes) == 1000 and images.classes[0] == 'n01440764'
    records = [images.splits['train'].read(row) for row in range(30)]
    assert sorted(record.label for record in records) == [
        label for label in range(5) for _ in range(6)
    ]
    # Each is a photograph it was made of: the one nearest to it has its label.
    for record in records[::4]:
        squares = [
            np.asarray(read_square(save(photograph(label * 10 + number), 'PNG'), 48), int)
            for label in range(5) for number in range(6)
        ]  # fmt: skip
        gray = record.image.mean(axis=2)
        nearest = np.argmin([np.abs(square.mean(axis=2) - gray).mean() for square in squares])
        assert nearest // 6 == record.label
