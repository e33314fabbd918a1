from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from alexnet_jax.network import collectives, device_mesh
from alexnet_jax.runtime.errors import InputError


def mesh_of(processes: list[list[int]]):
    """A stand-in for a mesh: which process holds the device at [data, column]."""
    devices = np.array([[SimpleNamespace(process_index=p) for p in row] for row in processes])
    return SimpleNamespace(devices=devices)


@pytest.mark.parametrize(('processes', 'expected'), [
    ([[0, 0], [0, 0]], {0: (0, 12)}),
    ([[0, 0], [1, 1]], {0: (0, 6), 1: (6, 12)}),
    # A pair of columns over two processes: both make the same rows.
    ([[0, 1]], {0: (0, 12), 1: (0, 12)}),
    ([[0, 1], [2, 3]], {0: (0, 6), 1: (0, 6), 2: (6, 12), 3: (6, 12)}),
    ([[0], [0], [1], [1], [2], [2]], {0: (0, 4), 1: (4, 8), 2: (8, 12)}),
])  # fmt: skip
def test_the_rows_a_process_has_to_make(processes, expected, monkeypatch):
    for process, (first, last) in expected.items():
        monkeypatch.setattr(jax, 'process_index', lambda process=process: process)
        assert device_mesh.rows_here(mesh_of(processes), 12) == slice(first, last)


def test_a_batch_is_split_over_data_and_the_same_over_columns():
    mesh = device_mesh.make_mesh(2, 2)
    batch = {'label': np.arange(8, dtype=np.int32)}
    placed = device_mesh.place_batch(mesh, batch)['label']
    np.testing.assert_array_equal(placed, batch['label'])
    for shard in placed.addressable_shards:
        row, _ = np.argwhere(mesh.devices == shard.device)[0]
        np.testing.assert_array_equal(shard.data, batch['label'][4 * row : 4 * row + 4])


@pytest.mark.parametrize(('held', 'devices'), [(2, 4), (1, 2), (2, 3)])
def test_a_mesh_that_cannot_share_the_columns_is_named(held, devices):
    whole = PartitionSpec()
    with pytest.raises(InputError) as raised:
        jax.shard_map(
            lambda x: x * collectives.columns_held(held, device_mesh.COLUMN),
            mesh=device_mesh.make_mesh(1, devices), in_specs=whole, out_specs=whole,
        )(np.zeros(3))  # fmt: skip
    allowed = f'allowed: a divisor of the {held} column{"s" * (held > 1)}'
    assert str(raised.value) == f'mesh.column is {devices}; {allowed}'
