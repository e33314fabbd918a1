"""Measures of the columns of many runs (experiment/two_columns.py), as rows of a table."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.evaluation.tally import Tally
from alexnet_jax.experiment import identity, trained, two_columns
from alexnet_jax.experiment.defaults import Config
from alexnet_jax.experiment.results import write_json
from alexnet_jax.runtime import files
from alexnet_jax.studies import runs, study

Row = dict[str, Any]
KEPT = 'columns.json'


def measure_all(
    configs: Mapping[str, Config], folder: Path, stop_requested: Callable[[], bool]
) -> dict[str, Row]:
    """Measures every run and returns the rows by name.

    The measures of a run are stored in its columns.json, and computed again if the step, split, set,
    net or configuration differs.

    Raises:
      InputError: as `trained.show`.
      StorageError: columns.json cannot be written.
    """
    measured = {}
    for name, config in configs.items():
        showing = trained.show(config, folder / name, stop_requested)
        path, of = folder / name / KEPT, _of(showing)
        row = _kept(path, of)
        if row is None:
            row = finite(measure(showing, folder / name))
            write_json(path, {'of': of} | row)
            print(f'measured {name}', flush=True)
        measured[name] = row
    return measured


def _of(showing: trained.Showing) -> Row:
    """Returns the identity of the measures, as read from JSON."""
    config = showing.config
    return {
        'step': showing.model.step,
        'split': showing.split,
        'network': identity.network_digest(config),
        'config': study.result_settings(config),
    } | runs.identity_of(showing.images)


def _kept(path: Path, of: Row) -> Row | None:
    """Returns the stored measures, or None if they have another identity or cannot be read."""
    try:
        row = files.read_json(path)
        if row.pop('of') == of and row['step'] == of['step'] and isinstance(row['measures'], dict):
            return row
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return None


def finite(tree: Any) -> Any:
    """Returns the tree with None for NaN and infinity, which JSON does not have."""
    if isinstance(tree, dict):
        return {str(name): finite(branch) for name, branch in tree.items()}
    if isinstance(tree, list | tuple):
        return [finite(branch) for branch in tree]
    if isinstance(tree, np.generic):
        tree = tree.item()
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def measure(showing: trained.Showing, workdir: Path) -> Row:
    """Measures the columns of a run.

    Returns {'step', 'measures': numbers by name, 'separation': by index, 'over_training': by
    step, p and all of `separation` by index}.
    """
    model = showing.model
    cuts = two_columns.cut(showing)
    found = two_columns.separations(two_columns.kernel_of(model))
    measures = {'top1 error': showing.tally().scores()['top1_error']}
    for index, separation in found.items():
        measures[f'{index} apart'] = abs(separation.difference)
        measures[f'{index} apart by chance'] = separation.by_chance
    measures |= _of_cuts(cuts, model.classes)
    for row in two_columns.similarity_by_layer(showing):
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
    """Returns errors after cuts, and the difference in leaning of the columns.

    The leaning of a column alone is its error on gratings minus its error on hues, for patterns.
    """
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
        preferences = [
            np.subtract(
                *(tally.top1[group].sum() / tally.examples[group].sum() for group in groups)
            )
            for tally in alone[:2]
        ]
        measures['columns alone differ in leaning'] = float(abs(preferences[0] - preferences[1]))
    return measures


def _tree(found: Mapping[str, Any]) -> dict[str, Row]:
    return {index: dataclasses.asdict(separation) for index, separation in found.items()}
