import errno
import json
import os
import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from alexnet_jax.runtime.errors import InputError, NotFiniteError, StorageError
from alexnet_jax.training import checkpoint, checkpoint_reader, manifest
from alexnet_jax.training.checkpoint import Checkpoints
from alexnet_jax.training.checkpoint_reader import newest_intact, read_layers
from tests.training.conftest import at, like, saved
from tests.training.test_checkpoint_reader import pytestmark, rewritten  # noqa: F401 (both warn alike)


def test_keeps_the_best_and_the_last(state, tmp_path):
    errors = {'at_1': 0.5, 'at_2': 0.2, 'at_3': 0.4, 'at_5': 0.3}
    saved(tmp_path, [at(state, number) for number in range(1, 7)], keep=2, **errors)
    assert checkpoint_reader.steps(tmp_path) == [2, 5, 6]
    saved(tmp_path, [at(state, 7)], keep=2)
    assert checkpoint_reader.steps(tmp_path) == [2, 6, 7]


def test_a_step_saved_again_takes_the_place_of_the_first(state, tmp_path):
    other = state.replace(plateau=state.plateau.replace(stale=np.int32(5)))
    saved(tmp_path, [at(state, 3)])
    checkpoints = saved(tmp_path, [at(other, 3)], at_3=0.25)
    assert checkpoint_reader.steps(tmp_path) == [3]
    assert int(checkpoints.restore(3, like()).plateau.stale) == 5
    assert manifest.verify(tmp_path / '3')['top1_error'] == 0.25


@pytest.mark.parametrize('last', [True, False], ids=['killed', 'failing'])
def test_what_was_to_be_replaced_is_not_lost(last, state, tmp_path, monkeypatch):
    """Between its own rename and that of its successor: the process ends, or the disk fails."""
    saved(tmp_path, [at(state, 3)])
    rename = os.rename

    def second_fails(source, target):
        if str(source).endswith(f'{checkpoint.PARTIAL}/3'):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target)

    checkpoints = Checkpoints(tmp_path)
    monkeypatch.setattr(os, 'rename', second_fails)
    if last:  # nothing is cleared up
        monkeypatch.setattr(Checkpoints, '_clear', lambda self: None)
    with pytest.raises(StorageError, match='Input/output error'):
        checkpoints.save(at(state, 3), 0.5)
        checkpoints.wait()
    monkeypatch.undo()
    assert checkpoint_reader.steps(tmp_path) == ([] if last else [3])
    chex.assert_trees_all_equal(Checkpoints(tmp_path).restore(3, like()), at(state, 3))
    assert [path.name for path in tmp_path.iterdir()] == ['3']


@pytest.mark.thorough
def test_restores_bit_for_bit_on_any_mesh(state, tmp_path):
    changed = state.replace(
        step=np.int32(9),
        plateau=state.plateau.replace(best_error=np.float32(0.25), stale=np.int32(2)),
        momentum=jax.tree.map(lambda x: x + 0.5, state.momentum),
    )
    checkpoints = saved(tmp_path, [changed])
    for shape, exchange in [((1, 1), 'gather'), ((2, 2), 'scatter'), ((4, 1), 'gather')]:
        restored = checkpoints.restore(9, like(shape, exchange))
        chex.assert_trees_all_equal(restored, changed)
        kernel = restored.params['conv1']['kernel']
        assert len(kernel.sharding.device_set) == shape[0] * shape[1]
        checkpoints = saved(tmp_path / exchange / str(shape[0]), [restored])


@pytest.mark.filterwarnings('ignore:Sharding info not provided')
def test_orbax_itself_reads_it(state, tmp_path):
    saved(tmp_path, [at(state, 4)])
    with ocp.CheckpointManager(tmp_path, item_names=('state', 'config')) as manager:
        assert manager.latest_step() == 4
        args = ocp.args.Composite(state=ocp.args.PyTreeRestore(), config=ocp.args.JsonRestore())
        restored = manager.restore(4, args=args)
    chex.assert_trees_all_equal(restored['state']['params'], state.params)


def test_the_state_may_be_given_away_while_it_is_saved(state, tmp_path):
    """As the next step does: what is saved is what there was."""
    before = jax.device_get(state)
    overwrite = jax.jit(lambda x: jax.tree.map(lambda a: a + jnp.ones_like(a), x), donate_argnums=0)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(at(state, 2))
    after = overwrite(state)
    for _ in range(20):
        after = overwrite(after)
    checkpoints.wait()
    chex.assert_trees_all_equal(checkpoints.restore(2, like()).params, before.params)


def test_a_state_that_is_not_finite_is_not_saved(state, tmp_path):
    checkpoints = saved(tmp_path, [at(state, 1)])
    for tree in ('params', 'momentum'):
        flat, form = jax.tree.flatten(getattr(state, tree))
        flat[-1] = flat[-1].at[(0,) * flat[-1].ndim].set(np.inf)
        bad = at(state.replace(**{tree: jax.tree.unflatten(form, flat)}), 2)
        with pytest.raises(NotFiniteError, match='weights after step 2'):
            checkpoints.save(bad)
    checkpoints.wait()
    assert checkpoint_reader.steps(tmp_path) == [1]


def test_a_changed_error_in_the_manifest_shows(two):
    path = two / '6' / manifest.NAME
    path.write_text(path.read_text().replace('"top1_error": null', '"top1_error": 0.0'))
    with pytest.raises(manifest.DamagedError, match='was modified'):
        manifest.read(two / '6')


def restate(two, **changes):
    """Changes what the file of conv1's biases states of them."""
    array = two / '6' / 'state' / 'params.conv1.bias' / '.zarray'
    array.write_text(json.dumps(json.loads(array.read_text()) | changes))
    rewritten(two / '6')


def assert_refused(two, message):
    """Both as the state of a run and as layers of any net."""
    for read in (lambda: Checkpoints(two).restore(6, like()), lambda: read_layers(two, 6)):
        with pytest.raises(InputError, match=message):
            read()


@pytest.mark.parametrize('shape', [[10**9, 10**9], [2, 17], [2]])
def test_other_shapes_than_the_net_has_are_refused_before_anything_is_read(two, shape):
    restate(two, shape=shape, chunks=shape)
    with pytest.raises(InputError, match=r'conv1/bias is float32\[.*float32\[2, 16\] in this'):
        Checkpoints(two).restore(6, like())
    if shape != [2]:
        with pytest.raises(InputError, match=r'chunk 0.0 has 128 bytes|no checkpoint of this'):
            read_layers(two, 6)


def test_another_type_is_refused_not_cast(two):
    restate(two, dtype='<i4')
    with pytest.raises(InputError, match=r'params/conv1/bias is int32\[2, 16\]'):
        Checkpoints(two).restore(6, like())


@pytest.mark.parametrize('when', ['write', 'publish'])
def test_a_save_that_fails_is_told_and_the_others_are_whole(when, state, tmp_path, monkeypatch):
    saved(tmp_path, [at(state, 1)])
    checkpoints = Checkpoints(tmp_path)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if when == 'publish':
        monkeypatch.setattr(manifest, 'write', full)
    else:
        monkeypatch.setattr(os, 'mkdir', full)
    printed = (
        r'step 2, \d+ bytes, cannot be written to .*: No space left .* \d+ bytes free\n.*step 1'
    )
    with pytest.raises(StorageError, match=printed):
        checkpoints.save(at(state, 2))
        checkpoints.wait()
    monkeypatch.undo()
    assert newest_intact(tmp_path) == (1, [])
    assert [path.name for path in tmp_path.iterdir()] == ['1']
    checkpoints.save(at(state, 2))
    checkpoints.wait()
    assert newest_intact(tmp_path) == (2, [])


def test_a_folder_that_was_taken_away_is_not_made_anew(state, tmp_path):
    saved(tmp_path / 'run', [at(state, 1)])
    checkpoints = Checkpoints(tmp_path / 'run')
    shutil.rmtree(tmp_path / 'run')
    with pytest.raises(StorageError, match='the folder does not exist'):
        checkpoints.save(at(state, 2))
        checkpoints.wait()
    assert not (tmp_path / 'run').exists()


@pytest.mark.thorough
@pytest.mark.parametrize(('changes', 'message'), [
    ({'compressor': {'id': 'zlib', 'level': 9}}, 'compressor is'),
    ({'compressor': {'id': 'blosc'}}, r'compressor is|no checkpoint of this program'),
    ({'filters': [{'id': 'delta'}]}, r'filters is|no checkpoint of this program'),
    ({'order': 'F'}, 'order is'),
    ({'fill_value': 0.0}, 'fill_value is'),
    ({'fill_value': 'NaN'}, 'fill_value is'),
    ({'dtype': '>f4'}, r'dtype is .>f4'),
    ({'dimension_separator': '/'}, 'dimension_separator is'),
    ({'chunks': [1, 16]}, r'it has 1 chunk, not 2'),
    ({'chunks': [2, 8]}, r'it has 1 chunk, not 2'),
    ({'chunks': [2**31, 2**31]}, r'no checkpoint of this program: .*chunk'),
])  # fmt: skip
def test_an_array_stored_in_another_way_is_refused(changes, message, two):
    """Though the manifest fits: some would be other numbers, some a bomb."""
    restate(two, **changes)
    assert_refused(two, message)


@pytest.mark.thorough
@pytest.mark.parametrize('name', ['params.conv1.bias/0.0', 'params.fc8.bias/0', 'params.conv2.kernel/0.0.0.0.0'])  # fmt: skip
@pytest.mark.parametrize('how', ['missing', 'short', 'long', 'one more'])
def test_a_chunk_that_is_not_whole_is_refused_and_not_read_as_zeros(name, how, two):
    """Though the manifest fits."""
    chunk = two / '6' / 'state' / name
    content = chunk.read_bytes()
    match how:
        case 'missing':
            chunk.unlink()
        case 'one more':
            chunk.with_name(chunk.name[:-1] + '1').write_bytes(content)
        case _:
            chunk.write_bytes(content[:-4] if how == 'short' else content + bytes(4))
    rewritten(two / '6')
    assert_refused(two, r'chunk|no checkpoint of this program')
