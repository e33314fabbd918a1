"""SIGKILL at seeded random moments; then bit for bit the run that nothing disturbed."""

import random as python_random

import pytest

from alexnet_jax.runtime.command_line import DONE
from tests.faults import driver
from tests.faults.driver import Moment

KILLED = -9


def moments(seed: int):
    """Without end: each place in turn, in a random order, and as often a time."""
    random = python_random.Random(seed)
    while True:
        places = random.sample(driver.PLACES, len(driver.PLACES))
        for place in places:
            yield Moment(place, count=random.choice([1, 1, 2, 3]))
            yield Moment('time', seconds=random.uniform(0.0, 3.0))


def killed_until_done(argv, workdir, output, moments, most: int) -> list[Moment]:
    """Runs the command again and again, each time with a moment to be killed at, until so many
    were; then to its end. Returns the moments at which it was."""
    met = []
    for moment in moments:
        before = driver.saved_step(workdir)
        output.write_text('')
        status = driver.run(argv, output, moment)
        printed = output.read_text()
        assert status in (KILLED, DONE), printed
        if before and 'after step' in printed:
            assert f'resuming after step {before}:' in printed, printed
        assert driver.saved_step(workdir) >= before
        assert 'damaged' not in printed and 'error:' not in printed, printed
        if status == DONE:
            break
        met.append(moment)
        if len(met) == most:
            assert driver.run(argv, output) == DONE, output.read_text()
            break
    return met


def killed(count: int, first_seed: int, undisturbed, data_dir, folder) -> list[Moment]:
    met = []
    for seed in range(first_seed, first_seed + 1000):
        if len(met) == count:
            return met
        workdir = folder / str(seed)
        argv, output = driver.command(workdir, data_dir), folder / 'printed'
        met += killed_until_done(argv, workdir, output, moments(seed), count - len(met))
        driver.assert_same_run(workdir, undisturbed)
    raise AssertionError('hardly ever killed')


@pytest.mark.thorough
def test_ten_kills(undisturbed, data_dir, tmp_path):
    met = killed(10, 0, undisturbed, data_dir, tmp_path)
    assert len({moment.place for moment in met}) > 3


@pytest.mark.slow
def test_a_hundred_kills(undisturbed, data_dir, tmp_path):
    met = killed(100, 1000, undisturbed, data_dir, tmp_path)
    assert len({moment.place for moment in met}) > 20
