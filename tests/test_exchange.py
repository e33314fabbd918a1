"""Models in and out, as commands and in the library: other programs' files, our own, and
what is refused."""

import dataclasses
import importlib.util
import json
import re
import resource
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from absl import logging
from jax import export
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import alexnet_jax
from alexnet_jax import config as configuration
from alexnet_jax import experiment, main, model
from alexnet_jax.command_line import BAD_INPUT, DONE
from alexnet_jax.errors import InputError
from alexnet_jax.model import Model
from alexnet_jax.network import columns
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.training import step
from alexnet_jax.training.checkpoint import Checkpoints
from alexnet_jax.weights import __main__ as weights
from alexnet_jax.weights import caffe
from tests.network.parity import QUICK
from tests.weights import authors, forms, handmade

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
        if field.name not in ('variables', 'mean', 'scale'):
            assert getattr(one, field.name) == getattr(other, field.name), field.name
    return forms.same(arrays_of(one), arrays_of(other))


@pytest.mark.parametrize('form', ['zip', 'legacy', 'safetensors', 'caffe', 'caffenet'])
def test_others_files_there_and_back(form, random, tmp_path):
    theirs, arrays = write_form(tmp_path, form, random)
    size = CAFFE_SIZE if form.startswith('caffe') else TORCHVISION_SIZE
    one, file, other = tmp_path / 'one', tmp_path / 'ours.safetensors', tmp_path / 'other'
    done('import', theirs, '--workdir', one, *size)
    done('export', one, '--out', file)
    done('import', file, '--workdir', other)

    overrides = dict(argument.removeprefix('--config.').split('=') for argument in size)
    loaded = model.load(theirs, overrides=overrides)
    for source in (one, file, other):
        assert same(alexnet_jax.load(source), loaded)
    assert (one / 'config.json').read_text() == (other / 'config.json').read_text()
    assert loaded.classes == tuple(f'class {label}' for label in range(7))
    assert (loaded.step, loaded.mirror) == (0, True)

    if form.startswith('caffe'):
        done('export', other, '--out', tmp_path / 'back.caffemodel', '--form', 'caffe')
        back = caffe.read(tmp_path / 'back.caffemodel')
        assert list(back.order) == authors.caffe_order(form)[1:]  # all but the images
        back = {f'{layer} {n}': x for layer, both in back.blobs.items() for n, x in enumerate(both)}
    else:
        done('export', other, '--out', tmp_path / 'back.safetensors', '--form', 'torchvision')
        back = load_file(tmp_path / 'back.safetensors')
    assert forms.same(back, arrays)


def test_names_of_classes(random, tmp_path):
    file, _ = write_form(tmp_path, 'zip', random)
    names = ('a cat', 'a döner', *'cdefg')
    (tmp_path / 'names.txt').write_text('\n'.join(names) + '\n')
    done(
        'import', file, '--workdir', tmp_path / 'run',
        '--classes', tmp_path / 'names.txt', *TORCHVISION_SIZE,
    )  # fmt: skip
    done('export', tmp_path / 'run', '--out', tmp_path / 'ours.safetensors')
    for source in (tmp_path / 'run', tmp_path / 'ours.safetensors'):
        assert alexnet_jax.load(source).classes == names


def random_run(workdir: Path, name: str) -> dict[int, step.TrainState]:
    """A run that stands at steps 3 and 7, of random numbers; returns its states."""
    random = np.random.default_rng(0)
    config = configuration.complete({'network.name': name, **OWN[name]}, {})
    net = AlexNet(configuration.network_of(config), len(CLASSES))
    like = step.abstract_state(net, columns.make_mesh())

    def number(path, array) -> np.ndarray:
        if path[-1] == jax.tree_util.DictKey('kernel'):
            drawn = random.normal(0, (2 / np.prod(array.shape[1:-1])) ** 0.5, array.shape)
        else:
            drawn = random.uniform(0.5, 1.5, array.shape)
        return drawn.astype(array.dtype)

    experiment.claim_workdir(workdir, config)
    size = net.architecture.input_size
    shape = (size, size, 3) if name == 'small' else (3,)
    mean, scale = (random.uniform(40, 60, s).astype(np.float32) for s in (shape, 3))
    model.describe(workdir, CLASSES, False, mean, scale)
    checkpoints, states = Checkpoints(workdir / 'checkpoints', keep=2), {}
    for at in (3, 7):
        drawn = jax.tree_util.tree_map_with_path(number, like)
        states[at] = drawn.replace(step=np.int32(at))
        checkpoints.save(states[at], {})
    checkpoints.close()
    return states


@pytest.fixture(scope='module', params=OWN)
def run(request, tmp_path_factory) -> tuple[Path, dict[int, step.TrainState]]:
    workdir = tmp_path_factory.mktemp(request.param)
    return workdir, random_run(workdir, request.param)


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
    source = loaded.config['data.source'].replace('/home/someone/', '')
    assert same(again, dataclasses.replace(loaded, config=loaded.config | {'data.source': source}))
    assert (again.classes, again.mirror, again.step) == (CLASSES, False, 7)
    assert b'/home/someone' not in file.read_bytes()

    done('export', workdir, '--out', file, '--step', 3)
    before = alexnet_jax.load(file)
    assert forms.same(before.layers['conv1'], states[3].params['conv1'])
    assert same(before, dataclasses.replace(alexnet_jax.load(workdir, 3), config=again.config))


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


@pytest.mark.parametrize('imported', ['caffe'], indirect=True)
def test_predictions_from_an_imported_net(imported, photographs):
    name, workdir = imported
    images = [photographs[0], photographs[3]]
    assert main.main(['--workdir', str(workdir), '--mode=predict', *map(str, images)]) == DONE
    kept = json.loads((workdir / 'predict' / 'predictions.json').read_text())
    assert (kept['network'], kept['step']) == (name, 0)
    theirs = np.exp(np.float64(STORED[name][[0, 3]]))
    theirs /= theirs.sum(axis=1, keepdims=True)
    for row, image, probabilities in zip(kept['images'], images, theirs, strict=True):
        assert row['image'] == str(image)
        best = np.argsort(-probabilities)[:5]
        assert [told['class'] for told in row['predictions']] == [f'class {x}' for x in best]
        ours = [told['probability'] for told in row['predictions']]
        np.testing.assert_allclose(ours, probabilities[best], rtol=1e-3)


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


def refusal(capsys, folder: Path, *argv: Any) -> str:
    """What a command that was refused has said; it has written nothing."""
    capsys.readouterr()
    before = set(folder.rglob('*'))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert weights.main(list(map(str, argv))) == BAD_INPUT
    assert set(folder.rglob('*')) == before
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 1 << 18  # KiB
    out, told = capsys.readouterr()
    assert not out and len(told) < 800, told
    lines = told.splitlines()
    assert len(lines) <= 2, told
    assert all(line.startswith('error: ') and line.isprintable() for line in lines), told
    return told


def state_dict(folder: Path, change: Callable[[dict], Any] = dict) -> list:
    arrays = forms.torchvision_arrays('torchvision', np.random.default_rng(0))
    change(arrays)
    return [authors.write_state_dict(folder / 'theirs.pth', arrays), *TORCHVISION_SIZE]


def caffemodel(folder: Path, order: Sequence[str] = forms.CAFFE_LAYERS) -> list:
    blobs = forms.caffe_blobs(np.random.default_rng(0))
    return [authors.write_caffemodel(folder / 'a.caffemodel', blobs, order), *CAFFE_SIZE]


def runs_code(folder: Path) -> list:
    pickled = f"cos\nsystem\n(S'touch {folder}/ran'\ntR.".encode()
    return [handmade.write_zip(folder / 'theirs.pth', pickled, {})]


def cut_short(folder: Path) -> list:
    path, *size = caffemodel(folder)
    path.write_bytes(path.read_bytes()[:-1000])
    return [path, *size]


def named(folder: Path, names: bytes) -> list:
    (folder / 'names.txt').write_bytes(names)
    return [*state_dict(folder), '--classes', folder / 'names.txt']


def empty(folder: Path) -> list:
    (folder / 'weights.h5').write_bytes(b'')
    return [folder / 'weights.h5']


CAFFE_ORDER = authors.caffe_order('caffe')
BAD_IMPORTS: dict[str, tuple[Callable[[Path], list], str]] = {
    'runs code': (runs_code, 'holds os.system'),
    'cut short': (cut_short, 'cut short or garbled'),
    'missing': (
        lambda folder: state_dict(folder, lambda x: x.pop('features.3.bias')),
        'missing: features.3.bias',
    ),
    'extra': (
        lambda folder: state_dict(folder, lambda x: x.update({'more': np.ones(2, np.float32)})),
        'too many: more',
    ),
    'misshapen': (
        lambda folder: state_dict(folder, lambda x: x.update({'features.0.bias': x['features.3.bias']})),
        'features.0.bias (24,), not (8,)',
    ),
    'of another size': (lambda folder: state_dict(folder)[:1], 'not (64, 3, 11, 11)'),
    'another net': (
        lambda folder: [*state_dict(folder), '--net=caffe'], '--net is caffe, but '
    ),
    "Caffe's other net": (
        lambda folder: [*caffemodel(folder, CAFFE_ORDER), '--net=caffenet'],
        '--net is caffenet, but ',
    ),
    'no net': (lambda folder: [*state_dict(folder), '--net=cafe'], 'the nearest is caffe;'),
    'untold': (caffemodel, 'import it with --net=caffe or --net=caffenet'),
    'too few names': (lambda folder: named(folder, b'a\nb\n'), '--classes has 2 names; '),
    'no names': (lambda folder: named(folder, b''), '--classes has 0 names; '),
    'names that are no text': (lambda folder: named(folder, b'\xff\xfe'), 'names.txt cannot be read'),
    'no file of names': (
        lambda folder: [*state_dict(folder), '--classes', folder / 'none.txt'],
        'none.txt cannot be read',
    ),
    'a setting': (
        lambda folder: [*state_dict(folder), '--config.network.width=0'],
        'network.width is 0.0; allowed: a number above 0',
    ),
    'settings': (
        lambda folder: [*state_dict(folder), *(f'--config.x{n}=1' for n in range(5))],
        'unknown setting x0; the nearest is data.synthetic_examples and 4 more',
    ),
    'no mean': (
        lambda folder: [*state_dict(folder), '--config.data.normalization=mean_image',
                        '--config.data.mean=', '--config.data.std='],
        'data.mean is nothing; imported weights have no training set to ask',
    ),
    'suffix': (empty, 'weights.h5 is of no known kind; allowed: .safetensors, .pth'),
    'no file': (lambda folder: [folder / 'none.pth'], 'none.pth: no such file'),
}  # fmt: skip


@pytest.mark.parametrize('name', BAD_IMPORTS)
def test_a_bad_import_ends_in_plain_words(name, tmp_path, capsys):
    make, message = BAD_IMPORTS[name]
    argv = make(tmp_path)
    assert message in refusal(capsys, tmp_path, 'import', *argv, '--workdir', tmp_path / 'run')


def test_caffes_other_net_only_where_it_is_asked_for(tmp_path):
    """A file of weights alone is of the net that `--net` names."""
    for net in ('caffe', 'caffenet'):
        done('import', *caffemodel(tmp_path), '--net', net, '--workdir', tmp_path / net)
        assert alexnet_jax.load(tmp_path / net).config['network.name'] == net


def test_a_place_that_is_taken(run, tmp_path, capsys):
    for workdir, message in {
        run[0]: f'--workdir {run[0]} holds a run already',
        Path('/dev/null/run'): '--workdir /dev/null/run cannot be written',
    }.items():
        told = refusal(capsys, run[0], 'import', *state_dict(tmp_path), '--workdir', workdir)
        assert message in told


@pytest.fixture(scope='module')
def ours(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('ours')
    random_run(folder / 'run', 'small')
    done('export', folder / 'run', '--out', folder / 'ours.safetensors')
    return folder / 'ours.safetensors'


# By name: metadata that is not what it should be, arrays likewise, and what is said.
BAD_FILES: dict[str, tuple[dict, dict, str]] = {
    'no JSON': ({'config': '{'}, {}, 'metadata of .* is not JSON'),
    'deep JSON': ({'config': '[' * 10**6}, {}, 'is not JSON'),
    'deep model': ({'model': '[' * 10**6}, {}, 'is not JSON'),
    'no model': ({'model': None}, {}, 'is not JSON'),
    'a list': ({'config': '[]'}, {}, 'is not what `export` writes'),
    'no settings': ({'config': '{}'}, {}, 'is not what'),
    'unknown setting': ({'config.x\n\x1b[2J': 1}, {}, 'unknown setting'),
    'unknown settings': ({f'config.x{n}': 1 for n in range(9)}, {}, 'setting x0; .* and 8 more'),
    'many unknown settings': ({f'config.x{n}': 1 for n in range(10**5)}, {}, 'is not JSON'),
    'no such net': ({'config.network.name': 'resnet'}, {}, "network.name is 'resnet'"),
    'a long name': ({'config.network.name': 'x' * 10**4}, {}, "network.name is 'xxx"),
    'a setting of another type': ({'config.network.width': 'a'}, {}, "network.width is 'a'"),
    'a truth': ({'config.data.batch_size': True}, {}, 'data.batch_size is True'),
    'no number': ({'config.network.width': float('nan')}, {}, 'is not what'),
    'a nested setting': ({'config.network.width': {'a': 1}}, {}, 'is not what'),
    'absurd width': ({'config.network.width': 16.0}, {}, r'conv1/bias is .*, not \(2, 256\)'),
    'absurd sizes': (
        {'config.network.width': 16.0, 'config.network.input_size': 10**9,
         'config.data.record_size': 10**9},
        {'normalization/mean': np.zeros(3, np.float32)}, r'of a net of [\d,]+ numbers; allowed: at most 1',
    ),
    'larger than any integer': ({'config.network.width': 10**400}, {}, 'is not what'),
    'negative size': ({'config.network.input_size': -1}, {}, 'network.input_size is -1'),
    'size for another mean': (
        {'config.network.input_size': 32}, {}, r'mean .* shape \(28, 28, 3\); allowed'
    ),
    'classes no list': ({'model.classes': 'abc'}, {}, 'is not what'),
    'classes no text': ({'model.classes': ['a', 1, 2]}, {}, 'is not what'),
    'no classes': ({'model.classes': []}, {}, 'is not what'),
    'more classes': ({'model.classes': ['a'] * 10**5}, {}, r'fc8/bias is \(3,\), not \(100000,\)'),
    'mirror no truth': ({'model.mirror': 'no'}, {}, 'is not what'),
    'negative step': ({'model.step': -1}, {}, 'is not what'),
    'absurd step': ({'model.step': 2**31}, {}, 'is not what'),
    'infinite step': ({'model.step': float('inf')}, {}, 'is not what'),
    'no scale': ({}, {'normalization/scale': None}, 'is not what'),
    'scale of 0': ({}, {'normalization/scale': np.zeros(3, np.float32)}, 'is not above 0'),
    'missing': ({}, {'conv3/kernel': None}, 'conv3/kernel is missing'),
    'extra': ({}, {'conv3/x\n\x1b[2J': np.zeros(3, np.float32)}, r'conv3/x\\n\\x1b\[2J is not of'),
    'misshapen': ({}, {'conv3/bias': np.zeros(3, np.float32)}, r'conv3/bias is \(3,\), not'),
    'unnamed': ({}, {'weight': np.zeros(3, np.float32)}, 'allowed: LAYER/PART'),
}  # fmt: skip


def changed(tree: dict, changes: dict) -> dict:
    return {name: value for name, value in (tree | changes).items() if value is not None}


@pytest.mark.parametrize('name', BAD_FILES)
def test_a_bad_file_of_ours(name, ours, tmp_path, capsys):
    about, arrays, message = BAD_FILES[name]
    with safe_open(ours, 'np') as file:
        metadata = file.metadata()
    del metadata['sha256']  # of what was there before
    for part in ('config', 'model'):
        inner = {
            key.removeprefix(f'{part}.'): value
            for key, value in about.items()
            if '.' in key and key.startswith(part)
        }
        metadata[part] = json.dumps(json.loads(metadata[part]) | inner)
    metadata = changed(metadata, {key: value for key, value in about.items() if '.' not in key})
    bad = tmp_path / 'bad.safetensors'
    save_file(changed(load_file(ours), arrays), bad, metadata)
    told = refusal(capsys, tmp_path, 'import', bad, '--workdir', tmp_path / 'run')
    assert re.search(message, told) and str(bad) in told


# What to export, beside a workdir of `small` with two steps and a file, and what is said.
BAD_EXPORTS = {
    "torchvision's form": (
        '{run} --out {tmp}/a.safetensors --form torchvision',
        "network small has another form than torchvision's; allowed: torchvision, one_tower",
    ),
    "Caffe's form": (
        '{run} --out {tmp}/a.caffemodel --form caffe',
        "network small has another form than Caffe's; allowed: caffe, caffenet",
    ),
    'no form': ('{run} --out {tmp}/a --form onnx', "invalid choice: 'onnx'"),
    'no such step': (
        '{run} --out {tmp}/a.safetensors --step 5',
        'error: --step is 5; {run}/checkpoints holds: 3, 7\n',
    ),
    'a step of a file': (
        '{ours} --out {tmp}/a.safetensors --step 5',
        '--step is 5; allowed: none, as {ours} is no workdir',
    ),
    'another suffix': ('{run} --out {tmp}/a.pth', 'allowed: a name that ends in .safetensors'),
    'no folder': ('{run} --out {tmp}/none/a.safetensors', 'a.safetensors cannot be written: No such'),
    'a file for a folder': ('{run} --out /dev/null/a.safetensors', 'cannot be written: Not a dir'),
    'a folder': ('{run} --out {tmp}/folder --form stablehlo', 'folder cannot be written: Is a dir'),
    'nothing': ('{run} --out . --form stablehlo', '. cannot be written'),
    'no workdir': ('{tmp} --out {tmp}/a.safetensors', '{tmp} holds no checkpoints'),
    'neither': ('{tmp}/none --out {tmp}/a.safetensors', '{tmp}/none holds no checkpoints'),
    'settings': (
        '{run} --out {tmp}/a.safetensors --config.seed=1',
        'settings (--config.NAME=VALUE) do not go with export',
    ),
}  # fmt: skip


@pytest.mark.parametrize('name', BAD_EXPORTS)
def test_a_bad_export_ends_in_plain_words(name, ours, tmp_path, capsys):
    (tmp_path / 'folder').mkdir()
    command, message = (
        text.format(run=ours.parent / 'run', ours=ours, tmp=tmp_path) for text in BAD_EXPORTS[name]
    )
    assert message in refusal(capsys, tmp_path, 'export', *command.split())


def test_a_damaged_file_of_ours(ours, tmp_path, capsys):
    """A flipped bit; the library says the same."""
    content = bytearray(ours.read_bytes())
    content[-1000] ^= 1
    (tmp_path / 'bad.safetensors').write_bytes(content)
    told = refusal(
        capsys, tmp_path, 'import', tmp_path / 'bad.safetensors', '--workdir', tmp_path / 'run'
    )
    with pytest.raises(InputError) as error:
        alexnet_jax.load(tmp_path / 'bad.safetensors')
    assert told == f'error: {error.value}\n' and 'is damaged' in told


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'step': 5}, r'^step is 5; .*/checkpoints holds: 3, 7$'),
        ({'net': 'caffe'}, 'its net and settings are as they are'),
        ({'overrides': {'seed': '1'}}, 'its net and settings are as they are'),
    ],
)
def test_the_library_names_its_own_arguments(ours, arguments, message):
    with pytest.raises(InputError, match=message):
        alexnet_jax.load(ours.parent / 'run', **arguments)


def test_settings_of_the_preprocessing_go_before_the_file_s(ours):
    changes = {'data.normalization': 'channel_mean', 'data.mean': '1,2,3'}
    loaded = alexnet_jax.load(ours, overrides=changes)
    assert loaded.mean.tolist() == [1, 2, 3] and loaded.scale.tolist() == [1, 1, 1]
