"""`alexnet-jax COMMAND`, and configurations found by name."""

import json
import re
from importlib import metadata
from pathlib import Path

import pytest

from alexnet_jax import __main__ as commands
from alexnet_jax.experiment import config_file
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE
from alexnet_jax.runtime.errors import InputError


@pytest.mark.parametrize('name', commands.COMMANDS)
def test_every_command_has_a_help_and_stands_in_the_list(name, capsys):
    with pytest.raises(SystemExit) as ended:
        commands.main([name, '--help'])
    assert ended.value.code in (None, DONE)
    assert 'usage: ' in capsys.readouterr().out


def test_the_help_has_a_row_for_each_command():
    rows = re.findall(r'^  (\S.*?)  +\S.*$', commands.__doc__ or '', re.M)
    names = [name for row in rows for name in re.sub(r' \S+\|\S+', '', row).split(', ')]
    assert sorted(names) == sorted([*commands.COMMANDS, 'configs'])


@pytest.mark.parametrize('argv', [
    [*command, '--help'] for command in (['features'], ['lesions'], ['rsa'], ['probe'], ['weights', 'import'])
])  # fmt: skip
def test_the_help_of_a_subcommand_describes_it_and_each_argument(argv, capsys):
    with pytest.raises(SystemExit):
        commands.main(argv)
    printed = capsys.readouterr().out
    assert 'Exit status: ' in printed
    arguments = re.findall(
        r'^  (-?-?\w\S*.*)$', printed.partition('positional arguments:')[2], re.M
    )
    assert arguments and not [row for row in arguments if '  ' not in row and len(row) < 20]


@pytest.mark.parametrize('argv', [['trian'], ['configs', 'digits'], []])
def test_a_bad_command_is_refused(argv, capsys):
    assert commands.main(argv) == BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('error: ')
    assert argv != ['trian'] or line.endswith('the nearest is train')


@pytest.mark.parametrize('argv', [
    ['weights', 'export', 'runs/x', '--out='], ['ablations', '--config=digits', '--workdir', ''],
    ['pages', ''], ['tables', 'runs/x', '--out='], ['prepare', '--source=digits', '--out='],
])  # fmt: skip
def test_an_empty_path_is_refused(argv, tmp_path, monkeypatch, capsys):
    """It does not stand for the current folder, as it may come from an unset shell variable."""
    monkeypatch.chdir(tmp_path)
    assert commands.main(argv) == BAD_INPUT
    assert 'it is empty; allowed: a path' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_version_is_printed(capsys):
    assert commands.main(['--version']) == DONE
    assert capsys.readouterr().out.split() == ['alexnet_jax', metadata.version('alexnet_jax')]


def test_packaged_configurations_are_listed(capsys):
    assert commands.main(['configs', '--help']) == DONE
    assert 'packaged configuration' in capsys.readouterr().out
    assert commands.main(['configs']) == DONE
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == sorted(path.stem for path in Path('configs').glob('*.py'))


@pytest.mark.thorough
def test_a_configuration_is_found_by_name_from_any_folder(tmp_path, monkeypatch, data_dir):
    by_path = config_file.load('configs/digits.py', {})
    monkeypatch.chdir(tmp_path)
    assert config_file.load('digits', {}) == by_path
    small = ['--config.train.steps=2', '--noconfig.train.report', '--config.train.log_to=']
    words = ['train', '--config', 'digits', f'--config.data.dir={data_dir}', *small]
    assert commands.main(words) == DONE
    kept = json.loads((tmp_path / 'runs' / 'digits' / 'config.json').read_text())
    assert kept['data']['batch_size'] == by_path.data.batch_size == 64


@pytest.mark.parametrize('name', ['digist', 'x' * 5000, '', 'configs/digits'])
def test_a_name_of_no_configuration_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match='--config ') as raised:
        config_file.load(name, {})
    if 'dig' in name:
        assert str(raised.value).endswith('the nearest of which is digits')
