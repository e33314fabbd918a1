"""The command line as a user meets it."""

import json
import re
from pathlib import Path

import jax
import pytest

from alexnet_jax import main
from alexnet_jax.data.prepare import __main__ as prepare
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE, FAULT
from tests.data.photographs import without_shard_digests, write_classes
from tests.faults import driver


@pytest.fixture(scope='module')
def command(data_dir):
    """(workdir, more arguments) -> the arguments of a short run of half the net on the digits."""

    def command(workdir, *more: str) -> list[str]:
        return [
            '--config', 'configs/digits.py', '--workdir', str(workdir),
            f'--config.data.dir={data_dir}', '--config.network.width=0.5',
            '--noconfig.train.report', *more,
        ]  # fmt: skip

    return command


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the lock's."""
    files = [path for path in folder.rglob('*') if path.is_file() and path.name != '.lock']
    return {str(path): path.read_bytes() for path in files}


def test_train_evaluate_and_what_the_workdir_holds(command, tmp_path, capsys):
    workdir = tmp_path / 'run'
    assert main.main(command(workdir, '--config.train.steps=45')) == DONE
    printed = capsys.readouterr().out.splitlines()[-1]
    assert printed.startswith('test: top1_error ')

    config = json.loads((workdir / 'config.json').read_text())
    assert config['network']['name'] == 'small'
    assert config['mesh'] == {'data': 1, 'column': 1}
    assert config['versions']['jax'] == jax.__version__

    logged = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    train = [row for row in logged if row['split'] == 'train']
    assert [row['step'] for row in train] == list(range(1, 46))
    for row in train:
        assert row.keys() == {
            'split', 'step', 'epoch', 'loss', 'top1_error', 'top5_error',
            'learning_rate', 'images_per_second', 'seconds_input', 'seconds_log', 'seconds_save',
            'tflops',
        }  # fmt: skip
        assert row['epoch'] == pytest.approx(row['step'] * 64 / 1297)
        assert row['learning_rate'] == 0.01
    assert [(row['split'], row['step']) for row in logged if row['split'] != 'train'] == [
        ('val', 21), ('val', 41), ('test', 45),
    ]  # fmt: skip

    result = json.loads((workdir / 'eval' / 'test-1.json').read_text())
    assert result.keys() == {
        'split', 'views', 'distinct_views', 'source', 'set', 'data', 'network', 'examples', 'class_count', 'run', 'sha256',
        'loss', 'top1_error', 'top5_error', 'top1_interval', 'top5_interval', 'step',
        'calibration', 'calibration_error',
    }  # fmt: skip
    assert (result['split'], result['views'], result['examples'], result['step']) == (
        'test',
        1,
        300,
        45,
    )
    assert f'top1_error {result["top1_error"]:.6f}' in printed

    (workdir / 'eval' / 'test-1.json').unlink()
    for arguments in (command(workdir, '--mode=eval'), ['--workdir', str(workdir), '--mode=eval']):
        assert main.main(arguments) == DONE
        assert capsys.readouterr().out.splitlines()[-1] == printed
        assert json.loads((workdir / 'eval' / 'test-1.json').read_text()) == result

    # Done is done; a longer plan goes on from there.
    before = driver.rows(workdir)
    assert main.main(command(workdir, '--config.train.steps=45')) == DONE
    assert driver.rows(workdir) == before
    assert main.main(command(workdir, '--config.train.steps=47')) == DONE
    assert [row['step'] for row in driver.rows(workdir) if row['split'] == 'train'] == list(
        range(1, 48)
    )

    # A shorter plan is not filled by a longer run.
    held = contents(workdir)
    for arguments, message in [
        (command(workdir, '--config.train.steps=4'),
         'train.steps is 4; --workdir .* has done 47; allowed: at least 47, or another'),
        (command(workdir, '--config.train.epochs=2'),
         'train.epochs is 2, which is 41 steps; --workdir .* has done 47; allowed: at least 3,'),
        (['--workdir', str(workdir), '--config.train.epochs=1'], 'which is 21 steps; .* done 47'),
        (['--workdir', str(workdir), '--config.train.steps=46'], 'train.steps is 46; '),
    ]:  # fmt: skip
        assert main.main(arguments) == BAD_INPUT
        assert re.search(message, capsys.readouterr().err)
        assert contents(workdir) == held

    # Another configuration does not go on here, and nothing is lost by asking.
    assert main.main(command(workdir, '--config.seed=1')) == BAD_INPUT
    assert 'seed was 0, now 1' in capsys.readouterr().err
    assert main.main(command(workdir, '--mode=eval', '--config.eval.step=3')) == BAD_INPUT
    assert 'eval.step is 3; ' in capsys.readouterr().err
    assert driver.saved_step(workdir) == 47


@pytest.mark.thorough
def test_a_run_that_ends_at_a_plateau_says_so(tmp_path, capsys):
    """At so low a rate nothing improves: the second validation is the last."""
    arguments = [
        '--config', 'configs/figure1.py', '--workdir', str(tmp_path / 'run'),
        '--config.train.protocol=paper', '--config.network.width=0.25',
        '--config.data.source=synthetic', '--config.data.synthetic_examples=20',
        '--config.data.synthetic_classes=5', '--config.data.batch_size=4',
        '--config.optimizer.learning_rate=1e-20', '--config.optimizer.weight_decay=0',
        '--config.schedule.patience=1', '--config.schedule.drops=0',
        '--noconfig.train.report', '--config.train.log_to=',
    ]  # fmt: skip
    errors = 'ended after step 10 of 60: the validation error no longer improves at the lowest rate'
    assert main.main(arguments) == DONE
    assert errors in capsys.readouterr().out
    before = driver.rows(tmp_path / 'run')
    assert [row['step'] for row in before if row['split'] == 'val'] == [5, 10]
    # More steps do not begin it anew.
    assert main.main([*arguments, '--config.train.steps=70']) == DONE
    assert errors.replace('of 60', 'of 70') in capsys.readouterr().out
    assert driver.rows(tmp_path / 'run') == before


@pytest.mark.thorough
def test_a_mesh_of_four_from_the_command_line(command, tmp_path):
    workdir = tmp_path / 'run'
    mesh = ['--config.mesh.data=2', '--config.mesh.column=2']
    assert main.main(command(workdir, '--config.train.steps=3', *mesh)) == DONE
    # The checkpoint serves any mesh.
    assert main.main(command(workdir, '--config.train.steps=5')) == DONE
    assert main.main(command(workdir, '--mode=eval', *mesh)) == DONE


@pytest.fixture
def folder(tmp_path) -> Path:
    """90 training and 15 validation images of three classes."""
    write_classes(tmp_path / 'images' / 'train', 30)
    write_classes(tmp_path / 'images' / 'val', 5)
    return tmp_path / 'images'


def test_a_broken_record_ends_the_run_in_a_line_that_names_it(folder, command, tmp_path, capsys):
    out = tmp_path / 'set'
    arguments = ['--source', f'folder:{folder}', '--out', str(out), '--size=32', '--workers=1']
    assert prepare.main(arguments) == DONE
    (shard,) = out.glob('*train*')
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 1
    shard.write_bytes(content)
    without_shard_digests(out)  # or it is noticed before the run
    arguments = [
        *command(tmp_path / 'run', '--config.train.epochs=1'),
        f'--config.data.source=folder:{folder}', f'--config.data.dir={out}',
    ]  # fmt: skip
    capsys.readouterr()
    assert main.main(arguments) == FAULT
    (errors,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(rf'error: record \d+ of {shard} cannot be read: .*', errors), errors


BAD_COMMANDS = {
    'no arguments': ([], 'neither --config nor --workdir'),
    'no config file': (['--config', 'nope.py'], '--config nope.py: no such file'),
    'unknown mode': (['--config', 'configs/digits.py', '--mode=fly'], "invalid choice: 'fly'"),
    'a word': (['--config', 'configs/digits.py', 'foo'], "unknown argument 'foo'"),
    'not a setting': (['--config', 'configs/digits.py', '--config.sede=1'], 'the nearest is seed'),
    'devices': (
        ['--config', 'configs/digits.py', '--config.mesh.data=8', '--workdir', '{tmp}/new'],
        'mesh.data × mesh.column is 8 × 1; allowed: as many as there are devices, 4 (cpu)',
    ),
    'workdir in a file': (
        ['--config', 'configs/digits.py', '--workdir', '/dev/null/run'],
        '--workdir /dev/null/run cannot be written',
    ),
    'no workdir': (['--config', 'configs/digits.py', '--workdir='], 'cannot be used: it is empty'),
    'no checkpoint': (
        ['--config', 'configs/digits.py', '--workdir', '{tmp}/new', '--mode=eval'],
        '{tmp}/new holds no checkpoints',
    ),
    'no such split': (
        ['--config', 'configs/imagenet.py', '--config.data.source=synthetic',
         '--config.eval.split=test', '--workdir', '{tmp}/new'],
        "eval.split is 'test'; synthetic has: train, val",
    ),
}  # fmt: skip


@pytest.mark.parametrize('name', BAD_COMMANDS)
def test_a_bad_command_ends_in_plain_words(name, tmp_path, data_dir, capsys):
    arguments, message = BAD_COMMANDS[name]
    arguments = [argument.format(tmp=tmp_path) for argument in arguments]
    if arguments:
        arguments.append(f'--config.data.dir={data_dir}')
    assert main.main(arguments) == BAD_INPUT
    error = capsys.readouterr().err
    assert message.format(tmp=tmp_path) in error
    assert len(error.splitlines()) <= 2
    assert 'Traceback' not in error
    assert not (tmp_path / 'new').exists()


def test_debug_shows_the_traceback(capsys):
    assert main.main(['--config', 'nope.py', '--debug']) == BAD_INPUT
    assert 'Traceback' in capsys.readouterr().err


def test_a_fault_is_one_line_and_status_1(command, tmp_path, capsys, monkeypatch):
    def fail(*arguments):
        raise RuntimeError('the disk\nis full')

    monkeypatch.setattr('alexnet_jax.training.checkpoint.Checkpoints.save', fail)
    assert main.main(command(tmp_path / 'run', '--config.train.steps=1')) == FAULT
    error = capsys.readouterr().err
    assert error.splitlines() == ['error: RuntimeError: the disk (--debug shows where)']
