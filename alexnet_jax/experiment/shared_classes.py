"""Finds the classes of a set among those of a net by name."""

import dataclasses
from collections.abc import Sequence

from alexnet_jax.data import class_names
from alexnet_jax.runtime.errors import InputError, counted, nearest, shown


@dataclasses.dataclass(frozen=True)
class SharedClasses:
    """A set's classes that are a subset or another order of a net's.

    columns: the index in the net of each class of the set, in the set's order. The net's logits are
      restricted to these, as the authors of ImageNet-A and ImageNet-R do: `net(data)[:,
      indices_in_1k]` (Hendrycks et al., arXiv:1907.07174, arXiv:2006.16241).
    rule: text: number of the net's classes, and the kind of names that were compared.
    """

    columns: tuple[int, ...]
    rule: str


def shared_classes(ours: Sequence[str], theirs: Sequence[str], source: str) -> SharedClasses | None:
    """Returns the positions of a set's classes among the net's.

    It is None if both have the same classes in the same order.

    Args:
      ours: the net's classes.
      theirs: the set's.
      source: `data.source`, for the message.

    Raises:
      InputError: the net lacks a class of the set; two classes of the set are one of the net's;
        the set has another number of classes than the net, and one of both has no names for them.
    """
    if class_names.same(tuple(ours), tuple(theirs)):
        return None
    if class_names.unnamed(len(ours)) == tuple(ours) or class_names.unnamed(len(theirs)) == tuple(
        theirs
    ):
        require_same_classes(ours, theirs, source)
    columns, names = _found(ours, theirs, source)
    if len(set(columns)) < len(columns):
        twice = next(label for label, column in enumerate(columns) if column in columns[:label])
        first = columns.index(columns[twice])
        raise InputError(
            f'data.source {source} has the classes {shown(theirs[first])} and'
            f' {shown(theirs[twice])}, which are one class of the net,'
            f' {shown(ours[columns[twice]])}; allowed: each once'
        )
    classes = counted(len(ours), 'class', 'classes')
    some = f"{len(columns)} of the net's {classes}"
    if len(columns) == len(ours):
        some = f"the net's {classes} in another order"
    return SharedClasses(columns, f'{some}, found by {names}')


def _found(ours: Sequence[str], theirs: Sequence[str], source: str) -> tuple[tuple[int, ...], str]:
    """Returns the index of each class in the net, and the kind of names that were compared."""
    known = {name: number for number, name in enumerate(ours)}
    if all(name in known for name in theirs):
        return tuple(known[name] for name in theirs), 'name'
    if tuple(ours) == class_names.imagenet_classes() and _are_numbers(theirs, len(ours)):
        return tuple(map(int, theirs)), "their number among ImageNet's classes"
    by_id = {class_names.wordnet_id(name): number for number, name in enumerate(ours)}
    by_id.pop('', None)
    found = {name: known.get(name, by_id.get(class_names.wordnet_id(name))) for name in theirs}
    for name, number in found.items():
        if number is None:
            named = [*ours, *class_names.short_names(ours)]
            raise InputError(
                f'data.source {source} has the class {shown(name)}, which is none of the'
                f" net's {len(ours)}; the nearest is {shown(nearest(name, named))}"
            )
    return tuple(n for n in found.values() if n is not None), 'WordNet id or English name'


def _are_numbers(names: Sequence[str], count: int) -> bool:
    """Returns whether all names are class numbers, as in ImageNet-V2's folders, 0 to 999."""
    numbers = {str(number) for number in range(count)}
    return all(name in numbers for name in names)


def require_same_classes(ours: Sequence[str], theirs: Sequence[str], source: str) -> None:
    """Checks that a set has the classes of the net.

    Raises:
      InputError: the set has other classes than the net.
    """
    if class_names.same(tuple(ours), tuple(theirs)):
        return
    if len(ours) != len(theirs):
        raise InputError(
            f'data.source {source} has {counted(len(theirs), "class", "classes")};'
            f' the net has {len(ours)}'
        )
    label = next(label for label, name in enumerate(ours) if name != theirs[label])
    raise InputError(
        f'data.source {source} has other classes than the net: class {label} is'
        f' {theirs[label]!r} there and {ours[label]!r} in the net'
    )
