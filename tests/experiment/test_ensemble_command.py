"""Nets averaged from the command line, and the paper's tables beside results."""

import json
import os
import shutil

import numpy as np
import pytest

from alexnet_jax import load, main
from alexnet_jax.evaluation import __main__ as evaluation
from alexnet_jax.evaluation import arrays
from alexnet_jax.runtime.command_line import DONE
from alexnet_jax.runtime.errors import InputError
from tests import config_files, random_run
from tests.experiment.trained_runs import SYNTHETIC, change_weights, evaluated, make_nan, refused


def numbers_of(tree) -> list[float]:
    """All numbers of a JSON tree, in order."""
    if isinstance(tree, dict | list):
        parts = tree.values() if isinstance(tree, dict) else tree
        return [number for part in parts for number in numbers_of(part)]
    return [tree] if isinstance(tree, int | float) else []


def test_a_member_that_ended_in_nan_is_refused_by_name(runs, workdir, tmp_path, capsys):
    change_weights(workdir, make_nan)
    arguments = ['ensemble', str(runs / '1'), str(workdir), '--out', str(tmp_path / 'out')]
    message = refused(capsys, evaluation.main, arguments)
    assert f'{workdir} has NaN or infinite probabilities' in message
    assert not (tmp_path / 'out').exists()


def test_members_on_images_of_their_own_seeds_are_refused(data_dir, tmp_path, capsys):
    """Equal ids and labels: the images differ all the same. Before anything is trained."""
    values = {'network.name': 'small', 'data.source': 'synthetic',
              'data.record_size': 32, 'data.synthetic_classes': 10}  # fmt: skip
    config = config_files.with_values(tmp_path / 'config.py', values)
    out = ['--out', str(tmp_path / 'out')]
    for seed in ('0', '1'):
        settings = {'data.dir': data_dir, 'network.width': '0.5', 'seed': seed}
        random_run.make(tmp_path / seed, settings, int(seed))
    of_runs = ['ensemble', str(tmp_path / '0'), str(tmp_path / '1'), *SYNTHETIC]
    of_config = ['ensemble', '--config', str(config), '--seeds=2', *SYNTHETIC[2:]]
    for arguments in (of_runs, of_config):
        message = refused(capsys, evaluation.main, [*arguments, *out])
        assert 'is of another set than' in message and 'seed 0' in message and 'seed 1' in message
    assert not (tmp_path / 'out').exists()
    # Each by itself kept its predictions: of different sets.
    folders = []
    for name in ('0', '1'):
        arguments = ['--workdir', str(tmp_path / name), '--mode=eval', *SYNTHETIC]
        assert main.main([*arguments, '--config.eval.save=predictions']) == DONE
        folders += map(str, (tmp_path / name / 'eval').glob('*-predictions'))
    message = refused(capsys, evaluation.main, ['ensemble', *folders, *out])
    assert 'is of another set than' in message and 'seed 1' in message


@pytest.mark.parametrize('weights', ['-1,1', '0,1', 'nan,1', '1,inf', '1', '1,1,1', 'a,b', '1,,1'])
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(InputError, match='allowed: a number above 0 for each of 2 members'):
        evaluation.parse_weights(weights, 2)


def test_an_ensemble_beside_its_members(runs, tmp_path, capsys):
    paths = [str(runs / '0'), str(runs / '1')]
    out = tmp_path / 'ensemble'
    assert evaluation.main(['ensemble', *paths, '--weights=1,3', '--out', str(out)]) == DONE
    printed = capsys.readouterr().out
    probabilities, labels = [], None
    written = json.loads((out / 'ensemble.json').read_text())
    for path, member in zip(paths, written['members'], strict=True):
        model, features = load(path), tmp_path / path[-1]
        arguments = ['features', path, '--activations=fc8', '--out', str(features)]
        assert evaluation.main(arguments) == DONE
        kept = arrays.read(features)
        labels = kept.labels
        exponentials = np.exp(kept.array('fc8').astype(np.float64))
        probabilities.append(exponentials / exponentials.sum(axis=1, keepdims=True))
        assert model.step == random_run.STEP
        assert member['top1_error'] == np.mean(probabilities[-1].argmax(axis=1) != labels)
        assert f'| {member["top1_error"]:.4f} [' in printed
    mean = (probabilities[0] + 3 * probabilities[1]) / 4
    assert written['together']['top1_error'] == np.mean(mean.argmax(axis=1) != labels)
    agree = np.mean(probabilities[0].argmax(axis=1) == probabilities[1].argmax(axis=1))
    np.testing.assert_allclose(written['agreement'], [[1, agree], [agree, 1]])
    assert 0 < agree < 1
    result = json.loads((out / 'eval' / 'test-1.json').read_text())
    assert result['top1_error'] == written['together']['top1_error']
    assert result['members'] == paths


def test_a_run_is_counted_once(runs, workdir, tmp_path, capsys, monkeypatch):
    """By its path or a link, before any work; and a copy."""
    out = tmp_path / 'out'
    (tmp_path / 'link').symlink_to(workdir)
    monkeypatch.chdir(tmp_path)
    same_folder = [workdir, './run', tmp_path / 'link', f'{tmp_path}/out/../run']
    for other in same_folder:
        message = refused(
            capsys, evaluation.main, ['ensemble', str(workdir), str(other), '--out', str(out)]
        )
        assert (
            f'{os.path.normpath(other) if other == "./run" else other} and {workdir} are' in message
        )
        assert 'the same folder' in message
    copies = ['ensemble', str(workdir), str(runs / '0'), '--out', str(out)]
    message = refused(capsys, evaluation.main, copies)
    assert f'{runs / "0"} and {workdir} are the same net' in message
    assert not out.exists()


def test_an_ensemble_of_saved_predictions(runs, tmp_path, capsys):
    folders = []
    for seed in ('0', '1'):
        workdir = shutil.copytree(runs / seed, tmp_path / seed)
        evaluated(workdir, '--config.eval.save=predictions')
        folders.append(workdir / 'eval' / 'test-1-predictions')
    out = tmp_path / 'ensemble'
    arguments = ['ensemble', *map(str, folders), '--out', str(out)]
    assert evaluation.main(arguments) == DONE
    saved = [arrays.read(folder) for folder in folders]
    mean = sum(np.asarray(one.array('probabilities'), np.float64) for one in saved) / 2
    result = json.loads((out / 'eval' / 'test-1.json').read_text())
    assert result['top1_error'] == np.mean(mean.argmax(axis=1) != saved[0].labels)
    loss = -np.log(mean[np.arange(300), saved[0].labels]).mean()
    assert result['loss'] == pytest.approx(loss, rel=1e-6)
    # The same members from their workdirs.
    again = tmp_path / 'again'
    workdirs = [str(folder.parents[1]) for folder in folders]
    assert evaluation.main(['ensemble', *workdirs, '--out', str(again)]) == DONE
    for name in ('ensemble.json', 'eval/test-1.json'):
        one, other = (json.loads((place / name).read_text()) for place in (out, again))
        assert numbers_of(one) == pytest.approx(numbers_of(other), rel=1e-6)

    arguments = ['ensemble', str(folders[0]), '--weights=0', '--out', str(out)]
    assert "--weights is '0'" in refused(capsys, evaluation.main, arguments)
    arguments = ['ensemble', str(tmp_path), '--out', str(out)]
    assert f'{tmp_path} holds no' in refused(capsys, evaluation.main, arguments)


def test_the_paper_s_tables_beside_our_runs(workdir, tmp_path, capsys):
    one, ten = evaluated(workdir), evaluated(workdir, '--config.eval.views=10')
    out = tmp_path / 'tables'
    assert evaluation.main(['tables', str(workdir), '--out', str(out)]) == DONE
    page = capsys.readouterr().out
    assert page.strip().endswith((out / 'tables.md').read_text().strip())
    assert '| CNN | ILSVRC-2010, the paper | 10 | 0.375 | 0.170 |' in page
    assert '| 7 CNNs* | ILSVRC-2012, the paper | 10 | 0.367 | 0.154 | 0.153 |' in page
    for result in (one, ten):
        line = (
            f'| 1 CNN, small, step {random_run.STEP}: {workdir} | digits |'
            f' {result["distinct_views"]} | {result["top1_error"]:.4f} ['
        )
        assert line in page
    rows = json.loads((out / 'tables.json').read_text())
    assert [row['test_top5']['error'] for row in rows['Table 2'][-2:]] == [
        one['top5_error'], ten['top5_error'],
    ]  # fmt: skip
    arguments = ['tables', str(tmp_path), '--out', str(out)]
    assert 'holds no eval/SPLIT-VIEWS.json' in refused(capsys, evaluation.main, arguments)
