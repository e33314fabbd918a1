"""Models in and out: what is refused, in plain words and with nothing written."""

import json
import re
import resource
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import alexnet_jax
from alexnet_jax.runtime.command_line import BAD_INPUT
from alexnet_jax.runtime.errors import InputError
from alexnet_jax.training import manifest
from alexnet_jax.weights import __main__ as weights
from tests import random_run as runs
from tests.experiment.test_exchange import CAFFE_SIZE, TORCHVISION_SIZE, done, random_run
from tests.weights import authors, forms, handmade


def refusal(capsys, folder: Path, *argv: Any) -> str:
    """What a command that was refused has said; it has written nothing."""
    capsys.readouterr()
    before = set(folder.rglob('*'))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert weights.main(list(map(str, argv))) == BAD_INPUT
    assert set(folder.rglob('*')) == before
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 1 << 18  # KiB
    out, printed = capsys.readouterr()
    assert not out and len(printed) < 800, printed
    lines = printed.splitlines()
    assert len(lines) <= 2, printed
    assert all(line.startswith('error: ') and line.isprintable() for line in lines), printed
    return printed


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
    'names that are no text': (lambda folder: named(folder, b'\xff\xfe'), 'names.txt, line 1, is not UTF-8'),
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
        'unknown setting x0; the nearest is network.exchange and 4 more',
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


@pytest.fixture(scope='module')
def ours(tmp_path_factory) -> Path:
    """A weight file of ours, beside the workdir it is of."""
    folder = tmp_path_factory.mktemp('ours')
    random_run(folder / 'run', 'small')
    done('export', folder / 'run', '--out', folder / 'ours.safetensors')
    return folder / 'ours.safetensors'


@pytest.mark.thorough
def test_a_place_that_is_taken(ours, tmp_path, capsys):
    run = ours.parent / 'run'
    for workdir, message in {
        run: f'--workdir {run} holds a run already',
        Path('/dev/null/run'): '--workdir /dev/null/run cannot be written',
    }.items():
        printed = refusal(capsys, run, 'import', *state_dict(tmp_path), '--workdir', workdir)
        assert message in printed


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
    'no number': ({'config.network.width': float('nan')}, {}, 'is not JSON: it holds NaN'),
    'a nested setting': ({'config.network.width': {'a': 1}}, {}, r"network\.width is {'a': 1}; allowed: a num"),
    'absurd width': ({'config.network.width': 16.0, 'network': None}, {}, r'conv1/bias is .*, not \(2, 256\)'),
    'absurd sizes': (
        {'config.network.width': 16.0, 'config.network.input_size': 4096,
         'config.data.record_size': 4096, 'network': None},
        {'normalization/mean': np.zeros(3, np.float32)}, r'of a net of [\d,]+ numbers; allowed: at most 1',
    ),
    'larger than any integer': ({'config.network.width': 10**400}, {}, 'is not what'),
    'negative size': ({'config.network.input_size': -1}, {}, 'network.input_size is -1'),
    'size for another mean': (
        {'config.network.input_size': 32, 'network': None}, {}, r'mean .* shape \(28, 28, 3\); allowed'
    ),
    'size for another table': ({'config.network.input_size': 32}, {}, 'its table has 28'),
    'no table': ({'network': '[]'}, {}, r'table of the net is \[\]; allowed: an object'),
    'no JSON for a table': ({'network': '{'}, {}, 'is not JSON'),
    'classes no list': ({'model.classes': 'abc'}, {}, 'is not what'),
    'classes no text': ({'model.classes': ['a', 1, 2]}, {}, 'is not what'),
    'classes of one name': ({'model.classes': ['a', 'b', 'a']}, {}, 'names the class a 2 times'),
    'lists by the million': ({'model': '[' + '[],' * 10**7 + '[]]'}, {}, 'is not JSON'),
    'NaN in the mean': (
        {}, {'normalization/mean': np.full((28, 28, 3), np.nan, np.float32)}, 'mean of .* finite'
    ),
    'infinite scale': (
        {}, {'normalization/scale': np.full(3, np.inf, np.float32)}, 'scale of .* finite'
    ),
    'whole numbers for a scale': ({}, {'normalization/scale': np.ones(3, np.int64)}, 'int64; allowed: float'),
    'truths for a mean': ({}, {'normalization/mean': np.ones(3, bool)}, 'bool; allowed: float'),
    'no classes': ({'model.classes': []}, {}, 'is not what'),
    'more classes': ({'model.classes': [str(n) for n in range(10**5)]}, {}, r'fc8/bias is \(3,\), not \(100000,\)'),
    'mirror no truth': ({'model.mirror': 'no'}, {}, 'is not what'),
    'negative step': ({'model.step': -1}, {}, 'is not what'),
    'absurd step': ({'model.step': 2**31}, {}, 'is not what'),
    'infinite step': ({'model.step': float('inf')}, {}, 'is not JSON: it holds Infinity'),
    'no scale': ({}, {'normalization/scale': None}, 'is not what'),
    'scale of 0': ({}, {'normalization/scale': np.zeros(3, np.float32)}, 'is not above 0'),
    'missing': ({}, {'conv3/kernel': None}, 'conv3/kernel is missing'),
    'extra': ({}, {'conv3/x\n\x1b[2J': np.zeros(3, np.float32)}, r'conv3/x\\n\\x1b\[2J is not of'),
    'misshapen': ({}, {'conv3/bias': np.zeros(3, np.float32)}, r'conv3/bias is \(3,\), not'),
    'unnamed': ({}, {'weight': np.zeros(3, np.float32)}, 'allowed: LAYER/PART'),
}  # fmt: skip


def changed(tree: dict, changes: dict) -> dict:
    return {name: value for name, value in (tree | changes).items() if value is not None}


@pytest.mark.thorough
@pytest.mark.parametrize('name', BAD_FILES)
def test_a_bad_file_of_ours(name, ours, tmp_path, capsys):
    about, arrays, message = BAD_FILES[name]
    with safe_open(ours, 'np') as file:
        metadata = file.metadata()
    for seal in ('sha256', 'metadata_sha256'):  # of what was there before
        del metadata[seal]
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
    printed = refusal(capsys, tmp_path, 'import', bad, '--workdir', tmp_path / 'run')
    assert re.search(message, printed) and str(bad) in printed


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
    'neither': ('{tmp}/none --out {tmp}/a.safetensors', '{tmp}/none: no such workdir or weight file'),
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
    printed = refusal(
        capsys, tmp_path, 'import', tmp_path / 'bad.safetensors', '--workdir', tmp_path / 'run'
    )
    with pytest.raises(InputError) as error:
        alexnet_jax.load(tmp_path / 'bad.safetensors')
    assert printed == f'error: {error.value}\n' and 'is damaged' in printed


@pytest.mark.parametrize(('arguments', 'message'), [
    ({'step': 5}, r'^step is 5; .*/checkpoints holds: 3, 7$'),
    ({'net': 'caffe'}, 'its net and settings cannot be changed'),
    ({'overrides': {'seed': '1'}}, 'its net and settings cannot be changed'),
])  # fmt: skip
def test_the_library_names_its_own_arguments(ours, arguments, message):
    with pytest.raises(InputError, match=message):
        alexnet_jax.load(ours.parent / 'run', **arguments)


def test_settings_of_the_preprocessing_go_before_the_file_s(ours):
    changes = {'data.normalization': 'channel_mean', 'data.mean': '1,2,3'}
    loaded = alexnet_jax.load(ours, overrides=changes)
    assert loaded.mean.tolist() == [1, 2, 3] and loaded.scale.tolist() == [1, 1, 1]


def test_checkpoints_of_two_imports_are_not_exchanged(tmp_path):
    """Settings, classes and means are equal; the weights are not."""
    for seed, name in enumerate(('one', 'other')):
        arrays = forms.torchvision_arrays('torchvision', np.random.default_rng(seed))
        file = authors.write_state_dict(tmp_path / f'{name}.pth', arrays)
        done('import', file, '--workdir', tmp_path / name, *TORCHVISION_SIZE)
    shutil.rmtree(tmp_path / 'one' / 'checkpoints' / '0')
    shutil.copytree(
        tmp_path / 'other' / 'checkpoints' / '0', tmp_path / 'one' / 'checkpoints' / '0'
    )
    with pytest.raises(InputError, match='data weights was'):
        alexnet_jax.load(tmp_path / 'one')


@pytest.mark.parametrize('form', ['use_ocdbt', 'use_zarr3'])
def test_arrays_in_a_database_are_not_read(form, tmp_path):
    """Orbax would read them from there, in place of the files that were looked at."""
    run = runs.make(tmp_path / 'run', {'network.width': '0.5'}, 0)
    place = run / 'checkpoints' / str(runs.STEP)
    path = place / 'state' / '_METADATA'
    path.write_text(json.dumps(json.loads(path.read_text()) | {form: True}))
    (place / 'manifest.json').unlink()
    manifest.write(place, {'step': runs.STEP, 'top1_error': None})
    with pytest.raises(InputError, match='_METADATA has another checkpoint format'):
        alexnet_jax.load(run)
