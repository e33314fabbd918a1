"""What settings allow: rules, each in words and as a test."""

import dataclasses
import os
import re
from collections.abc import Callable, Collection
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.runtime import python_files


@dataclasses.dataclass(frozen=True)
class Rule:
    """The values that a setting may have.

    words: a description of them.
    allows: whether a value, of the default's type, is one of them.
    names: all of them, if they are words.
    item: the type of the items of a tuple.
    own: a description of an object of the user's own that is one of them, FILE.py:NAME.
    """

    words: str
    allows: Callable[[Any], bool]
    names: tuple[str, ...] = ()
    item: type = str
    own: str = ''


MOST = 2**31 - 1  # of a count: steps and images are counted in 32 bits
HUGE = 1e30  # of a factor; float32 has it


def at_least(least: int) -> Rule:
    """Returns the rule for whole numbers of at least `least`."""
    return Rule(
        f'a whole number of at least {least}, at most {MOST}', lambda value: least <= value <= MOST
    )


def between(least: int, most: int) -> Rule:
    """Returns the rule for whole numbers from `least` to `most`, both included."""
    return Rule(f'a whole number from {least} to {most}', lambda value: least <= value <= most)


def can_name_a_file(text: str) -> bool:
    """Returns whether the file system can hold a name."""
    try:
        return b'\0' not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def is_source(text: str) -> bool:
    """Returns whether a text can be a source of images.

    Sources are those of this package, a folder, a TFDS set or one of the user's own.
    """
    if text in ('digits', 'patterns', 'synthetic'):
        return True
    named = bool(re.fullmatch('(?s)(folder|tfds):.+', text)) and can_name_a_file(text)
    return named or python_files.names_object(text)


def one_of(names: Collection[str]) -> Rule:
    """Returns the rule for one of some names."""
    words = ', '.join(name or 'nothing' for name in names)
    return Rule(f'one of {words}', lambda value: value in names, tuple(filter(None, names)))


def or_own(rule: Rule, kind: str) -> Rule:
    """Returns the rule with FILE.py:NAME allowed beside: an object of the user's own."""
    return Rule(
        f'{rule.words}, or {python_files.FORM}',
        lambda value: rule.allows(value) or python_files.names_object(value),
        rule.names,
        own=f'{python_files.FORM} of {kind} of your own',
    )


def some_of(names: Collection[str]) -> Rule:
    """Returns the rule for a list of some names, each at most once."""
    return Rule(
        f'any of {", ".join(names)}, each once, or nothing',
        lambda value: set(value) <= set(names) and len(set(value)) == len(value),
    )


def is_span(text: str) -> bool:
    """Returns whether a text is FIRST:LAST, steps counted from 1, or empty."""
    found = re.fullmatch('([1-9][0-9]{0,9}):([1-9][0-9]{0,9})', text)
    return not text or (found is not None and int(found[1]) <= int(found[2]) <= MOST)


def three_numbers(words: str, allows: Callable[[float], bool]) -> Rule:
    """Returns the rule for a number for each channel, or an empty tuple."""
    return Rule(
        f'three numbers {words}, for red, green and blue, or nothing',
        lambda numbers: len(numbers) in (0, 3) and all(map(allows, numbers)),
        item=float,
    )


def are_factors(factors: dict[Any, Any]) -> bool:
    """Returns whether a value maps layers to factors of at least 0."""
    return all(
        isinstance(layer, str)
        and layer
        and not ('.' in layer or hasattr(ConfigDict, layer))  # it cannot hold these
        and type(factor) is float
        and 0 <= factor <= HUGE
        for layer, factor in factors.items()
    )
