"""Images on the devices: the same bits as from the host."""

import collections
import contextlib
import dataclasses
import itertools
from types import SimpleNamespace

import chex
import jax
import numpy as np
import pytest

from alexnet_jax import main
from alexnet_jax.data import held
from alexnet_jax.data.patterns import Patterns
from alexnet_jax.data.prepare import __main__ as prepare
from alexnet_jax.experiment import build, config_file, placement
from alexnet_jax.network import device_images, device_mesh
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE
from tests import several
from tests.data.photographs import write_classes
from tests.faults import driver

RGB = {
    'data.source': 'synthetic', 'data.synthetic_examples': '90', 'data.synthetic_classes': '7',
    'data.record_size': '37',
}  # fmt: skip


def batches(placement: str, first: int, count: int, settings: dict[str, str]) -> list:
    overrides = {'data.placement': placement, 'data.batch_size': '32', **settings}
    experiment = build.build(config_file.load('configs/digits.py', overrides))
    with contextlib.closing(build.train_batches(experiment, first)) as stream:
        found = list(itertools.islice(stream, count))
    rows = jax.tree.map(lambda x: (x.sharding.spec, x.addressable_shards[-1].data.shape), found[0])
    return [rows, *jax.device_get(found)]


@pytest.mark.parametrize('mesh', [(1, 1), (2, 2)])
@pytest.mark.parametrize('settings', [
    {}, RGB, RGB | {'data.random_crop': 'false'}, RGB | {'data.mirror': 'false'},
    RGB | {'data.color_epochs': '1', 'data.threads': '0'}, RGB | {'network.input_size': '37'},
])  # fmt: skip
def test_batches_are_the_host_s(settings, mesh, data_dir):
    """Over the end of an epoch, which is within batch 40 of the digits and batch 2 of the others;
    with the same place on the devices."""
    settings |= {'data.dir': data_dir, 'mesh.data': str(mesh[0]), 'mesh.column': str(mesh[1])}
    first = 1 if 'data.source' in settings else 38
    host, device = (batches(placement, first, 6, settings) for placement in ('host', 'device'))
    assert host[1]['image'].dtype == np.uint8 and host[1].keys() == device[1].keys()
    assert host[0] == device[0]
    chex.assert_trees_all_equal(host[1:], device[1:])


def test_records_of_jpeg_are_decoded_at_the_start(tmp_path):
    write_classes(tmp_path / 'photos', 8, ('a', 'b', 'c'))
    arguments = ['--source', f'folder:{tmp_path}/photos', '--out', str(tmp_path / 'set'),
                 '--size=32', '--val_fraction=0.25']  # fmt: skip
    assert prepare.main(arguments) == DONE
    settings = {'data.source': f'folder:{tmp_path}/photos', 'data.dir': str(tmp_path / 'set')}
    host, device = (batches(placement, 0, 3, settings) for placement in ('host', 'device'))
    chex.assert_trees_all_equal(host[1:], device[1:])


@pytest.mark.parametrize('threads', [0, 3])
def test_all_records_are_held(threads, monkeypatch):
    monkeypatch.setattr(held, 'AT_ONCE', 5)
    records = Patterns(23, 16, 0)
    found = held.hold(records, 16, threads)
    for row in range(23):
        np.testing.assert_array_equal(found.images[row], records.read(row).image)
        assert found.labels[row] == row % 16


def test_crops_by_hand():
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    mesh = device_mesh.make_mesh()
    crops = device_images.make_crops(mesh, device_images.place(mesh, images), 2)
    chosen = {
        'row': np.int32([1, 0]),
        'corner': np.int32([[2, 1], [0, 2]]),
        'label': np.int32([5, 6]),
    }
    found = crops(chosen)
    assert found.keys() == {'image', 'label'} and found['label'].tolist() == [5, 6]
    # Pixel (top, left) of image n begins at 48 n + 12 top + 3 left.
    assert np.asarray(found['image'])[0, :, :, 0].tolist() == [[75, 78], [87, 90]]
    assert np.asarray(found['image'])[1, :, :, 2].tolist() == [[8, 11], [20, 23]]


@pytest.mark.parametrize('mesh', [(1, 1), (2, 2)])
def test_validation_images_are_read_once_and_score_as_the_host_s(mesh, data_dir, monkeypatch):
    """An evaluation of other images, or of ten views, reads them again."""
    settings = {'data.dir': data_dir, 'mesh.data': str(mesh[0]), 'mesh.column': str(mesh[1])}
    scores, passes = {}, {}
    for where in ('host', 'device'):
        overrides = settings | {'data.placement': where, 'network.width': '0.5'}
        experiment = build.build(config_file.load('configs/digits.py', overrides))
        state, read = build.initial_state(experiment, {}), []
        splits = {
            name: _Counted(records, name, read)
            for name, records in experiment.images.splits.items()
        }
        images = dataclasses.replace(experiment.images, splits=splits)
        experiment = dataclasses.replace(experiment, images=images)
        evaluate_split = build.evaluator(experiment, lambda: False)
        scores[where] = [
            evaluate_split(split, views, state.variables).scores()
            for split, views in (('val', 1), ('test', 1), ('val', 1), ('val', 10), ('val', 1))
        ]
        passes[where] = collections.Counter(read)
    assert scores['host'] == scores['device']
    count = {name: len(records) for name, records in splits.items()}
    assert passes['host'] == {'val': 4 * count['val'], 'test': count['test']}
    assert passes['device'] == {'val': 2 * count['val'], 'test': count['test']}


class _Counted:
    """Records that note the name of their split at each read."""

    def __init__(self, records, name, read):
        self._records, self._name, self._read = records, name, read

    def __len__(self):
        return len(self._records)

    def read(self, row, *into):
        self._read.append(self._name)
        return self._records.read(row, *into)


def test_a_validation_that_was_stopped_is_read_anew():
    batches = placement.held_validation(lambda split, views: iter([{'row': 0}, {'row': 1}]))
    next(iter(batches('val', 1)))
    assert list(batches('val', 1)) == [{'row': 0}, {'row': 1}]
    first, second = list(batches('val', 1)), list(batches('val', 1))
    assert [a is b for a, b in zip(first, second, strict=True)] == [True, True]


def test_images_have_half_of_the_smallest_memory(monkeypatch):
    def mesh(*limits):
        devices = [
            SimpleNamespace(process_index=process, memory_stats=lambda limit=limit: limit)
            for process, limit in limits
        ]
        return SimpleNamespace(devices=np.array(devices, object))

    of_gpus = (0, {'bytes_limit': 1000}), (0, {'bytes_limit': 900}), (1, {'bytes_limit': 10})
    assert device_images.room(mesh(*of_gpus)) == 450
    sizes = {'SC_PAGE_SIZE': 10, 'SC_PHYS_PAGES': 100}
    monkeypatch.setattr(device_images.os, 'sysconf', sizes.__getitem__)
    assert device_images.room(mesh((0, None))) == 500  # a CPU says nothing
    assert device_images.room(mesh((0, None), (0, None))) == 250


def command(workdir, data_dir, *more: str, **settings: str) -> list[str]:
    settings = {'train.steps': '8', 'network.width': '0.5'} | settings
    return [*driver.command(workdir, data_dir, **settings), *more]


def test_images_that_do_not_fit_are_refused(tmp_path, data_dir, monkeypatch, capsys):
    """1297 images of 32 × 32 × 3 bytes, and on each of two data shards 100 of 28 × 28 × 3."""
    monkeypatch.setattr(device_images, 'room', lambda mesh: 4_219_583)
    mesh = {'mesh.data': '2', 'mesh.column': '2'}
    argv = command(tmp_path / 'run', data_dir, '--config.data.placement=device', **mesh)
    assert main.main(argv) == BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert "data.placement is 'device', which takes 4219584 bytes a device for 1297" in line
    assert '1297 training images of 32 pixels a side and 200 validation images of 28;' in line
    assert "allowed: 4219583 bytes, half of a device's memory, or 'host'" in line
    assert not (tmp_path / 'run').exists()


@pytest.mark.thorough
@pytest.mark.parametrize(('mesh', 'source'), [
    pytest.param((1, 1), {}, marks=pytest.mark.slow),
    pytest.param((2, 2), {}, marks=pytest.mark.slow),
    ((2, 2), RGB),
])  # fmt: skip
def test_runs_are_the_same_to_the_bit_and_move_between_placements(mesh, source, tmp_path, data_dir):
    settings = source | {'mesh.data': str(mesh[0]), 'mesh.column': str(mesh[1])}

    def train(name: str, placement: str, steps: int = 8) -> None:
        changes = {'data.placement': placement, 'train.steps': str(steps)}
        assert main.main(command(tmp_path / name, data_dir, **settings | changes)) == DONE

    train('host', 'host')
    train('device', 'device')
    for steps, where in ((3, 'host'), (6, 'device'), (8, 'host')):
        train('moved', where, steps)
    host, device, moved = (driver.rows(tmp_path / name) for name in ('host', 'device', 'moved'))
    assert device == host
    train_rows = [[row for row in rows if row['split'] == 'train'] for rows in (host, moved)]
    assert train_rows[0] == train_rows[1] and len(train_rows[0]) == 8
    expected = arrays(tmp_path / 'host')
    assert len(expected) > 20
    assert arrays(tmp_path / 'device') == arrays(tmp_path / 'moved') == expected


def arrays(workdir) -> dict[str, bytes]:
    """The files of the last checkpoint's arrays."""
    folder = workdir / 'checkpoints' / '8' / 'state'
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for place in folder.rglob('.zarray')
        for path in place.parent.iterdir()
    }


@pytest.mark.slow
def test_two_processes_with_their_images_on_their_devices(tmp_path, data_dir):
    mesh = {'mesh.data': '2', 'mesh.column': '2'}
    for where in ('host', 'device'):
        argv = command(tmp_path / where, data_dir, **mesh | {'data.placement': where})
        ended = several.run(2, argv, devices=2)
        assert [status for status, _, _ in ended] == [DONE] * 2, ended
    assert driver.rows(tmp_path / 'device') == driver.rows(tmp_path / 'host')
    assert arrays(tmp_path / 'device') == arrays(tmp_path / 'host')
