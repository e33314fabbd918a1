"""Whatever file of a set, a workdir or a checkpoint is changed: the commands give the right result or
say in plain lines why not."""

import collections
import json
import os
import subprocess
import sys

import pytest

from tests.faults import fuzz_runs
from tests.faults.run_changes import PARTS

# In CI, and by the long one; each in so many processes, which pytest-xdist spreads.
FEW, MANY, CHUNKS = 200, 2000, 2
# `slow`: the first seed after those of CI, and how many.
LONG = [(first, 250) for first in range(FEW, FEW + MANY, 250)]


def outcomes_of(folder, first: int, count: int) -> dict[str, list[str]]:
    """What came of the cases, by part, checked in a process with a home of its own."""
    command = [
        sys.executable,
        '-m',
        'tests.faults.fuzz_runs',
        str(folder / 'fuzz'),
        f'{first}',
        f'{count}',
    ]
    environment = os.environ | {'HOME': str(folder), 'XLA_FLAGS': ''}
    done = subprocess.run(command, capture_output=True, text=True, timeout=3600, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told['grown'] < fuzz_runs.MOST_GROWN
    wrong = [case for case in told['outcomes'] if case[1] not in ('right', 'refused')]
    assert not wrong, '\n'.join(map(str, wrong))
    assert len(told['outcomes']) == count
    by_part = collections.defaultdict(list)
    for what, came in told['outcomes']:
        by_part[what.split(',')[0]].append(came)
    return by_part


@pytest.mark.parametrize('chunk', range(CHUNKS))
def test_a_changed_file_makes_no_other_result(chunk, tmp_path):
    count = FEW // CHUNKS
    by_part = outcomes_of(tmp_path, chunk * count, count)
    assert by_part.keys() == PARTS.keys()
    assert len({came for outcomes in by_part.values() for came in outcomes}) == 2


@pytest.mark.slow
@pytest.mark.parametrize(('first', 'count'), LONG)
def test_many_changed_files_make_no_other_result(first, count, tmp_path):
    for part, outcomes in outcomes_of(tmp_path, first, count).items():
        if part not in ('metrics.jsonl', 'kernels'):  # of which nothing need be refused
            assert set(outcomes) == {'right', 'refused'}, part
