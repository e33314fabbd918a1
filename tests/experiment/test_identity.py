"""A workdir belongs to one run: whatever of it, of its net or of its set is exchanged is refused,
and nothing is rewritten."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import alexnet_jax
from alexnet_jax import main
from alexnet_jax.evaluation import __main__ as evaluation
from alexnet_jax.experiment import results
from alexnet_jax.network import architectures
from alexnet_jax.network.layers import AveragePool, MaxPool
from alexnet_jax.network.variants import with_stages
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE
from alexnet_jax.runtime.errors import InputError
from alexnet_jax.weights import __main__ as weights
from tests.experiment.conftest import Folder

FILES = ('config.json', 'model.json', 'normalization.npz')


@pytest.mark.thorough
@pytest.mark.parametrize('steps', [(), ('--config.train.steps=8',)], ids=['done', 'to go on'])
@pytest.mark.parametrize(('change', 'messages'), [
    (Folder.rename_class, ["class 0 was 'a', now 'b'", 'take another --workdir']),
    (Folder.other_photos, ['mean of the training images was', 'content of the set was']),
    (Folder.other_labels, ['content of the set was']),
    (lambda folder: folder.other_photos(12), ['content of the set was',
     'splits of the set were train 18, val 6, now train 27, val 9']),
])  # fmt: skip
def test_a_set_that_changed_is_another_run(folder, capsys, change, messages, steps):
    change(folder)
    message = folder.refused(capsys, *steps)
    assert all(part in message for part in messages), message


@pytest.mark.thorough
def test_an_evaluation_of_other_pictures_is_not_the_run_s_own(folder, capsys):
    folder.result(capsys, '--config.eval.split=val')
    kept = folder.run / 'eval' / 'val-1.json'
    before = kept.read_bytes()
    folder.other_photos()
    capsys.readouterr()
    command = ['--workdir', str(folder.run), '--mode=eval', '--config.eval.split=val']
    assert main.main(command) == DONE
    printed = capsys.readouterr().out
    assert re.search(r'eval/val-1-folder_.*-[0-9a-f]{8}\.json$', printed.strip())
    assert kept.read_bytes() == before


@pytest.mark.thorough
def test_a_result_of_another_run_is_not_believed(folder, capsys):
    """Of the same net and set with another seed; the run's own is read after a longer plan, too."""
    folder.result(capsys, '--config.eval.split=train')
    assert main.main(folder.arguments('--config.train.steps=6')) == DONE
    own, run = folder.run / 'eval' / 'val-1.json', folder.run
    assert {row['step'] for row in results.every(run)} == {4, 6}
    other = ('--config.seed=7', '--config.train.steps=6')
    assert main.main(folder.arguments(*other, workdir='other')) == DONE
    shutil.copy(folder.top / 'other' / 'eval' / 'val-1.json', own)
    capsys.readouterr()
    tables = ['tables', str(run), '--out', str(folder.top / 'tables')]
    assert evaluation.main(tables) == BAD_INPUT
    message = capsys.readouterr().err
    assert f'{own} is of another run than {run}; evaluate it again' in message
    assert main.main(['--workdir', str(run), '--mode=report']) == DONE
    assert 'is of another run than' in (run / 'report' / 'index.html').read_text()
    folder.result(capsys, '--config.eval.split=val')
    assert evaluation.main(tables) == DONE


def test_an_equal_set_prepared_again_is_the_same_run(folder, capsys):
    folder.prepare()
    assert main.main(folder.arguments('--config.train.steps=6')) == DONE


@pytest.mark.parametrize('missing', [FILES[:1], FILES], ids=len)
def test_without_its_files_a_workdir_is_still_bound_by_its_checkpoints(folder, capsys, missing):
    for name in missing:
        (folder.run / name).unlink()
    changes = ('--config.optimizer.learning_rate=0.02', '--config.seed=7')
    message = folder.refused(capsys, *changes)
    assert 'optimizer.learning_rate was 0.01, now 0.02' in message
    assert 'seed was 0, now 7' in message
    folder.rename_class()
    if missing == FILES:
        message = folder.refused(capsys)
        assert "classes was '3: a, b, c (" in message and 'now 3: b, c, z (' in message


@pytest.mark.parametrize('name', FILES)
def test_a_file_that_is_missing_is_written_again(folder, capsys, name):
    path = folder.run / name
    before, number = path.read_bytes(), folder.result(capsys)
    path.unlink()
    assert main.main(folder.arguments()) == DONE
    if name != 'config.json':  # which holds the command
        assert path.read_bytes() == before
    assert folder.result(capsys) == number


@pytest.mark.parametrize('make', [Path.mkdir, os.mkfifo, lambda path: path.symlink_to(path)])
@pytest.mark.parametrize('name', ['metrics.jsonl', 'checkpoints'])
def test_something_else_in_the_place_of_a_file_is_refused(folder, capsys, name, make):
    run = folder.run
    # Without checkpoints nothing else of the workdir stops a run of another length.
    (run / 'checkpoints').rename(folder.top / 'moved')
    if name == 'checkpoints' and make is Path.mkdir:
        make = Path.touch  # an empty folder is as good as none
    elif name != 'checkpoints':
        (run / name).unlink()
    make(run / name)
    assert name in folder.refused(capsys, '--config.train.steps=6')
    assert sorted(run.glob('checkpoints*')) == ([run / name] if name == 'checkpoints' else [])


@pytest.mark.thorough
def test_a_checkpoint_of_another_run_is_refused(folder, capsys):
    other = ('--config.seed=7', '--config.train.steps=6')
    assert main.main(folder.arguments(*other, workdir='other')) == DONE
    folder.take_checkpoint('other', '6')
    step_6 = ('--mode=eval', '--config.eval.step=6')
    for arguments in ((), ('--config.train.steps=8',), ('--mode=eval',), step_6):
        message = folder.refused(capsys, *arguments)
        assert 'checkpoints/6' in message and 'seed was 7, now 0' in message
    with pytest.raises(InputError, match='seed was 7, now 0'):
        alexnet_jax.load(folder.run)
    assert alexnet_jax.load(folder.run, step=4).step == 4


@pytest.mark.thorough
def test_a_checkpoint_of_the_same_settings_and_another_set_is_refused(folder, capsys):
    shutil.copytree(folder.run, folder.top / 'first')
    shutil.rmtree(folder.run)
    folder.other_photos()
    assert main.main(folder.arguments()) == DONE
    shutil.rmtree(folder.run / 'checkpoints' / '4')
    folder.take_checkpoint('first', '4')
    for arguments in ((), ('--mode=eval',)):
        assert 'mean and scale was' in folder.refused(capsys, *arguments)


def test_a_renamed_checkpoint_is_damaged(folder, capsys):
    checkpoints = folder.run / 'checkpoints'
    (checkpoints / '4').rename(checkpoints / '99')
    with pytest.raises(InputError, match=r'99/manifest.json is of step 4'):
        alexnet_jax.load(folder.run, step=99)
    assert alexnet_jax.load(folder.run).step == 2  # the one before it
    assert 'checkpoint 99 is damaged' in capsys.readouterr().err


def test_another_normalization_is_refused(folder, capsys):
    path = folder.run / 'normalization.npz'
    with np.load(path) as arrays:
        changed = {'mean': arrays['mean'][::-1], 'scale': arrays['scale']}
    np.savez(path, **changed)
    assert 'mean and scale was' in folder.refused(capsys, '--mode=eval')
    with pytest.raises(InputError, match='mean and scale was'):
        alexnet_jax.load(folder.run)
    folder.refused(capsys)


@pytest.mark.parametrize(('change', 'message'), [
    ({'classes': ['b', 'a', 'c']}, 'classes was'),
    ({'classes': ['a', 'b']}, 'classes was'),
    ({'mirror': False}, "mirror was 'True', now False"),
    ({'data': {'content': 'other'}}, 'data content was'),
])  # fmt: skip
def test_another_model_json_is_refused(folder, capsys, change, message):
    path = folder.run / 'model.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=message):
        alexnet_jax.load(folder.run)
    folder.refused(capsys)
    folder.refused(capsys, '--mode=eval')


@pytest.mark.parametrize(('path', 'value', 'message'), [
    (('optimizer', 'momentum'), 0.5, 'optimizer.momentum was 0.9, now 0.5'),
    (('seed',), 3, 'seed was 0, now 3'),
    (('network', 'table', 'layers', 0, 'bias'), 0.5, 'conv1.bias of the net was'),
    (('network', 'table', 'layers', 0, 'then', 0, 'kind'), 'Tanh', 'conv1.then of the net was'),
    (('network', 'table', 'name'), 'large', "network.name is 'small'; its table has 'large'"),
    (('network', 'table'), {}, 'layers of the table of the net is None'),
])  # fmt: skip
def test_another_config_json_is_refused(folder, capsys, path, value, message):
    file = folder.run / 'config.json'
    tree = json.loads(file.read_text())
    branch = tree
    for key in path[:-1]:
        branch = branch[key]
    branch[path[-1]] = value
    file.write_text(json.dumps(tree))
    for command in (['--mode=eval'], ['--mode=eval', '--config.eval.split=val'], []):
        command = ['--workdir', str(folder.run), *command]
        assert message in folder.refused(capsys, command=command)
    with pytest.raises(InputError) as error:
        alexnet_jax.load(folder.run)
    assert message in str(error.value)


def average(stage):
    return AveragePool(stage.size, stage.stride) if isinstance(stage, MaxPool) else stage


@pytest.mark.thorough
def test_a_workdir_keeps_the_table_that_it_was_trained_with(folder, capsys, monkeypatch):
    number = folder.result(capsys)
    changed = with_stages(architectures.ARCHITECTURES['small'], 'small', average)
    monkeypatch.setitem(architectures.ARCHITECTURES, 'small', changed)
    assert folder.result(capsys) == number
    assert main.main(folder.arguments('--mode=eval')) == DONE
    assert capsys.readouterr().out.split(' -> ')[0] == number
    message = folder.refused(capsys, '--config.train.steps=8')
    assert 'pool of the net was' in message or '.then of the net was' in message
    # Without the file, the workdir's own table counts, for training too.
    assert main.main(['--workdir', str(folder.run), '--config.train.steps=6']) == DONE


@pytest.mark.thorough
def test_a_net_that_this_package_does_not_have_is_used(folder, capsys, monkeypatch):
    number, run = folder.result(capsys), folder.run
    image = np.zeros((1, 28, 28, 3), np.uint8)
    logits = alexnet_jax.load(run)(image)[0]
    monkeypatch.delitem(architectures.ARCHITECTURES, 'small')
    assert folder.result(capsys) == number
    np.testing.assert_array_equal(alexnet_jax.load(run)(image)[0], logits)
    file = folder.top / 'own.safetensors'
    assert weights.main(['export', str(run), '--out', str(file)]) == DONE
    np.testing.assert_array_equal(alexnet_jax.load(file)(image)[0], logits)
    again = folder.top / 'again'
    assert weights.main(['import', str(file), '--workdir', str(again)]) == DONE
    np.testing.assert_array_equal(alexnet_jax.load(again)(image)[0], logits)
    # Another net is not made of it under its name.
    assert 'network.name' in folder.refused(capsys)
