"""Folders of images, and the sets made of them."""

from pathlib import Path

import pytest
import tensorflow_datasets as tfds
from PIL import Image

from alexnet_jax.data.prepare import engines
from tests.data.photographs import photograph, save, write_classes
from tests.data.prepare.preparing import make, run, words


class Bytes:
    """A file as TFDS takes it."""

    def __init__(self, content: bytes):
        self._content = content

    def read(self) -> bytes:
        return self._content


class TinySet(tfds.core.GeneratorBasedBuilder):
    """Images with a label each, from 0 to 2; the unlabeled test split has -1."""

    VERSION = tfds.core.Version('1.2.0')

    def _info(self):
        features = {
            'picture': tfds.features.Image(shape=(None, None, 3)),
            'kind': tfds.features.ClassLabel(names=['x', 'y', 'z']),
            'note': tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {
            name: self._generate_examples(number, labeled)
            for name, number, labeled in (
                ('train', 12, True),
                ('dev', 5, True),
                ('test', 3, False),
            )
        }

    def _generate_examples(self, count, labeled):
        for row in range(count):
            label = row % 3 if labeled else -1
            # Bytes of a file: to encode an array, TFDS needs TensorFlow.
            picture = save(photograph(row), 'JPEG')
            yield row, {'picture': Bytes(picture), 'kind': label, 'note': f'number {row}'}


@pytest.fixture(scope='session')
def tiny_set(tmp_path_factory) -> str:
    folder = str(tmp_path_factory.mktemp('tfds'))
    TinySet(data_dir=folder, file_format='array_record').download_and_prepare()
    return folder


@pytest.fixture(scope='session')
def folder(tmp_path_factory) -> Path:
    """600 training and 60 validation images of all kinds: five shards and one."""
    top = tmp_path_factory.mktemp('folder')
    write_classes(top / 'train', 200)
    write_classes(top / 'val', 20)
    return top


@pytest.fixture(scope='session')
def whole(folder, tmp_path_factory) -> Path:
    """The set made of `folder` by one process, undisturbed."""
    out = tmp_path_factory.mktemp('whole') / 'set'
    assert run(*words(folder, out, '--workers=1')).returncode == 0
    return out


@pytest.fixture
def spoilt(tmp_path) -> Path:
    """20 images in two classes, three of them broken."""
    write_classes(tmp_path / 'spoilt', 10, ('a', 'b'))
    (tmp_path / 'spoilt' / 'a' / '004.png').write_bytes(b'GIF89a no image')
    truncated = tmp_path / 'spoilt' / 'b' / '000.jpeg'
    truncated.write_bytes(truncated.read_bytes()[:-50])
    (tmp_path / 'spoilt' / 'b' / '001.jpeg').write_bytes(save(Image.new('RGB', (1, 1)), 'JPEG'))
    return tmp_path / 'spoilt'


@pytest.fixture
def begun(folder, tmp_path):
    """Begins a preparation and ends after two shards: the shards' bytes, and what goes on."""

    def begin() -> dict[str, bytes]:
        def engine(tasks):
            yield from engines.one_by_one(tasks[:2])
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            make(folder, tmp_path / 'set', engine)
        return {path.name: path.read_bytes() for path in (tmp_path / 'set').glob('*record*')}

    return begin
