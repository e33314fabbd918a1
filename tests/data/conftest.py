"""A small prepared set in both encodings."""

import shutil
from pathlib import Path

import pytest

from tests.data.photographs import write_classes
from tests.data.strange_sets import prepare


@pytest.fixture(scope='session')
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('source') / 'images'
    write_classes(folder / 'train', 3)
    write_classes(folder / 'val', 2)
    return folder


@pytest.fixture(scope='session')
def made(images, tmp_path_factory) -> dict[str, Path]:
    top = tmp_path_factory.mktemp('sets')
    return {form: prepare(images, top / form, form) for form in ('jpeg', 'raw')}


@pytest.fixture
def copy(made, tmp_path) -> Path:
    return shutil.copytree(made['jpeg'], tmp_path / 'set')
