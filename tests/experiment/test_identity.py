"""A workdir belongs to one run: whatever of it, of its net or of its set is exchanged is refused,
and nothing is rewritten."""

import dataclasses
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import alexnet_jax
from alexnet_jax import main
from alexnet_jax.data.prepare import __main__ as prepare
from alexnet_jax.evaluation import __main__ as evaluation
from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment import results
from alexnet_jax.network import architectures
from alexnet_jax.network.layers import AveragePool, MaxPool
from alexnet_jax.network.variants import with_stages
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE
from alexnet_jax.runtime.errors import InputError
from alexnet_jax.weights import __main__ as weights
from tests import config_files
from tests.data.photographs import write_classes

SIZE = 32


@dataclasses.dataclass(frozen=True)
class Folder:
    """Photos in class folders, the set prepared of them, and a finished run on it."""

    top: Path

    def arguments(self, *more: str, workdir: str = 'run') -> list[str]:
        return [
            '--config', str(self.top / 'config.py'), '--workdir', str(self.top / workdir), *more,
        ]  # fmt: skip

    def prepare(self) -> None:
        shutil.rmtree(self.top / 'set', ignore_errors=True)
        arguments = ['--source', f'folder:{self.top / "photos"}', '--out', str(self.top / 'set')]
        assert prepare.main([*arguments, f'--size={SIZE}', '--val_fraction=0.25']) == DONE

    @property
    def content(self) -> dict[str, bytes]:
        """Every file of the workdir."""
        return {
            str(path.relative_to(self.top)): path.read_bytes()
            for path in sorted((self.top / 'run').rglob('*'))
            if path.is_file() and path.name != '.lock'
        }


@pytest.fixture(scope='module')
def original(tmp_path_factory) -> Folder:
    folder = Folder(tmp_path_factory.mktemp('original'))
    write_classes(folder.top / 'photos', 8, ('a', 'b', 'c'))
    config = {
        'network.name': 'small', 'network.width': 0.5, 'data.source': f'folder:{folder.top}/photos',
        'data.dir': f'{folder.top}/set', 'data.record_size': SIZE, 'data.batch_size': 4,
        'train.steps': 4, 'checkpoint.every_steps': 2, 'train.report': False, 'train.log_to': (),
        'data.threads': 0, 'eval.batch_size': 4,
    }  # fmt: skip
    config_files.with_values(folder.top / 'config.py', config)
    folder.prepare()
    assert main.main(folder.arguments()) == DONE
    return folder


@pytest.fixture
def folder(original):
    """The same, brought back afterwards: a set knows where its photos lie."""
    kept = original.top.with_name('kept')
    shutil.copytree(original.top, kept)
    yield original
    shutil.rmtree(original.top)
    kept.rename(original.top)


def refused(folder: Folder, capsys, *more: str, command=None) -> str:
    """The message of a command that ends with status 2 and leaves every file as it was."""
    before = folder.content
    capsys.readouterr()
    assert main.main(command or folder.arguments(*more)) == BAD_INPUT
    assert folder.content == before
    message = capsys.readouterr().err
    assert len(message.splitlines()) <= 2, message
    return message


def result(folder: Folder, capsys, *more: str) -> str:
    capsys.readouterr()
    assert main.main(['--workdir', str(folder.top / 'run'), '--mode=eval', *more]) == DONE
    return capsys.readouterr().out.split(' -> ')[0]


def more_steps(message_of):
    """Cases of data that changed: also with more steps to go."""
    return pytest.mark.parametrize('steps', [(), ('--config.train.steps=8',)])(message_of)


@more_steps
def test_a_renamed_class_is_another_run(folder, capsys, steps):
    (folder.top / 'photos' / 'a').rename(folder.top / 'photos' / 'z')
    folder.prepare()
    message = refused(folder, capsys, *steps)
    assert "class 0 was 'a', now 'b'" in message and 'take another --workdir' in message


@more_steps
def test_other_pictures_in_the_same_classes_are_another_run(folder, capsys, steps):
    shutil.rmtree(folder.top / 'photos')
    write_classes(folder.top / 'photos', 9, ('a', 'b', 'c'))
    folder.prepare()
    message = refused(folder, capsys, *steps)
    assert 'mean of the training images was' in message and 'content of the set was' in message


def test_an_evaluation_of_other_pictures_is_not_the_run_s_own(folder, capsys):
    result(folder, capsys, '--config.eval.split=val')
    kept = folder.top / 'run' / 'eval' / 'val-1.json'
    before = kept.read_bytes()
    shutil.rmtree(folder.top / 'photos')
    write_classes(folder.top / 'photos', 9, ('a', 'b', 'c'))
    folder.prepare()
    capsys.readouterr()
    command = ['--workdir', str(folder.top / 'run'), '--mode=eval', '--config.eval.split=val']
    assert main.main(command) == DONE
    printed = capsys.readouterr().out
    assert re.search(r'eval/val-1-folder_.*-[0-9a-f]{8}\.json$', printed.strip())
    assert kept.read_bytes() == before


def test_a_result_of_another_run_is_not_believed(folder, capsys):
    """Of the same net and set with another seed; the run's own is read after a longer plan, too."""
    result(folder, capsys, '--config.eval.split=train')
    assert main.main(folder.arguments('--config.train.steps=6')) == DONE
    own, run = folder.top / 'run' / 'eval' / 'val-1.json', folder.top / 'run'
    assert {row['step'] for row in results.every(run)} == {4, 6}
    other = ('--config.seed=7', '--config.train.steps=6')
    assert main.main(folder.arguments(*other, workdir='other')) == DONE
    shutil.copy(folder.top / 'other' / 'eval' / 'val-1.json', own)
    capsys.readouterr()
    tables = ['tables', str(run), '--out', str(folder.top / 'tables')]
    assert evaluation.main(tables) == BAD_INPUT
    message = capsys.readouterr().err
    assert f'{own} is of another run than {run}; evaluate it anew' in message
    assert main.main(['--workdir', str(run), '--mode=report']) == DONE
    assert 'is of another run than' in (run / 'report' / 'index.html').read_text()
    result(folder, capsys, '--config.eval.split=val')
    assert evaluation.main(tables) == DONE


def test_the_same_pictures_with_other_labels_are_another_run(folder, capsys):
    a, b = (folder.top / 'photos' / name for name in 'ab')
    a.rename(a.with_name('c0'))
    b.rename(a)
    a.with_name('c0').rename(b)
    folder.prepare()
    assert 'content of the set was' in refused(folder, capsys)


def test_an_equal_set_prepared_again_is_the_same_run(folder, capsys):
    folder.prepare()
    assert main.main(folder.arguments('--config.train.steps=6')) == DONE


@pytest.mark.parametrize(
    'missing', [('config.json',), ('config.json', 'model.json', 'normalization.npz')]
)
def test_without_its_files_a_workdir_is_still_bound_by_its_checkpoints(folder, capsys, missing):
    for name in missing:
        (folder.top / 'run' / name).unlink()
    changes = ('--config.optimizer.learning_rate=0.02', '--config.seed=7')
    message = refused(folder, capsys, *changes)
    assert 'optimizer.learning_rate was 0.01, now 0.02' in message
    assert 'seed was 0, now 7' in message


def test_without_its_files_a_workdir_is_still_bound_to_its_set(folder, capsys):
    for name in ('config.json', 'model.json', 'normalization.npz'):
        (folder.top / 'run' / name).unlink()
    (folder.top / 'photos' / 'a').rename(folder.top / 'photos' / 'z')
    folder.prepare()
    message = refused(folder, capsys)
    assert "classes was '3: a, b, c (" in message and 'now 3: b, c, z (' in message


@pytest.mark.parametrize('name', ['config.json', 'model.json', 'normalization.npz'])
def test_a_file_that_is_missing_is_written_again(folder, capsys, name):
    path = folder.top / 'run' / name
    before, number = path.read_bytes(), result(folder, capsys)
    path.unlink()
    assert main.main(folder.arguments()) == DONE
    if name != 'config.json':  # which holds the command
        assert path.read_bytes() == before
    assert result(folder, capsys) == number


@pytest.mark.parametrize('make', [Path.mkdir, os.mkfifo, lambda path: path.symlink_to(path)])
@pytest.mark.parametrize('name', ['metrics.jsonl', 'checkpoints'])
def test_something_else_in_the_place_of_a_file_is_refused(folder, capsys, name, make):
    run = folder.top / 'run'
    # Without checkpoints nothing else of the workdir stops a run of another length.
    (run / 'checkpoints').rename(folder.top / 'moved')
    if name == 'checkpoints' and make is Path.mkdir:
        make = Path.touch  # an empty folder is as good as none
    elif name != 'checkpoints':
        (run / name).unlink()
    make(run / name)
    assert name in refused(folder, capsys, '--config.train.steps=6')
    assert sorted(run.glob('checkpoints*')) == ([run / name] if name == 'checkpoints' else [])


def test_a_checkpoint_of_another_run_is_refused(folder, capsys):
    other = ('--config.seed=7', '--config.train.steps=6')
    assert main.main(folder.arguments(*other, workdir='other')) == DONE
    shutil.copytree(
        folder.top / 'other' / 'checkpoints' / '6', folder.top / 'run' / 'checkpoints' / '6'
    )
    for arguments in (
        (),
        ('--config.train.steps=8',),
        ('--mode=eval',),
        ('--mode=eval', '--config.eval.step=6'),
    ):
        message = refused(folder, capsys, *arguments)
        assert 'checkpoints/6' in message and 'seed was 7, now 0' in message
    with pytest.raises(InputError, match='seed was 7, now 0'):
        alexnet_jax.load(folder.top / 'run')
    assert alexnet_jax.load(folder.top / 'run', step=4).step == 4


def test_a_checkpoint_of_the_same_settings_and_another_set_is_refused(folder, capsys):
    shutil.copytree(folder.top / 'run', folder.top / 'first')
    shutil.rmtree(folder.top / 'run')
    shutil.rmtree(folder.top / 'photos')
    write_classes(folder.top / 'photos', 9, ('a', 'b', 'c'))
    folder.prepare()
    assert main.main(folder.arguments()) == DONE
    shutil.rmtree(folder.top / 'run' / 'checkpoints' / '4')
    shutil.copytree(
        folder.top / 'first' / 'checkpoints' / '4', folder.top / 'run' / 'checkpoints' / '4'
    )
    for arguments in ((), ('--mode=eval',)):
        assert 'mean and scale was' in refused(folder, capsys, *arguments)


def test_a_renamed_checkpoint_is_damaged(folder, capsys):
    checkpoints = folder.top / 'run' / 'checkpoints'
    (checkpoints / '4').rename(checkpoints / '99')
    with pytest.raises(InputError, match=r'99/manifest.json is of step 4'):
        alexnet_jax.load(folder.top / 'run', step=99)
    assert alexnet_jax.load(folder.top / 'run').step == 2  # the one before it
    assert 'checkpoint 99 is damaged' in capsys.readouterr().err


def test_another_normalization_is_refused(folder, capsys):
    path = folder.top / 'run' / 'normalization.npz'
    with np.load(path) as arrays:
        changed = {'mean': arrays['mean'][::-1], 'scale': arrays['scale']}
    np.savez(path, **changed)
    assert 'mean and scale was' in refused(folder, capsys, '--mode=eval')
    with pytest.raises(InputError, match='mean and scale was'):
        alexnet_jax.load(folder.top / 'run')
    refused(folder, capsys)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'classes': ['b', 'a', 'c']}, 'classes was'),
        ({'classes': ['a', 'b']}, 'classes was'),
        ({'mirror': False}, "mirror was 'True', now False"),
        ({'data': {'content': 'other'}}, 'data content was'),
    ],
)
def test_another_model_json_is_refused(folder, capsys, change, message):
    path = folder.top / 'run' / 'model.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=message):
        alexnet_jax.load(folder.top / 'run')
    refused(folder, capsys)
    refused(folder, capsys, '--mode=eval')


@pytest.mark.parametrize(
    ('path', 'value', 'message'),
    [
        (('optimizer', 'momentum'), 0.5, 'optimizer.momentum was 0.9, now 0.5'),
        (('seed',), 3, 'seed was 0, now 3'),
        (('network', 'table', 'layers', 0, 'bias'), 0.5, 'conv1.bias of the net was'),
        (('network', 'table', 'layers', 0, 'then', 0, 'kind'), 'Tanh', 'conv1.then of the net was'),
        (('network', 'table', 'name'), 'large', "network.name is 'small'; its table has 'large'"),
        (('network', 'table'), {}, 'layers of the table of the net is None'),
    ],
)
def test_another_config_json_is_refused(folder, capsys, path, value, message):
    file = folder.top / 'run' / 'config.json'
    tree = json.loads(file.read_text())
    branch = tree
    for key in path[:-1]:
        branch = branch[key]
    branch[path[-1]] = value
    file.write_text(json.dumps(tree))
    for command in (['--mode=eval'], ['--mode=eval', '--config.eval.split=val'], []):
        command = ['--workdir', str(folder.top / 'run'), *command]
        assert message in refused(folder, capsys, command=command)
    with pytest.raises(InputError) as error:
        alexnet_jax.load(folder.top / 'run')
    assert message in str(error.value)


def average(stage):
    return AveragePool(stage.size, stage.stride) if isinstance(stage, MaxPool) else stage


def test_a_workdir_keeps_the_table_that_it_was_trained_with(folder, capsys, monkeypatch):
    number = result(folder, capsys)
    changed = with_stages(architectures.ARCHITECTURES['small'], 'small', average)
    monkeypatch.setitem(architectures.ARCHITECTURES, 'small', changed)
    assert result(folder, capsys) == number
    assert main.main(folder.arguments('--mode=eval')) == DONE
    assert capsys.readouterr().out.split(' -> ')[0] == number
    message = refused(folder, capsys, '--config.train.steps=8')
    assert 'pool of the net was' in message or '.then of the net was' in message
    # Without the file, the workdir's own table counts, for training too.
    assert main.main(['--workdir', str(folder.top / 'run'), '--config.train.steps=6']) == DONE


def test_a_net_that_this_package_does_not_have_is_used(folder, capsys, monkeypatch):
    number, run = result(folder, capsys), folder.top / 'run'
    image = np.zeros((1, 28, 28, 3), np.uint8)
    logits = alexnet_jax.load(run)(image)[0]
    monkeypatch.delitem(architectures.ARCHITECTURES, 'small')
    assert result(folder, capsys) == number
    np.testing.assert_array_equal(alexnet_jax.load(run)(image)[0], logits)
    file = folder.top / 'own.safetensors'
    assert weights.main(['export', str(run), '--out', str(file)]) == DONE
    np.testing.assert_array_equal(alexnet_jax.load(file)(image)[0], logits)
    again = folder.top / 'again'
    assert weights.main(['import', str(file), '--workdir', str(again)]) == DONE
    np.testing.assert_array_equal(alexnet_jax.load(again)(image)[0], logits)
    # Another net is not made of it under its name.
    assert 'network.name' in refused(folder, capsys)


def test_a_workdir_that_was_never_trained_in_takes_another_set(folder, capsys):
    shutil.rmtree(folder.top / 'run' / 'checkpoints')
    (folder.top / 'photos' / 'a').rename(folder.top / 'photos' / 'z')
    folder.prepare()
    assert main.main(folder.arguments()) == DONE
    assert alexnet_jax.load(folder.top / 'run').classes == ('b', 'c', 'z')


def test_a_relative_source_is_the_same_run(folder, capsys, monkeypatch):
    """A new run keeps the absolute path; an older one, with the relative, goes on by the same
    command, and can then be evaluated from anywhere."""
    monkeypatch.chdir(folder.top)
    relative = '--config.data.source=folder:photos'
    kept = folder.top / 'run' / 'config.json'
    absolute = json.loads(kept.read_text())
    for source in ('folder:photos', f'folder:{folder.top}/photos'):
        older = absolute | {'data': absolute['data'] | {'source': source}}
        kept.write_text(json.dumps(older))
        monkeypatch.chdir(folder.top)
        assert main.main(folder.arguments(relative, '--config.train.steps=8')) == DONE
        assert json.loads(kept.read_text())['data']['source'] == f'folder:{folder.top}/photos'
        monkeypatch.chdir('/')
        result(folder, capsys)


def test_a_record_with_a_relative_source_is_of_the_same_run(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder.top)
    shutil.rmtree(folder.top / 'run')
    monkeypatch.setattr(configuration, 'absolute', lambda source: source)
    relative = '--config.data.source=folder:photos'
    assert main.main(folder.arguments(relative)) == DONE
    assert '"folder:photos"' in (folder.top / 'run' / 'config.json').read_text()
    monkeypatch.undo()
    monkeypatch.chdir(folder.top)
    assert main.main(folder.arguments(relative, '--config.train.steps=8')) == DONE


def test_differences_of_several_things_are_plural(folder, capsys):
    shutil.rmtree(folder.top / 'photos')
    write_classes(folder.top / 'photos', 12, ('a', 'b', 'c'))
    folder.prepare()
    message = refused(folder, capsys)
    assert 'splits of the set were train 18, val 6, now train 27, val 9' in message
    assert 'content of the set was' in message
