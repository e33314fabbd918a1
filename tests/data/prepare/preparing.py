"""Preparations as the tests run them: by the command or in this process."""

import filecmp
import subprocess
import sys
from pathlib import Path

from alexnet_jax.data.prepare import engines
from alexnet_jax.data.prepare.make import Request, make_set
from alexnet_jax.data.prepare.shards import Encoding
from alexnet_jax.data.prepare.sources import open_source

COMMAND = [sys.executable, '-m', 'alexnet_jax.data.prepare']


def words(folder: Path, out: Path, *more: str) -> list[str]:
    return ['--source', f'folder:{folder}', '--out', str(out), '--size=48', *more]


def run(*words, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*COMMAND, *map(str, words)], capture_output=True, text=True, timeout=120, **options
    )


def make(folder: Path, out: Path, engine=engines.one_by_one, **changes) -> Path:
    """Makes the set of a folder in this process; `changes` are those of the request, `max_bad`
    and `say`."""
    options = {name: changes.pop(name) for name in ('max_bad', 'say') if name in changes}
    request = Request(f'folder:{folder}', **{'encoding': Encoding(48, 'jpeg', 95)} | changes)
    return make_set(request, out, lambda: open_source(request.source), engine, **options)


def assert_same_files(one: Path, other: Path) -> None:
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    _, different, strange = filecmp.cmpfiles(one, other, names, shallow=False)
    assert not different and not strange
