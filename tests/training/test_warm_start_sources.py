"""Warm starts: from what they can be read."""

import dataclasses
import os
import re
import shlex
import shutil
from unittest import mock

import chex
import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

import alexnet_jax
from alexnet_jax import main
from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment import donors, exchange
from alexnet_jax.network import device_mesh
from alexnet_jax.network.architectures import ARCHITECTURES
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE
from alexnet_jax.runtime.errors import InputError
from alexnet_jax.training import warm_start
from alexnet_jax.training.checkpoint import Checkpoints
from alexnet_jax.weights import __main__ as weights
from tests import config_files
from tests.training.donors import DEEPER, MEAN, ONES, TINY, facts, model_of, state_of, warm


@pytest.fixture(scope='module')
def tables():
    """The tables here, as if they were the package's."""
    with mock.patch.dict(ARCHITECTURES, {'tiny': TINY, 'deeper': DEEPER}):
        yield


@pytest.fixture(scope='module')
def workdir(tmp_path_factory, tables):
    """A run of `tiny` with 20 classes, two checkpoints, nothing at its initial value."""
    workdir = tmp_path_factory.mktemp('run')
    exchange.write_workdir(workdir, model_of('tiny', 20, at_step=3))
    state = jax.tree.map(lambda x: x + 4, state_of(TINY, 20, seed=1))
    checkpoints = Checkpoints(workdir / 'checkpoints', keep=2)
    checkpoints.save(state.replace(step=np.int32(7)))
    checkpoints.wait()
    checkpoints.close()
    return workdir


def test_named_layers_come_from_the_last_checkpoint_and_no_others(workdir, tmp_path):
    own, theirs = state_of(TINY), state_of(TINY, 20, seed=1)
    read = donors.read_donor(workdir, tmp_path / 'new')
    state, lines = warm(own, facts(TINY), read, ['conv1', 'fc3'])
    for layer in ('conv1', 'conv1_norm', 'fc3'):
        chex.assert_trees_all_equal(
            state.params[layer], jax.tree.map(lambda x: x + 4, theirs.params[layer])
        )
    moved = jax.tree.map(lambda x: x + 4, theirs.batch_stats['conv1_norm'])
    chex.assert_trees_all_equal(state.batch_stats['conv1_norm'], moved)
    for layer in ('conv2', 'fc4'):
        chex.assert_trees_all_equal(state.params[layer], own.params[layer])
    chex.assert_trees_all_equal((state.step, state.momentum), (own.step, own.momentum))
    assert lines == [
        f'from {workdir}, step 7: loaded conv1, conv1_norm, fc3; not loaded: conv2 (not asked for),'
        ' fc4 (not asked for)',
        f'warning: fc3 differs from that of {workdir}, step 7: layer below conv2 there, conv2,'
        ' untrained here',
    ]


def test_one_of_the_checkpoints_may_be_named(workdir, tmp_path):
    first = donors.read_donor(workdir / 'checkpoints' / '3', tmp_path)
    last = donors.read_donor(workdir, tmp_path)
    difference = last.layers['conv2']['kernel'] - first.layers['conv2']['kernel']
    np.testing.assert_allclose(difference, 4, rtol=1e-5)
    assert first.source == f'{workdir}, step 3'
    assert first.facts is not None and first.facts.net == TINY
    assert len(first.facts.classes) == 20
    np.testing.assert_array_equal(first.facts.mean, MEAN)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(workdir, tmp_path, capsys):
    manifest = workdir / 'checkpoints' / '7' / 'manifest.json'
    whole = manifest.read_bytes()
    try:
        manifest.write_bytes(whole[:-20])
        assert donors.read_donor(workdir, tmp_path).source == f'{workdir}, step 3'
        assert 'checkpoint 7 is damaged' in capsys.readouterr().err
        with pytest.raises(InputError, match=r'start\.from is .*/7.: checkpoint 7 is damaged'):
            donors.read_donor(workdir / 'checkpoints' / '7', tmp_path)
    finally:
        manifest.write_bytes(whole)


def test_arrays_without_a_statement_are_taken_with_a_warning(tmp_path, random):
    path = tmp_path / 'weights.safetensors'
    kernel = random.standard_normal((2, 3, 3, 8, 4)).astype(np.float32)
    bias = random.standard_normal((2, 4)).astype(np.float32)
    save_file({'conv2/kernel': kernel, 'conv2/bias': bias}, path)
    read = donors.read_donor(path, tmp_path / 'new')
    state, lines = warm(state_of(TINY), facts(TINY), read)
    chex.assert_trees_all_equal(state.params['conv2'], {'kernel': kernel, 'bias': bias})
    assert 'loaded conv2;' in lines[0]
    assert lines[1:] == [
        f'warning: {path} states no table, classes or mean: no comparison is possible'
    ]
    # On two devices each has its own column.
    split = state_of(TINY, mesh=device_mesh.make_mesh(1, 2))
    state, _ = warm(split, facts(TINY), read, ['conv2'])
    shards = state.params['conv2']['kernel'].addressable_shards
    assert [shard.data.shape[0] for shard in shards] == [1, 1]
    chex.assert_trees_all_equal(state.params['conv2']['kernel'], kernel)


def test_a_weight_file_of_ours_states_what_it_is(tables, tmp_path):
    path = tmp_path / 'model.safetensors'
    exchange.write(path, model_of('tiny', 10))
    read = donors.read_donor(path, tmp_path / 'new')
    assert read.facts is not None and read.facts.net == TINY
    _, lines = warm(state_of(TINY), facts(TINY, read.facts.classes), read)
    assert lines == [f'from {path}: loaded conv1, conv1_norm, conv2, fc3, fc4; not loaded: none']


def test_what_cannot_be_read_is_refused(workdir, tmp_path):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'bare' / 'checkpoints').mkdir(parents=True)
    (tmp_path / 'broken' / 'checkpoints' / '5').mkdir(parents=True)
    for name in ('config.json', 'model.json', 'normalization.npz'):
        (tmp_path / 'broken' / name).write_bytes((workdir / name).read_bytes())
    save_file({'weight': np.zeros(3, np.float32)}, tmp_path / 'odd.safetensors')
    cut = (tmp_path / 'odd.safetensors').read_bytes()[:20]
    (tmp_path / 'cut.safetensors').write_bytes(cut)
    (tmp_path / 'text').write_text('no weights')
    save_file({'conv1/kernel/x': np.float32([np.nan])}, tmp_path / 'nan.safetensors')
    os.mkfifo(tmp_path / 'pipe')
    os.mkfifo(tmp_path / 'pipe.safetensors')
    (tmp_path / 'round').symlink_to('round')
    for source, message in [
        (tmp_path / 'nowhere', "start.from is '.*nowhere'; allowed: a workdir"),
        (tmp_path / 'text' / 'below', 'allowed: a workdir'),
        (tmp_path / 'missing.safetensors', 'allowed: a workdir'),
        (tmp_path / 'cut.safetensors', 'cannot be read as safetensors'),
        (tmp_path / 'odd.safetensors', r'start\.from is .*odd\.safetensors'),
        (tmp_path / 'nan.safetensors', 'not finite'),
        (tmp_path / 'text', r'start\.from is .*text'),
        (tmp_path / 'empty', 'allowed: a workdir with checkpoints'),
        (tmp_path / 'bare', r'start\.from is .*bare'),
        (tmp_path / 'broken', r'no checkpoint in .* is intact: .*/5/manifest.json is missing'),
        (workdir / 'checkpoints' / '5', 'allowed: a workdir'),
        (workdir / 'checkpoints', 'allowed: a workdir'),
        (tmp_path / 'pipe', 'allowed: a workdir'),
        (tmp_path / 'pipe.safetensors', 'allowed: a workdir'),
        (tmp_path / 'round', 'symbolic links'),
        (tmp_path / ('n' * 300), 'name too long'),
    ]:
        with pytest.raises(InputError, match=f'(?i){message}') as caught:
            donors.read_donor(source, tmp_path / 'new')
        assert str(caught.value).startswith('start.from is ')
        assert len(str(caught.value).splitlines()) <= 2
    with pytest.raises(InputError, match='has no layer of the net; has: stem'):
        warm_start.choose(facts(TINY), warm_start.Donor('x', {'stem': {}}), [])
    with pytest.raises(InputError, match='which is --workdir itself'):
        donors.read_donor(tmp_path / 'empty', tmp_path / 'bare' / '..' / 'empty')


def test_a_workdir_whose_facts_are_gone_is_refused(workdir, tmp_path):
    """Without them its values could mean anything."""
    for name in ('config.json', 'model.json', 'normalization.npz'):
        content = (workdir / name).read_bytes()
        (workdir / name).unlink()
        try:
            with pytest.raises(InputError, match=r'start\.from is '):
                donors.read_donor(workdir, tmp_path)
        finally:
            (workdir / name).write_bytes(content)


SETTINGS = [
    '--config.network.name=four_layer', '--config.network.width=0.25',
    '--config.data.record_size=32', '--config.data.synthetic_examples=20',
    '--config.data.synthetic_classes=10', '--config.data.batch_size=4', '--config.train.steps=1',
    '--noconfig.train.report', '--config.train.log_to=', '--config.optimizer.weight_decay=0',
    '--config.optimizer.layer_rates=conv1=0,conv2=0,conv3=0',
]  # fmt: skip


def test_the_normalization_of_the_start_is_taken(workdir, tables, tmp_path):
    def asked(start: str, net: str = 'tiny', normalization: str = 'start'):
        overrides = {
            'start.from': start, 'network.name': net, 'data.normalization': normalization,
        }  # fmt: skip
        return donors.normalization(configuration.complete(overrides, {}), tmp_path / 'new')

    kept = alexnet_jax.load(workdir)
    chex.assert_trees_all_equal(asked(str(workdir)), (kept.mean, kept.scale))
    chex.assert_trees_all_equal(asked(str(workdir), 'small'), (kept.mean, kept.scale))  # [3]
    assert asked(str(workdir), normalization='mean_image') is None
    save_file({'conv1/bias': np.zeros(8, np.float32)}, tmp_path / 'bare.safetensors')
    for start, message in {
        '': 'start.from is nothing',
        f'{tmp_path}/bare.safetensors': 'no mean',
    }.items():
        with pytest.raises(InputError, match=f"data.normalization is 'start'.*{message}"):
            asked(start)
    mean_image = dataclasses.replace(kept, mean=np.zeros((12, 12, 3), np.float32))
    exchange.write_workdir(tmp_path / 'other', mean_image)
    assert asked(str(tmp_path / 'other'))[0].shape == (12, 12, 3)
    with pytest.raises(InputError, match='is for crops of 12 pixels, and the net takes 28'):
        asked(str(tmp_path / 'other'), 'small')


@pytest.mark.thorough
def test_a_run_is_refused_before_it_begins_and_runs_as_the_message_says(tmp_path, capsys):
    theirs, run = tmp_path / 'theirs', tmp_path / 'run'
    loaded = model_of(
        'four_layer', 10, network__width='0.25', data__normalization='standardized',
        data__synthetic_classes='10',
    )  # fmt: skip
    exchange.write_workdir(theirs, loaded)
    config_files.with_lines(tmp_path / 'config.py')
    command = [
        '--config', str(tmp_path / 'config.py'), '--workdir', str(run),
        f'--config.start.from={theirs}', *SETTINGS,
    ]  # fmt: skip
    assert main.main(command) == BAD_INPUT
    error = capsys.readouterr().err
    assert 'a factor of 70' in error and len(error.splitlines()) == 1
    assert not run.exists()
    flags = re.search(r'take (.*), or', error)
    assert flags
    assert main.main([*command, *shlex.split(flags[1])]) == DONE
    printed = capsys.readouterr().out
    assert f'from {theirs}, step 0: loaded conv1, conv2, conv3, fc4; not loaded: none' in printed
    assert 'warning' not in printed
    trained = alexnet_jax.load(run)
    chex.assert_trees_all_equal((trained.mean, trained.scale), (loaded.mean, loaded.scale))
    for layer in ('conv1', 'conv2', 'conv3'):
        chex.assert_trees_all_equal(trained.layers[layer], loaded.layers[layer])
    # It resumes from its own checkpoint, whatever became of the other.
    (theirs / 'config.json').unlink()
    resumed = [argument.replace('steps=1', 'steps=2') for argument in command]
    assert main.main([*resumed, *shlex.split(flags[1])]) == DONE
    assert 'loaded' not in capsys.readouterr().out


@pytest.mark.thorough
def test_the_recipe_for_fine_tuning(tmp_path, capsys):
    """configs/cifar10_from_tiny_imagenet.py, from a net of 20 classes to one of 10."""
    theirs, run = tmp_path / 'theirs', tmp_path / 'run'
    loaded = model_of('photographs', 20, network__width='0.5', data__record_size='64')
    mean = np.random.default_rng(0).uniform(90, 140, (56, 56, 3)).astype(np.float32)
    loaded = dataclasses.replace(loaded, mean=mean, scale=ONES)
    exchange.write_workdir(theirs, loaded)
    command = [
        '--config', 'configs/cifar10_from_tiny_imagenet.py', '--workdir', str(run),
        f'--config.start.from={theirs}', '--config.network.width=0.5', '--config.data.source=synthetic',
        '--config.data.synthetic_examples=32', '--config.data.synthetic_classes=10',
        '--config.data.batch_size=8', '--noconfig.train.report', '--config.train.log_to=',
        '--config.optimizer.weight_decay=0', '--config.optimizer.learning_rate=1e-30',
        '--config.train.steps=1',
    ]  # fmt: skip
    assert main.main(command) == DONE
    printed = capsys.readouterr().out
    assert 'loaded conv1, conv2, conv3, conv4, conv5, fc6, fc7; not loaded: fc8' in printed
    assert 'warning' not in printed
    trained = alexnet_jax.load(run)
    chex.assert_trees_all_equal((trained.mean, trained.scale), (mean, ONES))
    for layer in ('conv1', 'conv5', 'fc7'):
        chex.assert_trees_all_close(trained.layers[layer], loaded.layers[layer], rtol=1e-6)
    assert trained.layers['fc8']['kernel'].shape[-1] == 10
    # It resumes, is evaluated and exported without the other net.
    shutil.rmtree(theirs)
    assert main.main(command) == DONE
    assert main.main(['--workdir', str(run), '--mode=eval']) == DONE
    assert weights.main(['export', str(run), '--out', f'{tmp_path}/tuned.safetensors']) == DONE
    exported = alexnet_jax.load(tmp_path / 'tuned.safetensors')
    chex.assert_trees_all_equal((exported.mean, exported.scale), (mean, ONES))
    # Another net in the same workdir is refused by its setting.
    assert main.main([*command, '--config.network.input_size=48']) == BAD_INPUT
    assert 'network.input_size' in capsys.readouterr().err
