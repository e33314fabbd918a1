"""`alexnet-jax units`: its folder beside the net's own activations of every image; what it refuses."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from alexnet_jax import load
from alexnet_jax.experiment import build, trained
from alexnet_jax.report import unit_folder, units
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE, FAULT
from alexnet_jax.runtime.errors import InputError, StopRequestedError
from alexnet_jax.weights import __main__ as weights
from tests import random_run

pytestmark = pytest.mark.usefixtures('quickly')


@pytest.fixture(scope='module')
def workdir(data_dir, tmp_path_factory):
    place = tmp_path_factory.mktemp('units') / 'run'
    return random_run.make(place, {'data.dir': data_dir, 'network.width': '0.5'}, seed=0)


@pytest.fixture(scope='module')
def made(workdir, tmp_path_factory):
    """Three units of the last convolution, and the folder with their pictures."""
    out = tmp_path_factory.mktemp('made') / 'out'
    assert units.main([*words(workdir, out), '--images=4', '--steps=20']) == DONE
    return out


def words(model, out, chosen='7,0,30') -> list[str]:
    return [str(model), '--units', chosen, '--out', str(out)]


@pytest.mark.thorough
def test_the_images_are_the_first_of_a_sort_of_all_training_images(made, workdir, digits):
    model, records = load(workdir), digits.splits['train']
    images = np.stack([records.read(row).image[2:30, 2:30] for row in range(len(records))])
    values = np.asarray(model(images)[1]['conv5/relu'])
    found = json.loads((made / 'units.json').read_text())
    assert (found['layer'], found['split'], found['examples']) == ('conv5/relu', 'train', 1297)
    assert [unit['unit'] for unit in found['units']] == [7, 0, 30]
    for unit in found['units']:
        maps = values[..., unit['unit']].reshape(len(images), -1)
        rows = np.argsort(-maps.max(axis=1), kind='stable')[:4]
        ids = [records.read(int(row)).id.decode() for row in rows]
        assert [image['id'] for image in unit['images']] == ids
        labels = [records.read(int(row)).label for row in rows]
        assert [image['label'] for image in unit['images']] == labels
        np.testing.assert_allclose(
            [image['value'] for image in unit['images']], maps.max(axis=1)[rows], rtol=1e-4
        )
        place = np.unravel_index(maps[rows[0]].argmax(), values.shape[1:3])
        assert unit['images'][0]['position'] == list(map(int, place))
        assert unit['ascent']['value'] > unit['ascent']['start']


@pytest.mark.thorough
def test_pictures_lie_beside_the_numbers(made):
    names = {'index.html', 'units.json'}
    names |= {f'{kind}-{number}.png' for kind in ('unit', 'ascent') for number in (7, 0, 30)}
    assert {path.name for path in made.iterdir()} == names
    assert Image.open(made / 'ascent-7.png').size == (28, 28)
    assert Image.open(made / 'unit-7.png').width > 4 * 100
    page = (made / 'index.html').read_text()
    assert page.count('<img') == 3 * (1 + 4) and 'among 1297 training images' in page


@pytest.mark.thorough
def test_the_same_command_replaces_its_folder_and_no_other(made, workdir, capsys):
    again = [*words(workdir, made), '--images=4', '--steps=20']
    before = {path.name: path.read_bytes() for path in made.iterdir()}
    assert units.main(again) == DONE
    assert {path.name: path.read_bytes() for path in made.iterdir()} == before
    assert units.main([*again, '--seed=1']) == BAD_INPUT
    assert 'is of another command: seed differ' in capsys.readouterr().err
    (made.parent / 'else').mkdir()
    (made.parent / 'else' / 'notes.txt').touch()
    assert units.main(words(workdir, made.parent / 'else')) == BAD_INPUT
    assert 'is there and holds something else' in capsys.readouterr().err


@pytest.mark.thorough
def test_a_weight_file_whose_set_is_not_here_is_given_the_ascents_alone(
    workdir, tmp_path, monkeypatch, capsys
):
    """Here of the logit of a class."""

    def gone(config):
        raise InputError('data.dir: no such set')

    file, out = tmp_path / 'net.safetensors', tmp_path / 'out'
    assert weights.main(['export', str(workdir), '--out', str(file)]) == DONE
    monkeypatch.setattr(build, 'open_images', gone)
    assert units.main([*words(file, out, '1'), '--layer=fc8', '--steps=20']) == DONE
    assert (
        'no images: data.dir: no such set; writing gradient ascents only' in capsys.readouterr().out
    )
    found = json.loads((out / 'units.json').read_text())
    assert found['split'] is None and found['units'][0]['images'] == []
    assert found['units'][0]['ascent']['value'] > found['units'][0]['ascent']['start']
    assert 'No images are available' in (out / 'index.html').read_text()


@pytest.mark.parametrize(('more', 'message'), [
    (['--layer=conv5/rleu'], "--layer is 'conv5/rleu'; the nearest is conv5/relu; allowed: one of conv1, "),
    (['--units=3,32'], "--units is '3,32'; allowed: each, or numbers from 0 to 31 with commas"),
    (['--units='], "--units is ''; allowed: each, or numbers"),
    (['--images=0'], '--images is 0; allowed: from 1 to 32'),
    (['--steps=0'], '--steps is 0; allowed: from 1 to 100000'),
    (['--seed=-1'], '--seed is -1; allowed: from 0 to 2147483647'),
    (['--config.data.source=folder:/gone'], 'folder:/gone: no such folder'),
])  # fmt: skip
def test_bad_commands_are_refused(more, message, workdir, tmp_path, capsys):
    out = tmp_path / 'out'
    assert units.main([*words(workdir, out), *more]) == BAD_INPUT
    assert message in capsys.readouterr().err
    assert not out.exists()


def broken(model):
    return jax.tree.map(lambda x: np.full_like(x, np.nan), model)


@pytest.mark.thorough
def test_values_that_are_not_finite_are_a_fault(workdir, tmp_path, monkeypatch, capsys):
    model, config = trained.open_any(workdir, {})
    monkeypatch.setattr(trained, 'open_any', lambda source, overrides: (broken(model), config))
    assert units.main([*words(workdir, tmp_path / 'out'), '--steps=2']) == FAULT
    assert 'gives NaN or infinite values of unit 7; nothing is' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_a_stop_leaves_nothing(workdir, tmp_path):
    """Asked for during the pass over the images."""
    asked = iter([False, True])
    request = unit_folder.Request(None, '0', 4, 3, 0)
    with pytest.raises(StopRequestedError):
        unit_folder.keep(workdir, {}, request, tmp_path / 'out', lambda: next(asked))
    assert next(asked, None) is None and not list(tmp_path.iterdir())
