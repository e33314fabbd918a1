"""Initial values from another run: which layers, whose values, and what is refused."""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import Mesh
from safetensors.numpy import save_file

from alexnet_jax.errors import InputError
from alexnet_jax.network import columns, inference
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.layers import (
    Architecture,
    BatchNorm,
    Conv,
    Dense,
    MaxPool,
    Output,
    Relu,
)
from alexnet_jax.training import start, step
from alexnet_jax.training.checkpoint import Checkpoints

STAGES = (Relu(), BatchNorm(), MaxPool())
ROWS = (Conv('conv1', 8, 3, then=STAGES), Conv('conv2', 8, 3, reads_all=True), Dense('fc3', 16))
TINY = Architecture('tiny', 12, 2, ROWS, Output('fc4'))
DEEPER = Architecture(
    'deeper', 12, 2,
    (*ROWS[:2], Conv('conv2b', 8, 3, padding=(1, 1), reads_all=True), ROWS[2]), Output('fc4'),
)  # fmt: skip


@functools.cache
def state_of(net: Architecture, classes: int = 10, seed: int = 0, mesh: Mesh | None = None):
    """A state at step 0 with values from NumPy, which need no compiling."""
    module, random = AlexNet(net, classes), np.random.default_rng(seed)
    variables = jax.tree.map(
        lambda like: random.standard_normal(like.shape).astype(np.float32),
        inference.variable_shapes(module),
    )
    state = step.start_from(variables['params'], variables['batch_stats'])
    return jax.device_put(state, step.state_shardings(module, mesh or columns.make_mesh()))


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    """A run of `tiny` with 20 classes, two checkpoints, nothing at its initial value."""
    workdir = tmp_path_factory.mktemp('run')
    checkpoints = Checkpoints(workdir / 'checkpoints', keep=2)
    for number in (3, 7):
        state = jax.tree.map(lambda x: x + number, state_of(TINY, 20, seed=1))  # noqa: B023
        checkpoints.save(state.replace(step=np.int32(number)))
    checkpoints.wait()
    checkpoints.close()
    return workdir


def same(one, other) -> bool:
    equal = jax.tree.map(lambda a, b: np.array_equal(np.asarray(a), np.asarray(b)), one, other)
    return all(jax.tree.leaves(equal))


def test_named_layers_come_from_the_last_checkpoint_and_no_others(workdir):
    own, theirs = state_of(TINY), state_of(TINY, 20, seed=1)
    state, told = start.take(own, start.read(workdir), ['conv1', 'fc3'], workdir)
    for layer in ('conv1', 'conv1_norm', 'fc3'):
        assert same(state.params[layer], jax.tree.map(lambda x: x + 7, theirs.params[layer]))
    moved = jax.tree.map(lambda x: x + 7, theirs.batch_stats['conv1_norm'])
    assert same(state.batch_stats['conv1_norm'], moved)
    for layer in ('conv2', 'fc4'):
        assert same(state.params[layer], own.params[layer])
    assert same((state.step, state.momentum), (own.step, own.momentum))
    assert 'took conv1, conv1_norm, fc3' in told
    assert 'conv2 (not asked for), fc4 (not asked for)' in told


def test_a_layer_that_only_the_net_has_keeps_its_own_values(workdir):
    """The six-convolution net began so (§6)."""
    own = state_of(DEEPER, 20)
    state, told = start.take(own, start.read(workdir), [], workdir)
    assert same(state.params['conv2b'], own.params['conv2b'])
    assert not same(state.params['fc4'], own.params['fc4'])
    assert 'not taken: conv2b (not there)' in told


def test_one_of_the_checkpoints_may_be_named(workdir):
    first = start.read(workdir / 'checkpoints' / '3')
    last = start.read(workdir)
    difference = np.asarray(last['conv2']['kernel']) - first['conv2']['kernel']
    np.testing.assert_allclose(difference, 4, rtol=1e-5)


def test_safetensors(tmp_path, random):
    path = tmp_path / 'weights.safetensors'
    kernel = random.standard_normal((2, 3, 3, 8, 4)).astype(np.float32)
    bias = random.standard_normal((2, 4)).astype(np.float32)
    save_file({'conv2/kernel': kernel, 'conv2/bias': bias}, path)
    state, told = start.take(state_of(TINY), start.read(path), [], path)
    assert same(state.params['conv2'], {'kernel': kernel, 'bias': bias})
    assert 'took conv2;' in told
    # On two devices each has its own column.
    split = state_of(TINY, mesh=columns.make_mesh(1, 2))
    state, _ = start.take(split, start.read(path), ['conv2'], path)
    shards = state.params['conv2']['kernel'].addressable_shards
    assert [shard.data.shape[0] for shard in shards] == [1, 1]
    assert same(state.params['conv2']['kernel'], kernel)


def test_other_shapes_are_refused_with_both(workdir):
    with pytest.raises(
        InputError, match=r'fc4/bias is \(20,\) in .*\(10,\) in the net.*start.layers'
    ):
        start.take(state_of(TINY), start.read(workdir), [], workdir)
    with pytest.raises(InputError, match=r'conv2b/bias is not there'):
        start.take(state_of(DEEPER), start.read(workdir), ['conv2b'], workdir)


def test_what_cannot_be_read_is_refused(workdir, tmp_path):
    for name, message in [
        ('nowhere', "start.from is '.*nowhere'; allowed: a workdir"),
        ('missing.safetensors', 'cannot be read as safetensors'),
        ('cut.safetensors', 'cannot be read as safetensors'),
        ('odd.safetensors', "holds 'weight'; allowed: LAYER/PART"),
    ]:
        path = tmp_path / name
        if name.startswith(('cut', 'odd')):
            save_file({'weight': np.zeros(3, np.float32)}, path)
        if name.startswith('cut'):
            path.write_bytes(path.read_bytes()[:20])
        with pytest.raises(InputError, match=message):
            start.read(path)
    with pytest.raises(InputError, match='allowed: a workdir'):
        start.read(workdir / 'checkpoints' / '5')
    (tmp_path / 'checkpoints' / '5').mkdir(parents=True)
    with pytest.raises(
        InputError, match=r'no checkpoint in .* is whole: .*/5/manifest.json is missing'
    ):
        start.read(tmp_path)
    other = tmp_path / 'other.safetensors'
    save_file({'stem/kernel': np.zeros(3, np.float32)}, other)
    with pytest.raises(InputError, match='has no layer of the net; has: stem'):
        start.take(state_of(TINY), start.read(other), [], other)
