"""Finds the weights of a net in a training checkpoint."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from alexnet_jax.weights.arrays import ContentError, printable

# Modules that wrap another one: `nn.DataParallel` and its kin, and `torch.compile`.
_WRAPPERS = {'module', '_orig_mod'}
_PARTS = re.compile(r'(.*?)(features|classifier)\.')  # torchvision's two, below a prefix
# Averages of weights, stored next to the weights.
_AVERAGES = re.compile('ema|swa|average|averaged|shadow|teacher|polyak')
_DEEPEST = 4  # maximum depth of nested dictionaries
_MOST_NAMED = 4  # maximum number of places in a message

Place = tuple[str, ...]  # keys from the outermost dictionary to a state dict


def choose(
    value: Any, is_array: Callable[[Any], bool], wanted: Callable[[Collection[str]], bool]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Returns the arrays of the state dict in `value` by their plain names, and notes.

    The notes are about skipped arrays. Other entries are skipped without a note.

    Args:
      is_array: whether a value is an array.
      wanted: whether plain names are those of the net.

    Weights have precedence over their averages. An average is used if the other weights are of
    several nets, which the notes then name. Without a state dict of the net the result is another
    one, and the caller reports its arrays as wrong.

    Raises:
      ContentError: there are no arrays by name, or two state dicts of the net.
    """
    found = [(place, plain_names(arrays)) for place, arrays in _state_dicts(value, is_array)]
    if not found:
        raise ContentError('holds no weights by name; allowed: a state dict')
    matching = [one for one in found if wanted(one[1])]
    if not matching:
        return min(found, key=lambda one: one[0][-1:] != ('state_dict',))[1], ()
    trained = [one for one in matching if not _is_average(one[0])] or matching
    if len(trained) > 1:
        raise ContentError(
            f'holds weights of the net {len(trained)} times: {_listed(trained)};'
            ' allowed: one of them, in a file of its own'
        )
    others = [
        one
        for one in found
        if one is not trained[0]
        and (wanted(one[1]) or (_is_average(trained[0][0]) and _holds(one[1], trained[0][1])))
    ]
    notes = (f'using {_listed(trained)}, not {_listed(others)}',) if others else ()
    return trained[0][1], notes


def plain_names(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arrays under the names that they have in the net itself.

    The names of wrapping modules, and a common prefix such as `model.`, are removed.

    Raises:
      ContentError: two arrays have one plain name.
    """
    names = {name: _unwrapped(name) for name in arrays}
    matches = [_PARTS.match(plain) for plain in names.values()]
    prefixes = {match and match[1] for match in matches}
    if len(prefixes) == 1 and (prefix := prefixes.pop()) and prefix.endswith('.'):
        names = {name: plain.removeprefix(prefix) for name, plain in names.items()}
    plain: dict[str, Any] = {}
    for name, values in arrays.items():
        if names[name] in plain:
            raise ContentError(f'holds {printable(names[name])} twice, once as {printable(name)}')
        plain[names[name]] = values
    return plain


def _unwrapped(name: str) -> str:
    return '.'.join(part for part in name.split('.') if part not in _WRAPPERS)


def _state_dicts(
    value: Any, is_array: Callable[[Any], bool]
) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yields every dictionary that holds arrays by name, the outer before the inner ones."""
    waiting: list[tuple[Place, Any]] = [((), value)]
    seen = set()
    for place, inner in waiting:
        if not isinstance(inner, dict) or id(inner) in seen:
            continue
        seen.add(id(inner))
        named = {name: x for name, x in inner.items() if isinstance(name, str)}
        arrays = {name: x for name, x in named.items() if is_array(x)}
        if arrays:
            yield place, arrays
        if len(place) < _DEEPEST:
            waiting += [((*place, name), x) for name, x in named.items() if isinstance(x, dict)]


def _is_average(place: Place) -> bool:
    return any(
        _AVERAGES.fullmatch(word) for key in place for word in re.split(r'[\W_]', key.lower())
    )


def _holds(several: Collection[str], names: Collection[str]) -> bool:
    """Returns whether the dictionary has each of the names below some module."""
    parts = {part for name in several if (part := _PARTS.sub(r'\2.', name, count=1)) != name}
    return parts >= set(names)


def _listed(found: Iterable[tuple[Place, Any]]) -> str:
    places = [
        printable('.'.join(place)) if place else 'the outermost dictionary' for place, _ in found
    ]
    more = len(places) - _MOST_NAMED
    return ', '.join(places[:_MOST_NAMED]) + (f' and {more} more' if more > 0 else '')
