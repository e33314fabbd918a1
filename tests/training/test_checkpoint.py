import jax
import numpy as np
import pytest

from alexnet_jax.errors import InputError
from alexnet_jax.network import columns
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.architectures import SMALL
from alexnet_jax.training import step
from alexnet_jax.training.checkpoint import Checkpoints, read_layers

NET = AlexNet(SMALL, 10)


@pytest.fixture
def state():
    return step.create_state(NET, 0, columns.make_mesh())


def test_keeps_the_best_and_the_last(state, tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    errors = {1: 0.5, 2: 0.2, 3: 0.4, 4: None, 5: 0.3, 6: None}
    for number, error in errors.items():
        checkpoints.save(state.replace(step=np.int32(number)), {}, error)
    assert checkpoints.steps() == [2, 5, 6]
    checkpoints.close()
    assert Checkpoints(tmp_path, keep=2).steps() == [2, 5, 6]


def test_restores_bit_for_bit_on_any_mesh(state, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    changed = state.replace(
        step=np.int32(9),
        plateau=state.plateau.replace(best_error=np.float32(0.25), stale=np.int32(2)),
        momentum=jax.tree.map(lambda x: x + 0.5, state.momentum),
    )
    checkpoints.save(changed, {'seed': 1})
    for shape, exchange in [((1, 1), 'gather'), ((2, 2), 'scatter'), ((4, 1), 'gather')]:
        net = AlexNet(SMALL, 10, exchange=exchange)
        like = step.abstract_state(net, columns.make_mesh(*shape))
        restored = checkpoints.restore(like)
        jax.tree.map(
            np.testing.assert_array_equal, jax.device_get(restored), jax.device_get(changed)
        )
        kernel = restored.params['conv1']['kernel']
        assert len(kernel.sharding.device_set) == shape[0] * shape[1]
        checkpoints.close()
        checkpoints = Checkpoints(tmp_path / exchange / str(shape[0]))
        checkpoints.save(restored, {})


def test_reading_leaves_alone_what_another_process_is_saving(state, tmp_path):
    Checkpoints(tmp_path).save(state.replace(step=np.int32(3)), {})
    begun = tmp_path / '4.orbax-checkpoint-tmp'
    begun.mkdir()
    layers, found = read_layers(tmp_path)
    assert found == 3
    jax.tree.map(np.testing.assert_array_equal, layers, jax.device_get(state.params))
    assert begun.exists()
    successor = Checkpoints(tmp_path)
    assert successor.steps() == [3]
    successor.save(state.replace(step=np.int32(5)), {})
    successor.close()
    assert not begun.exists()  # a run that takes the folder over clears up


def test_a_missing_step_is_named_with_those_there_are(state, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(InputError, match='holds no checkpoint'):
        checkpoints.restore(state)
    with pytest.raises(InputError, match='holds no checkpoint'):
        read_layers(tmp_path)
    checkpoints.save(state.replace(step=np.int32(3)), {})
    with pytest.raises(InputError, match=r'step is 5; .* holds: 3'):
        read_layers(tmp_path, 5)
