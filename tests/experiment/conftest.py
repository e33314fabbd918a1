"""Trained nets on the digits, and a run on photos in class folders."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from alexnet_jax import main
from alexnet_jax.data.prepare import __main__ as prepare
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE
from tests import config_files, random_run
from tests.data.photographs import write_classes

SIZE = 32


@dataclasses.dataclass(frozen=True)
class Folder:
    """Photos in class folders, the set prepared of them, and a finished run on it."""

    top: Path

    @property
    def run(self) -> Path:
        return self.top / 'run'

    def arguments(self, *more: str, workdir: str = 'run') -> list[str]:
        return [
            '--config', str(self.top / 'config.py'), '--workdir', str(self.top / workdir), *more,
        ]  # fmt: skip

    def rename_class(self) -> None:
        (self.top / 'photos' / 'a').rename(self.top / 'photos' / 'z')
        self.prepare()

    def other_photos(self, each: int = 9) -> None:
        shutil.rmtree(self.top / 'photos')
        write_classes(self.top / 'photos', each, ('a', 'b', 'c'))
        self.prepare()

    def other_labels(self) -> None:
        for old, new in (('a', 'c0'), ('b', 'a'), ('c0', 'b')):
            (self.top / 'photos' / old).rename(self.top / 'photos' / new)
        self.prepare()

    def prepare(self) -> None:
        shutil.rmtree(self.top / 'set', ignore_errors=True)
        arguments = ['--source', f'folder:{self.top / "photos"}', '--out', str(self.top / 'set')]
        assert prepare.main([*arguments, f'--size={SIZE}', '--val_fraction=0.25']) == DONE

    def take_checkpoint(self, workdir: str, step: str) -> None:
        """Copies a checkpoint of another workdir into that of the run."""
        place = Path('checkpoints', step)
        shutil.copytree(self.top / workdir / place, self.run / place)

    @property
    def content(self) -> dict[str, bytes]:
        """Every file of the workdir."""
        return {
            str(path.relative_to(self.top)): path.read_bytes()
            for path in sorted((self.run).rglob('*'))
            if path.is_file() and path.name != '.lock'
        }

    def refused(self, capsys, *more: str, command=None) -> str:
        """The message of a command that ends with status 2 and leaves every file as it was."""
        before = self.content
        capsys.readouterr()
        assert main.main(command or self.arguments(*more)) == BAD_INPUT
        assert self.content == before
        message = capsys.readouterr().err
        assert len(message.splitlines()) <= 2, message
        return message

    def result(self, capsys, *more: str) -> str:
        capsys.readouterr()
        assert main.main(['--workdir', str(self.run), '--mode=eval', *more]) == DONE
        return capsys.readouterr().out.split(' -> ')[0]


@pytest.fixture(scope='module')
def original(tmp_path_factory) -> Folder:
    folder = Folder(tmp_path_factory.mktemp('original'))
    write_classes(folder.top / 'photos', 8, ('a', 'b', 'c'))
    config = {
        'network.name': 'small', 'network.width': 0.5, 'data.source': f'folder:{folder.top}/photos',
        'data.dir': f'{folder.top}/set', 'data.record_size': SIZE, 'data.batch_size': 4,
        'train.steps': 4, 'checkpoint.every_steps': 2, 'train.report': False, 'train.log_to': (),
        'data.threads': 0, 'eval.batch_size': 4,
    }  # fmt: skip
    config_files.with_values(folder.top / 'config.py', config)
    folder.prepare()
    assert main.main(folder.arguments()) == DONE
    return folder


@pytest.fixture
def folder(original):
    """The same, brought back afterwards: a set knows where its photos lie."""
    kept = original.top.with_name('kept')
    shutil.copytree(original.top, kept)
    yield original
    shutil.rmtree(original.top)
    kept.rename(original.top)


@pytest.fixture(scope='session')
def runs(data_dir, tmp_path_factory):
    """Two workdirs of nets on the digits, half as wide."""
    folder = tmp_path_factory.mktemp('runs')
    settings = {'data.dir': data_dir, 'network.width': '0.5'}
    for seed in (0, 1):
        random_run.make(folder / str(seed), settings, seed)
    return folder


@pytest.fixture
def workdir(runs, tmp_path):
    return shutil.copytree(runs / '0', tmp_path / 'run')
