"""Processes that do not belong together are refused, each with one line."""

import os

import pytest

from alexnet_jax import main
from alexnet_jax.data.prepare import __main__ as prepare
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE
from tests import several
from tests.data.photographs import write_classes


def test_processes_that_differ_are_refused_by_all(command, tmp_path):
    own = [['--config.seed=1'], ['--config.seed=2']]
    found = several.run(2, command('run'), own)
    line = 'error: process 1 differs from process 0: seed is 2, not 1\n'
    assert [(status, error) for status, _, error in found] == [(BAD_INPUT, line)] * 2
    assert not (tmp_path / 'run').exists()


@pytest.mark.thorough
@pytest.mark.parametrize('mode', ['train', 'eval'])
def test_processes_on_different_sets_are_refused_by_all(mode, tmp_path):
    """As many images and classes, other names: each would train on labels of its own."""
    photos, source = tmp_path / 'photos', f'--config.data.source=folder:{tmp_path}/photos'
    write_classes(photos, 4, ('a', 'b', 'c'))
    for name in ('one', 'other'):
        arguments = ['--source', f'folder:{photos}', '--out', str(tmp_path / name), '--size=32']
        assert prepare.main([*arguments, '--val_fraction=0.25']) == DONE
        if name == 'one':
            (photos / 'a').rename(photos / 'z')
    arguments = [
        '--config', 'configs/digits.py', '--workdir', str(tmp_path / 'run'), source,
        '--config.data.batch_size=4', '--config.train.steps=2', '--noconfig.train.report',
    ]  # fmt: skip
    own = [[f'--config.data.dir={tmp_path / name}'] for name in ('one', 'other')]
    if mode == 'eval':
        assert main.main([*arguments, *own[0]]) == DONE
    found = several.run(2, [*arguments, f'--mode={mode}'], own)
    for status, _, error in found:
        assert status == BAD_INPUT
        named = ('b, c, z', "'z', which is none")  # in training, in an evaluation
        of_first = error.startswith('error: process 1') and any(text in error for text in named)
        assert of_first or "'b'" in error
    assert (tmp_path / 'run').exists() == (mode == 'eval')


@pytest.mark.thorough
def test_processes_that_do_not_share_the_workdir_are_refused(command, tmp_path):
    own = [['--workdir', str(tmp_path / str(index))] for index in range(2)]
    found = several.run(2, command('run'), own)
    line = (
        f'error: process 1 of 2: --workdir {tmp_path}/1 is not the folder that process 0 has;'
        ' allowed: one on a file system that all processes share\n'
    )
    assert [(status, error) for status, _, error in found] == [(BAD_INPUT, line)] * 2


@pytest.mark.slow
def test_a_mesh_that_leaves_a_process_out_is_refused(command, tmp_path):
    found = several.run(2, command('run', '--config.mesh.data=1', '--config.mesh.column=1'))
    for status, _, error in found:
        assert status == BAD_INPUT
        assert (
            'mesh.data × mesh.column is 1 × 1; allowed: all devices of the 2 processes, 2' in error
        )


def test_a_coordinator_that_does_not_answer_is_named(command):
    place = f'127.0.0.1:{several.free_port()}'
    [(status, _, error)] = several.run(
        1, command('run'),
        [['--processes=2', '--process=1', f'--coordinator={place}', '--join_timeout=1']],
    )  # fmt: skip
    assert status == BAD_INPUT
    assert f'--coordinator {place} did not answer within 1 s: Connection refused' in error


@pytest.mark.thorough
def test_a_process_that_is_missing_at_the_start_ends_the_wait(command):
    [(status, _, error)] = several.run(1, command('run'), [['--processes=2', '--join_timeout=3']])
    assert status == BAD_INPUT
    assert error.startswith('error: process 0: process 1 of 2 did not come to 127.0.0.1:')
    assert 'within 3 s; allowed: each process started' in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(('arguments', 'line'), [
    ('--processes=0', "--processes is '0'; allowed: a whole number from 1 on, or auto"),
    ('--processes=2', '--processes=N needs --process=I and --coordinator=HOST:PORT too'),
    ('--processes=2 --process=2 --coordinator=a:1', '--process is 2; allowed: from 0 to 1'),
    ('--processes=2 --process=0 --coordinator=a', "--coordinator is 'a'; allowed: HOST:PORT"),
    ('--processes=2 --process=0 --coordinator=a:0', "--coordinator is 'a:0'; allowed: HOST:PORT"),
    ('--process=1', '--process and --coordinator go with --processes=N'),
    ('--processes=auto --process=1', '--process and --coordinator go with --processes=N'),
    ('--processes=auto --heartbeat=1', '--heartbeat is 1; allowed: from 5 to 86400 seconds'),
    ('--processes=auto --mode=report',
     '--mode=report runs in one process; leave out --processes; see --help'),
])  # fmt: skip
def test_options_that_do_not_go_together_are_refused(arguments, line, command, capsys):
    assert main.main(command('run', *arguments.split())) == BAD_INPUT
    assert capsys.readouterr().err == f'error: {line}\n'


@pytest.mark.thorough
def test_what_the_first_alone_lacks_is_told_by_both(command, tmp_path, monkeypatch):
    """Weights & Biases, which the first alone opens."""
    (tmp_path / 'wandb.py').write_text('raise ImportError')
    monkeypatch.setenv('PYTHONPATH', f'{tmp_path}:{os.getcwd()}')
    for status, _, error in several.run(2, command('run', '--config.train.log_to=wandb')):
        assert status == 2
        assert 'process 0 of 2: train.log_to names wandb, which is not installed' in error
