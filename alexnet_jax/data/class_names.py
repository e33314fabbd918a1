"""Names of ImageNet's thousand classes, from the lists that come with TFDS."""

import functools
from importlib import resources


@functools.cache
def imagenet_classes() -> tuple[str, ...]:
    """WordNet's identifiers, n01440764 and so on, in the order of the labels."""
    labels = resources.files('tensorflow_datasets') / 'datasets' / 'imagenet2012' / 'labels.txt'
    return tuple(labels.read_text().split())


def unnamed(count: int) -> tuple[str, ...]:
    """For classes whose names are not known."""
    return tuple(f'class {label}' for label in range(count))


def same(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether two lists may be of the same classes: as many, and where both are named,
    by the same names."""
    nameless = unnamed(len(one))
    return len(one) == len(other) and (one == other or nameless in (one, other))


@functools.cache
def _english() -> dict[str, str]:
    from tensorflow_datasets.datasets.siscore.labels import IMAGENET_LABELS_LIST

    return dict(zip(imagenet_classes(), IMAGENET_LABELS_LIST, strict=True))


def told(name: str) -> str:
    """A class for people: n02123045 as 'tabby, tabby cat'; any other name as it is, on
    one line: it may come from a stranger's file."""
    plain = ''.join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in name)
    return _english().get(name, plain)
