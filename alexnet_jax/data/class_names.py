"""Names of ImageNet's thousand classes, from the lists in TFDS."""

import collections
import functools
from collections.abc import Sequence
from importlib import resources


@functools.cache
def imagenet_classes() -> tuple[str, ...]:
    """Returns WordNet's identifiers, n01440764 and so on, in the order of the labels."""
    labels = resources.files('tensorflow_datasets') / 'datasets' / 'imagenet2012' / 'labels.txt'
    return tuple(labels.read_text().split())


def unnamed(count: int) -> tuple[str, ...]:
    """Returns names for classes whose names are not known."""
    return tuple(f'class {label}' for label in range(count))


def same(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Returns whether two lists may name the same classes.

    They do if they have equal lengths and, if both have names, equal names.
    """
    nameless = unnamed(len(one))
    return len(one) == len(other) and (one == other or nameless in (one, other))


@functools.cache
def _english() -> dict[str, str]:
    from tensorflow_datasets.datasets.siscore.labels import IMAGENET_LABELS_LIST

    return dict(zip(imagenet_classes(), IMAGENET_LABELS_LIST, strict=True))


@functools.cache
def _wordnet_ids() -> dict[str, str]:
    """Returns identifiers by English name: the full name, 'tabby, tabby cat', and each synonym of
    only one class.
    """
    synonyms = [
        (_folded(one), identifier)
        for identifier, name in _english().items()
        for one in dict.fromkeys(name.split(', '))
    ]
    times = collections.Counter(one for one, _ in synonyms)
    whole = {_folded(name): identifier for identifier, name in _english().items()}
    return {one: identifier for one, identifier in synonyms if times[one] == 1} | whole


def _folded(name: str) -> str:
    return ' '.join(name.replace('_', ' ').split()).casefold()


def wordnet_id(name: str) -> str:
    """Returns the WordNet identifier of one of ImageNet's thousand classes.

    Of n02123045, of 'tabby, tabby cat' or of 'Tabby_cat' it is n02123045; of any other name ''.
    """
    return name if name in _english() else _wordnet_ids().get(_folded(name), '')


def display_name(name: str) -> str:
    """Returns a class's readable name on one line: 'tabby, tabby cat' for n02123045.

    Other names are returned with escaped unprintable characters.
    """
    plain = ''.join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in name)
    return _english().get(name, plain)


def short_names(names: Sequence[str]) -> list[str]:
    """Returns the first synonym of each display name: 'tabby' of 'tabby, tabby cat'.

    It is the full name if another class has the same first synonym, such as 'maillot'.
    """
    whole = [display_name(name) for name in names]
    first = [name.split(', ')[0] for name in whole]
    times = collections.Counter(first)
    return [
        short if short and times[short] == 1 else name
        for short, name in zip(first, whole, strict=True)
    ]
