"""The section of a report on the columns: kernels, errors with a part cut, similarity (docs/columns.md)."""

from collections.abc import Mapping
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

MOMENTS = 20  # of a training, at which the columns are compared
DEALS = 999  # permutations at each
LEVEL = 0.05  # of significance
INDICES = (
    "Color index: the share of a kernel's squared weights that gray images cannot reach, 0 for a gray"
    ' kernel and 0.67 on average for random weights. Orientation index: the share that has one'
    ' orientation in common, 1 for a grating and 0 for a blob.'
)


def content(
    workdir: Path, folder: Path, model: Model, showing: Showing | None, runner: Any
) -> list[str]:
    """Returns the section's parts; its figures are drawn in `folder`.

    A net of one column has none.

    Args:
      showing: None where there are no images. runner: of the showing, if there is one.
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
        drawn += _cuts(showing, runner, folder) + _alikeness(showing, folder)
    return [*parts, page.side_by_side(*drawn)] if drawn else parts


def selectivity_figure(kernel: np.ndarray, folder: Path) -> str:
    """Draws both indices of conv1's kernels, [columns, side, side, 3, features]."""
    found = two_columns.indices(kernel)
    columns.selectivity(found['color'], found['orientation'], folder / 'selectivity')
    by = ', by column' if len(kernel) > 1 else ''
    described = f'Color and orientation index of each kernel of the first layer{by}.'
    return page.picture(
        folder / 'selectivity', described, 'Each mark is a kernel of the first layer.'
    )


def _separations(found: Mapping[str, Separation]) -> str:
    return page.table(
        ('index', 'column 1', 'column 2', 'difference', 'by chance', 'p'),
        [(name, *one.means, one.difference, one.by_chance, one.p) for name, one in found.items()],
        'Means of each index over the kernels of a column',
    )


def about_p(found: Mapping[str, Separation]) -> str:
    """Returns what the p-values mean, and what they say here."""
    text = (
        f'p: the same kernels are dealt to two columns at random, {PERMUTATIONS:,} times; p is the share'
        ' of deals whose difference is at least as large, and by chance their mean difference. Where'
        f' columns do not differ, p is below {LEVEL:g} in one of {1 / LEVEL:.0f} cases.'
    )
    said = [_conclusion(name, one.p) for name, one in found.items() if np.isfinite(one.p)]
    return ' '.join([text, *said])


def _conclusion(name: str, p: float) -> str:
    explains = 'hardly explains' if p < LEVEL else 'may explain'
    return (
        f'{name.capitalize()}: {100 * p:.3g} % of the deals have a difference at least as large, so'
        f' chance {explains} it.'
    )


def _over_training(workdir: Path, model: Model, folder: Path) -> list[str]:
    history = two_columns.over_training(workdir, model)
    if len(history) < 2:
        return []
    steps = sorted(history)
    steps = [
        steps[i] for i in np.unique(np.linspace(0, len(steps) - 1, MOMENTS).round().astype(int))
    ]
    apart: dict[str, list[tuple[float, float, float]]] = {}
    for step in steps:
        for name, values in two_columns.indices(history[step]).items():
            one = selectivity.separation(values[0], values[1], DEALS)
            apart.setdefault(name, []).append((one.difference, one.by_chance, one.p))
    columns.separation(steps, apart, folder / 'separation')
    described = f"Difference between the columns' means from step {steps[0]} to {steps[-1]}."
    caption = "The difference between the columns' means over training; dotted: by chance."
    return [page.picture(folder / 'separation', described, caption)]


def _cuts(showing: Showing, runner: Any, folder: Path) -> list[str]:
    scores = {name: tally.scores() for name, tally in two_columns.cut(showing, runner).items()}
    path = folder / 'cuts'
    bars.draw(
        list(scores), [row['top1_error'] for row in scores.values()], path, 'top-1 error',
        intervals=[row['top1_interval'] for row in scores.values()],
    )  # fmt: skip
    described = 'Top-1 error with a part cut: ' + ', '.join(
        f'{name} {row["top1_error"]:.3f}' for name, row in scores.items()
    )
    images = next(iter(scores.values()))['examples']
    on = counted(images, f'{SPLITS[showing.split]} image')
    caption = (
        f'Errors on {on} with a part of the net cut: weights that read the other column are set to 0'
        ' in one layer (no crossing) or everywhere (column alone). Nothing is trained again.'
    )
    return [page.picture(path, described, caption)]


def _alikeness(showing: Showing, folder: Path) -> list[str]:
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
    caption = (
        "Centered kernel alignment (CKA) of the two columns' outputs for the same images: 1 where one is"
        ' the other turned and scaled, about 0 where they are unrelated.'
    )
    return [page.picture(path, described, caption)]
