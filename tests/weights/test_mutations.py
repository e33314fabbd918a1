"""Damaged and lying weight files: refused in plain words, or read; never anything else."""

import json
import subprocess
import sys

from tests.weights import mutations


def test_damaged_files_are_refused_or_read_and_take_no_memory(tmp_path):
    command = [sys.executable, '-m', 'tests.weights.mutations', str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    printed = json.loads(done.stdout)
    outcomes = printed['outcomes']
    assert set(outcomes) == {'refused', 'read'}, outcomes
    assert sum(outcomes.values()) == mutations.COUNT
    assert outcomes['refused'] > mutations.COUNT / 2  # or too little was wrong with them
    assert printed['grown'] < 1 << 30
