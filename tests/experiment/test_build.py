"""Settings that reach what they are for."""

import contextlib

import numpy as np
import pytest

from alexnet_jax.experiment import build, config_file
from alexnet_jax.experiment import config as configuration
from alexnet_jax.runtime.errors import InputError
from tests.data.photographs import write_classes


def test_numbers_of_the_channels_take_the_place_of_the_training_set_s(data_dir):
    def normalization(**settings: str):
        overrides = {'data.dir': data_dir, 'data.normalization': 'standardized'}
        overrides |= {f'data.{setting}': text for setting, text in settings.items()}
        config = config_file.load('configs/digits.py', overrides)
        return build.build(config).normalization

    own_mean, own_scale = normalization()
    mean, scale = normalization(mean='123.675,116.28,103.53')
    np.testing.assert_array_equal(mean, np.float32([123.675, 116.28, 103.53]))
    np.testing.assert_array_equal(scale, own_scale)
    mean, scale = normalization(std='58.395,57.12,57.375')
    np.testing.assert_array_equal(mean, own_mean)
    np.testing.assert_array_equal(scale, np.float32([58.395, 57.12, 57.375]))


@pytest.mark.parametrize('random_crop', [True, False])
def test_where_training_images_are_cropped(random_crop):
    """Of the 5 × 5 places of 28 pixels in 32, one is the middle."""
    config = config_file.load('configs/digits.py', {
        'data.source': 'synthetic', 'data.record_size': '32', 'data.batch_size': '32',
        'data.random_crop': str(random_crop), 'data.synthetic_examples': '32',
    })  # fmt: skip
    experiment = build.build(config)
    records = experiment.images.splits['train']
    middles = {records.read(row).image[2:30, 2:30].tobytes() for row in range(32)}
    with contextlib.closing(build.train_batches(experiment, 0)) as batches:
        images = np.asarray(next(batches)['image'])
    found = sum(image.tobytes() in middles for image in images)
    assert (found == 32) != random_crop


def test_the_source_s_digest_tells_programs_apart(tmp_path):
    (tmp_path / 'part').mkdir()
    (tmp_path / 'part' / 'one.py').write_text('a = 1')
    before = build.source_digest(tmp_path)
    (tmp_path / 'notes.txt').write_text('none of the program')
    assert build.source_digest(tmp_path) == before
    (tmp_path / 'part' / 'one.py').write_text('a = 2')
    changed = build.source_digest(tmp_path)
    (tmp_path / 'part' / 'one.py').rename(tmp_path / 'part' / 'two.py')
    assert len({before, changed, build.source_digest(tmp_path)}) == 3


def test_the_resize_reaches_the_search_for_a_set(tmp_path):
    write_classes(tmp_path / 'photos', 4)
    overrides = {'data.source': f'folder:{tmp_path}/photos', 'data.dir': str(tmp_path / 'sets')}
    config = config_file.load('configs/caffe.py', overrides)
    with pytest.raises(InputError, match=r'\(data\.resize squash\); run:\n.* --resize=squash'):
        build.build(config)


LAST = 2**31 - 1


@pytest.mark.parametrize(
    ('length', 'batch', 'examples', 'expected'),
    [
        ({'train.epochs': 3}, 128, 1000, 24),  # 23.4 batches
        ({'train.epochs': 4}, 125, 1000, 32),
        ({'train.steps': 5}, 128, 1000, 5),
        ({'train.steps': LAST}, 1, 1, LAST),
        ({'train.steps': LAST}, 128, 1000, LAST),
        ({'train.epochs': LAST}, 1000, 1000, LAST),
        ({'train.epochs': 1}, 1, LAST, LAST),
        ({'train.epochs': 2}, 1, LAST, r'2, which is 4294967294 .* 2147483647 steps, or 1 epoch$'),
        ({'train.epochs': LAST}, 1, 2, 'train.epochs is 2147483647, .* or 1073741823 epochs'),
        ({'train.epochs': LAST}, 128, 1280, 'data.batch_size is 128; .* or 214748364 epochs'),
        (
            {'train.steps': LAST},
            128,
            127,
            r'train.steps is 2147483647, .* at most 2130706431 steps',
        ),
        ({'train.steps': LAST}, LAST, 1, 'at most 1 step$'),
    ],
)
def test_steps_and_epochs_are_counted_in_32_bits(length, batch, examples, expected):
    config = configuration.complete({'data.batch_size': batch, **length}, {})
    if isinstance(expected, int):
        clock = build.clock(config, examples)
        assert clock.steps == expected and clock.epoch(clock.steps) <= LAST
    else:
        with pytest.raises(InputError, match=expected):
            build.clock(config, examples)
