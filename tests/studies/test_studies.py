"""Studies: a folder holds one, and no result is filed under what it is not of. Training is
played: a run writes the files of its last step."""

import json
import os
import re

import pytest

from alexnet_jax.data.prepare import stored
from alexnet_jax.data.synthetic import synthetic_set
from alexnet_jax.evaluation import __main__ as evaluation
from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment import kept_config, workdir
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE, FAULT
from alexnet_jax.runtime.command_line import run as run_command
from alexnet_jax.runtime.errors import InputError
from alexnet_jax.studies import ablations, figure1, specialization, study
from tests import config_files

SETTINGS = {
    'network.name': 'four_layer', 'data.source': 'synthetic', 'data.record_size': 32,
    'data.synthetic_examples': 20, 'data.synthetic_classes': 2, 'data.batch_size': 10,
    'train.protocol': 'constant',
}  # fmt: skip
# Each command, what it is given, and options by which a call asks for more.
COMMANDS = {
    'ablations': (ablations.run, ['--ablations', 'optimizer.momentum=0', '--seeds', '2']),
    'figure1': (figure1.run, ['--activations', 'relu', '--rates', '0.1,0.01', '--seeds', '2']),
    'specialization': (specialization.run, ['--nets', 'four_layer,cifar18', '--seeds', '2']),
    'ensemble': (evaluation.run, ['--seeds', '2']),
}
ADDING = {
    'ablations': ['--ablations', 'optimizer.momentum=0.5,optimizer.momentum=0', '--seeds', '3'],
    'figure1': ['--activations', 'tanh,relu', '--rates', '0.01,0.03,0.1', '--seeds', '3'],
    'specialization': ['--nets', 'cifar18,patterns_one_column,four_layer', '--seeds', '3'],
    'ensemble': ['--seeds', '3'],
}
TAKING = {
    'ablations': [
        (['--seeds', '1'], '--seeds was 2, now 1'),
        (['--ablations', 'optimizer.momentum=0.5'], '--ablations had optimizer.momentum=0, too'),
    ],
    'figure1': [
        (['--seeds', '1'], '--seeds was 2, now 1'),
        (['--activations', 'tanh'], '--activations had relu, too'),
        (['--rates', '0.01'], '--rates had 0.1, too'),
    ],
    'specialization': [(['--seeds', '3', '--nets', 'cifar18'], '--nets had four_layer, too')],
    'ensemble': [(['--seeds', '1'], '--seeds was 2, now 1')],
}


def command_of(kind: str, folder, options=None, *more: str):
    """(function, arguments) of a short study of two seeds; options given again count."""
    path = config_files.with_values(folder.parent / 'base.py', SETTINGS)
    function, first = COMMANDS[kind]
    words = ['ensemble', '--out'] if kind == 'ensemble' else ['--workdir']
    words += [str(folder), '--config', str(path), *(first if options is None else options)]
    return function, [*words, *more]


def snapshot(folder) -> dict:
    return {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()}


KINDS = pytest.mark.parametrize('kind', COMMANDS)


@KINDS
def test_shorter_runs_are_refused_untouched_and_longer_ones_go_on(kind, played, tmp_path, capsys):
    """Two steps an epoch: of three epochs six; then two epochs, and five."""
    folder = tmp_path / 'study'

    def run(*more):
        return run_command(*command_of(kind, folder, None, *more))

    assert run('--config.train.epochs=3') == DONE
    trained = list(played)
    assert len(trained) == {'ablations': 4, 'figure1': 3, 'specialization': 4, 'ensemble': 2}[kind]
    assert run('--config.train.epochs=3') == DONE and played == trained
    before = snapshot(folder)
    for shorter in ('--config.train.epochs=2', '--config.train.steps=5', '--config.train.steps=1'):
        capsys.readouterr()
        assert run(shorter) == BAD_INPUT
        first, second = capsys.readouterr().err.splitlines()
        assert 'is at step 6, after the requested last step ' in first and str(folder) in first
        assert 'Request at least as many steps' in second
        assert snapshot(folder) == before and played == trained
    assert run('--config.train.steps=6') == DONE  # the same length in other words
    assert run('--config.train.epochs=5') == DONE
    kept = json.loads((folder / 'results.json').read_text())
    assert {row['result']['step'] for row in kept.values()} == {10}
    assert run('--config.train.epochs=3') == BAD_INPUT


@KINDS
def test_other_views_are_evaluated_anew(kind, played, tmp_path):
    folder = tmp_path / 'study'
    assert run_command(*command_of(kind, folder, None, '--config.train.epochs=2')) == DONE
    more = ['--config.train.epochs=2', '--config.eval.views=10']
    assert run_command(*command_of(kind, folder, None, *more)) == DONE
    kept = json.loads((folder / 'results.json').read_text())
    assert {row['result']['views'] for row in kept.values()} == {10}


@KINDS
def test_a_folder_holds_one_study(kind, played, tmp_path, capsys):
    folder = tmp_path / 'study'
    assert run_command(*command_of(kind, folder, None, '--config.train.epochs=2')) == DONE
    before, trained = snapshot(folder), list(played)
    first = COMMANDS[kind][1]
    others = [
        (first, [f'--config.{setting}'], message)
        for setting, message in (
            ('seed=7', 'seed was 0, now 7'),
            ('optimizer.weight_decay=0.1', 'optimizer.weight_decay was 0.0, now 0.1'),
            ('data.batch_size=4', 'data.batch_size was 10, now 4'),
            ('data.synthetic_examples=30', 'data.synthetic_examples was 20, now 30'),
            ('network.compute=bfloat16', "network.compute was 'float32', now 'bfloat16'"),
            ('network.width=0.5', 'network.width was 1.0, now 0.5'),
            ('train.protocol=caffe', "train.protocol was 'constant', now 'caffe'"),
        )
    ] + [([*first, *options], [], message) for options, message in TAKING[kind]]
    for options, more, message in others:
        command = command_of(kind, folder, options, '--config.train.epochs=2', *more)
        capsys.readouterr()
        assert run_command(*command) == BAD_INPUT
        first_line, second = capsys.readouterr().err.splitlines()
        assert message in first_line and f'{folder} has another study' in first_line
        assert 'use another folder' in second
        assert snapshot(folder) == before and played == trained
    assert run_command(*command_of(kind, folder, ADDING[kind], '--config.train.epochs=2')) == DONE
    assert len(played) > len(trained) and not set(played[len(trained) :]) & set(trained)


def test_the_command_trains_a_protocol_as_its_own_defaults_have_it(played, tmp_path):
    """The file's settings count over those of the protocol, the protocol's over the program's."""
    folder = tmp_path / 'study'
    options = ['--ablations', 'train.protocol=torchvision', '--seeds', '1']
    assert run_command(*command_of('ablations', folder, options, '--config.train.epochs=1')) == DONE
    path = folder / 'train.protocol=torchvision' / 'seed-0' / 'config.json'
    config = kept_config.read_workdir(path)
    expected = {
        'train.protocol': 'torchvision', 'data.normalization': 'standardized',
        'optimizer.weight_decay': 1e-4, 'data.mirror': True, 'data.batch_size': 10,
    }  # fmt: skip
    assert {name: config[name] for name in expected} == expected


def test_another_command_is_another_study(played, tmp_path, capsys):
    for kind in COMMANDS:
        folder = tmp_path / kind
        assert run_command(*command_of(kind, folder, None, '--config.train.epochs=1')) == DONE
        for other in COMMANDS.keys() - {kind}:
            capsys.readouterr()
            assert run_command(*command_of(other, folder, None)) == BAD_INPUT
            assert f"it is of '{kind}', not of '{other}'" in capsys.readouterr().err


@pytest.mark.parametrize(
    'content', ['{', '[]', '7', 'null', '{"command": "ensemble", "config": 3}', '', 'NaN',
                '{"command": "ensemble", "config": {}, "options": {"seeds": "2"}}', '[' * 10**5,
                'a pipe']
)  # fmt: skip
def test_a_study_json_that_is_none_is_refused(content, played, tmp_path, capsys):
    folder = tmp_path / 'study'
    folder.mkdir()
    if content == 'a pipe':
        os.mkfifo(folder / 'study.json')
    else:
        (folder / 'study.json').write_text(content)
    before = snapshot(folder)
    assert run_command(*command_of('ensemble', folder, None)) == BAD_INPUT
    errors = capsys.readouterr().err
    assert 'study.json cannot be read' in errors or 'has another study' in errors
    assert len(errors.splitlines()) <= 2 and snapshot(folder) == before


@pytest.mark.parametrize(
    ('kind', 'count'),
    [('ablations', 2), ('figure1', 2), ('specialization', 2), ('ensemble', 2), ('ensemble', 1000)],
)
def test_seeds_end_where_seeds_end(kind, count, played, tmp_path, capsys):
    """2³¹ − 1 is the largest."""
    folder = tmp_path / 'study'
    more = ['--seeds', str(count), '--config.train.epochs=1']
    seed = 2**31 - count + 1
    command = command_of(kind, folder, None, *more, f'--config.seed={seed}')
    assert run_command(*command) == BAD_INPUT
    errors = capsys.readouterr().err
    assert f'seed is {seed} and --seeds {count}: the last seed would be 2147483648' in errors
    assert not folder.exists()
    if count == 2:
        command = command_of(kind, folder, None, *more, f'--config.seed={seed - 1}')
        assert run_command(*command) == DONE


def test_a_seed_that_ended_in_nan_makes_no_ensemble(played, tmp_path, capsys):
    folder = tmp_path / 'study'
    played.lost = ('study/seed-1',)
    for _ in range(2):  # and again, when both are finished
        assert run_command(*command_of('ensemble', folder, None)) == FAULT
        errors, printed = capsys.readouterr().err.splitlines(), capsys.readouterr().out
        assert f'{folder}/seed-1 is no member: the loss of step 1 is nan' in errors[0]
        assert len(errors) == 2 and 'seed-0' not in printed
    assert len(played) == 2


@pytest.mark.parametrize(('content', 'saved', 'message'), [
    ({'step': 9, 'fault': 'the loss of step 9 is nan'}, 6, 'the run ended at step 9 (the loss'),
    ({'step': 1, 'fault': 'x'}, None, 'the run ended at step 1'),
    ({'step': 5, 'fault': 'x'}, 6, None),  # trained again, beyond it
    ({'fault': 'x'}, 6, 'not_finite.json cannot be read'),
    ([], 6, 'not_finite.json cannot be read'),
])  # fmt: skip
def test_a_workdir_that_ended_in_nan_is_no_member(content, saved, message, tmp_path):
    if saved:
        (tmp_path / 'checkpoints' / str(saved)).mkdir(parents=True)
    (tmp_path / 'not_finite.json').write_text(json.dumps(content))
    if message is None:
        workdir.refuse_not_finite(tmp_path)
        return
    with pytest.raises(InputError) as error:
        workdir.refuse_not_finite(tmp_path)
    assert message in str(error.value) and len(str(error.value).splitlines()) <= 2


def test_the_ensemble_command_looks_for_nan(played, tmp_path, capsys):
    for name in ('a', 'b'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'config.json').write_text(
            json.dumps(kept_config.to_tree(configuration.complete(SETTINGS, {})))
        )
    (tmp_path / 'b' / 'not_finite.json').write_text('{"step": 3, "fault": "the loss is nan"}')
    command = ['ensemble', str(tmp_path / 'a'), str(tmp_path / 'b'), '--out', str(tmp_path / 'c')]
    assert run_command(evaluation.run, command) == BAD_INPUT
    assert f'{tmp_path}/b is no member' in capsys.readouterr().err
    assert not (tmp_path / 'c').exists()


def test_names_between_commas():
    assert study.names_of('--x', ' a,,b ', ('a', 'b')) == ['a', 'b']
    for text, message in (
        ('a,a', 'twice'),
        ('', 'empty'),
        ('ab', 'nearest is a'),
        ('a\nb', r'a\\nb'),
    ):
        with pytest.raises(InputError, match=message):
            study.names_of('--x', text, ('a', 'b'))


@pytest.mark.parametrize('module', [ablations, figure1, specialization, evaluation])
def test_the_help_says_what_a_folder_holds(module, capsys):
    with pytest.raises(SystemExit):
        module.run(['--help'])
    words = ' '.join(capsys.readouterr().out.split())
    assert 'study.json' in words and re.search('end(ed)? in NaN', words)
    assert 'configs/ablations_digits.py' not in words


@pytest.mark.parametrize('kind', COMMANDS)
def test_a_study_that_kept_a_relative_source_is_the_same(kind, played, tmp_path, monkeypatch):
    """It goes on by the same command, and trains nothing again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(SETTINGS, 'data.source', 'folder:photos')
    monkeypatch.setattr(stored, 'of_source', lambda *_: synthetic_set(20, 2, 32, 0))
    folder = tmp_path / 'study'
    command = command_of(kind, folder, None, '--config.train.epochs=1')
    with monkeypatch.context() as older:
        older.setattr(configuration, 'absolute', lambda source: source)
        assert run_command(*command) == DONE
    assert '"folder:photos"' in (folder / 'study.json').read_text()
    trained = list(played)
    assert trained and run_command(*command) == DONE
    assert played == trained
