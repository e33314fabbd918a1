"""Averages the probabilities of several nets (Table 2: five and seven nets); their agreement."""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.evaluation.arrays import ImageArrays, file_name
from alexnet_jax.evaluation.seeds import cell, markdown_table, with_interval
from alexnet_jax.evaluation.tally import Tally, has_top5
from alexnet_jax.runtime.errors import InputError, shown

LOG_PROBABILITIES = 'log_probabilities'
SAME = ('split', 'views', 'distinct_views', 'set', 'data', 'classes')  # of all members
# Descriptions of the keys of about.json.
TYPES = {
    'source': str, 'split': str, 'views': int, 'distinct_views': int, 'set': str, 'data': dict,
    'network': str,
}  # fmt: skip
LOWEST = float(np.finfo(np.float32).min)  # of a saved logarithm, so that it is finite
TOLERANCE = 1e-3  # maximum deviation of the sum of an image's probabilities from 1


@dataclasses.dataclass(frozen=True)
class Member:
    """Predictions of one net for a split.

    name: its workdir, or the folder of its saved predictions.
    about: as `trained.Showing.about`.
    ids: [images]. labels: [images]. log_probabilities: as `kept` returns them.
    """

    name: str
    about: dict[str, Any]
    ids: list[str]
    labels: np.ndarray
    log_probabilities: np.ndarray

    @property
    def workdir(self) -> Path:
        """The workdir, also for predictions saved in it; otherwise the folder."""
        folder = Path(self.name).resolve()
        saved_in = folder.parents[1] if folder.parent.name == 'eval' else folder
        return saved_in if (saved_in / 'config.json').exists() else folder


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """The errors of several nets, and of their mean probabilities.

    about: facts common to all members, and their networks, steps and names. members: each net's
    errors.
    together: those of their mean probabilities. agreement: [members, members], the fraction of
    images with the same prediction of two nets.
    """

    about: dict[str, Any]
    weights: Sequence[float]
    members: list[Tally]
    together: Tally
    agreement: np.ndarray


def kept(log_probabilities: np.ndarray) -> np.ndarray:
    """Returns logarithms of probabilities in the form of members and files, float32.

    [images, classes] -> [images, classes]: no probability underflows to 0.
    """
    return np.maximum(log_probabilities, LOWEST).astype(np.float32)


def saved_member(saved: ImageArrays) -> Member:
    """Returns the member of a folder of saved predictions.

    Raises:
      InputError: they are no predictions.
    """
    folder, about = saved.folder, saved.about
    if not saved.ids:
        raise InputError(f'{folder} has no predictions')
    if not (folder / file_name(LOG_PROBABILITIES)).exists():
        raise InputError(
            f'{folder} holds no {file_name(LOG_PROBABILITIES)}; earlier versions kept rounded'
            ' probabilities alone: save them again with --mode=eval --config.eval.save=predictions'
        )
    missing = [name for name in ('source', *SAME, 'network', 'step') if name not in about]
    if missing:
        raise InputError(f'{folder} does not state its {missing[0]} in about.json')
    if not isinstance(about['classes'], list) or type(about['step']) is not int:
        raise InputError(f'{folder} states no list of classes or no step in about.json')
    for name, kind in TYPES.items():
        if type(about[name]) is not kind:
            raise InputError(f'{folder} states no usable {name} in about.json')
    values, classes = saved.array(LOG_PROBABILITIES), len(about['classes'])
    if values.shape != (len(saved.ids), classes) or values.dtype != np.float32:
        raise InputError(
            f'{folder} holds log-probabilities of the shape {values.shape} and type {values.dtype};'
            f' allowed: {(len(saved.ids), classes)}, images and classes, float32'
        )
    if not np.isin(saved.labels, range(classes)).all():
        raise InputError(f'{folder} holds labels beyond its {classes} classes')
    return Member(str(folder), about, saved.ids, saved.labels, np.asarray(values))


def average(members: Iterable[Member], weights: Sequence[float]) -> Ensemble:
    """Averages the members' probabilities with these weights.

    Members are read one at a time, to limit the memory.

    Raises:
      InputError: they are not of the same images, views and classes; one net occurs twice; a member
        has NaN probabilities.
    """
    log_weights = np.log(np.asarray(weights, np.float64))
    log_weights -= np.logaddexp.reduce(log_weights)
    first, total, tallies, taken_for, abouts = None, np.full((), -np.inf), [], [], []
    names: dict[Any, str] = {}
    for member, log_weight in zip(members, log_weights, strict=True):
        first = first or dataclasses.replace(member, log_probabilities=np.empty(0))
        _require_probabilities(member)
        _require_same_images(member, first)
        _require_once(member, names)
        total = np.logaddexp(total, member.log_probabilities + log_weight)
        tallies.append(_tally(member.log_probabilities, member.labels))
        taken_for.append(member.log_probabilities.argmax(axis=1))
        abouts.append(member.about | {'name': member.name})
    assert first is not None, 'no members'
    agreement = np.array([[np.mean(one == other) for other in taken_for] for one in taken_for])
    about = {name: first.about[name] for name in ('source', *SAME)} | {
        'network': ', '.join(dict.fromkeys(about['network'] for about in abouts)),
        'step': max(about['step'] for about in abouts),
        'steps': [about['step'] for about in abouts],
        'members': [about['name'] for about in abouts],
    }
    if 'compute' in first.about:
        about['compute'] = first.about['compute']
    rules = dict.fromkeys(one['class_rule'] for one in abouts if 'class_rule' in one)
    if rules:
        about['class_rule'] = '; '.join(rules)
    return Ensemble(about, weights, tallies, _tally(total, first.labels), agreement)


def _require_probabilities(member: Member) -> None:
    values = member.log_probabilities
    if not np.isfinite(values).all():
        raise InputError(f'{member.name} has NaN or infinite probabilities; remove it')
    sums = np.exp(values, dtype=np.float64).sum(axis=1)
    if np.abs(sums - 1).max() > TOLERANCE:
        raise InputError(
            f'{member.name} gives an image probabilities that sum to'
            f' {sums[np.abs(sums - 1).argmax()]:.6g}; allowed: 1'
        )


def _require_once(member: Member, names: dict[Any, str]) -> None:
    """Checks that no earlier member is of the same workdir and step, or has the same
    probabilities; `names`: what the earlier ones are known by."""
    values = hashlib.sha256(np.ascontiguousarray(member.log_probabilities).data).hexdigest()
    for key in ((member.workdir, member.about['step']), values):
        if key in names:
            raise InputError(f'{member.name} and {names[key]} are the same net; allowed: each once')
        names[key] = member.name


def require_alike(abouts: Mapping[str, Mapping[str, Any]]) -> None:
    """Checks that all members, by name, are evaluated on the same images.

    It compares only known facts.

    Raises:
      InputError: one is of another split, set, classes, number of views or type (compute) than an
        earlier one.
    """
    stated = {name: {'compute': 'float32', **about} for name, about in abouts.items()}
    for key in (*SAME, 'compute'):
        known = [(name, about[key]) for name, about in stated.items() if key in about]
        for name, own in known:
            first, wanted = known[0]
            if own != wanted:
                values = '' if key == 'classes' else f': {shown(own)}, not {shown(wanted)}'
                raise InputError(f'{name} is of another {key} than {first}{values}')


def _require_same_images(member: Member, first: Member) -> None:
    require_alike({first.name: first.about, member.name: member.about})
    if member.ids != first.ids or not np.array_equal(member.labels, first.labels):
        raise InputError(f'{member.name} is of other images than {first.name}')


def _tally(log_probabilities: np.ndarray, labels: np.ndarray) -> Tally:
    tally = Tally.zero(log_probabilities.shape[1])
    of_label = log_probabilities[np.arange(len(labels)), labels].astype(np.float64)
    tally.add(log_probabilities, labels, -of_label)
    return tally


def tree(result: Ensemble) -> dict[str, Any]:
    """Returns the result for JSON."""
    rows = zip(result.about['members'], result.weights, result.members, strict=True)
    return {
        'together': result.together.scores(),
        'members': [{'name': name, 'weight': w, **tally.scores()} for name, w, tally in rows],
        'agreement': result.agreement.tolist(),
    }


def markdown(result: Ensemble) -> str:
    """Returns the result as a table: errors as fractions, with their 95 % intervals in brackets."""
    names = result.about['members']
    head = [f'agrees with {number}' for number in range(1, len(names) + 1)]
    rows = zip(names, result.weights, result.members, result.agreement, strict=True)
    cells = [
        [f'{number}: {cell(name)}', f'{weight:g}', *_errors(tally), *(f'{x:.4f}' for x in agreed)]
        for number, (name, weight, tally, agreed) in enumerate(rows, start=1)
    ]
    cells.append(['together', '', *_errors(result.together), *[''] * len(names)])
    head = ['net', 'weight', 'top-1 error', 'top-5 error', *head]
    return '\n'.join([*markdown_table(head, cells), ''])


def _errors(tally: Tally) -> list[str]:
    scores = tally.scores()
    cells = [
        with_interval(scores[f'{name}_error'], *scores[f'{name}_interval'])
        for name in ('top1', 'top5')
    ]
    return cells if has_top5(scores) else [cells[0], '–']
