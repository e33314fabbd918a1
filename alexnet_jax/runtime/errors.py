"""Errors that are reported in a line or two, without a traceback."""

import difflib
import errno
import os
from collections.abc import Collection

LONGEST = 200  # maximum characters of a value in a message
OF_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class InputError(ValueError):
    """A setting, file or command that cannot be used, found before training.

    The message is one or two plain lines: the name, its value, and the allowed values. The program
    ends with exit status 2.
    """


class RecordError(ValueError):
    """A stored record that is damaged, found when it is read, possibly late in a run.

    The message names file and record; exit status 1.
    """


class StorageError(RuntimeError):
    """A file that could not be written during a run.

    The disk is full, missing or read-only. The message names the file; exit status 1.
    """


def unwritable(place: object, error: OSError) -> InputError | StorageError:
    """Returns the error of a file or folder that cannot be written.

    A disk that is full or fails is a fault while running, exit status 1. Anything else, such as a
    missing permission, is a path that cannot be used, exit status 2.
    """
    kind = StorageError if error.errno in OF_DISK else InputError
    return kind(f'{plain(place, 1000)} cannot be written: {error.strerror or error}')


class NotFiniteError(ArithmeticError):
    """A number of the run is NaN or infinite.

    The message names it and the step; exit status 1.

    step: the step whose images are to be examined.
    """

    def __init__(self, message: str, step: int):
        super().__init__(message)
        self.step = step


class StopRequestedError(Exception):
    """A stop was requested; exit status 75.

    The same command repeats the interrupted work.
    """


class LostProcessError(RuntimeError):
    """Another of several processes was lost, as the message says; exit status 1."""


def counted(count: int, noun: str, plural: str = '') -> str:
    """Returns the number and the noun: '1 image', '2 images'.

    With the plural 'classes' it returns '2 classes'.
    """
    return f'{count} {noun if count == 1 else plural or noun + "s"}'


def nearest(name: str, names: Collection[str]) -> str:
    """Returns the name most like `name`."""
    name = name[:LONGEST]  # its time is quadratic in the length
    return max(names, key=lambda known: difflib.SequenceMatcher(None, name, known).ratio())


def plain(text: object, most: int = LONGEST) -> str:
    """Returns a text, or a path, on one line.

    Unprintable characters are escaped, and long texts are truncated.
    """
    text = str(text)
    line = ''.join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text[:most])
    return line if len(text) <= most else f'{line}...'


def shown(value: object) -> str:
    """Returns a value's `repr`, as `plain` does."""
    try:
        return plain(repr(value))
    except Exception:  # a number with thousands of digits, or any object of a config file
        return f'a {type(value).__name__} that cannot be printed'


def reason(error: Exception) -> str:
    """Returns the message of an error, of the operating system's without its number.

    An example is 'ids.json: No such file or directory'.
    """
    if isinstance(error, OSError) and error.strerror:
        place = (
            f'{plain(os.path.basename(os.fsdecode(error.filename)))}: ' if error.filename else ''
        )
        return f'{place}{error.strerror}'
    return str(error)


def in_words(error: Exception) -> str:
    """Returns the kind of an error and its message, on one line."""
    return plain(f'{type(error).__name__}: {error}')
