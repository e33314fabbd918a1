"""The section of a report on what the columns have come to do (docs/columns.md)."""

from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.evaluation import selectivity
from alexnet_jax.experiment import two_columns
from alexnet_jax.experiment.model import Model
from alexnet_jax.experiment.trained import Showing
from alexnet_jax.report.figures import bars, columns, page
from alexnet_jax.runtime.errors import counted

MOMENTS = 20  # of a training, at which the columns are compared
DEALS = 999  # permutations at each


def content(
    workdir: Path, folder: Path, model: Model, showing: Showing | None, runner: Any
) -> list[str]:
    """The section's parts, its figures in `folder`.

    Args:
      showing: None where there are no images. runner: of the showing, if there is one.
    """
    net = model.net.architecture
    parts = []
    if two_columns.has_first_kernels(net):
        parts += _selectivity(workdir, model, folder)
    if showing is not None and net.columns > 1:
        parts += _cuts(showing, runner, folder) + _alikeness(showing, folder)
    return parts


def _selectivity(workdir: Path, model: Model, folder: Path) -> list[str]:
    kernel = two_columns.kernel_of(model)
    found = two_columns.indices(kernel)
    columns.selectivity(found['color'], found['orientation'], folder / 'selectivity')
    parts = [page.paragraph(
        'Colour index: the share of a kernel that a grey image cannot reach; random kernels lie at'
        ' 0.67. Orientation index: the share that has one orientation in common.'
    )]  # fmt: skip
    described = 'Colour and orientation index of each kernel of the first layer, by column.'
    drawn = [page.picture(folder / 'selectivity', described, 'Each mark a kernel.')]
    if len(kernel) > 1:
        found = two_columns.separations(kernel)
        parts.append(page.table(
            ('index', 'column 1', 'column 2', 'difference', 'by chance', 'p'),
            [(name, *one.means, one.difference, one.by_chance, one.p) for name, one in found.items()],
            'Means over the kernels of either column. By chance: the mean difference where kernels are'
            ' dealt to the columns at random; p: how often that is as large.',
        ))  # fmt: skip
        drawn += _over_training(workdir, model, folder)
    return [*parts, page.side_by_side(*drawn)]


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
    described = f"How far the columns' means lie apart from step {steps[0]} to {steps[-1]}."
    caption = 'Over training; dotted: by chance.'
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
    on = counted(images, f'{showing.split} image')
    caption = f'On {on}. Cut: weights from the other column set to 0.'
    return [page.heading('With a part cut'), page.picture(path, described, caption)]


def _alikeness(showing: Showing, folder: Path) -> list[str]:
    rows = two_columns.alikeness(showing)
    if not rows or any(np.isnan([row.columns, *row.halves]).any() for row in rows):
        return []
    path = folder / 'alikeness'
    columns.alikeness(
        [row.layer for row in rows],
        [row.columns for row in rows],
        [row.halves for row in rows],
        path,
    )
    described = 'CKA between the columns by layer: ' + ', '.join(
        f'{row.layer} {row.columns:.2f}' for row in rows
    )
    caption = 'Centred kernel alignment of what either column makes of the same images: 1 is alike.'
    return [page.heading('How alike the columns are'), page.picture(path, described, caption)]
