"""Column section of a report: kernels, errors after cuts, and similarity (docs/columns.md)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.evaluation import selectivity
from alexnet_jax.evaluation.selectivity import PERMUTATIONS, Separation
from alexnet_jax.experiment import two_columns
from alexnet_jax.experiment.model import Model
from alexnet_jax.experiment.trained import Showing
from alexnet_jax.report.figures import bars, columns, page
from alexnet_jax.report.figures.curves import SPLITS
from alexnet_jax.runtime.errors import counted

MOMENTS = 20  # maximum number of steps at which the columns are compared
PERMUTED = 999  # random assignments at each of these steps
LEVEL = 0.05  # significance
INDICES = (
    'The color index of a kernel is 0 for a gray kernel, 0.67 on average for random weights, and 1 for'
    ' a kernel that does not respond to gray images. The orientation index is 1 for a grating with one'
    ' orientation and 0 for a blob.'
)


def content(
    workdir: Path, folder: Path, model: Model, showing: Showing | None, runner: Any
) -> list[str]:
    """Returns the parts of the section; its figures are drawn in `folder`.

    A net with one column has no parts.

    Args:
      showing: None if there are no images. runner: the runner of `showing`, or None.
    """
    net = model.net.architecture
    if net.columns == 1:
        return []
    parts, drawn = [], []
    if two_columns.has_first_kernels(net):
        kernel = two_columns.kernel_of(model)
        found = two_columns.separations(kernel)
        about = page.paragraph(about_p(found))
        parts = [page.paragraph(INDICES), page.side_by_side(_separations(found), about)]
        drawn = [selectivity_figure(kernel, folder), *_over_training(workdir, model, folder)]
    if showing is not None:
        drawn += _cuts(showing, runner, folder) + _similarity(showing, folder)
    return [*parts, page.side_by_side(*drawn)] if drawn else parts


def selectivity_figure(kernel: np.ndarray, folder: Path) -> str:
    """Draws the two indices of conv1's kernels, [columns, side, side, 3, features]; returns HTML."""
    found = two_columns.indices(kernel)
    columns.selectivity(found['color'], found['orientation'], folder / 'selectivity')
    by = ', by column' if len(kernel) > 1 else ''
    described = f'Color and orientation index of each kernel of the first layer{by}.'
    return page.picture(
        folder / 'selectivity', described, 'Each mark is a kernel of the first layer.'
    )


def _separations(found: Mapping[str, Separation]) -> str:
    names = ('index', 'column 1', 'column 2', 'difference', 'chance level', 'p')
    rows = [(name, *one.means, one.difference, one.by_chance, one.p) for name, one in found.items()]
    return page.table(names, rows, 'Mean index of the kernels of each column')


def about_p(found: Mapping[str, Separation]) -> str:
    """Returns the findings on the difference of the columns, and the definition of p."""
    findings = [_finding(name, one.p) for name, one in found.items() if np.isfinite(one.p)]
    definition = (
        f'The p-value is found by assigning the same kernels to two columns at random,'
        f' {PERMUTATIONS:,} times: p is the fraction of these assignments with at least the measured'
        ' difference, and the chance level is their mean difference. A small p means that chance'
        f' hardly explains the difference. If the columns do not differ, p is below {LEVEL:g} in one of'
        f' {1 / LEVEL:.0f} cases.'
    )
    return ' '.join([*findings, definition])


def _finding(name: str, p: float) -> str:
    if p < LEVEL:
        return f'The columns differ in {name}, p = {p:.2g}.'
    return f'No evidence that the columns differ in {name}, p = {p:.2g}.'


def _over_training(workdir: Path, model: Model, folder: Path) -> list[str]:
    history = two_columns.over_training(workdir, model)
    if len(history) < 2:
        return []
    steps = sorted(history)
    steps = [
        steps[i] for i in np.unique(np.linspace(0, len(steps) - 1, MOMENTS).round().astype(int))
    ]
    found: dict[str, list[tuple[float, float, float]]] = {}
    for step in steps:
        for name, values in two_columns.indices(history[step]).items():
            one = selectivity.separation(values[0], values[1], PERMUTED)
            found.setdefault(name, []).append((one.difference, one.by_chance, one.p))
    columns.separation(steps, found, folder / 'separation')
    described = f"Difference between the columns' mean indices from step {steps[0]} to {steps[-1]}."
    caption = (
        "Absolute difference between the columns' mean indices during training. Dotted lines are the"
        ' chance level, the mean difference of random assignments.'
    )
    return [page.picture(folder / 'separation', described, caption)]


def _cuts(showing: Showing, runner: Any, folder: Path) -> list[str]:
    scores = {name: tally.scores() for name, tally in two_columns.cut(showing, runner).items()}
    path = folder / 'cuts'
    bars.draw(
        list(scores), [row['top1_error'] for row in scores.values()], path, 'top-1 error',
        intervals=[row['top1_interval'] for row in scores.values()],
        axis_label='top-1 error (fraction)',
    )  # fmt: skip
    errors = {name: row['top1_error'] for name, row in scores.items()}
    described = 'Top-1 error after each cut: ' + ', '.join(
        f'{name} {error:.3f}' for name, error in errors.items()
    )
    images = next(iter(scores.values()))['examples']
    caption = f'{about_cuts(errors)} Errors on {counted(images, f"{SPLITS[showing.split]} image")}.'
    return [page.picture(path, described, caption)]


def about_cuts(errors: Mapping[str, float]) -> str:
    """Returns the findings on the cuts, and their definition.

    Args:
      errors: top-1 errors by cut, as `two_columns.cut` names them.
    """
    (_, whole), *others = errors.items()
    crossings = [
        (error, name.removeprefix('no crossing at '))
        for name, error in others
        if name.startswith('no crossing')
    ]
    alone = [f'{error:.3f} for {name}' for name, error in others if name.endswith('alone')]
    text = (
        f'The top-1 error is {whole:.3f} for the whole net, {" and ".join(alone)}. A column alone does'
        ' not read the other column, and neither does the classifier: these weights are set to 0.'
    )
    if crossings:
        error, layer = max(crossings)
        most = ', the highest error of all crossings' if len(crossings) > 1 else ''
        text += (
            ' A crossing is a layer that reads both columns. "No crossing" sets its weights from the'
            f' other column to 0: without the crossing at {layer} the error is {error:.3f}{most}.'
        )
    return text + ' The net is not retrained after a cut.'


def _similarity(showing: Showing, folder: Path) -> list[str]:
    rows = two_columns.similarity_by_layer(showing)
    if not rows or any(np.isnan([row.columns, *row.halves]).any() for row in rows):
        return []
    path = folder / 'alikeness'
    columns.similarity_by_layer(
        [row.layer for row in rows],
        [row.columns for row in rows],
        [row.halves for row in rows],
        path,
    )
    described = 'CKA between the columns by layer: ' + ', '.join(
        f'{row.layer} {row.columns:.2f}' for row in rows
    )
    found = [(row.layer, row.columns, np.quantile(row.halves, 0.05)) for row in rows]
    return [page.picture(path, described, about_similarity(found))]


def about_similarity(found: Sequence[tuple[str, float, float]]) -> str:
    """Returns the findings on the similarity of the columns, and the definition of CKA.

    Args:
      found: by layer, (name, CKA of the columns, 5 % quantile of the CKA of random halves).
    """
    low, high = (choose(found, key=lambda one: one[1]) for choose in (min, max))
    below = [layer for layer, value, least in found if value < least]
    text = (
        f'The outputs of the two columns are most similar at {high[0]} (CKA {high[1]:.2f}) and least'
        f' similar at {low[0]} (CKA {low[1]:.2f}). '
        if len(found) > 1
        else f'The CKA of the two columns is {low[1]:.2f} at {low[0]}. '
    )
    text += (
        f'They are less similar than random halves of the layer at {", ".join(below)}.'
        if below
        else 'At no layer are they less similar than random halves of the layer.'
    )
    return (
        f'{text} Centered kernel alignment (CKA) compares outputs for the same images: it is 1 if one'
        ' output is a rotated and scaled copy of the other, and about 0 if they are unrelated.'
    )
