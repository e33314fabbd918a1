"""Folder of a run: lock, identity and configuration."""

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
from alexnet_jax.runtime.errors import InputError, plain, unwritable
from alexnet_jax.runtime.provenance import provenance
from alexnet_jax.training import checkpoint_reader, manifest
from alexnet_jax.training.manifest import DamagedError

LOCK = '.lock'
# After a restart by a launcher, a lost process of the run may hold the lock until it is killed.
SECONDS_FOR_LOST = 300
SECONDS_BETWEEN_REPORTS = 15


@contextlib.contextmanager
def locked(workdir: Path, seconds: float | None = None) -> Iterator[None]:
    """Creates the folder if necessary and locks it against other runs.

    The system releases the lock when this process ends for any reason.

    Args:
      seconds: time to wait for the end of another run; None: 0, or SECONDS_FOR_LOST for several
        processes.

    Raises:
      InputError: another run uses it.
      InputError, StorageError: as `unwritable`; the upload at the end failed.
    """
    with contextlib.ExitStack() as stack:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(workdir / LOCK, 'a+', opener=_regular))
        except OSError as error:
            raise unwritable(f'--workdir {workdir}', error) from error
        if seconds is None:
            seconds = SECONDS_FOR_LOST if multihost.count() > 1 else 0
        _lock(file, workdir, seconds)
        with contextlib.suppress(OSError):  # only for readers
            file.truncate(0)
            user = f'process {os.getpid()} on {socket.gethostname()}\n'
            os.write(file.fileno(), user.encode())  # unbuffered: closing the file cannot fail
        stack.enter_context(storage.owned(workdir))
        yield


def _lock(file: IO[str], workdir: Path, seconds: float) -> None:
    """Locks a file, see `locked`."""
    end, next_report = time.monotonic() + seconds, 0.0
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            file.seek(0)
            user = plain(file.read(200).strip()) or 'another run'
        except OSError:
            return  # a file system without locks
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
    """Opens a regular file. It rejects pipes, and links, whose target would be truncated."""
    number = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError(None, f'{LOCK} is not a regular file')
    return number


def claim(workdir: Path, run: Identity) -> None:
    """Creates the folder if necessary and binds it to a run.

    Raises:
      InputError: as `require_same_run`.
      InputError, StorageError: as `unwritable`.
    """
    require_same_run(workdir, run)
    about = provenance() | {'processes': multihost.count(), 'command': command()}
    try:
        identity.write(workdir, run, about)
    except OSError as error:
        raise unwritable(f'--workdir {workdir}', error) from error


def command() -> str:
    """Returns the command line of this process."""
    return shlex.join([Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]])


def refuse_other(workdir: Path, config: Config, but: Collection[str] = ()) -> None:
    """Checks that a workdir is new, or has a run of this configuration.

    Settings in `but` are ignored.

    Raises:
      InputError: the workdir's config.json has another configuration.
    """
    kept = workdir / identity.CONFIG
    if os.path.exists(kept):  # pathlib would raise an error for an impossible path
        differences = kept_config.differences(config, kept_config.read_workdir(kept), but)
        if differences:
            raise InputError(
                f'--workdir {workdir} holds a run of another configuration: '
                + '; '.join(differences)
                + '; take another --workdir, or those settings'
            )


def require_same_run(workdir: Path, run: Identity) -> None:
    """Checks that a workdir is new, or has this run; writes nothing.

    The same run has the same configuration, table of the net, classes, normalization and set.

    Raises:
      InputError: it or one of its checkpoints belongs to another run.
    """
    refuse_other(workdir, run.config)
    folder = workdir / 'checkpoints'
    steps = checkpoint_reader.steps(folder)
    if not steps:
        return  # the first saved step binds a run
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
    """Returns the record of a checkpoint; None for a damaged one, which its reader skips or
    rejects.
    """
    try:
        manifest.verify(place, checkpoint_reader.RECORD_FILE)
        return checkpoint_reader.read_record(place)
    except (DamagedError, InputError):
        return None


def last_checkpoint(workdir: Path) -> int | None:
    """Returns the last saved step, even if damaged; changes nothing."""
    return max(checkpoint_reader.steps(workdir / 'checkpoints'), default=None)


def refuse_not_finite(workdir: Path) -> None:
    """Checks that a run did not end in NaN.

    Earlier checkpoints stay in its workdir, but are not the requested net.

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
