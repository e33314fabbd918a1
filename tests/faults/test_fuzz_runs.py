"""Whatever file of a set, a workdir or a checkpoint is changed: the commands give the right result or
say in plain lines why not."""

import json
import os
import subprocess
import sys

import pytest

from tests.faults import fuzz_runs
from tests.faults.run_changes import PARTS

FEW, MANY = 25, 2000  # cases in CI, and of the long test
# `slow`: the first seed after those of CI, and how many.
LONG = [(first, 250) for first in range(FEW, FEW + MANY, 250)]


def check(folder, first: int, count: int) -> None:
    """Tries the cases of so many seeds in a process with a home of its own."""
    seeds = [f'{first}', f'{count}']
    command = [sys.executable, '-m', 'tests.faults.fuzz_runs', str(folder / 'fuzz'), *seeds]
    environment = os.environ | {'HOME': str(folder), 'XLA_FLAGS': ''}
    done = subprocess.run(command, capture_output=True, text=True, timeout=3600, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    cases = json.loads(done.stdout.splitlines()[-1])
    wrong = [case for case in cases['outcomes'] if case[1] not in ('right', 'refused')]
    assert not wrong, '\n'.join(map(str, wrong))
    assert cases['grown'] < fuzz_runs.MOST_GROWN
    assert len(cases['outcomes']) == count
    assert {what.split(',')[0] for what, _ in cases['outcomes']} == set(PARTS)
    for outcome in ('right', 'refused'):  # or too little was changed, or too much
        assert sum(case[1] == outcome for case in cases['outcomes']) > count / 5


@pytest.mark.thorough
def test_a_changed_file_makes_no_other_result(tmp_path):
    check(tmp_path, 0, FEW)


@pytest.mark.slow
@pytest.mark.parametrize(('first', 'count'), LONG)
def test_many_changed_files_make_no_other_result(first, count, tmp_path):
    check(tmp_path, first, count)
