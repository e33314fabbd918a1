"""Allowed values for the fields of a table's rows and stages.

Tables may come from an untrusted workdir, so a field may hold any JSON value.
"""

import dataclasses
import math
import re
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

from alexnet_jax.runtime.errors import InputError, shown

MOST = 2**31 - 1  # of a count
MOST_PIXELS = 4096  # of an input's side, a kernel, a stride or a padding
MOST_WINDOW = 64  # of a pooling or normalization window's side: its positions are unrolled
LARGEST, SMALLEST = 3.4028234e38, 1.1754944e-38  # of the normal numbers of float32
# A name is a key of the parameters, and of files that hold them: NAME/part, NAME_norm/part.
NAME = re.compile(r'(?!.*_norm\Z)[A-Za-z][A-Za-z0-9_-]{0,63}\Z')
RESERVED = ('normalization',)  # mean and scale, in weight files


@dataclasses.dataclass(frozen=True)
class Allowed:
    """Allowed values: a description and a predicate."""

    words: str
    holds: Callable[[Any], bool]


def is_whole(value: Any, least: int, most: int = MOST) -> bool:
    """Returns whether a value is a whole number within the limits; True and False are not."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        return False
    return least <= int(value) <= most


def is_number(value: Any, least: float = -LARGEST, most: float = LARGEST) -> bool:
    """Returns whether a value is a finite number of float32 within the limits."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        number = float(value)
    except OverflowError:
        return False
    return math.isfinite(number) and least <= number <= most


def _whole(least: int, most: int) -> Allowed:
    return Allowed(
        f'a whole number from {least} to {most}', lambda value: is_whole(value, least, most)
    )


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(NAME.match(value)) and value not in RESERVED


# `features` of 0 and even windows have messages of their own, in `layers`.
FEATURES = Allowed('a whole number', lambda value: is_whole(value, -MOST))
COUNT = _whole(1, MOST)
PIXELS = _whole(1, MOST_PIXELS)
WINDOW = _whole(1, MOST_WINDOW)
ODD = Allowed('an odd whole number', lambda value: is_whole(value, 1) and value % 2 == 1)
FLAG = Allowed('True or False', lambda value: isinstance(value, bool))
FINITE = Allowed('a finite number', is_number)
POSITIVE = Allowed('a finite number above 0', lambda value: is_number(value, SMALLEST))
NOT_NEGATIVE = Allowed('a finite number from 0 on', lambda value: is_number(value, 0))
FRACTION = Allowed('a number from 0 to below 1', lambda value: is_number(value, 0, 1) and value < 1)
STD = Allowed(
    f'{NOT_NEGATIVE.words}, or None', lambda value: value is None or NOT_NEGATIVE.holds(value)
)
PADDING = Allowed(
    f'a pair of whole numbers from 0 to {MOST_PIXELS}, (before, after)',
    lambda value: (
        isinstance(value, tuple)
        and len(value) == 2
        and all(is_whole(side, 0, MOST_PIXELS) for side in value)
    ),
)
LAYER_NAME = Allowed(
    'a letter, then up to 63 letters, digits, _ or -, not ending in _norm, and not'
    f' {" or ".join(RESERVED)}',
    _is_name,
)
TEXT = Allowed('a text of one line', lambda value: isinstance(value, str) and value.isprintable())


def require(where: str, field: str, value: Any, allowed: Allowed) -> None:
    """Checks that a field's value is allowed.

    Raises:
      InputError: the value is not allowed.
    """
    if not allowed.holds(value):
        raise InputError(f'{where} has {field} {shown(value)}; allowed: {allowed.words}')
