"""Studies: a folder holds one, and no result is filed under what it is not of. Training is
played: a run writes the files of its last step."""

import dataclasses
import json
import os
import shutil

import pytest

from alexnet_jax.data.prepare import stored
from alexnet_jax.data.synthetic import synthetic_set
from alexnet_jax.evaluation import __main__ as evaluation
from alexnet_jax.experiment import build, kept_config, results, trained, training_run, workdir
from alexnet_jax.experiment import config as configuration
from alexnet_jax.network.architectures import ARCHITECTURES
from alexnet_jax.network.layers import AveragePool, MaxPool
from alexnet_jax.network.variants import with_stages
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE, FAULT
from alexnet_jax.runtime.command_line import run as run_command
from alexnet_jax.runtime.errors import InputError, NotFiniteError
from alexnet_jax.studies import ablations, column_runs, figure1, runs, specialization, study
from tests import config_files
from tests.studies.test_figure1 import write_rows

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
    'specialization': [
        (['--seeds', '3', '--nets', 'cifar18'], '--nets had four_layer, too'),
    ],
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


@pytest.fixture
def played(monkeypatch):
    """The folders of the runs that are trained; in its `lost`, the ends of those that reach NaN."""

    class Played(list):
        lost: tuple[str, ...] = ()

    calls = Played()

    def train(config, folder, stop_requested):
        calls.append(str(folder))
        steps = build.clock(config, config['data.synthetic_examples']).steps
        write_rows(folder, config['data.synthetic_examples'], config['data.batch_size'],
                   [1 / step for step in range(1, steps + 1)])  # fmt: skip
        (folder / 'config.json').write_text(json.dumps(kept_config.to_tree(config)))
        if str(folder).endswith(calls.lost):
            raise NotFiniteError('the loss of step 1 is nan', 1)
        (folder / 'checkpoints' / str(steps)).mkdir(parents=True, exist_ok=True)
        (folder / 'eval').mkdir(exist_ok=True)
        kept = {
            'split': 'val', 'views': config['eval.views'], 'source': 'synthetic',
            'network': config['network.name'], 'step': steps, 'examples': 20, 'loss': 1.0,
            'top1_error': 1 / steps, 'top5_error': 0.0, 'top1_interval': [0, 1],
            'top5_interval': [0, 1],
        }  # fmt: skip
        path = folder / 'eval' / f'val-{config["eval.views"]}.json'
        path.write_text(json.dumps(kept))
        return True

    def measure_all(configs, folder, stop_requested):
        apart = {index: {'p': 0.5} for index in ('color', 'orientation')}
        measured = {'measures': {'top1 error': 0.1}, 'separation': apart, 'over_training': {}}
        return dict.fromkeys(configs, measured)

    def average(members, weights, out):
        return ', '.join(path.name for path, _ in members)

    monkeypatch.setattr(training_run, 'train', train)
    monkeypatch.setattr(column_runs, 'measure_all', measure_all)
    monkeypatch.setattr(trained, 'average', average)
    # Played, or else the members of an ensemble would be refused: each seed has images of its own.
    monkeypatch.setattr(results, 'set_of', lambda config: config['data.source'])
    monkeypatch.setattr('alexnet_jax.report.several.make', lambda folder: 'report')
    return calls


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
        assert 'is at step 6, beyond the end of the plan, step ' in first and str(folder) in first
        assert 'Ask for as many steps at least' in second
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
        assert message in first_line and f'{folder} holds another study' in first_line
        assert 'take another folder' in second
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
                '{"command": "ensemble", "config": {}, "options": {"seeds": "2"}}', '[' * 10**5]
)  # fmt: skip
def test_a_study_json_that_is_none_is_refused(content, played, tmp_path, capsys):
    folder = tmp_path / 'study'
    folder.mkdir()
    (folder / 'study.json').write_text(content)
    before = snapshot(folder)
    assert run_command(*command_of('ensemble', folder, None)) == BAD_INPUT
    told = capsys.readouterr().err
    assert 'study.json cannot be read' in told or 'holds another study' in told
    assert len(told.splitlines()) <= 2 and snapshot(folder) == before


@pytest.mark.parametrize(
    'content', ['{', '[]', '7', 'null', '{"a": 3}', '{"a": {"config": {}}}', 'Infinity',
                '{"a": {"config": {}, "result": {"step": "6"}}}', '{"a": {"config": {}, "result": 1}}',
                '{"a": {"config": {}, "identity": 3, "result": {"step": 6}}}']
)  # fmt: skip
def test_a_results_json_that_is_none_is_refused(content, played, tmp_path, capsys):
    folder = tmp_path / 'study'
    folder.mkdir()
    (folder / 'results.json').write_text(content)
    assert run_command(*command_of('ensemble', folder, None)) == BAD_INPUT
    told = capsys.readouterr().err
    assert 'results.json cannot be read' in told and len(told.splitlines()) == 2
    assert (folder / 'results.json').read_text() == content and played == []


@pytest.mark.parametrize('name', ['study.json', 'results.json'])
def test_pipes_are_refused_at_once(name, played, tmp_path, capsys):
    folder = tmp_path / 'study'
    folder.mkdir()
    os.mkfifo(folder / name)
    assert run_command(*command_of('ensemble', folder, None)) == BAD_INPUT
    assert f'{name} cannot be read' in capsys.readouterr().err


def tiny(**given) -> configuration.Config:
    return configuration.complete(SETTINGS | {'train.epochs': 2}, given)


def test_runs_whose_loss_is_no_number_are_not_repeated(tmp_path, monkeypatch, played):
    played.lost = ('/bad',)
    expected = {'bad': {'fault': 'the loss of step 1 is nan'}}
    assert runs.train_all({'bad': tiny()}, tmp_path, lambda: False) == expected
    monkeypatch.setattr(training_run, 'train', None)
    assert runs.train_all({'bad': tiny()}, tmp_path, lambda: False) == expected


@pytest.mark.parametrize('step', [3, 5, 40])
def test_a_result_of_another_step_is_not_filed(step, tmp_path, monkeypatch, played):
    """The plan ends at step 4, under a protocol that looks for no plateau."""
    train = training_run.train

    def elsewhere(config, folder, stop_requested):
        train(config, folder, stop_requested)
        path = folder / 'eval' / 'val-1.json'
        path.write_text(json.dumps(json.loads(path.read_text()) | {'step': step}))
        return True

    monkeypatch.setattr(training_run, 'train', elsewhere)
    message = rf'run has a result of step {step}; its plan ends at step 4'
    with pytest.raises(InputError, match=message):
        runs.train_all({'run': tiny()}, tmp_path, lambda: False)
    assert not (tmp_path / 'results.json').exists()


def test_a_plateau_may_end_a_run_before_its_plan(tmp_path, monkeypatch, played):
    train = training_run.train

    def early(config, folder, stop_requested):
        return train(configuration.changed(config, {'train.epochs': 1}), folder, stop_requested)

    monkeypatch.setattr(training_run, 'train', early)
    plateau = configuration.complete(SETTINGS | {'train.epochs': 2, 'train.protocol': 'paper'}, {})
    results = runs.train_all({'run': plateau}, tmp_path, lambda: False)
    assert results is not None and results['run']['step'] == 2


def test_a_kept_result_is_checked_too(tmp_path, played):
    """A result of a longer run under the shorter configuration, as older versions filed it."""
    assert runs.train_all({'run': tiny()}, tmp_path, lambda: False)
    kept = json.loads((tmp_path / 'results.json').read_text())
    kept['run']['result']['step'] = 12
    shutil.rmtree(tmp_path / 'run' / 'checkpoints')
    (tmp_path / 'results.json').write_text(json.dumps(kept))
    with pytest.raises(InputError, match=r'run has a result of step 12; its plan ends at step 4'):
        runs.train_all({'run': tiny()}, tmp_path, lambda: False)


def other_table(monkeypatch):
    net = with_stages(
        ARCHITECTURES['four_layer'], 'four_layer',
        lambda stage: AveragePool(stage.size, stage.stride) if isinstance(stage, MaxPool) else stage,
    )  # fmt: skip
    monkeypatch.setitem(ARCHITECTURES, 'four_layer', net)


def other_set(change):
    def apply(monkeypatch):
        images = synthetic_set(20, 2, 32, 0)
        monkeypatch.setattr(build, 'open_images', lambda config: change(images))

    return apply


@dataclasses.dataclass(frozen=True)
class WithIdentity:
    """An image set that has an identity."""

    splits: dict
    classes: tuple
    identity: dict


def with_digest(digest: str):
    return other_set(
        lambda images: WithIdentity(
            images.splits, images.classes, {'source': 'x', 'pictures': digest}
        )
    )


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (other_table, "the net's table changed"),
        (
            other_set(lambda x: dataclasses.replace(x, classes=('class 0', 'z'))),
            'the classes changed',
        ),
        (
            other_set(lambda x: dataclasses.replace(x, classes=x.classes[::-1])),
            'the classes changed',
        ),
        (
            other_set(
                lambda x: dataclasses.replace(x, splits=x.splits | {'test': x.splits['val']})
            ),
            'the number of images changed',
        ),
        (with_digest('other'), 'pictures of the set changed'),
    ],
)
def test_a_finished_run_of_something_else_is_not_reused(
    change, message, tmp_path, monkeypatch, played
):
    """A table that was edited, average for max pooling; classes renamed, reordered; another set."""
    if 'pictures' in message:
        with_digest('first')(monkeypatch)
    assert runs.train_all({'run': tiny()}, tmp_path, lambda: False)
    with monkeypatch.context() as patch:
        change(patch)
        before = snapshot(tmp_path)
        for config in (tiny(), tiny(**{'train.epochs': '9'})):  # longer, too
            with pytest.raises(InputError, match=f'run was trained on something else: .*{message}'):
                runs.train_all({'run': config}, tmp_path, lambda: False)
        assert snapshot(tmp_path) == before and len(played) == 1
        # As the message advises: once removed, the run is trained again.
        shutil.rmtree(tmp_path / 'run')
        patch.setattr(training_run, 'held_out_split', lambda config, images: 'val')
        assert runs.train_all({'run': tiny()}, tmp_path, lambda: False)
        assert len(played) == 2
    assert runs.train_all({'new': tiny()}, tmp_path, lambda: False)


def test_a_run_whose_folder_was_trained_differently_is_refused_before_others_train(
    tmp_path, played
):
    assert runs.train_all({'b': tiny()}, tmp_path, lambda: False)
    configs = {'a': tiny(), 'b': tiny(**{'optimizer.momentum': '0.5'})}
    with pytest.raises(InputError, match=r'optimizer\.momentum was 0\.9, now 0\.5'):
        runs.train_all(configs, tmp_path, lambda: False)
    assert len(played) == 1 and not (tmp_path / 'a').exists()


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
    told = capsys.readouterr().err
    assert f'seed is {seed} and --seeds {count}: the last seed would be 2147483648' in told
    assert not folder.exists()
    if count == 2:
        command = command_of(kind, folder, None, *more, f'--config.seed={seed - 1}')
        assert run_command(*command) == DONE


def test_a_seed_that_ended_in_nan_makes_no_ensemble(played, tmp_path, capsys):
    folder = tmp_path / 'study'
    played.lost = ('study/seed-1',)
    for _ in range(2):  # and again, when both are finished
        assert run_command(*command_of('ensemble', folder, None)) == FAULT
        told, printed = capsys.readouterr().err.splitlines(), capsys.readouterr().out
        assert f'{folder}/seed-1 is no member: the loss of step 1 is nan' in told[0]
        assert len(told) == 2 and 'seed-0' not in printed
    assert len(played) == 2


@pytest.mark.parametrize(
    ('content', 'saved', 'message'),
    [
        ({'step': 9, 'fault': 'the loss of step 9 is nan'}, 6, 'the run ended at step 9 (the loss'),
        ({'step': 1, 'fault': 'x'}, None, 'the run ended at step 1'),
        ({'step': 5, 'fault': 'x'}, 6, None),  # trained again, beyond it
        ({'fault': 'x'}, 6, 'not_finite.json cannot be read'),
        ([], 6, 'not_finite.json cannot be read'),
    ],
)
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
        (tmp_path / name / 'config.json').write_text(json.dumps(kept_config.to_tree(tiny())))
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
    assert 'study.json' in words and 'ended in NaN' in words
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
