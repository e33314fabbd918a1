"""Errors that are told in a line or two, without a traceback."""

import difflib
from collections.abc import Collection


class InputError(ValueError):
    """A setting, file or command that cannot be used, found before training.

    The message is one or two plain lines: what it is, its value, what is
    allowed. The program ends with exit status 2.
    """


class RecordError(ValueError):
    """A stored record that turns out broken when it is read, maybe far into a
    run. The message names file and record; exit status 1."""


class LostProcessError(RuntimeError):
    """Another of several processes was lost. The message tells; exit status 1."""


def nearest(name: str, names: Collection[str]) -> str:
    """The name most like `name`."""
    return max(names, key=lambda known: difflib.SequenceMatcher(None, name, known).ratio())
