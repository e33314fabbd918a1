"""Executes users' Python files and finds objects in them, named FILE.py:NAME.

Such a file is trusted like a script (SECURITY.md).
"""

import functools
import os
import sys
import traceback
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import InputError, nearest, plain

SUFFIX = '.py'
LONGEST = 1000  # characters of a path in a message
MOST_NAMES = 10  # that a message lists
FORM = 'FILE.py:NAME'


def execute(source: bytes, path: Path, module: str) -> dict[str, Any]:
    """Executes a file's content as a module and returns its names; raises its errors."""
    made = types.ModuleType(module)
    made.__file__ = str(path)
    sys.modules[module] = made  # where dataclasses and pickle search for it
    exec(compile(source, str(path), 'exec', dont_inherit=True), vars(made))
    return vars(made)


def line_of(error: BaseException, module: str) -> tuple[int, str]:
    """Returns the last line of a module that an error passed.

    It also returns the name of the module that raised the error.
    """
    number, last = 1, ''
    if isinstance(error, SyntaxError):
        number = error.lineno or number
    for frame, line in traceback.walk_tb(error.__traceback__):
        last = frame.f_globals.get('__name__', '')
        if last == module:
            number = line
    return number, last


def names_object(text: Any) -> bool:
    """Returns whether a text is FILE.py:NAME; the file need not exist."""
    if not isinstance(text, str):
        return False
    file, colon, name = text.rpartition(':')
    try:
        possible = b'\0' not in os.fsencode(file)
    except UnicodeEncodeError:
        return False
    named = file.endswith(SUFFIX) and Path(file).name != SUFFIX
    return bool(colon) and possible and named and name.isidentifier()


def split(text: str) -> tuple[Path, str]:
    """Returns the file and the name of FILE.py:NAME. The last colon counts."""
    file, _, name = text.rpartition(':')
    return Path(file), name


def absolute(text: str) -> str:
    """Returns FILE.py:NAME with an absolute path, or unchanged if the path cannot be resolved."""
    path, name = split(text)
    try:
        return f'{path.expanduser().resolve()}:{name}'
    except (OSError, RuntimeError, ValueError):
        return text


def without_folder(text: str) -> str:
    """Returns FILE.py:NAME without the folder that the file lies in."""
    path, name = split(text)
    return f'{path.name}:{name}'


def module_name(path: Path) -> str:
    """Returns the name of the module that a file is while it runs."""
    return f'<{path}>'


def read(text: str, option: str, missing: str = '') -> bytes:
    """Returns the content of the file of FILE.py:NAME.

    Args:
      option: what a message begins with. missing: advice if there is no file.

    Raises:
      InputError: it cannot be read.
    """
    path, _ = split(text)
    where = f'{option} {plain(text, LONGEST)}'
    try:
        return files.read_bytes(path.expanduser())
    except FileNotFoundError:
        advice = f'; {missing}' if missing else ''
        raise InputError(f'{where}: no such file{advice}') from None
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, 'strerror', None) or error
        raise InputError(f'{where} cannot be read: {plain(reason)}') from error


def find(
    text: str, option: str, allows: Callable[[Any], bool], allowed: str, missing: str = ''
) -> Any:
    """Runs the file of FILE.py:NAME and returns the object of that name.

    The file is executed once per process and content.

    Args:
      option: what a message begins with.
      allows: whether an object is of the right type; `allowed`: that type in words.
      missing: as in `read`.

    Raises:
      InputError: the file cannot be read or does not run, has no such name, or an object of
        another type.
    """
    path, name = split(text)
    where = f'{option} {plain(text, LONGEST)}'
    names = _outcome(path, read(text, option, missing))
    if isinstance(names, BaseException):
        raise InputError(f'{where} does not run: {in_words(names, path)}') from names
    if name not in names:
        own = [one for one, value in names.items() if not _is_hidden(one, value)]
        fitting = [one for one in own if allows(names[one])] or own
        if not fitting:
            raise InputError(f'{where}: the file defines no {name}; allowed: {allowed}')
        listed = ', '.join(fitting[:MOST_NAMES]) + ', ...' * (len(fitting) > MOST_NAMES)
        raise InputError(
            f'{where}: the file defines no {name}; the nearest is {nearest(name, fitting)};'
            f' it defines: {listed}'
        )
    if not allows(names[name]):
        kind = plain(type(names[name]).__name__)
        raise InputError(f'{where}: {name} is of type {kind}; allowed: {allowed}')
    return names[name]


@functools.cache
def _outcome(path: Path, source: bytes) -> Mapping[str, Any] | BaseException:
    """Returns the names that a file defines, or the error that it ends with."""
    try:
        return execute(source, path, module_name(path))
    except (Exception, SystemExit) as error:  # it is any Python code and may raise any error
        return error


def in_words(error: BaseException, path: Path) -> str:
    """Returns the line of a file at which an error arose, and the error, on one line."""
    number, _ = line_of(error, module_name(path))
    first = plain((str(error).splitlines() or [''])[0])
    fault = first if isinstance(error, InputError) else f'{type(error).__name__}: {first}'
    return f'line {number}: {fault}'


def _is_hidden(name: str, value: Any) -> bool:
    """Whether a name is private or of a module that the file imports."""
    return name.startswith('_') or isinstance(value, types.ModuleType)
