"""Files of features: rows that are appended, kills at each moment, folders of others."""

import fcntl
from pathlib import Path

import numpy as np
import pytest

from alexnet_jax.evaluation import arrays, feature_files
from alexnet_jax.evaluation.feature_files import FeatureFiles
from alexnet_jax.runtime.errors import InputError


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_partial_folder_of_another_command_is_kept(tmp_path):
    shapes = {'fc8': (2,)}
    begun = FeatureFiles(tmp_path / 'out', {'layers': ['fc8']}, shapes, 'float32')
    begun.add(['a'], np.array([-1]), {'fc8': np.zeros((1, 2), np.float32)}, {})
    with pytest.raises(InputError, match='another process writes to'):
        FeatureFiles(tmp_path / 'out', {'layers': ['fc8']}, shapes, 'float32')
    begun.close()
    with pytest.raises(InputError, match=r'out\.partial is of another command: layers differ'):
        FeatureFiles(tmp_path / 'out', {'layers': ['fc7']}, shapes, 'float32')
    assert FeatureFiles(tmp_path / 'out', {'layers': ['fc8']}, shapes, 'float32').state.rows == 1


def test_rows_after_the_saved_state_are_dropped(tmp_path):
    """As a kill between two saves leaves them."""
    request, shapes = {'layers': ['fc8']}, {'fc8': (2,)}
    files = FeatureFiles(tmp_path / 'out', request, shapes, 'float32')
    rows = np.arange(12, dtype=np.float32).reshape(6, 2)
    files.add(['a', 'b'], np.array([-1, -1]), {'fc8': rows[:2]}, {})
    files.save()
    files.add(['c'], np.array([-1]), {'fc8': rows[2:3]}, {})
    for file in files._files.values():
        file.flush()
    fcntl.flock(files._lock, fcntl.LOCK_UN)
    again = FeatureFiles(tmp_path / 'out', request, shapes, 'float32')
    assert (again.state.images, again.state.rows) == (2, 2)
    again.add(['d', 'e'], np.array([3, -1]), {'fc8': rows[4:]}, {'e': 'is broken'})
    again.finish('npy')
    kept = arrays.read(tmp_path / 'out')
    assert kept.ids == ['a', 'b', 'd']
    assert kept.labels.tolist() == [-1, -1, 3]
    assert kept.array('fc8').tolist() == [[0, 1], [2, 3], [8, 9]]
    assert kept.about['skipped'] == [['e', 'is broken']]


@pytest.mark.parametrize('form', feature_files.FORMS)
@pytest.mark.parametrize('place', ['rename', 'unlink'])
def test_a_command_that_is_killed_while_it_finishes_goes_on(form, place, tmp_path, monkeypatch):
    """Before the folder has its name; and after, with files of the partial folder left in it."""
    request, shapes = {'layers': ['fc8']}, {'fc8': (2,)}
    rows = {'fc8': np.arange(6, dtype=np.float32).reshape(3, 2)}
    for name in ('once', 'killed'):
        files = FeatureFiles(tmp_path / name, request, shapes, 'float32')
        files.add(['a', 'b', 'c'], np.array([-1, 0, 1]), rows, {})
        if name == 'once':
            files.finish(form)
    with monkeypatch.context() as patched:
        patched.setattr(Path, place, kill)
        with pytest.raises(KeyboardInterrupt):
            files.finish(form)
    again = FeatureFiles(tmp_path / 'killed', request, shapes, 'float32')
    if place == 'rename':
        assert again.state.images == 3
    else:
        again.add(['a', 'b', 'c'], np.array([-1, 0, 1]), rows, {})
    again.finish(form)
    once, killed = content(tmp_path / 'once'), content(tmp_path / 'killed')
    assert once.keys() == killed.keys()
    assert once == killed


@pytest.mark.parametrize('written', [b'', b'half a header'])
def test_a_command_that_is_killed_while_it_begins_goes_on(written, tmp_path, monkeypatch):
    arguments = {'layers': ['fc8']}, {'fc8': (2,)}, 'float32'
    with monkeypatch.context() as patched:
        patched.setattr(FeatureFiles, '_open', kill)
        with pytest.raises(KeyboardInterrupt):
            FeatureFiles(tmp_path / 'killed', *arguments)
    (tmp_path / 'killed.partial' / 'fc8.npy').write_bytes(written)
    for name in ('once', 'killed'):
        files = FeatureFiles(tmp_path / name, *arguments)
        files.add(['a'], np.array([-1]), {'fc8': np.ones((1, 2), np.float32)}, {})
        files.finish('npy')
    assert content(tmp_path / 'once') == content(tmp_path / 'killed')


def kill(*arguments, missing_ok: bool = False) -> None:
    if not missing_ok:  # of temporary files, while the state is saved
        raise KeyboardInterrupt


def test_a_folder_of_somebody_else_s_is_not_written_into(tmp_path):
    (tmp_path / 'out.partial').mkdir()
    (tmp_path / 'out.partial' / 'fc8.npy').write_bytes(b'mine')
    with pytest.raises(InputError, match='is there and holds something else'):
        FeatureFiles(tmp_path / 'out', {}, {'fc8': (2,)}, 'float32')
    assert (tmp_path / 'out.partial' / 'fc8.npy').read_bytes() == b'mine'


def test_a_number_that_float16_cannot_hold_is_refused(tmp_path):
    files = FeatureFiles(tmp_path / 'out', {}, {'fc8': (2,)}, 'float16')
    with pytest.raises(InputError, match=r'fc8 of b has 70000, which float16 cannot hold'):
        files.add(['a', 'b'], np.zeros(2), {'fc8': np.array([[1, 2], [3, -7e4]], np.float32)}, {})
