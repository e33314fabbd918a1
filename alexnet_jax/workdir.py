"""The folder of a run: whose it is, and what configuration computed what is in it."""

import contextlib
import fcntl
import os
import shlex
import socket
import stat
import sys
from collections.abc import Collection, Iterator
from importlib import metadata
from pathlib import Path

from alexnet_jax import config as configuration
from alexnet_jax import processes, results
from alexnet_jax.config import Config
from alexnet_jax.errors import InputError, StorageError
from alexnet_jax.training import checkpoint

LIBRARIES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'tensorflow-datasets')
LOCK = '.lock'


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Makes the folder if need be; within, no other run is let in. The system unlocks it when
    this process ends, however it does.

    Raises:
      InputError: another run is in it, or it cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(workdir / LOCK, 'a+', opener=_regular))
        except OSError as error:
            raise InputError(f'--workdir {workdir} cannot be written: {error.strerror}') from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise InputError(
                f'--workdir {workdir} is in use by {file.read(200).strip() or "another run"};'
                ' wait for it, end it, or take another --workdir'
            ) from None
        except OSError:
            pass  # a file system without locks: nobody can be kept out
        with contextlib.suppress(OSError):  # of use to a reader only
            file.truncate(0)
            file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
            file.flush()
        yield


def _regular(path: str, flags: int) -> int:
    """Opens a file, but no link to another one, which would be emptied, and no pipe."""
    number = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError(None, f'{LOCK} is not a regular file')
    return number


def claim(workdir: Path, config: Config) -> None:
    """Makes the folder if need be and writes config.json.

    Raises:
      InputError: it cannot be written, or holds a run of another configuration.
    """
    refuse_other(workdir, config)
    versions = {name: metadata.version(name) for name in LIBRARIES}
    about = {'versions': versions, 'processes': processes.count(), 'command': command()}
    try:
        results.write_json(workdir / 'config.json', configuration.nest(config) | about)
    except StorageError as error:
        raise InputError(f'--workdir {workdir} cannot be written: {error}') from error


def command() -> str:
    """The one that this process was started with."""
    return shlex.join([Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]])


def refuse_other(workdir: Path, config: Config, but: Collection[str] = ()) -> None:
    """Lets pass a workdir that is new, or holds a run of this configuration; settings in
    `but` do not count.

    Raises:
      InputError: the workdir's config.json computes something else.
    """
    kept = workdir / 'config.json'
    if os.path.exists(kept):  # of a path that cannot be, pathlib would raise
        differences = configuration.differences(config, configuration.read_workdir(kept), but)
        if differences:
            raise InputError(
                f'--workdir {workdir} holds a run of another configuration: '
                + '; '.join(differences)
                + '; take another --workdir, or those settings'
            )


def last_checkpoint(workdir: Path) -> int | None:
    """The last step that was saved there, whole or not; nothing is touched."""
    return max(checkpoint.steps(workdir / 'checkpoints'), default=None)
