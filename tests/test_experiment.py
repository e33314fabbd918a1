"""Settings that reach what they are for."""

from pathlib import Path

import numpy as np
import pytest

from alexnet_jax import config as configuration
from alexnet_jax import experiment
from alexnet_jax.errors import InputError
from tests.data.photographs import write_classes


def test_numbers_of_the_channels_take_the_place_of_the_training_set_s(data_dir):
    def normalization(**settings: str):
        overrides = {'data.dir': data_dir, 'data.normalization': 'standardized'}
        overrides |= {f'data.{setting}': text for setting, text in settings.items()}
        config = configuration.load(Path('configs/digits.py'), overrides)
        return experiment.build(config).normalization

    own_mean, own_scale = normalization()
    mean, scale = normalization(mean='123.675,116.28,103.53')
    np.testing.assert_array_equal(mean, np.float32([123.675, 116.28, 103.53]))
    np.testing.assert_array_equal(scale, own_scale)
    mean, scale = normalization(std='58.395,57.12,57.375')
    np.testing.assert_array_equal(mean, own_mean)
    np.testing.assert_array_equal(scale, np.float32([58.395, 57.12, 57.375]))


def test_the_source_s_digest_tells_programs_apart(tmp_path):
    (tmp_path / 'part').mkdir()
    (tmp_path / 'part' / 'one.py').write_text('a = 1')
    before = experiment.source_digest(tmp_path)
    (tmp_path / 'notes.txt').write_text('none of the program')
    assert experiment.source_digest(tmp_path) == before
    (tmp_path / 'part' / 'one.py').write_text('a = 2')
    changed = experiment.source_digest(tmp_path)
    (tmp_path / 'part' / 'one.py').rename(tmp_path / 'part' / 'two.py')
    assert len({before, changed, experiment.source_digest(tmp_path)}) == 3


def test_the_resize_reaches_the_search_for_a_set(tmp_path):
    write_classes(tmp_path / 'photos', 4)
    overrides = {'data.source': f'folder:{tmp_path}/photos', 'data.dir': str(tmp_path / 'sets')}
    config = configuration.load(Path('configs/caffe.py'), overrides)
    with pytest.raises(InputError, match=r'\(data\.resize squash\); run:\n.* --resize=squash'):
        experiment.build(config)
