"""Trained nets on the digits."""

import shutil

import pytest

from tests import random_run


@pytest.fixture(scope='session')
def runs(data_dir, tmp_path_factory):
    """Two workdirs of nets on the digits, half as wide."""
    folder = tmp_path_factory.mktemp('runs')
    settings = {'data.dir': data_dir, 'network.width': '0.5'}
    for seed in (0, 1):
        random_run.make(folder / str(seed), settings, seed)
    return folder


@pytest.fixture
def workdir(runs, tmp_path):
    return shutil.copytree(runs / '0', tmp_path / 'run')
