"""Manifest of a folder: size and SHA-256 of every file, to detect damage.

It is written last and contains its own digest: a folder without a valid manifest is incomplete. It
protects against accidents, not against a forged manifest.
"""

import hashlib
import json
import os
from io import BufferedReader
from pathlib import Path
from typing import Any

from alexnet_jax.runtime.errors import counted
from alexnet_jax.runtime.files import opened, read_json

NAME = 'manifest.json'


class DamagedError(ValueError):
    """The message names the file and the fault."""


def write(folder: Path, about: dict[str, Any]) -> None:
    """Writes the manifest of a folder's files, including `about`.

    When it returns, all files are flushed to disk.
    """
    files = {
        str(path.relative_to(folder)): {
            'bytes': path.stat().st_size,
            'sha256': _flushed_digest(path),
        }
        for path in _files(folder)
    }
    tree = about | {'files': files}
    with (folder / NAME).open('w') as file:
        json.dump(tree | {'sha256': _own_digest(tree)}, file, indent=1, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())


def read(folder: Path) -> dict[str, Any]:
    """Reads the manifest without checking the files.

    Raises:
      DamagedError: there is none, or it was modified.
    """
    path = folder / NAME
    try:
        tree = dict(read_json(path))
        claimed, own = tree.pop('sha256'), _own_digest(tree)
    except FileNotFoundError:
        raise DamagedError(f'{path} is missing') from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise DamagedError(f'{path} cannot be read') from None
    if claimed != own:
        raise DamagedError(f'{path} was modified')
    if not _is_manifest(tree):
        raise DamagedError(f'{path} is no manifest of a checkpoint')
    return tree


def verify(folder: Path, only: str | None = None) -> dict[str, Any]:
    """Reads the manifest and checks that it describes the folder.

    Its step must equal the folder's name. The folder must have exactly the named files, unmodified,
    because Orbax also reads additional files.

    Args:
      only: name of the one file to check; None: all.

    Raises:
      DamagedError: names the first fault.
    """
    tree = read(folder)
    if str(tree.get('step')) != folder.name:
        raise DamagedError(f'{folder / NAME} is of step {tree.get("step")}')
    named = tree['files']
    for name in sorted(_found(folder) - {NAME}) if only is None else ():
        if name not in named:
            raise DamagedError(f'{folder / name} is not in the manifest')
    for name, expected in named.items():
        if only not in (None, name):
            continue
        path = folder / name
        try:
            with opened(path) as file:
                size = os.fstat(file.fileno()).st_size
                digest = _digest(file) if size == expected['bytes'] else ''
        except FileNotFoundError:
            raise DamagedError(f'{path} is missing') from None
        except OSError as error:
            raise DamagedError(f'{path} cannot be read: {error.strerror}') from None
        if size != expected['bytes']:
            raise DamagedError(f'{path} has {counted(size, "byte")}, not {expected["bytes"]}')
        if digest != expected['sha256']:
            raise DamagedError(f'{path} was modified (SHA-256)')
    return tree


def _is_manifest(tree: dict[str, Any]) -> bool:
    step, error, files = tree.get('step'), tree.get('top1_error'), tree.get('files')
    return (
        type(step) is int
        and (error is None or type(error) in (int, float))
        and isinstance(files, dict)
        and all(
            isinstance(file, dict) and type(file.get('bytes')) is int and 'sha256' in file
            for file in files.values()
        )
    )


def _found(folder: Path) -> set[str]:
    """Returns the names of all entries except folders: files, links to folders, pipes."""
    names = set()
    for place, folders, others in os.walk(folder):
        linked = [name for name in folders if os.path.islink(os.path.join(place, name))]
        names |= {os.path.relpath(os.path.join(place, name), folder) for name in (*others, *linked)}
    return names


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob('*') if path.is_file())


def _digest(file: BufferedReader) -> str:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def _flushed_digest(path: Path) -> str:
    """Flushes a file to disk, then returns its digest."""
    with path.open('rb') as file:
        digest = _digest(file)
        os.fsync(file.fileno())
    return digest


def _own_digest(tree: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()
