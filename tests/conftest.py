"""Four CPU devices, before JAX starts; see `main.py` for PJRT_NPROC."""

import os

os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=4'
os.environ['PJRT_NPROC'] = '8'
os.environ['JAX_PLATFORMS'] = 'cpu'

import numpy as np
import pytest

from alexnet_jax.data import prepare


@pytest.fixture(scope='session')
def data_dir(tmp_path_factory) -> str:
    """Where the tests prepare their sets: never the user's own folder."""
    return str(tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='session')
def digits(data_dir) -> prepare.ImageSet:
    return prepare.digits(32, data_dir)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)
