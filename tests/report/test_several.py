"""Pages of many runs, and of runs beside each other."""

import csv
import html
import json
import re
import shutil

import pytest

from alexnet_jax.report import __main__ as command
from alexnet_jax.report import ablation_page, several
from alexnet_jax.report.figures.curves import Drop
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE
from alexnet_jax.runtime.command_line import run as run_command
from tests.report import many
from tests.report.conftest import ROWS


def page(folder) -> str:
    return html.unescape((folder / 'index.html').read_text())


def numbers(path) -> list[dict[str, str]]:
    with path.open(newline='') as file:
        return list(csv.DictReader(file))


def page_of(folder, kind: str):
    many.ALL[kind](folder)
    assert run_command(command.run, [str(folder)]) == DONE
    return folder / 'report'


def test_figure1_draws_each_activation_at_its_own_rate(tmp_path):
    out = page_of(tmp_path, 'figure1')
    lines = numbers(out / 'figure1.csv')
    assert {row['line'] for row in lines} == {
        'relu, learning rate 0.01',
        'tanh, learning rate 0.003',
    }
    points = [
        float(row['training error']) for row in lines if row['line'] == 'relu, learning rate 0.01'
    ]
    assert points == pytest.approx([0.5 * 2 / (2 + epoch) for epoch in range(1, 9)])
    assert '>5.00, never<' in page(out) and '>2.00, 3.00<' in page(out)
    assert 'tanh/rate-0.1/seed-0 is excluded: the loss of step 3 is nan' in page(out)


def test_files_of_older_versions_have_pages_too(tmp_path):
    """Without views, notes, faults; and an activation whose every rate ended in NaN."""
    for kind, unknown in (('ablations', ('views', 'notes')), ('figure1', ('faults',))):
        folder = tmp_path / kind
        folder.mkdir()
        many.ALL[kind](folder)
        path = folder / f'{kind}.json'
        kept = json.loads(path.read_text())
        kept = {name: value for name, value in kept.items() if name not in unknown}
        path.write_text(json.dumps(kept))
        assert run_command(command.run, [str(folder)]) == DONE
    kept['rows'] = [
        row | {'learning_rate': None, 'epochs': [], 'mean': None} for row in kept['rows']
    ]
    path.write_text(json.dumps(kept))
    assert run_command(command.run, [str(folder)]) == DONE
    assert 'NaN at every rate' in page(folder / 'report')


def test_activation_functions_are_compared_in_sentences():
    rows = [{'activation': 'relu', 'mean': 7.02}, {'activation': 'tanh', 'mean': 44.2},
            {'activation': 'maxout', 'mean': None}]  # fmt: skip
    assert several.speeds(rows, 0.25) == [
        'With relu the net needs 7.02 epochs to a training error of 0.25 on average.',
        'With tanh it needs 6.30 times as many.',
    ]
    assert several.speeds(rows[2:], 0.25) == []


def test_ablations_show_differences_beside_the_published(tmp_path):
    out = page_of(tmp_path, 'ablations')
    lrn, mirror = numbers(out / 'top1_error.csv')
    assert (lrn['name'], float(lrn['difference in top-1 error'])) == ('no_lrn', 0.03)
    assert [float(lrn[end]) for end in ('low', 'high', 'published')] == pytest.approx(
        [0.02, 0.04, 0.014]
    )
    assert mirror['difference in top-1 error'] == ''
    assert 'no_lrn +0.0300' in page(out) and '§3.3' in page(out)
    assert 'test images, 10 views.' in page(out)
    assert 'no_lrn/seed-1 is excluded: nan' in page(out)


def test_effects_of_ablations_are_sentences():
    def row(name, *seeds):
        return {'name': name, 'top1_error': {'seeds': list(seeds)}}

    rows = [row('net', 0.5, 0.4), row('a', 0.6, 0.41), row('b', 0.4, 0.5), row('c', 0.49, 0.1),
            row('d', 0.7, 0.5), row('e', 0.6, None), row('f', 0.5, 0.4)]  # fmt: skip
    assert ablation_page.effects(rows, 'top1_error') == [
        'With each of 2 seeds the top-1 error is higher than that of net for a, d.',
        'With each of 2 seeds the top-1 error is lower than that of net for c.',
        'The top-1 error is not higher with each seed, nor lower with each, for b, e, f.',
    ]
    assert ablation_page.effects([row('net', 0.5), row('a', 0.6)], 'top1_error') == []


def test_columns_over_seeds(tmp_path):
    out = page_of(tmp_path, 'specialization')
    lines = [row for row in numbers(out / 'apart_color.csv') if row['line'] == 'patterns']
    # Step 64: 0.064 and 0.074 over a chance of 0.05.
    assert float(lines[1]['color: difference over chance']) == pytest.approx(0.069 / 0.05)
    assert '0.600 [0.500, 0.700]' in page(out) and '2 of 2' in page(out) and '–' in page(out)


@pytest.mark.parametrize(
    ('content', 'kind'),
    [('{"rows": [', 'figure1'), ('[]', 'ablations'), ('{"rows": [{}]}', 'specialization'), ('7', 'figure1'),
     ('NaN', 'ablations'), ('[' * 10**5, 'ablations'), ('[' * 10**5, 'figure1'),
     (None, 'figure1')],
)  # fmt: skip
def test_a_file_that_is_none_is_named(content, kind, tmp_path, capsys):
    if content is None:  # bytes that are no text
        (tmp_path / f'{kind}.json').write_bytes(b'\xff\xfe')
    else:
        (tmp_path / f'{kind}.json').write_text(content)
    assert run_command(command.run, [str(tmp_path)]) == BAD_INPUT
    (errors,) = capsys.readouterr().err.splitlines()
    assert f'{kind}.json cannot be read' in errors


@pytest.fixture
def run(made, tmp_path):
    return shutil.copytree(made, tmp_path / 'a' / 'run')


def test_runs_beside_each_other(run, tmp_path):
    other = shutil.copytree(run, tmp_path / 'b' / 'run')
    config = json.loads((other / 'config.json').read_text())
    config['seed'] = 7
    (other / 'config.json').write_text(json.dumps(config))
    (other / 'metrics.jsonl').write_text('{"half')
    shutil.rmtree(other / 'eval')
    assert run_command(command.run, [str(run), str(other), '--out', str(tmp_path / 'out')]) == DONE
    content = page(tmp_path / 'out')
    kept = json.loads((run / 'eval' / 'test-1.json').read_text())
    assert f'>{kept["top1_error"]:.3f}<' in content and 'no evaluation' in content
    lines = numbers(tmp_path / 'out' / 'val_top1_error.csv')
    expected = [(row['epoch'], row['top1_error']) for row in ROWS if row['split'] == 'val']
    assert [
        (float(row['epoch']), float(row['validation top-1 error'])) for row in lines
    ] == expected
    assert {row['line'] for row in lines} == {'a/run'}
    assert '>seed</td><td>0</td><td>7</td>' in content.replace(' class="number"', '')


def test_settings_are_compared_one_by_one(run, tmp_path):
    other = shutil.copytree(run, tmp_path / 'b' / 'run')
    config = json.loads((other / 'config.json').read_text())
    config['seed'] = 7
    config['data'] |= {'batch_size': 32, 'color_std': 0.25}
    (other / 'config.json').write_text(json.dumps(config))
    shutil.rmtree(other / 'eval')  # of the other configuration
    assert run_command(command.run, [str(run), str(other), '--out', str(tmp_path / 'out')]) == DONE
    _, differing = page(tmp_path / 'out').split('<h2>Different settings</h2>')
    rows = re.findall('<tr>(.*?)</tr>', differing)[1:]
    assert [re.findall('<td[^>]*>(.*?)</td>', row) for row in rows] == [
        ['seed', '0', '7'], ['data.batch_size', '64', '32'], ['data.color_std', '0.1', '0.25'],
    ]  # fmt: skip


@pytest.mark.parametrize(('classes', 'guessing'), [(10, 10), (9, None)])
def test_curves_of_runs(classes, guessing, run, tmp_path, monkeypatch):
    """Errors are on a logarithmic axis; ln(classes) is one line only where all have as many."""
    drawn = {}
    compare = several.curves.compare

    def keep(lines, path, axes, **more):
        drawn[axes[1]] = more
        compare(lines, path, axes, **more)

    monkeypatch.setattr(several.curves, 'compare', keep)
    other = shutil.copytree(run, tmp_path / 'b' / 'run')
    about = json.loads((other / 'model.json').read_text())
    (other / 'model.json').write_text(json.dumps(about | {'classes': about['classes'][:classes]}))
    shutil.rmtree(other / 'eval')  # of ten classes
    assert run_command(command.run, [str(run), str(other), '--out', str(tmp_path / 'out')]) == DONE
    falls = {'a/run': [Drop(2.0, 0.001)], 'b/run': [Drop(2.0, 0.001)]}  # at step 40 of 20 an epoch
    assert drawn == {
        'validation top-1 error': {'classes': None, 'log': True, 'falls': falls},
        'validation loss': {'classes': guessing, 'log': False, 'falls': falls},
        'training loss': {'classes': guessing, 'log': False, 'falls': falls},
    }
    assert 'Triangles mark drops of the learning rate.' in page(tmp_path / 'out')


def test_a_broken_result_of_a_run_is_named(run, tmp_path, capsys):
    (run / 'eval' / 'test-1.json').write_text('{')
    words = [str(run), str(run / '..' / 'run'), '--out', str(tmp_path / 'out')]
    assert run_command(command.run, words) == BAD_INPUT
    assert 'eval/test-1.json cannot be read' in capsys.readouterr().err


@pytest.mark.parametrize(('words', 'message'), [
    (['{run}', '{run}'], '--out goes with several RUNs'),
    (['{run}', '--out', '{out}'], '--out goes with several RUNs'),
    (['{out}/no'], 'no such folder'),
    (['{run}', '{empty}', '--out', '{out}'], 'is not a workdir: it has no config.json'),
    (['{empty}'], 'is not a workdir: it has no config.json'),
    (['{run}', '--config.seed=3'], 'settings (--config.NAME=VALUE) go with --mode=report'),
    ([], 'required: RUN'),
])  # fmt: skip
def test_bad_commands(words, message, run, tmp_path, capsys):
    (tmp_path / 'empty').mkdir()
    places = {'run': run, 'out': tmp_path / 'out', 'empty': tmp_path / 'empty'}
    assert run_command(command.run, [word.format(**places) for word in words]) == BAD_INPUT
    errors = capsys.readouterr().err
    assert message in errors and len(errors.splitlines()) == 1
