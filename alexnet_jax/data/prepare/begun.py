"""Folder of an unfinished preparation."""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alexnet_jax.data import set_files
from alexnet_jax.data.images import CENTER_SQUARE
from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import InputError, plain

WORK = '.preparing'
PLAN = 'plan.json'


def require_usable_folder(out: Path) -> None:
    """Checks that a folder may hold a new set.

    Raises:
      InputError: `out` has other content than a set or an unfinished one.
    """
    ours = (WORK, set_files.PREPARED)
    if out.is_dir() and not any((out / name).exists() for name in ours):
        strange = sorted(path.name for path in out.iterdir())
        if strange:
            raise InputError(
                f'--out {out} is not empty: it holds {strange[0]}; take another folder'
            )


@contextlib.contextmanager
def folders(out: Path) -> Iterator[None]:
    """Creates the folders of a preparation.

    It removes them if the preparation fails before its first shard.
    """
    work = out / WORK
    new = [folder for folder in (work, out, *out.parents) if not folder.exists()]
    try:
        work.mkdir(parents=True, exist_ok=True)
        yield
    except (InputError, OSError):
        if work in new and not any(work.glob('*.array_record*')):
            shutil.rmtree(work, ignore_errors=True)
            with contextlib.suppress(OSError):  # another program has written to it
                for folder in new[1:]:
                    folder.rmdir()
        raise


@contextlib.contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Waits for other processes that prepare the same set."""
    # A pipe of this name would block otherwise.
    with open(os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK), 'w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        lock.parent.mkdir(parents=True, exist_ok=True)  # the earlier process has deleted it
        yield


def start_or_resume(out: Path, plan: dict[str, Any]) -> None:
    """Starts a preparation, or resumes one with the same plan.

    Raises:
      InputError: another plan was begun in `out`.
    """
    kept = out / WORK / PLAN
    if kept.exists():
        before = _read_plan(kept)
        # Older plans lack some of these; their shards are written again (`Task.is_done`).
        changed = [
            f'{name} was {plain(before[name])}, now {plain(plan[name])}'
            for name in plan
            if name in before and name != 'where' and before[name] != plan[name]
        ]
        if changed:
            raise InputError(
                f'--out {out} holds a begun preparation of another kind: {"; ".join(changed)};'
                ' remove it or take another folder'
            )
        return
    files.write_bytes(kept, json.dumps(plan, indent=2).encode())


def _read_plan(path: Path) -> dict[str, Any]:
    try:
        plan = files.read_json(path)
        if not isinstance(plan, dict):
            raise ValueError('it is no plan')
        return {'resize': CENTER_SQUARE} | plan  # missing in the oldest plans
    except ValueError as error:
        raise InputError(f'{path} cannot be read: {error}; remove {path.parent.parent}') from error
