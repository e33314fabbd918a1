"""Columns over seeds: the table by hand, the command on a few steps."""

import contextlib
import dataclasses
import json
import math
import re
import types

import numpy as np
import pytest

from alexnet_jax.data import patterns
from alexnet_jax.data.synthetic import synthetic_set
from alexnet_jax.evaluation import seeds
from alexnet_jax.evaluation.tally import Tally
from alexnet_jax.experiment import config_file, trained, two_columns
from alexnet_jax.experiment.config import changed
from alexnet_jax.network.architectures import ARCHITECTURES
from alexnet_jax.network.variants import with_lrn_across_columns
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE, STOPPED
from alexnet_jax.runtime.command_line import run as run_command
from alexnet_jax.studies import column_runs, specialization, study


def test_rows_by_net_and_their_table():
    def run(error, p, **more):
        found = {index: {'p': p} for index in ('color', 'orientation')}
        return {'measures': {'top1 error': error, **more}, 'separation': found}

    measured = {
        'patterns/seed-0': run(0.1, 0.04, CKA=0.5), 'patterns/seed-1': run(0.3, 0.05, CKA=0.7),
        'patterns_one_column/seed-0': run(0.0, 0.5), 'patterns_one_column/seed-1': run(0.2, 0.6),
    }  # fmt: skip
    rows = specialization.summarize(['patterns', 'patterns_one_column'], measured)
    assert [row['apart']['color'] for row in rows] == [1, 0]  # 0.05 is not below 0.05
    assert rows[0]['measures']['CKA']['mean'] == pytest.approx(0.6)
    lines = seeds.markdown_table(*seeds.measure_table(rows))
    assert lines[0] == '| mean [95 % interval] | patterns | patterns_one_column |'
    assert lines[2].startswith('| top-1 error | 0.200 [0.000, 1.000] | 0.100 [')
    assert re.fullmatch(r'\| CKA \| 0.600 \[.*\] \| – \|', lines[3])
    assert lines[-2] == '| runs with a separation by color, p < 0.05 | 1 of 2 | 0 of 2 |'


@pytest.mark.parametrize(('name', 'words'), [
    ('top1 error', 'top-1 error'), ('color apart', 'separation by color'),
    ('orientation apart by chance', 'separation by orientation, chance level'),
    ('top1 error, no crossing at conv3', 'top-1 error without the crossing at conv3'),
    ('CKA at fc6, halves at random', 'CKA at fc6, random halves'), ('CKA at fc6', 'CKA at fc6'),
    ('columns alone differ in leaning', 'difference in leaning'),
])  # fmt: skip
def test_measures_in_words(name, words):
    assert seeds.measure_text(name) == words


def tally(errors: list[int]) -> Tally:
    """Ten images a class, with so many errors."""
    return Tally(np.full(len(errors), 10), np.array(errors), np.zeros(len(errors), int))


def test_how_columns_lean():
    """One errs on all hues, the other on a half of all gratings and no hue: (0 − 1) − (0.5 − 0)."""
    classes = ('grating 0°', 'grating 90°', 'hue 0°', 'hue 180°')
    cuts = {
        'whole net': tally([0] * 4), 'column 1 alone': tally([0, 0, 10, 10]),
        'column 2 alone': tally([10, 0, 0, 0]), 'no crossing at fc6': tally([1, 1, 1, 1]),
    }  # fmt: skip
    found = column_runs._of_cuts(cuts, classes)
    assert found == {
        'top1 error, no crossing at fc6': 0.1, 'top1 error, better column alone': 0.25,
        'top1 error, other column alone': 0.5, 'columns alone differ in leaning': 1.5,
    }  # fmt: skip
    assert 'columns alone differ in leaning' not in column_runs._of_cuts(cuts, ('a', 'b', 'c', 'd'))


def test_one_column_is_compared_by_halves(random):
    kernel = random.normal(size=(1, 5, 5, 3, 7))
    found = two_columns.separations(kernel)['color']
    index = two_columns.indices(kernel)['color'][0]
    assert found.means == pytest.approx((index[:4].mean(), index[4:].mean()))


@pytest.mark.thorough
def test_from_the_command_line(tmp_path, capsys, monkeypatch):
    command = [
        '--config', 'configs/patterns.py', '--workdir', str(tmp_path), '--nets', 'patterns',
        '--seeds', '2', '--config.train.steps=2', '--config.network.width=0.5',
    ]  # fmt: skip
    for split in ('val', 'test'):
        monkeypatch.setitem(patterns.EXAMPLES, split, 64)  # enough to see that all is done
    stops = iter([False] * 3)
    asked = contextlib.nullcontext(lambda: next(stops, True))
    with monkeypatch.context() as patch:
        patch.setattr(study, 'stop_requests', lambda: asked)
        assert run_command(specialization.run, command) == STOPPED
    assert run_command(specialization.run, command) == DONE
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == f'report -> {tmp_path}/report/index.html'
    assert (tmp_path / 'specialization.md').read_text() in printed
    kept = json.loads((tmp_path / 'specialization.json').read_text())
    assert kept['runs'].keys() == {'patterns/seed-0', 'patterns/seed-1'}
    measures = kept['runs']['patterns/seed-1']['measures']
    assert -0.1 < measures['CKA at conv1'] <= 1
    stored = json.loads((tmp_path / 'patterns' / 'seed-1' / 'eval' / 'test-1.json').read_text())
    assert measures['top1 error'] == stored['top1_error']
    # Again: nothing is trained or measured anew.
    assert run_command(specialization.run, command) == DONE
    assert 'measured' not in capsys.readouterr().out


@pytest.mark.parametrize(('words', 'message'), [
    (['--seeds', '1'], '--seeds is 1; allowed: from 2 to 1000'),
    (['--nets', 'pattern'], "--nets has 'pattern'; the nearest is patterns"),
    (['--nets', ''], '--nets is empty'),
    (['--nets', 'patterns,small,patterns'], "--nets has 'patterns' twice"),
    (['--config.network.name=small'], 'this command sets network.name itself; use --nets'),
    (['--config.start.from=x'], "start.from is 'x'; allowed: '', as every run starts"),
    (['--config.eval.step=2'], 'eval.step is 2; allowed: 0, as the last step'),
    (['--config.seed=2147483647'], 'seed is 2147483647 and --seeds 5: the last seed would be'),
    (['--config.network.width=0.1'], 'network.width is 0.1: conv1 of network patterns has'),
])  # fmt: skip
def test_bad_commands(words, message, tmp_path, capsys):
    command = ['--config', 'configs/patterns.py', '--workdir', str(tmp_path / 'new'), *words]
    assert run_command(specialization.run, command) == BAD_INPUT
    assert message in capsys.readouterr().err and not (tmp_path / 'new').exists()


def test_a_run_that_went_to_no_number_is_left_out_and_told(tmp_path, capsys, monkeypatch):
    """Of three seeds of one net; of another not one is left."""
    lost = {'patterns/seed-1', *(f'patterns_one_column/seed-{seed}' for seed in range(3))}

    def train_all(configs, folder, stop_requested):
        return {name: {'fault': 'the loss is nan'} if name in lost else {} for name in configs}

    def measure_all(configs, folder, stop_requested):
        apart = {'p': 0.01, 'difference': 0.2, 'by_chance': 0.1}
        found = {'color': apart, 'orientation': apart}
        return {
            name: {'measures': {'top1 error': config['seed'] / 10}, 'separation': found, 'over_training': {'3': found}}
            for name, config in configs.items()
        }  # fmt: skip

    monkeypatch.setattr('alexnet_jax.studies.runs.train_all', train_all)
    monkeypatch.setattr(column_runs, 'measure_all', measure_all)
    command = ['--config', 'configs/patterns.py', '--workdir', str(tmp_path), '--seeds', '3']
    command += ['--nets', 'patterns,patterns_one_column', '--config.train.steps=1']
    assert run_command(specialization.run, command) == DONE
    printed = capsys.readouterr().out
    assert 'patterns/seed-1 is excluded: the loss is nan' in printed
    assert '| top-1 error | 0.100 [' in printed and '| 2 of 2 | 0 of 0 |' in printed


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """(what differs) -> whether a run is measured, whose measures of `BOUND` are kept."""
    counts = []

    def measure_it(**differing):
        given = BOUND | differing
        net = given.pop('net', None)
        showing = types.SimpleNamespace(
            model=types.SimpleNamespace(step=given.pop('step')), **given
        )
        monkeypatch.setattr(trained, 'show', lambda *arguments: showing)
        before = len(counts)
        with monkeypatch.context() as patch:
            if net:
                patch.setitem(ARCHITECTURES, net.name, net)
            column_runs.measure_all({'run': given['config']}, tmp_path, lambda: False)
        return len(counts) > before

    def measure(showing, workdir):
        counts.append(workdir)
        apart = {index: {'p': np.nan} for index in ('color', 'orientation')}
        return {'step': showing.model.step, 'measures': {'CKA': math.nan, 'error': np.float64(0.5)},
                'separation': apart, 'over_training': {3: {}}}  # fmt: skip

    monkeypatch.setattr(column_runs, 'measure', measure)
    return measure_it


CONFIG = config_file.load(None, {'network.name': 'small', 'data.source': 'synthetic'})
IMAGES = synthetic_set(20, 2, 32, 0)
BOUND = {'step': 6, 'split': 'val', 'config': CONFIG, 'images': IMAGES}


@pytest.mark.parametrize('differing', [
    {'step': 7},
    {'split': 'train'},
    *(
        {'config': changed(CONFIG, values)}
        for values in (
            {'eval.views': 10}, {'eval.split': 'val'}, {'seed': 3}, {'train.epochs': 4},
            {'optimizer.momentum': 0.5}, {'network.width': 0.5}, {'data.source': 'patterns'},
        )
    ),
    {'images': dataclasses.replace(IMAGES, classes=('a', 'class 1'))},
    {'images': dataclasses.replace(IMAGES, splits={'train': IMAGES.splits['train']})},
    {'images': types.SimpleNamespace(**vars(IMAGES) | {'identity': {'digest': 'x'}})},
    {'net': with_lrn_across_columns(ARCHITECTURES['small'], 'small')},
])  # fmt: skip
def test_kept_measures_are_used_for_the_same_alone(differing, measured):
    """Another step, split, configuration, set or table: measured again, and then back again."""
    assert measured() and not measured()
    assert measured(**differing) and not measured(**differing)
    assert measured()


def test_what_changes_no_measure_is_not_measured_again(measured):
    assert measured()
    assert not measured(
        config=changed(CONFIG, {'data.threads': 5, 'data.dir': 'x', 'mesh.data': 1})
    )


@pytest.mark.parametrize(
    'content', ['', '{', '[]', '3', 'null', '{"step": 6}', '{"step": 6, "measures": {}}', 'NaN']
)
def test_kept_measures_that_are_none_are_measured_again(content, measured, tmp_path):
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'columns.json').write_text(content)
    assert measured() and not measured()
    kept = json.loads(
        (tmp_path / 'run' / 'columns.json').read_text(), parse_constant=pytest.fail
    )  # what is no number is none in JSON either
    assert kept['measures'] == {'CKA': None, 'error': 0.5}
    rows = specialization.summarize(['run'], {'run/seed-0': kept, 'run/seed-1': kept})
    assert rows[0]['measures']['CKA']['mean'] is None and rows[0]['apart']['color'] == 0
