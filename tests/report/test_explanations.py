"""`alexnet-jax explain`: what lies in its folder, beside the functions it calls and plain loops."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from alexnet_jax import load
from alexnet_jax.report import explain, explanations
from alexnet_jax.report.figures import attributions
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE, FAULT
from alexnet_jax.runtime.errors import InputError
from tests import random_run

pytestmark = pytest.mark.usefixtures('quickly')


@pytest.fixture(scope='module')
def workdir(data_dir, tmp_path_factory):
    place = tmp_path_factory.mktemp('explained') / 'run'
    return random_run.make(place, {'data.dir': data_dir, 'network.width': '0.5'}, seed=0)


@pytest.fixture
def files(tmp_path, random):
    """Two images, and between them what is none."""
    paths = [tmp_path / name for name in ('a.png', 'broken.png', 'c.png')]
    for path in paths[::2]:
        Image.fromarray(random.integers(0, 256, (40, 36, 3), dtype=np.uint8)).save(path)
    paths[1].write_bytes(b'none')
    return paths


def explained(workdir, files, out, *more: str) -> dict:
    words = [str(workdir), *map(str, files), '--out', str(out), *more]
    assert explain.main(words) == (BAD_INPUT if len(files) == 3 else DONE)
    return json.loads((out / 'explanations.json').read_text())


@pytest.mark.thorough
def test_a_broken_image_is_named_and_the_others_are_done(workdir, files, tmp_path, capsys):
    found = explained(workdir, files, tmp_path / 'out', '--method=gradient')
    assert f'error: {files[1]} is no JPEG or PNG' in capsys.readouterr().err
    assert [row['image'] for row in found['images']] == list(map(str, files))
    assert found['images'][1]['error'] == 'is no JPEG or PNG'
    names = {path.name for path in (tmp_path / 'out').iterdir()}
    assert names == {'explanations.json', '1.npy', '1.png', '3.npy', '3.png'}
    model = load(workdir)
    logits = np.asarray(model(model.read(files[2]))[0], np.float64)[0]
    row = found['images'][2]
    assert row['label'] == logits.argmax() and row['class'] == model.classes[logits.argmax()]
    assert row['probability'] == pytest.approx(
        (np.exp(logits) / np.exp(logits).sum()).max(), rel=1e-4
    )
    assert row['logit'] == pytest.approx(logits.max(), rel=1e-4)

    # The gradient, by a difference along it.
    slope = np.load(tmp_path / 'out' / '3.npy')
    step = 0.01 * slope / np.linalg.norm(slope)
    pixels = model.read(files[2]).astype(np.float32)
    rise = model(pixels + step)[0][0] - model(pixels - step)[0][0]
    assert float(rise[row['label']]) / 0.02 == pytest.approx(np.linalg.norm(slope), rel=0.05)


@pytest.mark.thorough
def test_integrated_gradients_state_how_exact_they_are(workdir, files, tmp_path):
    found = explained(workdir, files[:1], tmp_path / 'out', '--method=integrated', '--class=4')
    (row,) = found['images']
    assert row['label'] == 4 and found['parameters'] == {'steps': 64, 'baseline': 'mean'}
    model = load(workdir)
    baseline = np.broadcast_to(model.mean, (1, 28, 28, 3))
    assert row['baseline_logit'] == pytest.approx(float(model(baseline)[0][0, 4]), rel=1e-4)
    assert row['sum'] == pytest.approx(np.load(tmp_path / 'out' / '1.npy').sum(), rel=1e-3)
    gap = row['logit'] - row['baseline_logit']
    assert row['sum'] == pytest.approx(gap, abs=0.1 * abs(gap) + 0.05)


@pytest.mark.slow
def test_occlusion_and_grad_cam_have_their_parameters(workdir, files, tmp_path):
    """One square by hand: the third in the second row. Grad-CAM of the last convolution."""
    model, out = load(workdir), tmp_path / 'out'
    words = ['--method=occlusion', '--square=9', '--stride=5', '--class=7']
    found = explained(workdir, files[:1], out, *words)
    assert found['parameters'] == {'square': 9, 'stride': 5, 'fill': 'mean'}
    values = np.load(out / '1.npy')
    assert values.shape == (5, 5)
    pixels = model.read(files[0]).astype(np.float32)
    covered = pixels.copy()
    covered[0, 5:14, 10:19] = np.broadcast_to(model.mean, (28, 28, 3))[5:14, 10:19]
    probabilities = jax.nn.softmax(model(np.concatenate([pixels, covered]))[0])[:, 7]
    assert values[1, 2] == pytest.approx(float(probabilities[0] - probabilities[1]), abs=1e-5)

    out = tmp_path / 'gradcam'
    found = explained(workdir, files[:1], out, '--class=7')
    assert found['method'] == 'gradcam' and found['parameters'] == {'layer': 'conv5/relu'}
    maps = model(pixels)[1]['conv5/relu']
    slope = jax.grad(lambda maps: model(pixels, replace={'conv5/relu': maps})[0][0, 7])(maps)
    expected = np.maximum((maps * slope.mean(axis=(1, 2))).sum(axis=-1)[0], 0)
    np.testing.assert_allclose(
        np.load(out / '1.npy'), expected, rtol=1e-3, atol=1e-3 * expected.max()
    )
    assert expected.max() > 0


def test_classes_are_found_by_name_then_number():
    classes = ('7', 'n02123045', 'n02123159', 'dog')
    found = {text: explanations.label_of(classes, text)
             for text in ('7', 'n02123159', 'tiger cat', 'tabby', 'dog', '3')}  # fmt: skip
    assert found == {'7': 0, 'n02123159': 2, 'tiger cat': 2, 'tabby': 1, 'dog': 3, '3': 3}
    with pytest.raises(InputError, match="--class is 'dgo'; the nearest is dog; allowed: the name"):
        explanations.label_of(classes, 'dgo')
    with pytest.raises(InputError, match=r"--class is '4'; .* number from 0 to 3"):
        explanations.label_of(classes, '4')


@pytest.mark.parametrize('values', [np.zeros((28, 28)), -np.eye(28), np.eye(28)])
def test_a_picture_of_any_values(values, tmp_path):
    """And of names that Matplotlib would read as formulas."""
    image = np.zeros((28, 28, 3), np.uint8)
    attributions.draw(image, values, ('$a', 'b$^{'), tmp_path / 'x.png')
    assert Image.open(tmp_path / 'x.png').width > 500


@pytest.mark.parametrize(('words', 'message'), [
    (['--class=ten'], "--class is 'ten'; the nearest is "),
    (['--layer=fc7/relu'], "--layer is 'fc7/relu'; allowed: an activation with maps, one of conv1, "),
    (['--steps=5'], '--steps does not go with --method=gradcam'),
    (['--method=integrated', '--steps=0'], '--steps is 0; allowed: from 1 to 100000'),
    (['--method=occlusion', '--square=29'], '--square is 29; allowed: from 1 to 28'),
    (['--method=occlusion', '--square=4', '--stride=5'], '--stride is 5; allowed: from 1 to 4'),
    (['--method=guess'], "argument --method: invalid choice: 'guess'"),
])  # fmt: skip
def test_bad_commands_are_refused(words, message, workdir, files, tmp_path, capsys):
    out = tmp_path / 'out'
    assert explain.main([str(workdir), str(files[0]), '--out', str(out), *words]) == BAD_INPUT
    assert f'error: {message}' in capsys.readouterr().err
    assert not out.exists()


def test_a_folder_of_something_else_stays(workdir, files, tmp_path, capsys):
    (tmp_path / 'note').write_text('mine')
    assert explain.main([str(workdir), str(files[0]), '--out', str(tmp_path)]) == BAD_INPUT
    assert 'holds something else' in capsys.readouterr().err
    assert (tmp_path / 'note').read_text() == 'mine'


def test_explanations_are_not_replaced_by_others(workdir, files, tmp_path, capsys):
    words = [str(workdir), str(files[0]), '--method=gradient', '--out', str(tmp_path / 'out')]
    assert explain.main(words) == DONE
    before = {path: path.read_bytes() for path in (tmp_path / 'out').iterdir()}
    assert explain.main([*words, '--class=1']) == BAD_INPUT
    assert 'is of another command: class differ' in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (tmp_path / 'out').iterdir()} == before


def test_without_any_image_nothing_is_written(workdir, files, tmp_path, capsys):
    out = tmp_path / 'out'
    assert explain.main([str(workdir), str(files[1]), '--out', str(out)]) == BAD_INPUT
    assert 'no image could be read; nothing is written' in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.thorough
def test_values_that_are_not_finite_are_a_fault(workdir, files, tmp_path, monkeypatch, capsys):
    model = load(workdir)
    broken = jax.tree.map(lambda x: np.full_like(x, np.nan), model)
    monkeypatch.setattr(explanations, 'load', lambda source: broken)
    out = tmp_path / 'out'
    assert explain.main([str(workdir), str(files[0]), '--out', str(out)]) == FAULT
    assert 'gives NaN or infinite values' in capsys.readouterr().err
    assert not out.exists()
