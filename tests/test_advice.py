"""Every command that the programs print runs as it is printed."""

import importlib
import re
import shlex
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from alexnet_jax import __main__ as alexnet_jax_main
from alexnet_jax import main
from alexnet_jax.data import image_set
from alexnet_jax.data.prepare import __main__ as prepare
from alexnet_jax.data.prepare import dask_cluster, engines, stored, tfds
from alexnet_jax.runtime.command_line import BAD_INPUT, COMMANDS, DONE
from alexnet_jax.runtime.errors import InputError
from alexnet_jax.training import trackers
from alexnet_jax.weights import hub
from tests.data.photographs import write_classes

PACKAGE = Path('alexnet_jax')


def commands_in(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if line.startswith(COMMANDS)]


def command_module(name: str) -> ModuleType:
    """The module that `python -m NAME` runs."""
    module = importlib.import_module(name)
    return importlib.import_module(f'{name}.__main__') if hasattr(module, '__path__') else module


def run_printed(capsys, status: int = BAD_INPUT) -> str:
    """Runs the one command that an error has printed, and returns what it prints."""
    captured = capsys.readouterr()
    (line,) = commands_in(captured.err)
    *before, last = captured.err.splitlines()
    assert last == line and all(other.startswith('error: ') for other in before)
    python, option, module, *words = shlex.split(line)
    assert (python, option) == ('python', '-m')
    assert command_module(module).main(words) == DONE, capsys.readouterr().err
    return capsys.readouterr().out


@pytest.fixture
def images(tmp_path) -> Path:
    """Class folders without images for validation, in a folder with a name that shells split."""
    top = tmp_path / "it's my $HOME; photos"
    write_classes(top, 4, ('a b', 'c'))
    return top


def digits_command(workdir: Path, spec: str, *settings: str) -> list[str]:
    return [
        '--config', 'configs/digits.py', f'--workdir={workdir}', f'--config.data.source={spec}',
        '--config.data.batch_size=6', '--config.train.steps=1', '--config.data.threads=0',
        '--config.train.log_every_steps=1', *settings,
    ]  # fmt: skip


@pytest.mark.parametrize('splits', ['none', 'train and val', 'Train and Test'])
@pytest.mark.parametrize('resize', ['center_square', 'squash'])
def test_a_folder_that_is_not_prepared(splits, resize, images, tmp_path, capsys):
    if splits != 'none':
        one, _, other = splits.split()
        write_classes(images / 'all' / one, 3, ('a b', 'c'))
        write_classes(images / 'all' / other, 1, ('a b', 'c'))
        images = images / 'all'
    settings = [f'--config.data.dir={tmp_path}/-sets', f'--config.data.resize={resize}']
    command = digits_command(tmp_path / 'run', f'folder:{images}', *settings)
    assert main.main(command) == BAD_INPUT
    run_printed(capsys)
    found = stored.find(f'folder:{images}', 32, f'{tmp_path}/-sets', resize)
    assert found and len(image_set.open_set(found).splits['val']) == 2
    assert not (tmp_path / 'run').exists()


def test_folders_named_from_the_working_folder(images, tmp_path, capsys, monkeypatch):
    """What is printed runs from another one."""
    monkeypatch.chdir(images.parent)
    config = Path(__file__).parents[1] / 'configs' / 'digits.py'
    command = digits_command(tmp_path / 'run', f'folder:{images.name}', '--config.data.dir=sets')
    assert main.main(['--config', str(config), *command[2:]]) == BAD_INPUT
    (tmp_path / 'elsewhere').mkdir()
    monkeypatch.chdir(tmp_path / 'elsewhere')
    run_printed(capsys)
    assert list((tmp_path / 'elsewhere').iterdir()) == []
    assert stored.find(f'folder:{images}', 32, str(images.parent / 'sets'))


def test_a_set_of_another_resize(images, tmp_path, capsys):
    one = [
        '--source', f'folder:{images}', '--size=32', '--val_fraction=0.3', f'--out={tmp_path}/set',
    ]  # fmt: skip
    assert prepare.main([*one, '--workers=1']) == DONE
    capsys.readouterr()
    settings = [f'--config.data.dir={tmp_path}/set', '--config.data.resize=short_side']
    command = digits_command(tmp_path / 'run', f'folder:{images}', *settings)
    assert main.main(command) == BAD_INPUT
    run_printed(capsys)
    assert stored.find(f'folder:{images}', 32, str(tmp_path), 'short_side')


@pytest.mark.parametrize('options', [
    [], ['--encoding=raw', '--quality=80', '--resize=squash', '--max_pixels=90000'], ['--skip_bad=5'],
])  # fmt: skip
def test_a_set_that_is_not_whole(options, images, tmp_path, capsys):
    if '--skip_bad=5' in options:
        for number in (7, 8):
            (images / 'c' / f'{number}.jpg').write_bytes(b'no image')
    words = [
        '--source', f'folder:{images}', '--size=32', '--val_fraction=0.3', f'--out={tmp_path}/set',
    ]  # fmt: skip
    assert prepare.main([*words, '--workers=1', *options]) == DONE
    whole = {path.name: path.read_bytes() for path in (tmp_path / 'set').iterdir()}
    next((tmp_path / 'set').glob('*-train*')).unlink()
    capsys.readouterr()
    with pytest.raises(InputError) as caught:
        image_set.open_set(tmp_path / 'set')
    assert main.command_line.run(lambda _: throw(caught.value), []) == BAD_INPUT
    assert 'preparing it again' in run_printed(capsys)
    assert {path.name: path.read_bytes() for path in (tmp_path / 'set').iterdir()} == whole


def throw(error: Exception) -> int:
    raise error


def test_a_damaged_set_of_the_digits(tmp_path, capsys):
    stored.digits(32, str(tmp_path))
    next(tmp_path.glob('*/statistics.npz')).unlink()
    command = digits_command(tmp_path / 'run', 'digits', f'--config.data.dir={tmp_path}')
    assert main.main(command) == BAD_INPUT
    run_printed(capsys)
    assert len(stored.digits(32, str(tmp_path)).splits['train']) == 1297


def test_a_source_without_images_for_validation(images, tmp_path, capsys):
    words = ['--source', f'folder:{images}', '--size=32', f'--out={tmp_path}/a set', '--workers=1']
    assert prepare.main(words) == BAD_INPUT
    assert 'holds out 2 of 8 training images' in run_printed(capsys)


def test_libraries_that_are_not_installed(monkeypatch, tmp_path):
    """The packages are those that the project's extras name; a wheel and a checkout have them by
    the same command."""
    extras = tomllib.loads(Path('pyproject.toml').read_text())['project']['optional-dependencies']
    messages = {}
    for name in ('wandb', 'huggingface_hub', 'apache_beam', 'distributed'):
        monkeypatch.setitem(sys.modules, name, None)
    for extra, call in {
        'wandb': lambda: trackers.WeightsAndBiases(tmp_path, {}),
        'hub': lambda: hub._library('owner/name'),
        'beam': lambda: engines.in_beam([], 'DirectRunner', []),
        'dask': lambda: list(dask_cluster.in_dask([], '127.0.0.1:8786')),
    }.items():
        with pytest.raises(InputError) as caught:
            call()
        messages[extra] = str(caught.value)

    class NeedsTensorFlow:
        name = 'some_set'

        def download_and_prepare(self, **_):
            raise ImportError('no TensorFlow', name='tensorflow')

    with pytest.raises(InputError) as caught:
        tfds._prepare_with_tfds('tfds:some_set', NeedsTensorFlow(), None, None)
    messages['prepare'] = str(caught.value)
    for extra, message in messages.items():
        (line,) = commands_in(message)
        pip, install, package = line.split()
        assert (pip, install) == ('pip', 'install')
        named = {re.split(r'[ ;<>=]', requirement)[0] for requirement in extras[extra]}
        assert package in named, (package, named)


def test_no_other_command_is_printed():
    """Whatever looks like a command, outside of docstrings, is one of those tried here."""
    found = []
    for path in sorted(PACKAGE.rglob('*.py')):
        text = re.sub(r'(?s)"""(?:(?!""").)*"""', '', path.read_text())
        found += [
            f'{path.relative_to(PACKAGE)}: {match}'
            for match in re.findall(
                r'pip install [\w.\[\]-]+|python -m [\w.]+|configs/[a-z]\w*\.py', text
            )
        ]
    found = [line for line in found if not re.search(r': python -m alexnet_jax[.\w]*$', line)]
    assert sorted(found) == [
        'data/prepare/dask_cluster.py: pip install distributed',
        'data/prepare/engines.py: pip install apache-beam',
        'data/prepare/tfds.py: pip install tensorflow',
        'training/trackers.py: pip install wandb',
        'weights/hub.py: pip install huggingface_hub',
    ]


HELP = [
    '__main__', 'ablations', 'figure1', 'specialization', 'main', 'data.prepare.__main__',
    'evaluation.__main__', 'evaluation.compare.__main__', 'experiment.ahead_of_time.__main__',
    'network.__main__', 'report.__main__', 'report.explain', 'training.__main__', 'weights.__main__',
]  # fmt: skip


@pytest.mark.parametrize('name', HELP)
def test_help_names_files_and_commands_that_are_there(name):
    """Commands of a help text, as `--help` prints them."""
    text = importlib.import_module(f'alexnet_jax.{name}').__doc__ or ''
    commands = re.findall(r'^ +alexnet-jax ([a-z]\w+)', text, re.MULTILINE)
    assert commands or 'python -m alexnet_jax' in text
    assert {*commands} <= {*alexnet_jax_main.COMMANDS, 'configs'}
    for config in re.findall(r'configs/\w+\.py', text):
        assert Path(config).is_file(), config
    for module in re.findall(r'python -m (alexnet_jax[.\w]*)', text):
        assert importlib.util.find_spec(module.rstrip('.')), module


def test_a_command_stands_alone_on_its_line(capsys):
    def command(_):
        raise InputError('what is wrong:\npython -m alexnet_jax.main --workdir x\nand more')

    assert main.command_line.run(command, []) == BAD_INPUT
    assert capsys.readouterr().err.splitlines() == [
        'error: what is wrong:', 'python -m alexnet_jax.main --workdir x', 'error: and more',
    ]  # fmt: skip
