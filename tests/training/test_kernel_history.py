"""conv1's kernels on disk: what is there is read, and what is something else left out."""

import os

import numpy as np
import pytest

from alexnet_jax.runtime.errors import StorageError
from alexnet_jax.training import kernel_history


def test_kernels_come_back_by_step_and_all_else_is_left_out(tmp_path, random):
    folder, kernel = tmp_path / 'kernels', random.normal(size=(2, 3, 3, 3, 4)).astype(np.float32)
    for step in (0, 41, 82):
        kernel_history.keep(folder, step, kernel + step)
    os.mkfifo(folder / '00000001.npy')
    (folder / '00000002.npy').mkdir()
    (folder / '00000003.npy').symlink_to(folder / '00000003.npy')
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000, 1, 3, 4), }\n"
    content = b'\x93NUMPY\x01\x00' + len(header).to_bytes(2, 'little') + header.encode()
    (folder / '00000004.npy').write_bytes(content)
    for step, other in enumerate(
        (kernel[0], kernel * np.nan, kernel.astype(int), kernel.astype(complex), kernel.astype(str)), 5
    ):  # fmt: skip
        np.save(folder / f'{step:08}.npy', other)
    np.savez(folder / '00000010.npz', kernel)
    (folder / '00000010.npz').rename(folder / '00000010.npy')
    (folder / '00000011.npy').write_bytes((folder / '00000041.npy').read_bytes()[:-1])
    found = kernel_history.read(folder, 41)
    assert list(found) == [0, 41]
    np.testing.assert_array_equal(found[41], kernel + 41)


def test_a_link_is_not_written_through_and_a_workdir_that_is_gone_not_made(tmp_path):
    (tmp_path / 'other').write_text('of somebody')
    (tmp_path / 'kernels').mkdir()
    (tmp_path / 'kernels' / '00000003.npy').symlink_to(tmp_path / 'other')
    kernel_history.keep(tmp_path / 'kernels', 3, np.ones((1, 1, 1, 3, 1), np.float32))
    assert (tmp_path / 'other').read_text() == 'of somebody'
    with pytest.raises(StorageError, match='cannot be written: No such file'):
        kernel_history.keep(tmp_path / 'gone' / 'kernels', 3, np.ones((1, 1, 1, 3, 1)))
    assert not (tmp_path / 'gone').exists()
