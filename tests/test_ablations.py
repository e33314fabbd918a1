"""Ablations and Figure 1: the tables by hand, the commands on a few steps."""

import json
import math

import pytest

from alexnet_jax import ablations, config, figure1, runs, training_run
from alexnet_jax.command_line import BAD_INPUT, DONE, STOPPED
from alexnet_jax.command_line import run as run_command
from alexnet_jax.errors import InputError, NotFiniteError

BASE = config.load(None, {'network.name': 'krizhevsky2012', 'data.source': 'synthetic'})


def result(top1: float, top5: float = 0.1) -> dict:
    return {'split': 'val', 'top1_error': top1, 'top5_error': top5}


def test_differences_and_their_standard_error_by_hand():
    rows = ablations.parse_ablations('half,data.mirror=off', BASE)
    results = {
        'krizhevsky2012/seed-0': result(0.10), 'krizhevsky2012/seed-1': result(0.20),
        'krizhevsky2012/seed-2': result(0.30),
        'half/seed-0': result(0.13), 'half/seed-1': result(0.21), 'half/seed-2': result(0.35),
        'data.mirror=off/seed-0': result(0.05), 'data.mirror=off/seed-1': {'fault': 'nan'},
        'data.mirror=off/seed-2': result(0.25),
    }  # fmt: skip
    first, half, mirror = ablations.summarize(BASE, rows, 3, results)
    assert first['top1_error']['mean'] == pytest.approx(0.2)
    assert first['top1_error']['difference'] is None
    # Differences 0.03, 0.01, 0.05: mean 0.03, deviation 0.02, over √3.
    assert half['top1_error']['difference'] == pytest.approx(0.03)
    assert half['top1_error']['standard_error'] == pytest.approx(0.02 / math.sqrt(3))
    assert half['top1_error']['published'] == 0.017
    assert half['top5_error']['difference'] == pytest.approx(0.0)
    assert mirror['top1_error']['difference'] is None  # one of its runs has no error
    text = '\n'.join(ablations.table([first, half, mirror], 'top1_error'))
    assert '| half | 0.2300 | 0.1300, 0.2100, 0.3500 | +0.0300 ± 0.0115 | +0.017 | §3.2 |' in text
    assert '0.0500, none, 0.2500' in text
    one = ablations.summarize(BASE, rows[:1], 1, results)
    assert one[1]['top1_error']['standard_error'] is None


def test_the_plan_has_every_net_with_every_seed():
    rows = ablations.parse_ablations('', BASE)
    plan = ablations.plan(BASE | {'seed': 4}, rows, 2)
    assert len(plan) == 2 * (1 + len(ablations.PUBLISHED))
    assert [plan[f'six_conv/seed-{seed}']['seed'] for seed in (4, 5)] == [4, 5]
    assert plan['six_conv/seed-4']['network.name'] == 'six_conv'
    assert plan['no_color/seed-4']['data.color_std'] == 0
    differing = {
        name for name in BASE if plan['half/seed-4'][name] != plan['krizhevsky2012/seed-4'][name]
    }
    assert differing == {'network.name'}


@pytest.mark.parametrize(
    ('text', 'base', 'message'),
    [
        ('haf', BASE, "'haf'; the nearest is half"),
        ('data.mirror=maybe', BASE, r"data\.mirror is 'maybe'"),
        ('seeed=1', BASE, "'seeed=1'; the nearest is"),
        (
            '',
            BASE | {'network.name': 'small'},
            r'of krizhevsky2012 and paper, not of network small',
        ),
    ],
)
def test_ablations_that_cannot_be(text, base, message):
    with pytest.raises(InputError, match=message):
        ablations.parse_ablations(text, base)


def test_ablations_of_another_net_take_nets_and_settings():
    small = BASE | {'network.name': 'small'}
    rows = ablations.parse_ablations('cifar18,network.width=0.5', small)
    assert [row.published for row in rows] == [(None, None)] * 2
    with pytest.raises(InputError, match='half: '):  # its crop does not fit the records
        base = small | {'data.record_size': 32}
        ablations.plan(base, ablations.parse_ablations('half', base), 1)


QUICK = [
    '--config.network.name=four_layer', '--config.data.source=digits',
    '--config.data.record_size=32', '--config.network.width=0.25', '--config.train.epochs=2',
]  # fmt: skip


def test_ablations_from_the_command_line_go_on_where_they_were_stopped(
    tmp_path, data_dir, monkeypatch, capsys
):
    path = tmp_path / 'base.py'
    path.write_text('config = {"seed": 3}')
    folder = tmp_path / 'all'
    command = [
        '--config', str(path), '--workdir', str(folder), '--seeds', '1',
        '--ablations', 'optimizer.momentum=0', f'--config.data.dir={data_dir}', *QUICK,
    ]  # fmt: skip
    trained = []

    def train(config, workdir, stop_requested):
        """The real thing; the second run is asked to stop."""
        trained.append(workdir.relative_to(folder).as_posix())
        stop = len(trained) == 2
        return real_train(config, workdir, (lambda: True) if stop else stop_requested)

    real_train = training_run.train
    monkeypatch.setattr(training_run, 'train', train)
    assert run_command(ablations.run, command) == STOPPED
    assert run_command(ablations.run, command) == DONE
    zero = 'optimizer.momentum=0/seed-3'
    assert trained == ['four_layer/seed-3', zero, zero]
    for row in json.loads((folder / 'ablations.json').read_text())['rows']:
        kept = folder / row['name'] / 'seed-3' / 'eval' / 'test-1.json'
        assert row['top1_error']['seeds'] == [json.loads(kept.read_text())['top1_error']]
    page = (folder / 'ablations.md').read_text()
    assert page in capsys.readouterr().out
    assert '1 seed each, from 3; errors on the test images' in page

    # All is done: nothing is trained again, unless the runs are to be longer.
    monkeypatch.setattr(training_run, 'train', lambda *arguments: trained.append('again') or True)
    assert run_command(ablations.run, command) == DONE
    assert len(trained) == 3
    assert run_command(ablations.run, [*command, '--config.train.epochs=3']) == DONE
    assert trained[3:] == ['again', 'again']


def test_runs_whose_loss_is_no_number_are_told_and_not_repeated(tmp_path, monkeypatch):
    def train(config, workdir, stop_requested):
        raise NotFiniteError('the loss of step 3 is nan', 3)

    monkeypatch.setattr(training_run, 'train', train)
    expected = {'bad': {'fault': 'the loss of step 3 is nan'}}
    assert runs.train_all({'bad': BASE}, tmp_path, lambda: False) == expected
    monkeypatch.setattr(training_run, 'train', None)
    assert runs.train_all({'bad': BASE}, tmp_path, lambda: False) == expected


def test_epochs_to_an_error_by_hand(tmp_path):
    """Four steps an epoch; errors fall from 1 by 0.1 a step."""
    rows = [
        {'split': 'train', 'step': step, 'epoch': step / 4, 'top1_error': 1 - step / 10}
        for step in range(1, 11)
    ]
    rows.insert(4, {'split': 'val', 'step': 4, 'epoch': 1.0, 'top1_error': 0.0})
    (tmp_path / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    curve = figure1.curve(tmp_path)
    # The mean over the last four steps: at step 4 of 0.9, 0.8, 0.7, 0.6.
    assert curve[0] == (1.0, pytest.approx(0.75))
    assert curve[-1] == (2.5, pytest.approx(0.15))
    assert figure1.epochs_to(curve, 0.26) == 2.25
    assert figure1.epochs_to(curve, 0.1) is None
    slow = [(epochs, error + 0.05) for epochs, error in curve]
    assert figure1.best_rate({0.1: slow, 0.01: curve}, 0.26) == 0.01
    assert figure1.best_rate({0.1: slow, 0.01: []}, 0.01) == 0.1  # none reached it


def test_figure_1_from_the_command_line(tmp_path, data_dir, capsys):
    command = [
        '--config', 'configs/figure1.py', '--workdir', str(tmp_path), '--seeds', '2',
        '--activations', 'maxout', '--rates', '0.01', '--error', '0.95',
        f'--config.data.dir={data_dir}', *QUICK, '--config.train.epochs=1',
    ]  # fmt: skip
    assert run_command(figure1.run, command) == DONE
    kept = json.loads((tmp_path / 'figure1.json').read_text())
    assert [row['activation'] for row in kept['rows']] == ['maxout']
    lines = (tmp_path / 'curves.csv').read_text().splitlines()
    assert lines[0] == 'run,epoch,training_error'
    names = {line.split(',')[0] for line in lines[1:]}
    assert names == {'maxout/rate-0.01/seed-0', 'maxout/rate-0.01/seed-1'}
    for row in kept['rows']:
        for seed, epochs in enumerate(row['epochs']):
            name = figure1.run_name(row['activation'], row['learning_rate'], seed)
            curve = figure1.curve(tmp_path / name)
            assert figure1.epochs_to(curve, 0.95) == epochs
    config_kept = json.loads((tmp_path / 'maxout/rate-0.01/seed-0/config.json').read_text())
    assert config_kept['network']['activation'] == 'maxout'
    assert 'times maxout' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--activations', 'rely'], "'rely'; the nearest is relu"),
        (['--rates', '0.1,fast'], "--rates is '0.1,fast'"),
        (['--rates', '-1'], 'optimizer.learning_rate is -1.0'),
        (['--rates', 'nan'], 'optimizer.learning_rate is nan'),
        (['--error', '2'], '--seeds, --error are'),
        (['--config.train.epochs=0'], 'train.epochs is 0'),
    ],
)
def test_figure_1_refuses(arguments, message, tmp_path, capsys):
    command = ['--config', 'configs/figure1.py', '--workdir', str(tmp_path / 'new'), *arguments]
    assert run_command(figure1.run, command) == BAD_INPUT
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'new').exists()
