"""The folder of a report: made beside its place, then moved there whole."""

import contextlib
import errno
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from alexnet_jax.errors import StorageError

BEING_MADE = '.report.'  # how a folder in the making is called, to begin with
DAY = 86_400  # seconds
TRIES = 100


def new_folder(workdir: Path) -> Path:
    """A name of its own: reports of a run may be made at once."""
    return workdir / f'{BEING_MADE}{uuid.uuid4().hex[:12]}'


@contextlib.contextmanager
def filling(folder: Path, place: Path) -> Iterator[None]:
    """Makes the folder, and moves it to its place if all went well; else it is removed. Of several
    reports made at once, the last one stays.

    Raises:
      StorageError: it cannot be written; what was there before is as it was.
    """
    try:
        folder.mkdir()
        _remove_abandoned(folder.parent)
        yield
        _move(folder, place)
    except OSError as error:
        raise StorageError(f'{place}/ cannot be written: {error.strerror}') from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _move(folder: Path, place: Path) -> None:
    before = folder.with_name(f'{folder.name}.before')
    for attempt in range(TRIES):
        with contextlib.suppress(FileNotFoundError):
            place.rename(before)
        try:
            folder.rename(place)
            return
        except OSError as error:
            with contextlib.suppress(OSError):
                before.rename(place)
            # Another report has been put there since.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or attempt == TRIES - 1:
                raise
        finally:
            _remove(before)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _remove_abandoned(workdir: Path) -> None:
    """Removes folders of reports that were killed a day ago or earlier."""
    for path in workdir.glob(f'{BEING_MADE}*'):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < time.time() - DAY:
                _remove(path)
