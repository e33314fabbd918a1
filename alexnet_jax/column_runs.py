"""The measures of two_columns.py, of many runs, as rows of a table."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax import trained, two_columns
from alexnet_jax.config import Config
from alexnet_jax.evaluation.tally import Tally
from alexnet_jax.results import read_object, write_json

Row = dict[str, Any]
KEPT = 'columns.json'


def measure_all(
    runs: Mapping[str, Config], folder: Path, stop_requested: Callable[[], bool]
) -> dict[str, Row]:
    """By run; kept in each one's columns.json, and not measured again at the same step."""
    measured = {}
    for name, config in runs.items():
        showing = trained.show(config, folder / name, stop_requested)
        path = folder / name / KEPT
        row = read_object(path) if os.path.lexists(path) else {}
        if row.get('step') == showing.model.step:
            measured[name] = row
            continue
        measured[name] = measure(showing, folder / name)
        write_json(path, measured[name])
        print(f'measured {name}', flush=True)
    return measured


def measure(showing: trained.Showing, workdir: Path) -> Row:
    """{'step', 'measures': numbers by name, 'separation': by index, 'over_training': by step,
    p and all of `separation` by index}."""
    model = showing.model
    cuts = two_columns.cut(showing)
    found = two_columns.separations(two_columns.kernel_of(model))
    measures = {'top1 error': showing.tally().scores()['top1_error']}
    for index, separation in found.items():
        measures[f'{index} apart'] = abs(separation.difference)
        measures[f'{index} apart by chance'] = separation.by_chance
    measures |= _of_cuts(cuts, model.classes)
    for row in two_columns.alikeness(showing):
        measures[f'CKA at {row.layer}'] = row.columns
        measures[f'CKA at {row.layer}, halves at random'] = float(row.halves.mean())
    history = two_columns.over_training(workdir, model)
    return {
        'step': model.step,
        'measures': measures,
        'separation': _tree(found),
        'over_training': {
            step: _tree(two_columns.separations(kernel)) for step, kernel in history.items()
        },
    }


def _of_cuts(cuts: Mapping[str, Tally], classes: tuple[str, ...]) -> dict[str, float]:
    """Errors of the net with a part cut, and how far its columns alone differ in what they are
    good at: of the patterns, |(grating − hue error of one) − (that of the other)|."""
    measures = {
        f'top1 error, {name}': tally.scores()['top1_error']
        for name, tally in cuts.items() if name.startswith('no crossing')
    }  # fmt: skip
    alone = [tally for name, tally in cuts.items() if name.endswith('alone')]
    if alone:
        errors = sorted(tally.scores()['top1_error'] for tally in alone)
        measures |= {'top1 error, better column alone': errors[0],
                     'top1 error, other column alone': errors[-1]}  # fmt: skip
    groups = [np.array([name.startswith(kind) for name in classes]) for kind in ('grating', 'hue')]
    if alone and all(group.any() for group in groups):
        leanings = [
            np.subtract(
                *(tally.top1[group].sum() / tally.examples[group].sum() for group in groups)
            )
            for tally in alone[:2]
        ]
        measures['columns alone differ in leaning'] = float(abs(leanings[0] - leanings[1]))
    return measures


def _tree(found: Mapping[str, Any]) -> dict[str, Row]:
    return {index: dataclasses.asdict(separation) for index, separation in found.items()}
