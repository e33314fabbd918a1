"""A small state, and checkpoints of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.network import device_mesh
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.architectures import SMALL
from alexnet_jax.training import step
from alexnet_jax.training.checkpoint import Checkpoints

NET = AlexNet(SMALL, 10)


@pytest.fixture(scope='module')
def first_state():
    return step.create_state(NET, 0, device_mesh.make_mesh())


@pytest.fixture
def state(first_state):
    return jax.tree.map(jnp.copy, first_state)


def like(shape=(1, 1), exchange='gather'):
    return step.abstract_state(AlexNet(SMALL, 10, exchange=exchange), device_mesh.make_mesh(*shape))


def saved(folder, states, keep=1, **errors):
    """Each of the states saved in the folder, one after the other."""
    checkpoints = Checkpoints(folder, keep)
    for each in states:
        checkpoints.save(each, errors.get(f'at_{int(each.step)}'))
    checkpoints.wait()
    return checkpoints


def at(state, number):
    return state.replace(step=np.int32(number))


@pytest.fixture
def two(state, tmp_path):
    saved(tmp_path, [at(state, 3), at(state, 6)], keep=2)
    return tmp_path
