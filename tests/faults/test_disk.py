"""A disk that is full, or taken away, in the midst of a run: a real one, in memory."""

import contextlib
import os
import random as python_random
import re
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet_jax import __main__ as commands
from alexnet_jax.runtime.command_line import DONE, FAULT
from alexnet_jax.training import checkpoint_reader
from alexnet_jax.training.checkpoint_reader import newest_intact
from tests.faults import driver

SIZE = 40 << 20


# When a step was saved and no other save has begun, a process stops itself.
IN_THE_MIDST = driver.Moment('prune/after', 2, number=signal.SIGSTOP)


@pytest.fixture
def disk(tmp_path):
    """A file system of its own."""
    place = tmp_path / 'disk'
    place.mkdir()
    made = subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', f'size={SIZE}', 'tmpfs', str(place)], capture_output=True
    )
    if made.returncode:
        pytest.skip('file systems can be mounted by root only')
    yield place
    subprocess.run(['umount', '-l', str(place)], check=True)


def fill(disk: Path, left: int) -> Path:
    """A file that leaves so many bytes free."""
    filler = disk / 'filler'
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    with contextlib.suppress(OSError):
        filler.write_bytes(bytes(max(0, free - left)))
    return filler


@pytest.mark.thorough
@pytest.mark.parametrize(
    'moments',
    [range(2), pytest.param(range(2, 12), marks=pytest.mark.slow)],
    ids=['two', 'ten more'],
)
def test_full_at_random_moments(moments, disk, undisturbed, data_dir, tmp_path):
    """While the first checkpoint is written, a later one, its manifest, a row of the log, ...:
    output_text with path and bytes, the others whole; with room again the run comes to the same end."""
    random, output = python_random.Random(moments.start), tmp_path / 'printed'
    sizes = [path.stat().st_size for path in (undisturbed / 'checkpoints').rglob('*')]
    one = sum(sizes) // 3
    for moment in moments:
        workdir = disk / str(moment)
        argv = driver.command(workdir, data_dir)
        output.write_text('')
        process = driver.start(argv, output)
        saves = moment % 3
        driver.wait_for(
            lambda: len(checkpoint_reader.steps(workdir / 'checkpoints')) >= saves,  # noqa: B023
            process,
        )
        filler = fill(disk, random.randrange(2 * one))
        process.join(120)
        printed = output.read_text()
        assert process.exitcode == FAULT, (moment, printed)
        errors = [line for line in printed.splitlines() if line.startswith('error: ')]
        assert len(errors) == 2 and 'Traceback' not in printed, printed
        assert 'No space left on device' in errors[0] and str(workdir) in errors[0]
        assert re.search(r'\d+ bytes', errors[0]), printed
        held = checkpoint_reader.steps(workdir / 'checkpoints')
        assert newest_intact(workdir / 'checkpoints') == (max(held, default=None), [])
        filler.unlink()
        assert driver.run(argv, output) == DONE, output.read_text()
        driver.assert_same_run(workdir, undisturbed)
        shutil.rmtree(workdir)


@pytest.mark.thorough
@pytest.mark.parametrize('argv', [
    ['features', 'RUN', 'IMAGE', '--layers=conv1', '--out=DISK/out'],
    ['units', 'RUN', '--units=0', '--images=1', '--steps=1', '--out=DISK/out'],
    ['explain', 'RUN', 'IMAGE', '--out=DISK/out'],
    ['lesions', 'RUN', '--layer=conv5/relu', '--units=columns', '--images=10', '--out=DISK/out'],
    ['tables', 'RUN', '--out=DISK/out'], ['pages', 'RUN', 'RUN', '--out=DISK/out'],
    ['weights', 'export', 'RUN', '--out=DISK/out.safetensors'], ['weights', 'push', 'RUN', 'DISK/out'],
    ['rdm', 'FEATURES', '--layer=fc8', '--out=DISK/out'],
    ['train', '--config=digits', '--workdir=DISK/out', '--config.data.dir=DATA'],
], ids=lambda argv: ' '.join(argv[:2]))  # fmt: skip
def test_a_full_disk_is_a_fault_of_every_command(
    argv, disk, undisturbed, data_dir, features, tmp_path, capsys
):
    """Not of the command, which works with more space; nothing else is left there."""
    fill(disk, 0)
    image = tmp_path / 'image.png'
    Image.fromarray(np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)).save(image)
    places = {
        'DISK': disk,
        'RUN': undisturbed,
        'FEATURES': features,
        'IMAGE': image,
        'DATA': data_dir,
    }
    for name, place in places.items():
        argv = [word.replace(name, str(place)) for word in argv]
    assert commands.main(argv) == FAULT
    printed = capsys.readouterr().err
    assert 'No space left on device' in printed and str(disk) in printed, printed
    assert len(printed.splitlines()) <= 2 and 'Traceback' not in printed


@pytest.fixture(scope='module')
def features(undisturbed, tmp_path_factory):
    """Features of the run's test images."""
    out = tmp_path_factory.mktemp('features') / 'out'
    assert commands.main(['features', str(undisturbed), '--layers=fc8', '--out', str(out)]) == DONE
    return out


@pytest.mark.thorough
def test_a_disk_that_is_taken_away(disk, undisturbed, data_dir, tmp_path):
    """The workdir's folder is another's then; nothing is written into it."""
    workdir, output = tmp_path / 'run', tmp_path / 'printed'
    process = driver.start(driver.command(workdir, data_dir), output, IN_THE_MIDST)
    with driver.held_still(process):
        workdir.rename(disk.parent / 'elsewhere')
    process.join(120)
    printed = output.read_text()
    assert process.exitcode == FAULT and 'Traceback' not in printed, printed
    assert 'the folder does not exist' in printed
    assert not workdir.exists()
    (disk.parent / 'elsewhere').rename(workdir)
    assert driver.run(driver.command(workdir, data_dir), output) == DONE, output.read_text()
    driver.assert_same_run(workdir, undisturbed)


@pytest.mark.thorough
def test_a_disk_that_became_read_only(disk, undisturbed, data_dir, tmp_path):
    workdir, output = disk / 'run', tmp_path / 'printed'
    argv = driver.command(workdir, data_dir)
    process = driver.start(argv, output, IN_THE_MIDST)
    # An open file for writing would hinder a remount; what is saved next cannot be.
    with driver.held_still(process):
        subprocess.run(['mount', '--bind', str(disk), str(disk)], check=True)
        subprocess.run(['mount', '-o', 'remount,bind,ro', str(disk)], check=True)
    try:
        process.join(120)
        printed = output.read_text()
        assert process.exitcode == FAULT and 'Traceback' not in printed, printed
        assert 'Read-only file system' in printed
        output.write_text('')
        assert driver.run(argv, output) == 2, output.read_text()
        assert output.read_text().startswith(f'error: --workdir {workdir} cannot be written')
    finally:
        subprocess.run(['umount', '-l', str(disk)], check=True)
    assert driver.run(argv, output) == DONE, output.read_text()
    driver.assert_same_run(workdir, undisturbed)
