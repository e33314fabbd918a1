"""A folder holds what its manifest names, and nothing else."""

import hashlib
import json
import os
import shutil

import pytest

from alexnet_jax.training import manifest
from alexnet_jax.training.manifest import DamagedError


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / '3'
    (folder / 'state' / 'array').mkdir(parents=True)
    for name, content in {'a': b'', 'state/b': b'xyz', 'state/array/0.0': b'\0' * 8}.items():
        (folder / name).write_bytes(content)
    manifest.write(folder, {'step': 3, 'top1_error': 0.25})
    return folder


def pipe(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def in_place_of(path):
    path.unlink()
    path.mkdir()


def folder_by_link(path):
    outside = path.parents[3] / 'elsewhere'
    shutil.move(path.parent, outside)
    path.parent.symlink_to(outside)


@pytest.mark.parametrize(('damage', 'message'), [
    (lambda folder: (folder / 'state' / 'c').write_text(''), 'state/c is not in the manifest'),
    (lambda folder: (folder / 'state' / 'array' / '0.1').write_text(''), '0.1 is not in the manifest'),
    (lambda folder: pipe(folder / 'new'), 'new is not in the manifest'),
    (lambda folder: (folder / 'new').symlink_to('/etc'), 'new is not in the manifest'),
    (lambda folder: (folder / 'new').symlink_to('new'), 'new is not in the manifest'),
    (lambda folder: (folder / 'a').unlink(), 'a is missing'),
    (lambda folder: pipe(folder / 'a'), 'a cannot be read: it is not a regular file'),
    (lambda folder: pipe(folder / 'state' / 'b'), 'b cannot be read: it is not a regular file'),
    (lambda folder: in_place_of(folder / 'a'), 'a cannot be read: Is a directory'),
    (lambda folder: (folder / 'state' / 'b').write_text('xy'), 'b has 2 bytes, not 3'),
    (lambda folder: (folder / 'state' / 'b').write_text('xyy'), r'b was modified \(SHA'),
    (lambda folder: folder_by_link(folder / 'state' / 'array' / '0.0'), 'array is not in the manifest'),
    (lambda folder: pipe(folder / 'manifest.json'), 'manifest.json cannot be read'),
    (lambda folder: in_place_of(folder / 'manifest.json'), 'manifest.json cannot be read'),
    (lambda folder: (folder / 'manifest.json').write_text('[1]'), 'manifest.json cannot be read'),
    (lambda folder: (folder / 'manifest.json').write_text('[' * 10**5), 'cannot be read'),
    (lambda folder: (folder / 'manifest.json').write_text('{"sha256": 1, "sha256": 1}'), 'cannot be read'),
])  # fmt: skip
def test_damage_is_named(damage, message, folder):
    assert manifest.verify(folder)['top1_error'] == 0.25
    damage(folder)
    with pytest.raises(DamagedError, match=message):
        manifest.verify(folder)


def restate(folder, changes):
    """Writes a manifest that says something else, with its digest."""
    path = folder / manifest.NAME
    tree = json.loads(path.read_text()) | changes
    tree.pop('sha256')
    digest = hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(tree | {'sha256': digest}))


@pytest.mark.parametrize('changes', [
    {'step': '3'}, {'step': None}, {'top1_error': 'low'}, {'top1_error': [1]}, {'top1_error': True},
    {'files': None}, {'files': ['a']}, {'files': {'a': 3}},
    {'files': {'a': {'bytes': '0', 'sha256': ''}}}, {'files': {'a': {'bytes': 0}}},
])  # fmt: skip
def test_a_manifest_of_other_things_is_none(changes, folder):
    """Though its own digest fits."""
    restate(folder, changes)
    with pytest.raises(DamagedError, match='is no manifest of a checkpoint'):
        manifest.read(folder)


@pytest.mark.parametrize('size', [-1, 2**70])
def test_sizes_are_compared(size, folder):
    files = json.loads((folder / manifest.NAME).read_text())['files']
    restate(folder, {'files': files | {'a': files['a'] | {'bytes': size}}})
    with pytest.raises(DamagedError, match=f'a has 0 bytes, not {size}'):
        manifest.verify(folder)
