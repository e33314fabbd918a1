"""The manifest of a folder: size and SHA-256 of every file in it, by which damage shows.

It is written last, and has a digest of its own: a folder without a sound manifest is not
whole. It guards against accidents, not against somebody who writes a manifest himself.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

NAME = 'manifest.json'


class DamagedError(ValueError):
    """The message says which file, and what is wrong with it."""


def write(folder: Path, about: dict[str, Any]) -> None:
    """Makes the manifest of what is in the folder, with `about` in it; all files are on disk
    when it returns, and not just on their way."""
    files = {
        str(path.relative_to(folder)): {'bytes': path.stat().st_size, 'sha256': _digest(path, True)}
        for path in _files(folder)
    }
    tree = about | {'files': files}
    with (folder / NAME).open('w') as file:
        json.dump(tree | {'sha256': _own_digest(tree)}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def read(folder: Path) -> dict[str, Any]:
    """What the manifest says; the files it names are not looked at.

    Raises:
      DamagedError: there is none, or it is not as it was written.
    """
    path = folder / NAME
    try:
        tree = json.loads(path.read_bytes())
        claimed = tree.pop('sha256')
    except FileNotFoundError:
        raise DamagedError(f'{path} is missing') from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DamagedError(f'{path} cannot be read') from None
    if claimed != _own_digest(tree):
        raise DamagedError(f'{path} is not as it was written')
    return tree


def verify(folder: Path, only: str | None = None) -> dict[str, Any]:
    """What the manifest says, if it is of the step that the folder is named after and every file
    it names is as it was written.

    Args:
      only: the name of the one file to look at; None: all.

    Raises:
      DamagedError: the first that is not.
    """
    tree = read(folder)
    if str(tree.get('step')) != folder.name:
        raise DamagedError(f'{folder / NAME} is of step {tree.get("step")}')
    for name, expected in tree['files'].items():
        if only not in (None, name):
            continue
        path = folder / name
        try:
            size = path.stat().st_size
            digest = _digest(path) if size == expected['bytes'] else ''
        except FileNotFoundError:
            raise DamagedError(f'{path} is missing') from None
        except OSError as error:
            raise DamagedError(f'{path} cannot be read: {error.strerror}') from None
        if size != expected['bytes']:
            raise DamagedError(f'{path} has {size} bytes, not {expected["bytes"]}')
        if digest != expected['sha256']:
            raise DamagedError(f'{path} is not as it was written (SHA-256)')
    return tree


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob('*') if path.is_file())


def _digest(path: Path, flush: bool = False) -> str:
    """`flush`: waits until the disk has the file."""
    with path.open('rb') as file:
        digest = hashlib.file_digest(file, 'sha256').hexdigest()
        if flush:
            os.fsync(file.fileno())
    return digest


def _own_digest(tree: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()
