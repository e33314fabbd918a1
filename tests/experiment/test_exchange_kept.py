"""Exports in other programs' forms, imported again: the same logits bit for bit, or a line that
says what was lost and which flags restore it."""

import dataclasses
import json
import shlex
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import alexnet_jax
from alexnet_jax.experiment import exchange
from alexnet_jax.experiment.model import Model
from alexnet_jax.runtime.errors import InputError
from alexnet_jax.weights import pretrained
from tests.experiment.test_exchange import CAFFE_SIZE, TORCHVISION_SIZE, done
from tests.network.parity import QUICK
from tests.weights import authors, forms
from tests.weights.handmade import field, real

NAMES = tuple('abcdefg')
MEAN = np.array([101.3, 99.7, 110.1], np.float32)


def caffe_file(folder: Path, changes: dict | None = None) -> Path:
    blobs, order = forms.caffe_blobs(np.random.default_rng(0)), authors.caffe_order('caffe')
    return authors.write_caffemodel(folder / 'theirs', blobs, order, changes or {})


def imported(folder: Path, net: str) -> Path:
    """A workdir of a foreign net with classes, resize, mean and scale that are not its authors'."""
    if net == 'caffe':
        file = caffe_file(folder)
    else:
        arrays = forms.torchvision_arrays(net, np.random.default_rng(0))
        file = authors.write_state_dict(folder / 'theirs', arrays)
    (folder / 'names').write_text('\n'.join(NAMES))
    size = CAFFE_SIZE if net == 'caffe' else TORCHVISION_SIZE
    done(
        'import', file, '--workdir', folder / 'run', '--classes', folder / 'names', *size,
        f'--config.network.name={net}', '--config.data.resize=center_square',
        '--config.data.record_size=128', '--config.data.normalization=standardized',
        '--config.data.mean=101.3,99.7,110.1', '--config.data.std=61.5,50.25,70.125',
    )  # fmt: skip
    return folder / 'run'


def changed(workdir: Path, mean: np.ndarray, scale: np.ndarray, mirror: bool = True) -> Path:
    """The same workdir, made for other means."""
    loaded = alexnet_jax.load(workdir)
    other = workdir.with_name('changed')
    changes = {'mean': mean, 'scale': scale, 'mirror': mirror}
    exchange.write_workdir(other, dataclasses.replace(loaded, **changes))
    return other


def logits(loaded: Model) -> np.ndarray:
    size = loaded.net.architecture.input_size
    images = np.random.default_rng(7).integers(0, 256, (2, size, size, 3), np.uint8)
    run = jax.jit(lambda images: loaded(images)[0], compiler_options=QUICK)
    return np.asarray(run(images))


def same(one: Model, other: Model) -> bool:
    """Whether both compute the same, of the same image files, bit for bit."""
    parts = [(x.classes, x.mirror, x.net.architecture) for x in (one, other)]
    settings = [(x.config['data.resize'], x.config['data.record_size']) for x in (one, other)]
    arrays = all(np.array_equal(getattr(one, x), getattr(other, x)) for x in ('mean', 'scale'))
    return (
        parts[0] == parts[1] and settings[0] == settings[1] and arrays
        and np.array_equal(logits(one), logits(other))
    )  # fmt: skip


IMAGE = np.random.default_rng(3).uniform(90, 130, (95, 95, 3)).astype(np.float32)


@pytest.mark.thorough
@pytest.mark.parametrize('case', ['torchvision', 'one_tower', 'mean image'])
def test_torchvisions_form_keeps_all(case, tmp_path, capsys):
    run = imported(tmp_path, case if case != 'mean image' else 'torchvision')
    if case == 'mean image':
        changed(run, IMAGE, np.ones(3, np.float32), mirror=False)
    capsys.readouterr()
    out = tmp_path / 'out.safetensors'
    done('export', run, '--out', out, '--form', 'torchvision')
    done('import', out, '--workdir', tmp_path / 'again')
    assert len(capsys.readouterr().out.splitlines()) == 2  # nothing was lost, nothing assumed
    assert alexnet_jax.load(run).classes == NAMES
    for source in (out, tmp_path / 'again'):
        assert same(alexnet_jax.load(source), alexnet_jax.load(run))
    assert set(load_file(out)) == {  # PyTorch takes it as it is
        f'{module}.{part}' for module in forms.TORCHVISION_MODULES for part in ('weight', 'bias')
    }


@pytest.mark.thorough
def test_torchvisions_form_without_its_metadata(tmp_path, capsys):
    """Saved again by another program it is weights alone, and the import says what was assumed."""
    run = imported(tmp_path, 'torchvision')
    done('export', run, '--out', tmp_path / 'a.safetensors', '--form', 'torchvision')
    save_file(load_file(tmp_path / 'a.safetensors'), tmp_path / 'b.safetensors')
    capsys.readouterr()
    done('import', tmp_path / 'b.safetensors', '--workdir', tmp_path / 'b', *TORCHVISION_SIZE)
    _, preprocessing, classes = capsys.readouterr().out.splitlines()
    assert 'does not state its preprocessing; assuming: --config.data.mean=123.675' in (
        preprocessing
    )
    assert 'assuming class 0, ...: --classes FILE sets others' in classes
    flags = shlex.split(preprocessing.partition('given: ')[2])
    done(
        'import', tmp_path / 'b.safetensors', '--workdir', tmp_path / 'c', *TORCHVISION_SIZE, *flags
    )
    assert same(alexnet_jax.load(tmp_path / 'b'), alexnet_jax.load(tmp_path / 'c'))
    given = ['--config.data.mean=1,2,3', '--config.data.std=4,5,6', '--config.data.resize=squash',
             '--classes', str(tmp_path / 'names')]  # fmt: skip
    capsys.readouterr()
    done(
        'import', tmp_path / 'b.safetensors', '--workdir', tmp_path / 'd', *TORCHVISION_SIZE, *given
    )
    assert len(capsys.readouterr().out.splitlines()) == 1  # nothing was assumed


CAFFES = {
    'means': (MEAN, np.ones(3, np.float32)),
    'means and a factor': (MEAN, np.full(3, 64, np.float32)),
    'a factor that has no inverse': (MEAN, np.full(3, 45.8, np.float32)),
    'a factor of each channel': (MEAN, np.array([61.5, 50.25, 70.125], np.float32)),
}  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize('case', CAFFES)
def test_caffes_form_and_the_flags_that_restore_it(case, tmp_path, capsys):
    mean, scale = CAFFES[case]
    run = changed(imported(tmp_path, 'caffe'), mean, scale)
    capsys.readouterr()
    out = tmp_path / 'out.caffemodel'
    done('export', run, '--out', out, '--form', 'caffe')
    _, lost = capsys.readouterr().out.splitlines()
    assert str(out) in lost and '--classes FILE' in lost
    needs_flags = case in ('a factor that has no inverse', 'a factor of each channel')
    assert ('--config.data.mean=' in lost) == needs_flags
    flags = lost.partition('give ')[2].replace('FILE', str(tmp_path / 'names'))
    width = '--config.network.width=0.125'
    done('import', out, '--workdir', tmp_path / 'again', *shlex.split(flags), width)
    assert same(alexnet_jax.load(tmp_path / 'again'), alexnet_jax.load(run))
    if not needs_flags:  # the logits are those of the file alone
        assert np.array_equal(logits(alexnet_jax.load(out)), logits(alexnet_jax.load(run)))


@pytest.mark.thorough
def test_what_caffes_form_cannot_hold(tmp_path, capsys):
    image = np.zeros((99, 99, 3), np.float32)
    run = changed(imported(tmp_path, 'caffe'), image, np.ones(3, np.float32), mirror=False)
    capsys.readouterr()
    done('export', run, '--out', tmp_path / 'a.caffemodel', '--form', 'caffe')
    printed = capsys.readouterr().out
    assert 'cannot hold the mean image and that images are not to be mirrored' in printed


@pytest.mark.thorough
def test_caffes_own_preprocessing_and_classes_lose_nothing(tmp_path, capsys):
    done('import', caffe_file(tmp_path), '--workdir', tmp_path / 'run', *CAFFE_SIZE)
    printed = capsys.readouterr().out.splitlines()
    assert (
        len(printed) == 3
        and '--config.data.mean=123,117,104 --config.data.resize=squash' in printed[1]
    )
    done('export', tmp_path / 'run', '--out', tmp_path / 'a.caffemodel', '--form', 'caffe')
    assert len(capsys.readouterr().out.splitlines()) == 1
    again = alexnet_jax.load(tmp_path / 'a.caffemodel', overrides={'network.width': '0.125'})
    assert same(again, alexnet_jax.load(tmp_path / 'run'))


def test_a_mean_image_beside_a_caffe_file_is_spoken_of(tmp_path, capsys):
    file = caffe_file(tmp_path, {'data': field(4, b'data/mean.binaryproto') + field(3, 99)})
    done('import', file, '--workdir', tmp_path / 'run', '--config.network.width=0.125')
    printed = capsys.readouterr().out
    assert 'the mean image that it speaks of, data/mean.binaryproto, is not in it' in printed
    assert alexnet_jax.load(tmp_path / 'run').net.architecture.input_size == 99


@pytest.mark.thorough
def test_a_net_that_a_file_states_is_loaded_exported_and_kept(tmp_path):
    """Its table, which no name of this package stands for, goes with it."""
    changes = {'norm1': field(1, 5) + real(2, 0.5)}
    size = {'network.input_size': '99', 'network.width': '0.125'}
    plain = alexnet_jax.load(caffe_file(tmp_path), overrides=size)
    file = caffe_file(tmp_path, changes)
    loaded = alexnet_jax.load(file, overrides=size)
    assert loaded.net.architecture.layers[0].then[1].alpha == 0.5
    assert np.abs(logits(loaded) - logits(plain)).max() > 0.1
    exchange.write_workdir(tmp_path / 'run', loaded)
    exchange.write(tmp_path / 'kept.safetensors', loaded)
    for kept in (tmp_path / 'run', tmp_path / 'kept.safetensors'):
        again = alexnet_jax.load(kept)
        assert again.net.architecture == loaded.net.architecture
        assert again.net.architecture.name == 'caffe_imported'
        assert np.array_equal(logits(again), logits(loaded))
    assert exchange._write_caffe(tmp_path / 'd', loaded, file) == []
    assert np.array_equal(logits(alexnet_jax.load(tmp_path / 'd')), logits(loaded))


@pytest.mark.parametrize(('name', 'value'), [('width', '0.5'), ('activation', 'tanh')])
def test_settings_of_a_net_that_its_file_states_otherwise(name, value, tmp_path):
    file = caffe_file(tmp_path)
    overrides = {f'network.{name}': value, 'network.input_size': '99'}
    with pytest.raises(InputError, match=f'network.{name} is {value}, but {file} states another'):
        alexnet_jax.load(file, overrides=overrides)


BAD_METADATA = {
    'no mean': ({'normalization.mean': None}, 'not of finite numbers|does not write: mean'),
    'text': ({'normalization.mean': '!!'}, 'does not write: mean'),
    'too short': ({'normalization.scale': 'AAAA'}, 'does not write: scale'),
    'two numbers': ({'normalization.mean': 'AAAAAAAAAAA='}, 'does not write: mean|has the shape'),
    'NaN': ({'normalization.mean': 'AADAfwAAwH8AAMB/'}, 'not of finite numbers'),
    'a scale of 0': ({'normalization.scale': 'AAAAAAAAAAAAAAAA'}, 'not above 0'),
    'classes twice': ({'model': json.dumps({'classes': ['a'] * 7, 'mirror': True, 'step': 0})}, 'names the class a 7'),
    'other classes': ({'model': json.dumps({'classes': ['a'], 'mirror': True, 'step': 0})}, 'is not of network'),
    'no JSON': ({'config': '{'}, 'is not JSON'), 'NaN in JSON': ({'config': 'NaN'}, 'is not JSON'),
    'another net': ({'config': json.dumps({'network.name': 'caffe'}), 'network': None}, 'another form than torchvision'),
    'another name': ({'config': json.dumps({'network.name': 'caffe'})}, "its table has 'torchvision'"),
}  # fmt: skip


@pytest.fixture(scope='module')
def kept(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('kept')
    run = imported(folder, 'torchvision')
    done('export', run, '--out', folder / 'a.safetensors', '--form', 'torchvision')
    return folder / 'a.safetensors'


@pytest.mark.parametrize('name', BAD_METADATA)
def test_metadata_of_torchvisions_form_that_lies(name, kept, tmp_path):
    changes, printed = BAD_METADATA[name]
    with safe_open(kept, 'np') as file:
        metadata = file.metadata() | {'metadata_sha256': None} | changes
    save_file(load_file(kept), tmp_path / 'b', {k: x for k, x in metadata.items() if x is not None})
    with pytest.raises(InputError, match=printed) as error:
        alexnet_jax.load(tmp_path / 'b')
    assert len(str(error.value).splitlines()) <= 2


def test_metadata_of_other_programs_is_theirs(kept, tmp_path):
    """A `config` of another program does not make a file one of ours."""
    save_file(load_file(kept), tmp_path / 'a', {'format': 'pt', 'config': '{}'})
    opened = pretrained.open_file(tmp_path / 'a')
    assert opened.settings == pretrained.SETTINGS['torchvision'] and opened.normalization is None


def test_numbers_of_a_mean_are_bits():
    mean = np.array([1e-8, 100.1, 3], np.float32)
    unpacked = pretrained._unpacked(pretrained.packed(mean, IMAGE))
    assert forms.same(unpacked, {'mean': mean, 'scale': IMAGE})
