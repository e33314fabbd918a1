"""Four CPU devices, before JAX starts; see `main.py` for PJRT_NPROC.

Tests of a single device also run elsewhere, for example on a GPU: ALEXNET_TEST_PLATFORM=cuda.
"""

import os
import tempfile

# What one test has compiled, the others and their processes need not. Workers of
# pytest-xdist have the folder from the process that started them, and CI gives one.
if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
    _compiled = tempfile.TemporaryDirectory(prefix='alexnet_jax_tests_')
    os.environ['JAX_COMPILATION_CACHE_DIR'] = _compiled.name
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.5'
os.environ['JAX_PLATFORMS'] = os.environ.get('ALEXNET_TEST_PLATFORM', 'cpu')
if os.environ['JAX_PLATFORMS'] == 'cpu':
    os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=4'
    os.environ['PJRT_NPROC'] = '8'

import jax
import numpy as np
import pytest

from alexnet_jax.data import image_set
from alexnet_jax.data.prepare import stored
from alexnet_jax.network import platforms

jax.devices()  # of commands called by a test, none starts JAX with devices of its own


@pytest.fixture(autouse=True)
def same_environment():
    """Commands called by a test set what JAX reads when it starts: not for the next test."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope='session')
def data_dir(tmp_path_factory) -> str:
    """Where the tests prepare their sets: never the user's own folder."""
    return str(tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='session')
def digits(data_dir) -> image_set.ImageSet:
    return stored.digits(32, data_dir)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def tpu_forms():
    """Operations take the form for TPU, here computed on the CPU."""
    with platforms.traced_for('tpu'):
        yield


@pytest.fixture(params=['default', 'tpu'])
def every_form(request):
    """Operations take each of their forms."""
    if request.param == 'tpu':
        request.getfixturevalue('tpu_forms')


@pytest.fixture(scope='module')
def quickly():
    """Of modules that run nothing for long: less is done for it when it is compiled."""
    jax.config.update('jax_disable_most_optimizations', True)
    yield
    jax.config.update('jax_disable_most_optimizations', False)


@pytest.fixture
def x64():
    """JAX has float64."""
    with jax.enable_x64(True):
        yield
