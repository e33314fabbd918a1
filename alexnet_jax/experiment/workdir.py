"""The folder of a run: whose it is, and what configuration computed what is in it."""

import contextlib
import fcntl
import os
import shlex
import socket
import stat
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any

from alexnet_jax.experiment import identity, kept_config
from alexnet_jax.experiment.defaults import Config
from alexnet_jax.experiment.identity import Identity
from alexnet_jax.runtime import files, multihost, storage
from alexnet_jax.runtime.errors import InputError, plain
from alexnet_jax.runtime.provenance import provenance
from alexnet_jax.training import checkpoint_reader, manifest
from alexnet_jax.training.manifest import DamagedError

LOCK = '.lock'
# A lost process of a run that a launcher has started again may hold the lock until it is ended.
SECONDS_FOR_LOST = 300
SECONDS_BETWEEN_REPORTS = 15


@contextlib.contextmanager
def locked(workdir: Path, seconds: float | None = None) -> Iterator[None]:
    """Makes the folder if need be and locks it: within, no other run may use it.

    The system unlocks it when this process ends, however it does.

    Args:
      seconds: how long to wait for another run to end; None: not at all, but of several processes
        SECONDS_FOR_LOST.

    Raises:
      InputError: another run is in it, or it cannot be written.
      StorageError: the upload at the end failed.
    """
    with contextlib.ExitStack() as stack:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(workdir / LOCK, 'a+', opener=_regular))
        except OSError as error:
            raise InputError(f'--workdir {workdir} cannot be written: {error.strerror}') from error
        if seconds is None:
            seconds = SECONDS_FOR_LOST if multihost.count() > 1 else 0
        _lock(file, workdir, seconds)
        with contextlib.suppress(OSError):  # of use to a reader only
            file.truncate(0)
            file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
            file.flush()
        stack.enter_context(storage.owned(workdir))
        yield


def _lock(file: IO[str], workdir: Path, seconds: float) -> None:
    """Locks a file, as `locked` says."""
    end, next_report = time.monotonic() + seconds, 0.0
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            file.seek(0)
            user = plain(file.read(200).strip()) or 'another run'
        except OSError:
            return  # a file system without locks: nobody can be kept out
        now = time.monotonic()
        if now >= end:
            raise InputError(
                f'--workdir {workdir} is in use by {user}; wait for it, end it, or take another'
                ' --workdir'
            )
        if now >= next_report:
            print(f'waiting for {user}, which uses {workdir}; {end - now:.0f} s left', flush=True)
            next_report = now + SECONDS_BETWEEN_REPORTS
        time.sleep(0.2)


def _regular(path: str, flags: int) -> int:
    """Opens a file, but no link to another one, which would be emptied, and no pipe."""
    number = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError(None, f'{LOCK} is not a regular file')
    return number


def claim(workdir: Path, run: Identity) -> None:
    """Makes the folder if need be and binds it to a run.

    Raises:
      InputError: it cannot be written, or as `require_same_run`.
    """
    require_same_run(workdir, run)
    about = provenance() | {'processes': multihost.count(), 'command': command()}
    try:
        identity.write(workdir, run, about)
    except OSError as error:
        raise InputError(f'--workdir {workdir} cannot be written: {error.strerror}') from error


def command() -> str:
    """Returns the command that this process was started with."""
    return shlex.join([Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]])


def refuse_other(workdir: Path, config: Config, but: Collection[str] = ()) -> None:
    """Checks that a workdir is new, or holds a run of this configuration.

    Settings in `but` do not count.

    Raises:
      InputError: the workdir's config.json computes something else.
    """
    kept = workdir / identity.CONFIG
    if os.path.exists(kept):  # of a path that cannot be, pathlib would raise
        differences = kept_config.differences(config, kept_config.read_workdir(kept), but)
        if differences:
            raise InputError(
                f'--workdir {workdir} holds a run of another configuration: '
                + '; '.join(differences)
                + '; take another --workdir, or those settings'
            )


def require_same_run(workdir: Path, run: Identity) -> None:
    """Checks that a workdir is new, or holds this run; nothing is written.

    The same run has the same configuration, table of the net, classes, normalization and set.

    Raises:
      InputError: it holds, or one of its checkpoints is of, another run.
    """
    refuse_other(workdir, run.config)
    folder = workdir / 'checkpoints'
    steps = checkpoint_reader.steps(folder)
    if not steps:
        return  # a run is bound by its first step that is saved
    differences = identity.differences(identity.with_kept(run, workdir), run)
    if differences:
        raise InputError(
            f'--workdir {workdir} holds a run on other data: {"; ".join(differences)};'
            ' take another --workdir, or the set that it was trained on'
        )
    for step in steps:
        place = folder / str(step)
        record = _record(place)
        differences = [] if record is None else identity.record_differences(record, run)
        if differences:
            raise InputError(
                f'{place} is a checkpoint of another run: {"; ".join(differences)};'
                ' take another --workdir, or move that checkpoint away'
            )


def _record(place: Path) -> dict[str, Any] | None:
    """Returns the record of a checkpoint; None of one that is damaged, which is passed over, or
    refused, where it is read."""
    try:
        manifest.verify(place, checkpoint_reader.RECORD_FILE)
        return checkpoint_reader.read_record(place)
    except (DamagedError, InputError):
        return None


def last_checkpoint(workdir: Path) -> int | None:
    """Returns the last step that was saved there, whole or not; nothing is touched."""
    return max(checkpoint_reader.steps(workdir / 'checkpoints'), default=None)


def refuse_not_finite(workdir: Path) -> None:
    """Checks that a run did not end in NaN.

    What it saved before stays in its workdir, but is not the net that was to be trained.

    Raises:
      InputError: its not_finite.json is of a step after its last checkpoint.
    """
    path = workdir / 'not_finite.json'
    try:
        kept = files.read_json(path)
        step, fault = int(kept['step']), plain(kept['fault'])
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f'{plain(path)} cannot be read: {plain(error)}') from error
    if step > (last_checkpoint(workdir) or 0):
        raise InputError(
            f'{plain(workdir)} is no member: the run ended at step {step} ({fault})\n'
            'Leave it out, or train it to its end with a lower optimizer.learning_rate'
        )
