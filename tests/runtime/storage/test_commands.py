"""Commands whose folders are URLs, on fsspec's own file system in memory."""

import importlib.util
import json
from pathlib import Path

import fsspec
import numpy as np
import pytest

from alexnet_jax import main
from alexnet_jax.data import image_set
from alexnet_jax.data.prepare import __main__ as prepare
from alexnet_jax.data.prepare import engines, stored
from alexnet_jax.runtime import storage
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE, FAULT
from alexnet_jax.runtime.errors import StorageError
from alexnet_jax.runtime.storage import client, owner
from alexnet_jax.training import checkpoint_reader
from tests.data.photographs import write_classes
from tests.runtime.storage.test_storage import failing_after

IMAGES, SET, RUN = 'memory://bucket/images', 'memory://bucket/set', 'memory://bucket/run'


@pytest.fixture(scope='module')
def images(tmp_path_factory) -> Path:
    """A folder of 300 training images and 40 for validation: three shards and one."""
    top = tmp_path_factory.mktemp('local') / 'images'
    write_classes(top / 'train', 100, ('a', 'b', 'c'))
    write_classes(top / 'val', 10, ('a', 'b', 'c'))
    return top


@pytest.fixture
def uploaded(images, store):
    files = fsspec.filesystem('memory')
    for path in images.rglob('*'):
        if path.is_file():
            name = f'/bucket/images/{path.relative_to(images).as_posix()}'
            files.makedirs(name.rpartition('/')[0], exist_ok=True)
            files.pipe_file(name, path.read_bytes())
    return files


def prepared(source: str | Path, out: str | Path, *more: str) -> int:
    words = ['--source', f'folder:{source}', '--out', str(out), '--size=16', '--workers=1', *more]
    return prepare.main(words)


def shards(files, url: str = '/bucket/set') -> dict[str, bytes]:
    names = [name for name in files.find(url) if '.array_record-' in name and '/.' not in name]
    return {name.rpartition('/')[2]: files.cat_file(name) for name in names}


@pytest.mark.thorough
def test_a_set_made_of_images_in_a_store_is_that_of_local_ones(images, uploaded, tmp_path, capsys):
    assert prepared(images, tmp_path / 'set') == DONE
    assert prepared(IMAGES, SET) == DONE
    assert '300 train, 30 val' in capsys.readouterr().out
    local = {path.name: path.read_bytes() for path in (tmp_path / 'set').glob('*record-*')}
    assert len(local) == 4 and shards(uploaded) == local
    about = json.loads(uploaded.cat_file('/bucket/set/prepared.json'))
    assert about['source'] == f'folder:{IMAGES}'
    assert not [name for name in uploaded.find('/bucket/set') if '/.preparing/' in name]
    with storage.session():
        found = stored.of_source(f'folder:{IMAGES}', 16, SET)
        expected = image_set.open_set(tmp_path / 'set')
        for row in (0, 150, 299):
            one, other = found.splits['train'].read(row), expected.splits['train'].read(row)
            np.testing.assert_array_equal(one.image, other.image)
            assert one.id == other.id and one.label == other.label
    capsys.readouterr()
    assert prepared(IMAGES, SET) == DONE
    assert 'is prepared already; its source has the same files' in capsys.readouterr().out
    uploaded.pipe_file('/bucket/images/train/a/more.png', b'x')
    assert prepared(IMAGES, SET) == BAD_INPUT
    assert 'whose images changed since' in capsys.readouterr().err


@pytest.mark.thorough
def test_a_preparation_goes_on_on_another_machine(uploaded, images, tmp_path, monkeypatch):
    made, left = [], failing_after(monkeypatch, 10**6)
    write_shard = engines.shards.write_shard

    def killed(task, stop_requested=lambda: False):
        if len(made) == 2:
            left[0] = 0  # whoever is killed uploads nothing more
            raise KeyboardInterrupt
        made.append(task.path.name)
        return write_shard(task, stop_requested)

    monkeypatch.setattr(engines.shards, 'write_shard', killed)
    prepared(IMAGES, SET)
    left[0] = 10**6
    monkeypatch.setattr(owner, '_has_ended_here', lambda found: True)
    assert len(shards(uploaded)) == 2 and not uploaded.exists('/bucket/set/dataset_info.json')
    monkeypatch.setenv('ALEXNET_JAX_CACHE', str(tmp_path / 'other'))
    monkeypatch.setattr(
        engines.shards, 'write_shard',
        lambda task, stop=lambda: False: made.append(task.path.name) or write_shard(task, stop),
    )  # fmt: skip
    assert prepared(IMAGES, SET) == DONE
    assert len(made) == len(set(made)) == 4  # none was made twice
    monkeypatch.undo()
    assert prepared(images, tmp_path / 'set') == DONE
    local = {path.name: path.read_bytes() for path in (tmp_path / 'set').glob('*record-*')}
    assert shards(uploaded) == local


def test_an_image_that_cannot_be_fetched_is_not_left_out(uploaded, monkeypatch, capsys):
    """Whatever may be left out: it is the network that is broken, not the image."""
    read = client.Store.read

    def failing(self, name):
        if name.startswith('005'):
            raise StorageError(f'{self.url}: {name}: the network is away')
        return read(self, name)

    monkeypatch.setattr(client.Store, 'read', failing)
    assert prepared(IMAGES, SET, '--skip_bad=100') == FAULT
    assert 'the network is away' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--workdir', 'foo://bucket/run'], "Protocol not known: foo"),
        (['--workdir', RUN, '--processes=2', '--process=0', '--coordinator=127.0.0.1:1'],
         f'--workdir is {RUN}; allowed with --processes: a folder that all of them share'),
        (['--workdir', 'WORKDIR', f'--config.data.dir={SET}'], f'data.dir {SET} holds no dataset_info.json'),
        (['--mode=eval', '--workdir', RUN], f'the workdir {RUN} '),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_training(words, message, tmp_path, capsys):
    words = [word.replace('WORKDIR', str(tmp_path / 'run')) for word in words]
    config = [] if '--mode=eval' in words else ['--config', 'digits']
    assert main.main([*config, *words]) == BAD_INPUT
    printed = capsys.readouterr().err.strip()
    assert message in printed and '\n' not in printed


@pytest.mark.skipif(bool(importlib.util.find_spec('gcsfs')), reason='gcsfs is installed')
def test_a_driver_that_is_not_installed_is_named(capsys):
    assert main.main(['--config', 'digits', '--workdir', 'gs://bucket/run']) == BAD_INPUT
    expected = (
        'error: --workdir gs://bucket/run needs a driver that is not installed: pip install gcsfs\n'
    )
    assert capsys.readouterr().err == expected


def test_what_a_store_forbids_is_not_tried_again(monkeypatch, capsys):
    tried = []

    def forbidden(self, *path, **options):
        tried.append(path)
        raise PermissionError('Access Denied')

    monkeypatch.setattr(client, 'PATIENCE', 60)
    monkeypatch.setattr(type(fsspec.filesystem('memory')), 'pipe_file', forbidden)
    assert prepare.main(['--source', 'digits', '--size=8', '--out', SET]) == BAD_INPUT
    assert 'memory://bucket/set' in (printed := capsys.readouterr().err)
    assert 'Access Denied' in printed and len(tried) == 1


@pytest.mark.slow
def test_a_store_that_goes_away_while_training_ends_the_run_which_goes_on(
    data_dir, tmp_path, monkeypatch, capsys
):
    def command(workdir: str) -> list[str]:
        settings = (
            'network.width=0.5',
            'train.steps=9',
            'checkpoint.every_steps=3',
            'data.batch_size=16',
        )
        return [
            '--config', 'digits', '--workdir', workdir, f'--config.data.dir={data_dir}', '--noconfig.train.report',
            *(f'--config.{one}' for one in settings),
        ]  # fmt: skip

    assert main.main(command(str(tmp_path / 'undisturbed'))) == DONE
    left = failing_after(monkeypatch, 80)  # the first checkpoint has some 60 files
    assert main.main(command(RUN)) == FAULT
    printed = capsys.readouterr().err
    assert f'{RUN}: ' in printed and 'the network is away' in printed
    assert 'the same command resumes' in printed
    left[0] = 10**6
    monkeypatch.setattr(owner, '_has_ended_here', lambda found: True)
    assert main.main(command(RUN)) == DONE
    assert 'resuming after step 3' in capsys.readouterr().out
    fsspec.filesystem('memory').get('/bucket/run/', str(tmp_path / 'run'), recursive=True)
    ours, step, _ = checkpoint_reader.read_layers(tmp_path / 'run' / 'checkpoints')
    theirs, last, _ = checkpoint_reader.read_layers(tmp_path / 'undisturbed' / 'checkpoints')
    assert step == last == 9
    for layer, parts in theirs.items():
        for part, array in parts.items():
            np.testing.assert_array_equal(ours[layer][part], array)
