"""Sets without training images, to evaluate trained nets on."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from alexnet_jax.data import image_set
from alexnet_jax.data.prepare import __main__ as prepare
from alexnet_jax.data.prepare import sources, stored
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE
from alexnet_jax.runtime.errors import InputError
from tests.data.photographs import photograph, save, write_classes
from tests.data.prepare.conftest import Bytes


class TestOnly(tfds.core.GeneratorBasedBuilder):
    """As TFDS has ImageNet-A: a test split alone, and the names of classes without images."""

    __test__ = False
    VERSION = tfds.core.Version('0.1.0')

    def _info(self):
        features = {
            'image': tfds.features.Image(encoding_format='jpeg'),
            'label': tfds.features.ClassLabel(names=['u', 'v', 'w', 'x', 'y']),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {'test': self._generate_examples()}

    def _generate_examples(self):
        for row, label in enumerate((4, 1, 1, 4, 3)):
            yield row, {'image': Bytes(save(photograph(row), 'JPEG')), 'label': label}


@pytest.mark.parametrize('splits', [('test',), ('val',), ('val', 'test')])
def test_a_folder_without_training_images(splits, tmp_path, capsys):
    top, out = tmp_path / 'images', tmp_path / 'set'
    for split in splits:
        write_classes(top / split, 2)
    spec = f'folder:{top}'
    assert not sources.lacks_val(spec)
    words = ['--source', spec, '--out', str(out), '--size=32', '--workers=1']
    assert prepare.main([*words, '--val_fraction=0.1']) == BAD_INPUT
    message = capsys.readouterr().err
    assert f'--val_fraction is 0.1, but {spec} has no training images' in message
    assert prepare.main(words) == DONE
    assert 'no training images: a set to evaluate on' in capsys.readouterr().out
    images = stored.of_source(spec, 32, str(out))
    assert {name: len(rows) for name, rows in images.splits.items()} == dict.fromkeys(splits, 6)
    # Nothing else is there to measure.
    pixels = np.stack([rows.read(i).image for rows in images.splits.values() for i in range(6)])
    np.testing.assert_allclose(images.statistics.mean_image, pixels.mean(axis=0), rtol=1e-12)
    assert set(tfds.builder_from_directory(str(out)).info.splits) == set(splits)
    assert prepare.main(words) == DONE
    assert 'is prepared already' in capsys.readouterr().out


def test_training_images_alone_are_measured_where_there_are_some(tmp_path):
    write_classes(tmp_path / 'images' / 'train', 2)
    write_classes(tmp_path / 'images' / 'val', 3)
    words = ['--source', f'folder:{tmp_path}/images', '--out', str(tmp_path / 'set')]
    assert prepare.main([*words, '--size=32', '--workers=1']) == DONE
    images = image_set.open_set(tmp_path / 'set')
    pixels = np.stack([images.splits['train'].read(row).image for row in range(6)])
    np.testing.assert_allclose(images.statistics.mean_image, pixels.mean(axis=0), rtol=1e-12)


def test_a_tfds_set_of_a_test_split_has_the_classes_of_its_images(tmp_path):
    TestOnly(data_dir=str(tmp_path), file_format='array_record').download_and_prepare()
    source = sources.open_source('tfds:test_only', data_dir=str(tmp_path))
    assert source.classes == ('v', 'x', 'y')
    assert {split: list(rows.labels) for split, rows in source.splits.items()} == {
        'test': [2, 0, 0, 2, 1]
    }
    some = source.splits['test'].take([4, 0])
    assert [some.square(row, 32, 10**6)[1] for row in (0, 1)] == [1, 2]


def test_a_tfds_set_of_no_known_split_is_refused(tiny_set, monkeypatch):
    monkeypatch.setattr('alexnet_jax.data.prepare.tfds.SPLIT_NAMES', {'train': ('none',)})
    with pytest.raises(
        InputError, match='has no split train, val or test with labels; it has: train'
    ):
        sources.open_source('tfds:tiny_set', data_dir=tiny_set)
