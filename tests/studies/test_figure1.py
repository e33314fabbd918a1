"""Figure 1: windows and epochs by hand, the command on a few steps."""

import json
import math

import pytest

from alexnet_jax.experiment import config_file
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE
from alexnet_jax.runtime.command_line import run as run_command
from alexnet_jax.runtime.errors import InputError
from alexnet_jax.studies import curves, figure1, runs
from tests.studies.test_ablations import QUICK


def write_rows(workdir, epoch_size: int, batch_size: int, errors, more=()) -> None:
    """Train rows as a run logs them (`Clock.epoch`)."""
    rows = [
        {'split': 'train', 'step': step, 'epoch': step * batch_size / epoch_size, 'loss': 1.0,
         'top1_error': error, 'top5_error': 0.0, 'learning_rate': 0.1, 'images_per_second': 1.0}
        for step, error in enumerate(errors, start=1)
    ]  # fmt: skip
    workdir.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row) + '\n' for row in [*rows, *more]]
    (workdir / 'metrics.jsonl').write_text(''.join(lines))


VAL = {'split': 'val', 'step': 4, 'epoch': 1.0, 'loss': 1.0, 'top1_error': 0.0, 'top5_error': 0.0}


def test_epochs_to_an_error_by_hand(tmp_path):
    """Four steps an epoch; errors fall from 1 by 0.1 a step."""
    write_rows(tmp_path, 40, 10, [1 - step / 10 for step in range(1, 11)], [VAL])
    curve = curves.curve(tmp_path, 10)
    # The mean over the last four steps: at step 4 of 0.9, 0.8, 0.7, 0.6.
    assert curve[0] == (1.0, pytest.approx(0.75))
    assert curve[-1] == (2.5, pytest.approx(0.15))
    assert curves.epochs_to(curve, 0.26) == 2.25
    assert curves.epochs_to(curve, 0.1) is None
    slow = [(epochs, error + 0.05) for epochs, error in curve]
    assert figure1.best_rate({0.1: slow, 0.01: curve}, 0.26) == 0.01
    assert figure1.best_rate({0.1: slow, 0.01: []}, 0.01) == 0.1  # none reached it


def test_a_run_has_reached_an_error_or_its_last_epoch_by_hand(tmp_path):
    """Four steps an epoch, as above: after step n the mean is 1.15 - n / 10, from step 4 on. Rows
    are read as they come, one write at a time."""
    workdir, path = tmp_path / 'run', tmp_path / 'run' / 'metrics.jsonl'
    reached = curves.Reached(workdir, 10, 0.55)
    late = curves.Reached(workdir, 10, 0.0, epochs=1.75)
    assert not reached() and not late()  # not begun
    write_rows(workdir, 40, 10, [1 - step / 10 for step in range(1, 11)], [VAL])
    lines = path.read_text().splitlines(keepends=True)
    path.write_text('')
    found = []
    for line in lines:
        with path.open('a') as file:
            file.write(line)
        found.append((reached(), late()))
    # 0.55 after step 6, 1.75 epochs after step 7; the row of a validation changes nothing.
    assert found == [(step > 5, step > 6) for step in range(1, 11)] + [(True, True)]
    assert curves.Reached(workdir, 10, 0.15)() and not curves.Reached(workdir, 10, 0.14)()


@pytest.mark.parametrize('batch_size', [1, 3, 128])
def test_the_window_is_an_epoch_of_batches_for_every_length(batch_size, tmp_path, monkeypatch):
    """⌈images / batch⌉ of them, by whole numbers; of 1/(1/n) 140 lengths make n + 1."""
    for epoch_size in range(1, 2000):
        window = (epoch_size + batch_size - 1) // batch_size
        rows = [
            {'step': step, 'epoch': step * batch_size / epoch_size, 'top1_error': step == 1}
            for step in range(1, window + 2)
        ]
        monkeypatch.setattr(curves, 'train_rows', lambda workdir, rows=rows: rows)
        curve = curves.curve(tmp_path, batch_size)
        assert [error for _, error in curve] == [pytest.approx(1 / window), 0], epoch_size


@pytest.mark.parametrize(
    'steps', [[2, 4, 6], [2, 3, 4], [1, 2, 4], [1, 2, 2, 3], [1, 3, 2], [1, 2, 3, 1, 2]]
)
def test_gaps_repetitions_and_another_order_are_refused(steps, tmp_path):
    """Logged every second step; begun late; a gap; a step twice; exchanged; two runs."""
    write_rows(tmp_path, 40, 10, [0.5] * 6)
    rows = (tmp_path / 'metrics.jsonl').read_text().splitlines()
    (tmp_path / 'metrics.jsonl').write_text(''.join(rows[step - 1] + '\n' for step in steps))
    with pytest.raises(InputError, match=r'has no train row of step \d') as error:
        curves.curve(tmp_path, 10)
    assert len(str(error.value).splitlines()) == 2


def test_a_log_that_ends_at_another_step_than_the_run_is_refused(tmp_path):
    write_rows(tmp_path, 40, 10, [0.5] * 6)
    assert curves.whole_curve(tmp_path, 10, 6) == curves.curve(tmp_path, 10)
    for steps in (5, 7):
        with pytest.raises(InputError, match=f'rows of 6 steps; the run has {steps}'):
            curves.whole_curve(tmp_path, 10, steps)


def test_a_rate_that_ended_in_nan_is_never_the_best(tmp_path, monkeypatch, capsys):
    """0.1 would be the soonest; it ended in NaN, as do the second seed at 0.01 and tanh."""
    lost = {'relu/rate-0.1/seed-0', 'relu/rate-0.01/seed-1', 'tanh/rate-0.1/seed-0',
            'tanh/rate-0.01/seed-0'}  # fmt: skip

    def train_all(configs, folder, stop_requested, reached):
        for name, config in configs.items():
            soon = 1 if config['optimizer.learning_rate'] == 0.1 else 3
            write_rows(folder / name, 20, 10, [0.9] * soon + [0.1] * (6 - soon))
        return {
            name: {'fault': 'the loss of step 6 is nan'} if name in lost else {'step': 6}
            for name in configs
        }

    monkeypatch.setattr(runs, 'train_all', train_all)
    command = [
        '--config', 'configs/figure1.py', '--workdir', str(tmp_path), '--seeds', '2',
        '--activations', 'relu,tanh,maxout', '--rates', '0.1,0.01', '--config.data.batch_size=10',
        '--config.data.source=synthetic', '--config.data.synthetic_examples=20',
        '--config.train.epochs=3',
    ]  # fmt: skip
    assert run_command(figure1.run, command) == DONE
    kept = json.loads((tmp_path / 'figure1.json').read_text())
    relu, tanh, maxout = kept['rows']
    assert (relu['learning_rate'], relu['epochs'], relu['mean']) == (0.01, [2.5, None], None)
    assert (tanh['learning_rate'], tanh['epochs'], tanh['mean']) == (None, [], None)
    assert (maxout['learning_rate'], maxout['epochs']) == (0.1, [1.5, 1.5])
    assert kept['faults'].keys() == lost
    printed = capsys.readouterr().out
    assert '2.50, NaN' in printed and 'tanh: every rate ended in NaN' in printed
    assert 'relu/rate-0.1/seed-0 is excluded: the loss of step 6 is nan' in printed
    page = (tmp_path / 'report' / 'index.html').read_text()
    assert '2.50, NaN' in page and 'NaN at every rate' in page and 'is excluded' in page
    drawn = {line.split(',')[0] for line in (tmp_path / 'curves.csv').read_text().splitlines()[1:]}
    assert drawn == {'relu/rate-0.01/seed-0'} | {
        f'maxout/rate-{rate}/seed-{seed}' for rate, seed in (('0.1', 0), ('0.1', 1), ('0.01', 0))
    }


@pytest.mark.thorough
def test_runs_end_at_the_error_or_when_another_rate_was_sooner(tmp_path, data_dir, capsys):
    """At 1e-9 nothing is learned: it ends where 0.01 had the error, and is longer when asked to."""
    command = [
        '--config', 'configs/figure1.py', '--workdir', str(tmp_path), '--seeds', '1',
        '--activations', 'relu', '--rates', '0.01,1e-9', f'--config.data.dir={data_dir}', *QUICK,
        '--config.train.epochs=6', '--error',
    ]  # fmt: skip
    assert run_command(figure1.run, [*command, '0.8']) == DONE
    found = [
        curves.curve(tmp_path / 'relu' / rate / 'seed-0', 128)
        for rate in ('rate-0.01', 'rate-1e-09')
    ]
    soonest = curves.epochs_to(found[0], 0.8)
    assert soonest is not None and soonest < 6
    assert [curve[-1][0] for curve in found] == [soonest, soonest]
    assert 'the target of the study is reached' in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob('relu/*/*/metrics.jsonl')}
    assert run_command(figure1.run, [*command, '0.8']) == DONE  # nothing is trained again
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert run_command(figure1.run, [*command, '0.7']) == DONE
    assert curves.curve(tmp_path / 'relu' / 'rate-0.01' / 'seed-0', 128)[-1][0] > soonest


@pytest.mark.thorough
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
            curve = curves.curve(tmp_path / name, 128)
            assert len(curve) == 1  # of a single epoch
            assert curves.epochs_to(curve, 0.95) == epochs
    config_kept = json.loads((tmp_path / 'maxout/rate-0.01/seed-0/config.json').read_text())
    assert config_kept['network']['activation'] == 'maxout'
    assert 'ratio to maxout' in capsys.readouterr().out


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--activations', 'rely'], "'rely'; the nearest is relu"),
    (['--activations', 'relu,relu'], "--activations has 'relu' twice"),
    (['--activations', ','], '--activations is empty'),
    (['--rates', '0.1,fast'], "--rates is '0.1,fast'"),
    (['--rates', ''], "--rates is ''"),
    (['--rates', '0.1,'], "--rates is '0.1,'"),
    (['--rates', '-1'], 'optimizer.learning_rate is -1.0'),
    (['--rates', '0'], 'optimizer.learning_rate is 0.0'),
    (['--rates', 'nan'], 'optimizer.learning_rate is nan'),
    (['--rates', 'inf'], 'optimizer.learning_rate is inf'),
    (['--rates', '1e31'], 'optimizer.learning_rate is 1e+31'),
    (['--rates', '0.001,0.001'], '--rates has 0.001 and 0.001; allowed: each once'),
    (['--rates', '0.001,1e-3'], '--rates has 0.001 and 0.001'),
    (['--rates', '0.1234567,0.12345671'], 'with different folders (both have rate-0.123457)'),
    (['--error', '2'], '--error is 2.0; allowed: between 0 and 1'),
    (['--error', 'nan'], '--error is nan'),
    (['--seeds', '0'], '--seeds is 0; allowed: from 1 to 1000'),
    (['--config.train.epochs=0'], 'train.epochs is 0'),
    (['--config.train.log_every_steps=5'], 'this command sets train.log_every_steps itself'),
    (['--config.network.activation=tanh'], 'network.activation itself; use --activations'),
    (['--config.optimizer.learning_rate=1'], 'optimizer.learning_rate itself; use --rates'),
    (['--config.start.from=x'], "start.from is 'x'; allowed: '', as every run starts"),
    (['--config.eval.step=3'], 'eval.step is 3; allowed: 0, as the last step'),
    (['--config.seed=2147483646'], 'the last seed would be 2147483648; allowed: at most 214748'),
])  # fmt: skip
def test_figure_1_refuses(arguments, message, tmp_path, capsys):
    command = ['--config', 'configs/figure1.py', '--workdir', str(tmp_path / 'new'), *arguments]
    assert run_command(figure1.run, command) == BAD_INPUT
    errors = capsys.readouterr().err
    assert message in errors and len(errors.splitlines()) <= 2
    assert not (tmp_path / 'new').exists()


def test_a_run_that_did_not_log_every_step_is_refused_before_training(tmp_path, capsys):
    name = figure1.run_name('relu', 0.01, 0)
    write_rows(tmp_path / name, 40, 10, [0.5] * 2)
    line = (tmp_path / name / 'metrics.jsonl').read_text().splitlines()[1]
    (tmp_path / name / 'metrics.jsonl').write_text(line + '\n')
    command = ['--config', 'configs/figure1.py', '--workdir', str(tmp_path), '--rates', '0.01',
               '--activations', 'relu']  # fmt: skip
    assert run_command(figure1.run, command) == BAD_INPUT
    assert 'has no train row of step 1' in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ['relu']


def test_its_settings_are_those_of_the_grid():
    base = config_file.load(None, {'train.log_every_steps': '7', 'network.name': 'four_layer',
                                     'data.record_size': '32'})  # fmt: skip
    plan = figure1.plan(base, 'tanh', [0.1, 0.01], [3, 4])
    assert list(plan) == [
        f'tanh/rate-{rate}/seed-{seed}' for rate in (0.1, 0.01) for seed in (3, 4)
    ]
    config = plan['tanh/rate-0.01/seed-4']
    assert math.isclose(config['optimizer.learning_rate'], 0.01)
    assert (config['network.activation'], config['train.log_every_steps']) == ('tanh', 1)
