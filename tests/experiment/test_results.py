"""What a workdir keeps of its evaluations, and of runs: read with care, said in any case."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest

from alexnet_jax.evaluation import __main__ as evaluation
from alexnet_jax.evaluation.tally import Tally
from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment import config_file, identity, results
from alexnet_jax.experiment.identity import Identity
from alexnet_jax.runtime.command_line import BAD_INPUT
from alexnet_jax.runtime.errors import InputError, NotFiniteError, StorageError
from alexnet_jax.runtime.files import MOST_BYTES
from alexnet_jax.studies import runs, tables

ABOUT = {'split': 'test', 'views': 1, 'source': 'digits', 'network': 'small', 'step': 3}


@pytest.fixture
def tally():
    tally = Tally.zero(2)
    tally.add(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]), np.array([0.25, 1.5]))
    return tally


def test_a_result_is_said_and_kept(tally, tmp_path):
    text = results.keep(tmp_path, ABOUT, tally, ('a', 'b'))
    kept = results.read(tmp_path, 'test', 1)
    assert (kept['top1_error'], kept['loss'], kept['step']) == (0.5, 0.875, 3)
    assert results.every(tmp_path) == [kept]
    assert 'class b: 1 image predicted as a' in text and text.endswith(
        f' -> {tmp_path}/eval/test-1.json'
    )
    assert sorted(path.name for path in (tmp_path / 'eval').iterdir()) == [
        'test-1-classes.json', 'test-1.json',
    ]  # fmt: skip


def test_a_result_has_calibration_and_one_more_top_k_error(tmp_path):
    tally = Tally.zero(4)
    scores = np.log([[0.4, 0.3, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1], [0.7, 0.1, 0.1, 0.1]])
    tally.add(scores, np.array([2, 1, 0]), np.ones(3))
    text = results.keep(tmp_path, ABOUT, tally, ('a', 'b', 'c', 'd'), top_k=2)
    kept = results.read(tmp_path, 'test', 1)
    assert (kept['top1_error'], kept['top2_error']) == (2 / 3, 1 / 3)
    assert kept['top2_interval'][0] < 1 / 3 < kept['top2_interval'][1]
    # Two of 0.4, both wrong, and one of 0.7, right.
    assert kept['calibration_error'] == pytest.approx((0.8 + 0.3) / 3, abs=1e-12)
    assert [(one['images'], one['accuracy']) for one in kept['calibration'] if one['images']] == [
        (2, 0.0), (1, 1.0),
    ]  # fmt: skip
    assert 'test: calibration_error 0.366667 (15 bins)' in text.splitlines()
    line = text.splitlines()[-1]
    assert line.startswith('test: top1_error 0.666667 [') and 'top2_error 0.333333 [' in line
    assert 'top5_error –  loss 1.000000' in line


def test_an_ensemble_is_said_with_all_its_steps(tally, tmp_path):
    about = ABOUT | {'members': ['x', 'y'], 'step': 240, 'steps': [120, 240]}
    text = results.keep(tmp_path, about, tally, ('a', 'b'))
    assert '(2 images, 1 view, steps 120, 240)' in text
    kept = results.read(tmp_path, 'test', 1)
    assert (kept['step'], kept['steps']) == (240, [120, 240])


def test_a_result_that_cannot_be_kept_is_said_all_the_same(tally, tmp_path, capsys):
    (tmp_path / 'eval').write_text('in the way')
    with pytest.raises(StorageError, match=r'eval/test-1\.json, \d+ bytes, cannot be written'):
        results.keep(tmp_path, ABOUT, tally, ('a', 'b'))
    said = capsys.readouterr().out
    assert 'top1_error 0.500000' in said and '->' not in said


def test_what_is_no_number_is_neither_said_nor_kept(tally, tmp_path, capsys):
    tally.losses[0] = float('nan')
    with pytest.raises(NotFiniteError):
        results.keep(tmp_path, ABOUT, tally, ('a', 'b'))
    assert capsys.readouterr().out == '' and not list(tmp_path.rglob('*.json'))


@pytest.mark.parametrize('changes', [
    {'loss': None}, {'loss': 'x'}, {'loss': True}, {'top1_error': []}, {'top1_interval': None},
    {'top5_interval': [0.1]}, {'top5_interval': [0.1, 'x']}, {'split': 3}, {'views': '1'},
    {'views': 1.5}, {'step': '3'}, {'examples': None}, {'source': None}, {'network': ['small']},
])  # fmt: skip
def test_an_evaluation_of_other_types_is_refused(changes, tally, tmp_path):
    results.keep(tmp_path, ABOUT, tally, ('a', 'b'))
    path = tmp_path / 'eval' / 'test-1.json'
    tree = json.loads(path.read_text()) | changes
    del tree['sha256']  # as earlier versions wrote it
    path.write_text(json.dumps(tree))
    for read in (results.every, lambda workdir: results.read(workdir, 'test', 1)):
        with pytest.raises(
            InputError,
            match=rf'eval/test-1\.json is not a result of .* no usable {next(iter(changes))}',
        ):
            read(tmp_path)


@pytest.mark.parametrize('changes', [
    {'loss': 0.5}, {'top1_error': 0.25}, {'step': 4}, {'top1_interval': [0.0, 1.0]}, {'set': 'other'},
    {'network': 'paper'}, {'more': 1}, {'sha256': None},
])  # fmt: skip
def test_an_evaluation_of_other_values_is_refused(changes, tally, tmp_path):
    results.keep(tmp_path, ABOUT, tally, ('a', 'b'))
    path = tmp_path / 'eval' / 'test-1.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    for read in (results.every, lambda workdir: results.read(workdir, 'test', 1)):
        with pytest.raises(InputError, match=r'eval/test-1\.json was modified; evaluate'):
            read(tmp_path)


@pytest.mark.parametrize('changes', [
    {'members': 5}, {'members': [5]}, {'steps': 5}, {'steps': ['5']}, {'class_count': 'x'},
    {'distinct_views': 'x'}, {'set': ['a']}, {'data': 'x'}, {'top1_error': 1.5},
    {'top1_error': 0.9999}, {'loss': 10**400},
])  # fmt: skip
def test_values_that_readers_cannot_use_are_refused(changes, tally, tmp_path):
    results.keep(tmp_path, ABOUT, tally, ('a', 'b'))
    path = tmp_path / 'eval' / 'test-1.json'
    kept = json.loads(path.read_text()) | changes
    del kept['sha256']
    path.write_text(json.dumps(kept))
    with pytest.raises(InputError, match=f'has no usable {next(iter(changes))}'):
        results.every(tmp_path)


def test_tables_show_a_stranger_s_texts_as_one_plain_cell(tally, tmp_path):
    about = {
        'source': '\x1b[2J|<b>', 'network': 'a\nb', 'members': ['c\u202e', 'd|e'], 'steps': [1, 2],
    }  # fmt: skip
    results.keep(tmp_path, ABOUT | about, tally, ('a', 'b'))
    rows = tables.rows_of('run', results.every(tmp_path))
    line = next(x for x in tables.markdown(tables.filled(rows)).splitlines() if 'run' in x)
    assert line.startswith(
        r'| 2 CNNs, a\nb, steps 1, 2: run of c\u202e, d\|e | \x1b[2J\|&lt;b> | 1 | '
    )
    assert line.isprintable()


def test_an_evaluation_under_the_name_of_another_is_refused(tally, tmp_path):
    results.keep(tmp_path, ABOUT, tally, ('a', 'b'))
    path = tmp_path / 'eval' / 'test-1.json'
    path.rename(path.with_name('test-10.json'))
    with pytest.raises(InputError, match=r'eval/test-10\.json was modified'):
        results.every(tmp_path)


def test_an_evaluation_in_other_spaces_is_the_same_and_an_older_one_is_read(tally, tmp_path):
    results.keep(tmp_path, ABOUT, tally, ('a', 'b'))
    path, kept = tmp_path / 'eval' / 'test-1.json', results.read(tmp_path, 'test', 1)
    path.write_text(json.dumps(kept, sort_keys=True))
    assert results.read(tmp_path, 'test', 1) == kept
    del kept['sha256']  # earlier versions wrote none
    path.write_text(json.dumps(kept))
    assert results.read(tmp_path, 'test', 1) == kept


@pytest.fixture
def workdirs(tmp_path):
    """Two runs that differ in their seed."""
    config = config_file.load(None, {'network.name': 'small', 'data.record_size': '32'})
    of_set = ('a', 'b'), True, np.zeros(3), np.ones(3), {'content': 'c'}
    for seed in (0, 1):
        identity.write(
            tmp_path / str(seed),
            Identity(configuration.changed(config, {'seed': seed}), *of_set),
            {},
        )
    return [tmp_path / '0', tmp_path / '1']


def test_a_result_of_another_run_is_refused_and_an_older_one_is_read(workdirs, tally, capsys):
    for workdir in workdirs:
        about = ABOUT | {'run': identity.read(workdir).digest}
        for which in ('', '-step-3'):
            results.keep(workdir, about, tally, ('a', 'b'), which)
    own, other = workdirs
    assert results.read(own, 'test', 1)['run'] != results.read(other, 'test', 1)['run']
    readers = {
        'test-1.json': (lambda: results.read(own, 'test', 1), lambda: results.own(own),
                        lambda: results.every(own)),
        'test-1-step-3.json': (lambda: results.others(own),),
    }  # fmt: skip
    for name, reads in readers.items():
        path = own / 'eval' / name
        shutil.copy(other / 'eval' / name, path)
        for read in reads:
            with pytest.raises(InputError, match=f'{path} is of another run than {own}; evaluate'):
                read()
    out = ['--out', str(own / 'tables')]
    assert evaluation.main(['tables', str(own), *out]) == BAD_INPUT
    assert 'eval/test-1.json is of another run' in capsys.readouterr().err
    results.keep(own, ABOUT, tally, ('a', 'b'))  # as earlier versions did
    assert results.read(own, 'test', 1)['step'] == 3
    assert results.every(workdirs[0].parent / '1')


def test_a_run_has_one_digest_for_every_length_and_version(workdirs):
    one = identity.read(workdirs[0])
    for changes in ({'train.steps': 9}, {'train.epochs': 3}, {'eval.views': 10}, {'mesh.data': 2}):
        assert (
            dataclasses.replace(one, config=configuration.changed(one.config, changes)).digest
            == one.digest
        )
    for changes in ({'seed': 7}, {'data.batch_size': 16}, {'optimizer.momentum': 0.5}):
        assert (
            dataclasses.replace(one, config=configuration.changed(one.config, changes)).digest
            != one.digest
        )
    # An edit of model.json that takes a fact of the set away leaves its results as they were.
    assert dataclasses.replace(one, data={'content': 'other'}).digest == one.digest
    for changes in (
        {'classes': one.classes[::-1]}, {'mirror': not one.mirror}, {'mean': one.mean + 1},
    ):  # fmt: skip
        assert dataclasses.replace(one, **changes).digest != one.digest


def pipe(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path)


DAMAGE = {
    'pipe': pipe,
    'folder': lambda path: path.unlink(missing_ok=True) or path.mkdir(),
    'loop': lambda path: path.unlink(missing_ok=True) or path.symlink_to(path),
    'no JSON': lambda path: path.write_text('{'),
    'NaN': lambda path: path.write_text('{"loss": NaN}'),
    'twice': lambda path: path.write_text('{"loss": 1, "loss": 2}'),
    'deep': lambda path: path.write_text('[' * 10**5),
    'list': lambda path: path.write_text('[]'),
    'nothing': lambda path: path.write_text('null'),
    'no text': lambda path: path.write_bytes(b'\xff\xfe'),
    'large': lambda path: path.write_text(' ' * (MOST_BYTES + 1)),
}


@pytest.mark.parametrize('damage', DAMAGE)
def test_files_that_hold_something_else_are_refused_at_once(damage, tally, tmp_path):
    """An evaluation, the results of several runs."""
    results.keep(tmp_path, ABOUT, tally, ('a', 'b'))
    DAMAGE[damage](tmp_path / 'eval' / 'test-1.json')
    DAMAGE[damage](tmp_path / runs.RESULTS)
    for read in (results.every, lambda workdir: runs._read(workdir / runs.RESULTS)):
        with pytest.raises(InputError, match=r'\.json (cannot be read|is not a result)'):
            read(tmp_path)


@pytest.mark.parametrize('run', [
    3, None, [], {}, {'config': {}}, {'config': {}, 'result': 3},
    {'config': {}, 'result': {'step': '6'}}, {'config': {}, 'identity': 3, 'result': {'step': 6}},
])  # fmt: skip
def test_results_of_runs_of_other_types_are_refused(run, tmp_path):
    (tmp_path / runs.RESULTS).write_text(json.dumps({'half/seed-0': run}))
    with pytest.raises(
        InputError, match=r'results\.json cannot be read: (Type|Key|Attribute|Value)Error'
    ):
        runs._read(tmp_path / runs.RESULTS)
    assert runs._read(tmp_path / 'none.json') == {}
