"""Nets with units removed, beside plain loops over nets whose weights above them are zeros."""

import json

import jax
import numpy as np
import pytest

from alexnet_jax.evaluation import __main__ as command
from alexnet_jax.evaluation import evaluate
from alexnet_jax.experiment import trained, unit_lesions
from alexnet_jax.network import device_mesh, inference
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE
from alexnet_jax.weights import __main__ as weights
from tests.network.tiny import CLASSES, TINY, drawn

MEAN, SCALE = np.float32([120, 110, 100]), np.float32(60)


@pytest.fixture
def tiny(random):
    """Variables and images of 0 to 255."""
    variables, _ = drawn(TINY, random)
    return variables, random.integers(0, 256, (4, 13, 13, 3)).astype(np.uint8)


def lesioned(variables, images, layer, masks, shape=(1, 1)):
    net, mesh = AlexNet(TINY, CLASSES), device_mesh.make_mesh(*shape)
    forward = inference.make_lesioned(net, mesh, MEAN, SCALE, layer)
    placed = inference.place_variables(net, mesh, variables)
    return forward, jax.device_get(forward((placed, masks), images))


def test_masked_units_are_weights_of_0_in_the_layer_above(tiny):
    """A map below a pool, of which the fully connected layer reads every place."""
    variables, images = tiny
    masks = 1 - np.eye(16, dtype=np.float32)[:3]
    _, (whole, made) = lesioned(variables, images, 'conv2/relu', masks)
    net = AlexNet(TINY, CLASSES, precision='highest')
    normal = (images.astype(np.float32) - MEAN) / SCALE
    np.testing.assert_allclose(whole, net.apply(variables, normal)[0], rtol=1e-4, atol=1e-4)
    for unit in range(3):
        kernel = variables['params']['fc3']['kernel'].copy()
        kernel[:, :, :, unit] = 0
        cut = variables['params'] | {'fc3': variables['params']['fc3'] | {'kernel': kernel}}
        expected, _ = net.apply({'params': cut}, normal)
        np.testing.assert_allclose(made['lesioned'][:, unit], expected, rtol=1e-4, atol=1e-4)
        assert np.abs(expected - whole).max() > 0.01


@pytest.mark.thorough
def test_every_mesh_gives_the_same_bits(tiny):
    """And a mask of ones those of the whole net."""
    variables, images = tiny
    masks = np.stack([np.ones(12, np.float32), np.arange(12) % 2]).astype(np.float32)
    _, (whole, alone) = lesioned(variables, images, 'conv1/norm', masks)
    np.testing.assert_array_equal(alone['lesioned'][:, 0], whole)
    _, (_, other) = lesioned(variables, images, 'conv1/norm', masks, shape=(1, 2))
    np.testing.assert_array_equal(other['lesioned'], alone['lesioned'])


@pytest.mark.thorough
def test_layers_below_are_computed_once_and_masks_are_an_argument(tiny):
    """Convolutions in the compiled program: those of the whole net, and in the loop those above."""
    variables, images = tiny
    counts = {}
    for layer, maps in {'fc3/relu': 20, 'conv1/relu': 12}.items():
        masks = np.ones((3, maps), np.float32)
        forward, _ = lesioned(variables, images, layer, masks)
        text = forward.lower((variables, masks), images).compile().as_text()
        counts[layer] = text.count(' convolution(')
        forward((variables, 0 * masks), images)
        assert forward._cache_size() <= 2  # placed variables and others
    assert counts['conv1/relu'] == counts['fc3/relu'] * 3 / 2, counts


@pytest.mark.thorough
def test_errors_are_those_of_a_loop_over_nets_with_zeros(runs, monkeypatch):
    """In three passes over the images, the last of which is not full."""
    monkeypatch.setattr(unit_lesions, 'AT_ONCE', 2)
    showing = unit_lesions.open_showing(runs / '0', {})
    removed = unit_lesions.removals(showing.model, 'conv5/relu', '3,0,31,5,17')
    assert list(removed) == ['unit 3', 'unit 0', 'unit 31', 'unit 5', 'unit 17']
    whole, found = unit_lesions.lesions(showing, 'conv5/relu', removed)
    assert vars(whole) == vars_equal(showing.tally(), whole)
    runner, params = showing.runner(), showing.model.variables['params']
    changed = 0
    for lesion in found:
        kernel = params['fc6']['kernel'].copy()
        kernel[:, :, :, lesion.units[0]] = 0
        cut = showing.model.variables | {
            'params': params | {'fc6': params['fc6'] | {'kernel': kernel}}
        }
        expected = evaluate.evaluate(runner(cut), 10)
        np.testing.assert_array_equal(lesion.tally.top1, expected.top1)
        np.testing.assert_array_equal(lesion.tally.examples, expected.examples)
        np.testing.assert_allclose(lesion.tally.losses, expected.losses, rtol=1e-4, atol=1e-5)
        changed += lesion.tally.losses != whole.losses
    assert changed == 5


def vars_equal(found, expected):
    """`vars(found)`, each array replaced by the expected one if they are equal."""
    for name, value in vars(found).items():
        np.testing.assert_array_equal(value, getattr(expected, name))
    return vars(expected)


def test_units_are_chosen(runs):
    model = trained.load(runs / '0')
    columns = unit_lesions.removals(model, 'fc7/relu', 'columns')
    assert columns == {'column 1': tuple(range(128)), 'column 2': tuple(range(128, 256))}
    each = unit_lesions.removals(model, 'conv1/pool', 'each')
    assert each == {f'unit {number}': (number,) for number in range(16)}
    assert unit_lesions.removals(model, 'conv1', '7, 7,1') == {'unit 7': (7,), 'unit 1': (1,)}


@pytest.mark.thorough
def test_the_command_of_a_weight_file_on_some_images(runs, data_dir, tmp_path, capsys):
    """The column of fc7 that is removed is that whose weights in fc8 are zeros."""
    file, out = tmp_path / 'net.safetensors', tmp_path / 'out'
    assert weights.main(['export', str(runs / '0'), '--out', str(file)]) == DONE
    words = ['lesions', str(file), '--layer', 'fc7/relu', '--units', 'columns', '--images=40']
    settings = ['--config.data.source=digits', f'--config.data.dir={data_dir}']
    assert command.main([*words, *settings, '--out', str(out)]) == DONE
    result = json.loads((out / 'lesions.json').read_text())
    assert result['examples'] == 40 == sum(result['class_examples'])
    assert [row['removed'] for row in result['lesions']] == ['column 1', 'column 2']
    for row in (result['whole_net'], *result['lesions']):
        assert row['top1_error'] == pytest.approx(np.dot(
            [error or 0 for error in row['class_top1_errors']], result['class_examples']) / 40)  # fmt: skip
    others = [*words[:3], 'conv5/relu', *words[4:], *settings, '--out', str(out)]
    assert command.main(others) == BAD_INPUT  # which do not take the place of these
    assert 'is of another command: layer differ' in capsys.readouterr().err
    assert json.loads((out / 'lesions.json').read_text()) == result
    assert command.main([*words, *settings, '--out', str(out)]) == DONE
    page = (out / 'lesions.md').read_text()
    assert page in capsys.readouterr().out + '\n'
    assert f'| nothing | {result["whole_net"]["top1_error"]:.4f} |' in page


@pytest.mark.thorough
@pytest.mark.parametrize(('most', 'said'), [(300, False), (301, True)])
def test_more_images_than_there_are_is_said(most, said, runs, data_dir, tmp_path, capsys):
    words = ['lesions', str(runs / '0'), '--layer=fc7/relu', '--units=columns', f'--images={most}']
    settings = [f'--config.data.dir={data_dir}', '--out', str(tmp_path / 'out')]
    assert command.main([*words, *settings]) == DONE
    line = f'--images is {most}; the test split has 300: all were used'
    assert (line in capsys.readouterr().out.splitlines()) == said
    assert json.loads((tmp_path / 'out' / 'lesions.json').read_text())['examples'] == 300


def test_the_table_lists_the_largest_changes_first():
    """By hand."""

    def row(name, error, loss, by_class):
        return {'removed': name, 'top1_error': error, 'loss': loss, 'class_top1_errors': by_class}

    page = unit_lesions.markdown({
        'layer': 'conv5/relu', 'network': 'small', 'step': 3, 'split': 'test', 'source': 'x',
        'examples': 4, 'classes': ['a|b', 'c', 'd'], 'whole_net': row('', 0.5, 1.0, [0.5, None, 0.5]),
        'lesions': [
            row('unit 0', 0.5, 1.1, [0.5, None, 0.5]), row('unit 1', 0.25, 0.9, [0.0, None, 0.5]),
            row('unit 2', 0.5, 0.5, [0.75, None, 0.25]),
        ],
    })  # fmt: skip
    assert page.splitlines()[-4:] == [
        '| nothing | 0.5000 | | 1.0000 | | |',
        '| unit 1 | 0.2500 | -0.2500 | 0.9000 | -0.1000 | a\\|b 0.5000 → 0.0000 |',
        '| unit 2 | 0.5000 | +0.0000 | 0.5000 | -0.5000 | a\\|b 0.5000 → 0.7500 |',
        '| unit 0 | 0.5000 | +0.0000 | 1.1000 | +0.1000 |  |',
    ]


@pytest.mark.parametrize(('words', 'message'), [
    (['--layer=conv5/rleu'], "--layer is 'conv5/rleu'; the nearest is conv5/relu; allowed: one of conv1, "),
    (['--layer=fc8'], "--layer is 'fc8'; the nearest is fc"),
    (['--layer=conv1', '--units=3,16'], "--units is '3,16'; allowed: each, columns, or numbers from 0 to 15"),
    (['--layer=conv1', '--units=0000000000016'], "--units is '0000000000016'; allowed"),
    (['--layer=conv1', '--units=all'], "--units is 'all'; allowed: each, columns"),
    (['--layer=conv1', '--images=-1'], '--images is -1; allowed: from 0'),
])  # fmt: skip
def test_bad_commands_are_refused(words, message, runs, tmp_path, capsys):
    out = tmp_path / 'out'
    assert command.main(['lesions', str(runs / '0'), *words, '--out', str(out)]) == BAD_INPUT
    assert f'error: {message}' in capsys.readouterr().err
    assert not out.exists()
