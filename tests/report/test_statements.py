"""What a report states: of which images, which set and step; what differs from the paper; and no
number that means nothing."""

import dataclasses
import html
import json
import re
from pathlib import Path

import numpy as np
import pytest

from alexnet_jax import load, main
from alexnet_jax.experiment import results
from alexnet_jax.report import differences, run_facts
from alexnet_jax.runtime import files
from alexnet_jax.runtime.command_line import DONE, FAULT
from alexnet_jax.training import manifest
from tests.experiment.trained_runs import change_weights, make_nan
from tests.report.conftest import ROWS, report
from tests.report.test_run_page import numbers

HOSTILE = ('\u202egnp.exe', 'שלום', '=1+1', 'x' * 5000, '@\u2066a\u2069')


def page(workdir: Path) -> str:
    return html.unescape((workdir / 'report' / 'index.html').read_text(encoding='utf-8'))


def section(workdir: Path, title: str) -> str:
    found = re.search(f'<h2>{title}</h2>(.*?)</section>', page(workdir), re.DOTALL)
    assert found, title
    return re.sub(' (data-name|class)="[^"]*"', '', found[1])


def names(count: int) -> tuple[str, ...]:
    return tuple(f'name {label}' for label in range(count))


@pytest.mark.thorough
@pytest.mark.parametrize(('split', 'kind'), [('train', 'training'), ('val', 'validation')])
def test_images_are_called_what_they_are(split, kind, run):
    workdir = run(names(10))
    assert report(workdir, f'--config.eval.split={split}') == DONE
    content = page(workdir)
    assert f'<h2>{kind.capitalize()} images</h2>' in content
    assert f'alt="{kind} image of class name' in content
    assert f'alt="{kind} image, class name' in content
    assert f'each row has a {kind} image and its' in content and ' 40 ' in content
    assert 'test image' not in content.lower()
    found = numbers(workdir, 'neighbors')
    assert len(found) == 5 * 6
    if split == 'train':
        assert 'among all 40 other training images' in content
        assert all(row['image'] != row['neighbor'] for row in found)
        assert '<td>eval.split</td><td>train</td><td>test or val</td>' in content


def test_one_image(run):
    """A training image that has no other near to it."""
    workdir = run(names(10), images=1)
    assert report(workdir, '--config.eval.split=train') == DONE
    assert 'of 1 training image: top-1 error' in page(workdir)
    assert '1.000 [0.207, 1.000]' in page(workdir) or '0.000 [0.000, 0.793]' in page(workdir)
    assert numbers(workdir, 'neighbors') == []


@pytest.mark.thorough
def test_five_classes_of_hostile_names(run, capsys):
    """Their top-5 error means nothing and is left out; their names turn no text, are no formulas
    and can be of any length."""
    workdir = run(HOSTILE)
    (workdir / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in ROWS))
    capsys.readouterr()
    assert main.main(['--workdir', str(workdir), '--mode=eval']) == DONE
    printed = capsys.readouterr().out
    assert 'top5_error –  loss' in printed
    assert report(workdir) == DONE
    content = page(workdir)
    assert 'top-5 error 0.' not in content
    assert '<td>–</td>' in section(workdir, 'Run')
    assert 'top5_error' not in numbers(workdir, 'errors')[0]
    assert 'top-5' not in (workdir / 'report' / 'errors.svg').read_text()
    result = json.loads((workdir / 'eval' / 'test-1.json').read_text())
    assert isinstance(result['top5_error'], float) and result['class_count'] == 5

    for text in (content, printed):
        assert not re.search('[\u202a-\u202e\u2066-\u2069]', text) and 'שלום' in text
    for path in (workdir / 'report').glob('*.csv'):
        assert not re.findall(r'(?:^|,)"?[=@]', path.read_text(), re.MULTILINE), path
    assert "'=1+1" in {row['name'] for row in numbers(workdir, 'classes')}
    assert max(map(len, printed.splitlines())) < 1000


def test_of_ten_classes_it_is_shown(made):
    assert 'top-5 error 0.' in page(made) and '<td>–</td>' not in section(made, 'Run')
    assert 'top5_error' in numbers(made, 'errors')[0]
    assert 'training, top-5' in (made / 'report' / 'errors.svg').read_text()


def test_the_top5_error_of_five_classes_in_lines_and_tables(tmp_path, capsys):
    from alexnet_jax.studies import tables
    from alexnet_jax.training.console import describe

    row = {'epoch': 1.0, 'loss': 0.5, 'top1_error': 0.25, 'top5_error': 0.0}
    assert describe(row, top5=False).endswith('top1 0.2500  top5 –')
    assert describe(row).endswith('top5 0.0000')
    result = row | {
        'split': 'test', 'views': 1, 'source': 'a', 'network': 'small', 'step': 3,
        'class_count': 5, 'top1_interval': (0.1, 0.4), 'top5_interval': (0.0, 0.1),
    }  # fmt: skip
    (found,) = tables.rows_of('run', [result])
    assert found.test_top1 is not None and found.test_top5 is None
    text = tables.markdown(tables.filled([found]))
    assert '| 1 CNN, small, step 3: run | a | 1 | 0.2500 [0.1000, 0.4000] | – |' in text


def test_a_table_does_not_mix_steps_members_sets_or_views():
    from alexnet_jax.studies import tables

    def result(split, **changes):
        return {
            'split': split, 'views': 10, 'distinct_views': 10, 'source': 's', 'network': 'small',
            'step': 60, 'class_count': 10, 'top1_error': 0.25, 'top1_interval': [0.1, 0.4],
            'top5_error': 0.1, 'top5_interval': [0.0, 0.2],
        } | changes  # fmt: skip

    whole = [result('test'), result('val')]
    (row,) = tables.rows_of('run', whole)
    assert row.model == '1 CNN, small, step 60: run' and row.val_top1 and row.test_top1
    for changes in (
        {'step': 40}, {'data': {'content': 'b'}}, {'set': 'synthetic, seed 1'}, {'source': 't'}, {'views': 1, 'distinct_views': 1},
        {'distinct_views': 5}, {'members': ['a', 'b']}, {'members': ['a', 'b'], 'steps': [60, 40]},
        {'network': 'paper'},
    ):  # fmt: skip
        rows = tables.rows_of('run', [result('test'), result('val', **changes)])
        assert [bool(row.val_top1) + bool(row.test_top1) for row in rows] == [1, 1], changes
    ensembles = [result('test', members=['a', 'b'], steps=[60, 40])]
    (row,) = tables.rows_of('out', ensembles)
    assert row.model == '2 CNNs, small, steps 60, 40: out of a, b'
    (row,) = tables.rows_of('run', [result('test', distinct_views=5)])
    assert row.views == 5


@pytest.mark.thorough
def test_other_sets_are_not_the_run_s_own(run, data_dir):
    workdir = run(names(10))
    assert main.main(['--workdir', str(workdir), '--mode=eval']) == DONE
    own = json.loads((workdir / 'eval' / 'test-1.json').read_text())
    other = '--config.data.source=patterns'
    assert main.main(['--workdir', str(workdir), '--mode=eval', other]) == DONE
    assert results.every(workdir) == [own] and len(results.others(workdir)) == 1
    assert report(workdir, other) == DONE
    facts = section(workdir, 'Run')
    ours, theirs = facts.split('<caption>Evaluations of other sets or steps')
    assert '>test, 1 view</td><td>digits<' in ours and '>patterns<' not in ours
    assert '>test, 1 view</td><td>patterns<' in theirs
    content = page(workdir)
    assert '<h1>patterns_one_column on digits</h1>' in content  # what it was trained on
    assert 'test images of patterns: top-1 error' in content
    assert 'each row has a test image of patterns and its' in content
    assert '<td>data.source</td><td>patterns</td>' in content


def rows_of(workdir, showing=None, metrics=()) -> dict[str, str]:
    model = load(workdir)
    return {name: here for name, here, _ in differences.training(model, showing, metrics)}


def test_what_differs_from_the_paper(made):
    """The digits' run: what its configuration says of mirror images is not what was done."""
    config = json.loads((made / 'config.json').read_text())
    assert config['data']['mirror'] is True and not load(made).mirror
    content = section(made, 'Differences from the paper')
    for name, here, paper in (
        ('data.source', 'digits', 'ImageNet: ILSVRC-2010 and 2012'),
        ('training images', '1,297', '1.2 million'),
        ('classes', '10', '1,000'),
        ('epochs', '3.00, up to step 60', 'roughly 90'),
        ('data.mirror', 'off: a mirror image has another class', 'on'),
        ('data.batch_size', '64', '128'),
        ('eval.views', '1 view', '10'),
    ):
        assert f'<td>{name}</td><td>{here}</td><td>{paper}</td>' in content, name
    assert 'data.normalization' not in content and 'eval.split' not in content


@pytest.mark.parametrize(('settings', 'name', 'here'), [
    ({'data.mirror': 'off'}, 'data.mirror', 'off'),
    ({'data.color_std': '0'}, 'data.color_std', '0.0'),
    ({'data.normalization': 'standardized'}, 'data.normalization', 'standardized'),
    ({'optimizer.momentum': '0.5'}, 'optimizer.momentum', '0.5'),
    ({'optimizer.weight_decay': '0'}, 'optimizer.weight_decay', '0.0'),
    ({'train.protocol': 'diary'}, 'data.color_epochs', '67'),
    ({'network.compute': 'bfloat16'}, 'network.compute', 'bfloat16'),
    ({'schedule.drops': '1'}, 'schedule.drops', '1'),
    ({'optimizer.layer_rates': 'conv1=0'}, 'optimizer.layer_rates', 'conv1=0'),
])  # fmt: skip
def test_every_setting_that_computes_something_else_is_listed(settings, name, here, made):
    model = load(made)
    from alexnet_jax.experiment import config as configuration

    changed = configuration.override(model.config, settings)
    if 'train.protocol' in settings:
        changed = configuration.complete({}, settings)
    rows = differences.training(dataclasses.replace(model, config=changed, mirror=True), None, ())
    assert (name, here) in [row[:2] for row in rows]


def test_epochs_are_those_of_the_step(made):
    """From the log; else from the steps, if the set is at hand; else unknown."""
    assert rows_of(made, metrics=ROWS)['epochs'] == '3.00, up to step 60'
    assert rows_of(made)['epochs'] == 'unknown, up to step 60'
    model = load(made)
    fresh = dataclasses.replace(model, step=0)
    assert ('epochs', '0.00, up to step 0', 'roughly 90') in differences.training(fresh, None, ())


def test_a_report_of_a_net_that_ended_in_nan(run):
    workdir = run(names(10))
    change_weights(workdir, make_nan)
    assert report(workdir) == DONE
    content = page(workdir)
    assert 'The net could not be evaluated: it returns NaN or infinite values' in content
    assert 'top-1 error' not in content and '>nan<' not in content
    assert 'Preferred images of units' not in content and 'reliability.png' not in content


def test_a_listing_keeps_its_lines():
    from alexnet_jax.report.figures.page import listing

    assert (
        listing('{\n "a": "<\u202e"\n}')
        == '<pre tabindex="0">{\n &quot;a&quot;: &quot;&lt;\ufffd&quot;\n}</pre>'
    )


def test_marks_are_by_class_and_not_by_name():
    """ImageNet has two cranes, a bird and a machine."""
    from alexnet_jax.report.figures.page import predictions

    card = np.zeros((8, 8, 3), np.uint8), 'crane', [('crane', 0.6), ('crane', 0.3)]
    marked = re.compile('<span class="right">')
    bird = predictions([(*card, 1)], 'test image')
    assert '<strong class="wrong">' in bird and len(marked.findall(bird)) == 1
    assert '<strong class="wrong">' in predictions([(*card, None)], 'test image')
    assert '<strong class="right">' in predictions([(*card, 0)], 'test image')


def test_a_workdir_that_cannot_be_written_says_so(made, monkeypatch, capsys):
    """At once, and nothing of the report that is there is lost."""
    before = (made / 'report' / 'index.html').read_bytes()
    new_folder = files.new_folder  # below a file it cannot be made
    monkeypatch.setattr(files, 'new_folder', lambda place: new_folder(made / 'config.json' / 'new'))
    capsys.readouterr()
    assert report(made) == FAULT
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f'error: {made}/report/ cannot be written: ')
    assert (made / 'report' / 'index.html').read_bytes() == before


def test_a_checkpoint_that_training_has_removed_since(made):
    """The report is of step 60; a training that goes on keeps later ones alone."""
    model = load(made)
    content = ''.join(run_facts.content(made, model.config, 59, ROWS))
    assert (
        'No checksums are available: ' in content
        and 'checkpoints/59/manifest.json is missing' in content
    )
    assert manifest.read(made / 'checkpoints' / '60')['files']


@pytest.mark.parametrize('kept', ['[1]', '{"versions": [1], "mesh": null}', '{"half', ''])
def test_a_config_that_says_little(kept, made, tmp_path):
    (tmp_path / 'config.json').write_text(kept)
    content = ''.join(run_facts.content(tmp_path, load(made).config, 60, []))
    assert 'holds no eval/SPLIT-VIEWS.json' in content
