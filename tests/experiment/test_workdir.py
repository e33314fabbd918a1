"""The lock of a workdir: one run at a time, and no file of somebody else's is touched."""

import os

import pytest

from alexnet_jax.experiment.workdir import LOCK, locked
from alexnet_jax.runtime.errors import InputError


def test_another_is_kept_out(tmp_path):
    with locked(tmp_path / 'run'):
        with pytest.raises(InputError, match=rf'is in use by process {os.getpid()} on '), locked(tmp_path / 'run'):  # fmt: skip
            pass
        assert (tmp_path / 'run' / LOCK).read_text().startswith(f'process {os.getpid()} on ')
    with locked(tmp_path / 'run'):
        pass


@pytest.mark.parametrize('kind', ['link', 'loop', 'pipe', 'folder', 'device'])
def test_a_lock_that_is_no_file_is_refused(kind, tmp_path):
    """A link's target would be emptied, a pipe waited for."""
    (tmp_path / 'other').write_text('of somebody')
    lock = tmp_path / 'run' / LOCK
    lock.parent.mkdir()
    match kind:
        case 'link':
            lock.symlink_to(tmp_path / 'other')
        case 'loop':
            lock.symlink_to(lock)
        case 'pipe':
            os.mkfifo(lock)
        case 'folder':
            lock.mkdir()
        case 'device':
            lock.symlink_to('/dev/zero')
    with pytest.raises(InputError, match='cannot be written'), locked(tmp_path / 'run'):
        pass
    assert (tmp_path / 'other').read_text() == 'of somebody'
