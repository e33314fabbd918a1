"""Models in and out, as commands and in the library: other programs' files, and our own."""

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from absl import logging
from jax import export
from safetensors.numpy import load_file, save_file

import alexnet_jax
from alexnet_jax import main
from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment import loading
from alexnet_jax.experiment import workdir as workdirs
from alexnet_jax.experiment.identity import Identity
from alexnet_jax.experiment.model import Model
from alexnet_jax.network import device_mesh
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.runtime.command_line import DONE
from alexnet_jax.training import step
from alexnet_jax.training.checkpoint import Checkpoints
from alexnet_jax.weights import __main__ as weights
from alexnet_jax.weights import caffe
from tests.network.parity import QUICK
from tests.weights import authors, forms

TOLERANCE = 1e-4  # of logits of about 1
STORED = np.load(authors.LOGITS)
needs_torch = pytest.mark.skipif(
    importlib.util.find_spec('torch') is None, reason='PyTorch is not installed'
)

# Of `forms`: an eighth of the width, and images just large enough.
TORCHVISION_SIZE = ('--config.network.width=0.125', '--config.network.input_size=95')
CAFFE_SIZE = ('--config.network.width=0.125', '--config.network.input_size=99')
OWN = {
    'small': {'network.width': 0.5, 'data.record_size': 32, 'data.source': 'digits'},
    'batchnorm227': {
        'network.width': 0.0625, 'network.input_size': 67, 'data.normalization': 'standardized',
        'data.source': 'folder:/home/someone/photographs',
    },
}  # fmt: skip
CLASSES = ('a cat', 'a döner', 'no\nthing')


def done(*argv: Any) -> None:
    assert weights.main(list(map(str, argv))) == DONE


def write_form(folder: Path, form: str, random: np.random.Generator) -> tuple[Path, dict]:
    """A weight file as others write it, and its arrays by name."""
    if form.startswith('caffe'):
        blobs = forms.caffe_blobs(random)
        path = folder / f'{form}.caffemodel'
        authors.write_caffemodel(path, blobs, authors.caffe_order(form))
        return path, {
            f'{layer} {n}': x for layer, both in blobs.items() for n, x in enumerate(both)
        }
    arrays = forms.torchvision_arrays('torchvision', random)
    if form == 'safetensors':
        save_file(arrays, folder / 'theirs.safetensors', {'format': 'pt'})
        return folder / 'theirs.safetensors', arrays
    return authors.write_state_dict(folder / 'theirs.pth', arrays, form == 'legacy'), arrays


def arrays_of(loaded: Model) -> dict[str, np.ndarray]:
    by_part = {f'{layer}/{part}': x for layer, parts in loaded.layers.items()
               for part, x in parts.items()}  # fmt: skip
    return {'mean': loaded.mean, 'scale': loaded.scale, **by_part}


def same(one: Model, other: Model) -> bool:
    """Whether all there is to a model is the same, bit by bit."""
    for field in dataclasses.fields(Model):
        if field.name not in ('variables', 'mean', 'scale', 'data'):
            assert getattr(one, field.name) == getattr(other, field.name), field.name
    return forms.same(arrays_of(one), arrays_of(other))


@pytest.mark.thorough
@pytest.mark.parametrize('form', ['zip', 'legacy', 'safetensors', 'caffe', 'caffenet'])
def test_others_files_there_and_back(form, random, tmp_path):
    theirs, arrays = write_form(tmp_path, form, random)
    size = CAFFE_SIZE if form.startswith('caffe') else TORCHVISION_SIZE
    one, file, other = tmp_path / 'one', tmp_path / 'ours.safetensors', tmp_path / 'other'
    done('import', theirs, '--workdir', one, *size)
    done('export', one, '--out', file)
    done('import', file, '--workdir', other)

    overrides = dict(argument.removeprefix('--config.').split('=') for argument in size)
    loaded = loading.load(theirs, overrides=overrides)
    for source in (one, file, other):
        assert same(alexnet_jax.load(source), loaded)
    assert (one / 'config.json').read_text() == (other / 'config.json').read_text()
    assert loaded.classes == tuple(f'class {label}' for label in range(7))
    assert (loaded.step, loaded.mirror) == (0, True)

    if form.startswith('caffe'):
        done('export', other, '--out', tmp_path / 'back.caffemodel', '--form', 'caffe')
        layers = caffe.read(tmp_path / 'back.caffemodel')
        assert [layer.name for layer in layers] == authors.caffe_order(form)
        back = {f'{layer.name} {n}': x for layer in layers for n, x in enumerate(layer.blobs)}
    else:
        done('export', other, '--out', tmp_path / 'back.safetensors', '--form', 'torchvision')
        back = load_file(tmp_path / 'back.safetensors')
    assert forms.same(back, arrays)


def random_run(workdir: Path, name: str) -> dict[int, step.TrainState]:
    """A run that stands at steps 3 and 7, of random numbers; returns its states."""
    random = np.random.default_rng(0)
    config = configuration.complete({'network.name': name, **OWN[name]}, {})
    net = AlexNet(configuration.network_of(config), len(CLASSES))
    like = step.abstract_state(net, device_mesh.make_mesh())

    def number(path, array) -> np.ndarray:
        if path[-1] == jax.tree_util.DictKey('kernel'):
            drawn = random.normal(0, (2 / np.prod(array.shape[1:-1])) ** 0.5, array.shape)
        else:
            drawn = random.uniform(0.5, 1.5, array.shape)
        return drawn.astype(array.dtype)

    size = net.architecture.input_size
    shape = (size, size, 3) if name == 'small' else (3,)
    mean, scale = (random.uniform(40, 60, s).astype(np.float32) for s in (shape, 3))
    run = Identity(config, CLASSES, False, mean, scale, {})
    workdirs.claim(workdir, run)
    checkpoints, states = Checkpoints(workdir / 'checkpoints', keep=2, record=run.record), {}
    for at in (3, 7):
        drawn = jax.tree_util.tree_map_with_path(number, like)
        states[at] = drawn.replace(step=np.int32(at))
        checkpoints.save(states[at])
    checkpoints.wait()
    checkpoints.close()
    return states


@pytest.fixture(scope='module', params=OWN)
def run(request, tmp_path_factory) -> tuple[Path, dict[int, step.TrainState]]:
    workdir = tmp_path_factory.mktemp(request.param)
    return workdir, random_run(workdir, request.param)


@pytest.mark.thorough
def test_our_own_there_and_back(run, tmp_path):
    workdir, states = run
    file, other = tmp_path / 'ours.safetensors', tmp_path / 'other'
    done('export', workdir, '--out', file)
    done('import', file, '--workdir', other)
    kept = dict(np.load(workdir / 'normalization.npz'))
    expected = {f'normalization/{name}': x for name, x in kept.items()}
    for tree in (states[7].params, states[7].batch_stats):
        for layer, parts in tree.items():
            expected |= {f'{layer}/{part}': x for part, x in parts.items()}
    assert forms.same(load_file(file), expected)

    loaded, again = alexnet_jax.load(workdir), alexnet_jax.load(other)
    # All but what is of this machine, and no more of a path than its last name.
    source = loaded.config.data.source.replace('/home/someone/', '')
    assert same(
        again,
        dataclasses.replace(
            loaded, config=configuration.changed(loaded.config, {'data.source': source})
        ),
    )
    assert (again.classes, again.mirror, again.step) == (CLASSES, False, 7)
    assert b'/home/someone' not in file.read_bytes()

    done('export', workdir, '--out', file, '--step', 3)
    before = alexnet_jax.load(file)
    assert forms.same(before.layers['conv1'], states[3].params['conv1'])
    assert same(before, dataclasses.replace(alexnet_jax.load(workdir, 3), config=again.config))


@pytest.mark.thorough
def test_the_inference_itself(run, random, tmp_path):
    """One exported module, for any number of images."""
    workdir, _ = run
    done('export', workdir, '--out', tmp_path / 'net.stablehlo', '--form', 'stablehlo')
    exported = export.deserialize(bytearray((tmp_path / 'net.stablehlo').read_bytes()))
    call = jax.jit(exported.call, compiler_options=QUICK)
    loaded = alexnet_jax.load(workdir)
    size = loaded.net.architecture.input_size
    ours = jax.jit(lambda images: loaded(images)[0], compiler_options=QUICK)
    for batch in (1, 3):
        images = random.integers(0, 256, (batch, size, size, 3), np.uint8)
        logits = np.asarray(ours(images))
        assert logits.shape == (batch, 3) and logits.std() > 0.1
        np.testing.assert_allclose(call(images), logits, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope='module')
def photographs(tmp_path_factory) -> list[Path]:
    return authors.photographs(tmp_path_factory.mktemp('photographs'))


@pytest.fixture(scope='module', params=authors.NETS)
def imported(request, tmp_path_factory) -> tuple[str, Path]:
    """Another program's net of a quarter of the width, and a workdir of it."""
    folder = tmp_path_factory.mktemp(request.param)
    file = authors.write(folder, request.param)
    done('import', file, '--workdir', folder / 'run', f'--config.network.width={authors.WIDTH}')
    return request.param, folder / 'run'


def too_far(ours: Any, theirs: np.ndarray) -> bool:
    assert np.shape(ours) == theirs.shape and theirs.std(axis=-1).min() > 0.5
    return not np.abs(ours - theirs).max() < TOLERANCE


def logits_from_files(loaded: Model, files: list[Path], options: dict | None = None) -> np.ndarray:
    run = jax.jit(lambda images: loaded(images)[0], compiler_options=options)
    return np.asarray(run(np.concatenate([loaded.read(file) for file in files])))


@pytest.mark.thorough
def test_photographs_as_the_authors_programs_see_them(imported, photographs):
    """Pixel for pixel from the file, and the logits of it."""
    name, workdir = imported
    loaded = alexnet_jax.load(workdir)
    for file in photographs:
        np.testing.assert_array_equal(loaded.read(file)[0], authors.rgb_pixels(name, file))
    ours = logits_from_files(loaded, photographs, QUICK)
    assert not too_far(ours, STORED[name])
    if importlib.util.find_spec('torch') is not None:
        assert not too_far(ours, authors.logits(name, photographs))


@pytest.mark.slow
@needs_torch
@pytest.mark.parametrize('name', authors.NETS)
def test_photographs_at_full_width(name, photographs, tmp_path):
    done('import', authors.write(tmp_path, name, width=1), '--workdir', tmp_path / 'run')
    loaded = alexnet_jax.load(tmp_path / 'run')
    assert loaded.classes[281] == 'n02123045'  # tabby cat
    ours = logits_from_files(loaded, photographs)
    assert not too_far(ours, authors.logits(name, photographs, width=1))


@pytest.mark.thorough
def test_training_starts_from_an_imported_net(random, tmp_path):
    """One step, in which only the classifier learns."""
    file, _ = write_form(tmp_path, 'zip', random)
    theirs, run = tmp_path / 'theirs', tmp_path / 'run'
    done('import', file, '--workdir', theirs, *TORCHVISION_SIZE)
    assert main.main([
        '--config', 'configs/torchvision.py', '--workdir', str(run), *TORCHVISION_SIZE,
        f'--config.start.from={theirs}', '--config.data.source=synthetic',
        '--config.data.synthetic_examples=20', '--config.data.synthetic_classes=7',
        '--config.data.record_size=96', '--config.data.batch_size=4', '--config.train.steps=1',
        '--config.optimizer.layer_rates=conv1=0,conv2=0,conv3=0,conv4=0,conv5=0,fc6=0,fc7=0',
    ]) == DONE  # fmt: skip
    begun, trained = alexnet_jax.load(theirs), alexnet_jax.load(run)
    assert trained.step == 1
    for layer, parts in trained.layers.items():
        assert forms.same(parts, begun.layers[layer]) == (layer != 'fc8'), layer


def test_a_workdir_is_read_in_silence(run, caplog):
    """Orbax warns, on a logger that other users of it may want to hear."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        alexnet_jax.load(run[0])
        assert logging.get_verbosity() == logging.WARNING
    finally:
        logging.set_verbosity(before)
    assert not caplog.records
