"""Several nets' probabilities averaged (Table 2: five and seven nets), and how far the
nets agree."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from alexnet_jax.errors import InputError
from alexnet_jax.evaluation.arrays import ImageArrays
from alexnet_jax.evaluation.tally import Tally

PROBABILITIES = 'probabilities'
SAME = ('split', 'views', 'source', 'classes')  # of all members
SMALLEST = {np.float16: 2.0**-25, np.float32: 2.0**-126}  # what lies below is kept as 0


@dataclasses.dataclass(frozen=True)
class Member:
    """What one net makes of a split.

    about: {'split', 'views', 'source', 'classes', 'network', 'step'}.
    ids: [images]. labels: [images]. probabilities: [images, classes].
    """

    name: str
    about: dict[str, Any]
    ids: list[str]
    labels: np.ndarray
    probabilities: np.ndarray
    tally: Tally


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """about: what all members share, their networks and names. members: each net's
    errors. together: those of their mean `probabilities` [images, classes]. agreement:
    [members, members], the share of images that two nets take for the same class."""

    about: dict[str, Any]
    weights: Sequence[float]
    members: list[Tally]
    together: Tally
    probabilities: np.ndarray
    agreement: np.ndarray


def saved_member(saved: ImageArrays) -> Member:
    """The net whose predictions were kept.

    Raises:
      InputError: they are no predictions.
    """
    probabilities = saved.array(PROBABILITIES)
    missing = [name for name in (*SAME, 'network', 'step') if name not in saved.about]
    if missing:
        raise InputError(f'{saved.folder} does not tell its {missing[0]} in about.json')
    classes = len(saved.about['classes'])
    if probabilities.shape != (len(saved.ids), classes):
        raise InputError(
            f'{saved.folder} holds probabilities of the shape {probabilities.shape};'
            f' allowed: {(len(saved.ids), classes)}, images and classes'
        )
    if not np.isin(saved.labels, range(classes)).all():
        raise InputError(f'{saved.folder} holds labels beyond its {classes} classes')
    tally = _tally(probabilities, saved.labels)
    return Member(str(saved.folder), saved.about, saved.ids, saved.labels, probabilities, tally)


def average(members: Iterable[Member], weights: Sequence[float]) -> Ensemble:
    """The mean of the members' probabilities with these weights. Members are taken one
    after the other, and let go.

    Raises:
      InputError: they are not of the same images, views and classes.
    """
    first, total, tallies, taken_for, abouts = None, np.zeros(()), [], [], []
    for member, weight in zip(members, weights, strict=True):
        first = first or dataclasses.replace(member, probabilities=np.empty(0))
        _require_same_images(member, first)
        total = total + member.probabilities * np.float64(weight / sum(weights))
        tallies.append(member.tally)
        taken_for.append(member.probabilities.argmax(axis=1))
        abouts.append(member.about | {'name': member.name})
    assert first is not None, 'no members'
    agreement = np.array([[np.mean(one == other) for other in taken_for] for one in taken_for])
    about = {name: first.about[name] for name in SAME} | {
        'network': ', '.join(dict.fromkeys(about['network'] for about in abouts)),
        'step': max(about['step'] for about in abouts),
        'members': [about['name'] for about in abouts],
    }
    return Ensemble(about, weights, tallies, _tally(total, first.labels), total, agreement)


def _require_same_images(member: Member, first: Member) -> None:
    differ = [name for name in SAME if member.about.get(name) != first.about.get(name)]
    if differ:
        raise InputError(f'{member.name} is of another {differ[0]} than {first.name}')
    if member.ids != first.ids or not np.array_equal(member.labels, first.labels):
        raise InputError(f'{member.name} is of other images than {first.name}')


def _tally(probabilities: np.ndarray, labels: np.ndarray) -> Tally:
    """Errors and loss of kept probabilities. What was rounded to 0 counts in the loss as
    the smallest number that is not."""
    tally = Tally.zero(probabilities.shape[1])
    of_label = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    least = SMALLEST.get(probabilities.dtype.type, SMALLEST[np.float32])
    tally.add(np.asarray(probabilities), labels, -np.log(np.maximum(of_label, least)))
    return tally


def tree(result: Ensemble) -> dict[str, Any]:
    """The result for JSON."""
    rows = zip(result.about['members'], result.weights, result.members, strict=True)
    return {
        'together': result.together.scores(),
        'members': [{'name': name, 'weight': w, **tally.scores()} for name, w, tally in rows],
        'agreement': result.agreement.tolist(),
    }


def markdown(result: Ensemble) -> str:
    """The result as a table: errors as fractions, in brackets their 95 % intervals."""
    names = result.about['members']
    header = [f'agrees with {number}' for number in range(1, len(names) + 1)]
    lines = [
        f'| net | weight | top-1 error | top-5 error | {" | ".join(header)} |',
        '|---' * (4 + len(names)) + '|',
    ]
    rows = zip(names, result.weights, result.members, result.agreement, strict=True)
    for number, (name, weight, tally, agreed) in enumerate(rows, start=1):
        shares = [f'{share:.4f}' for share in agreed]
        lines.append(_line(f'{number}: {name}', f'{weight:g}', *_errors(tally), *shares))
    lines.append(_line('together', '', *_errors(result.together), *[''] * len(names)))
    return '\n'.join([*lines, ''])


def _line(*cells: str) -> str:
    return f'| {" | ".join(cells)} |'


def _errors(tally: Tally) -> list[str]:
    scores = tally.scores()
    return [
        f'{scores[f"{name}_error"]:.4f} [{low:.4f}, {high:.4f}]'
        for name in ('top1', 'top5')
        for low, high in [scores[f'{name}_interval']]
    ]
