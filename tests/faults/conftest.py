import pytest

from alexnet_jax.runtime.command_line import DONE
from tests.faults import driver


@pytest.fixture(scope='session')
def undisturbed(data_dir, tmp_path_factory):
    """The workdir of `driver.command`'s run, as it ends when nothing happens to it."""
    folder = tmp_path_factory.mktemp('undisturbed')
    output = folder / 'printed'
    assert driver.run(driver.command(folder / 'run', data_dir), output) == DONE, output.read_text()
    return folder / 'run'
