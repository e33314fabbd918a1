"""The report of one run: WORKDIR/report/index.html.

Beside it lies every figure of it as a picture and as numbers.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from alexnet_jax.data.own_source import without_folder
from alexnet_jax.evaluation.tally import has_top5
from alexnet_jax.experiment import results, trained, two_columns
from alexnet_jax.experiment.defaults import Config
from alexnet_jax.experiment.model import Model
from alexnet_jax.experiment.trained import Showing
from alexnet_jax.experiment.unit_images import Search
from alexnet_jax.network.shapes import LayerShape, layer_shapes
from alexnet_jax.report import (
    calibration_section,
    class_section,
    column_section,
    differences,
    run_facts,
    training_section,
    unit_section,
)
from alexnet_jax.report.figures import bars, diagram, kernels, neighbors, page, predictions
from alexnet_jax.report.figures.canvas import write_numbers
from alexnet_jax.report.figures.curves import SPLITS
from alexnet_jax.report.figures.page import Section
from alexnet_jax.report.findings import Findings, Shown, find, last_hidden
from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import InputError, StorageError, counted
from alexnet_jax.training import metrics_log

MANY = 20_000  # training images, which take a while
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Run:
    """A run of which a report is made.

    folder: where it is made. showing: None where the images cannot be had, for `reason`.
    """

    workdir: Path
    folder: Path
    config: Config
    model: Model
    rows: list[Row]
    lost_lines: int
    showing: Showing | None
    reason: str
    stop_requested: Callable[[], bool]


def make(config: Config, workdir: Path, stop_requested: Callable[[], bool] = lambda: False) -> str:
    """Makes the report of a workdir, in place of one that is there; returns a line on it.

    Raises:
      InputError: as `trained.open_model`.
      StorageError: it cannot be written.
      StopRequestedError: a stop was requested.
    """
    run = open_run(config, workdir, stop_requested)
    try:
        with files.new_folder(run.folder) as made:
            content = _page(dataclasses.replace(run, folder=made))
            (made / 'index.html').write_text(content, encoding='utf-8')
    except OSError as error:
        raise StorageError(f'{run.folder}/ cannot be written: {error.strerror}') from error
    without = f'no images could be shown to the net: {run.reason}\n' if run.showing is None else ''
    return f'{without}report -> {run.folder}/index.html'


def open_run(config: Config, workdir: Path, stop_requested: Callable[[], bool]) -> Run:
    """Opens a run for its report.

    Raises:
      InputError: as `trained.open_model`.
    """
    model = trained.open_model(config, workdir)
    rows, lost = metrics_log.read(workdir / 'metrics.jsonl')
    showing, reason = None, ''
    try:
        showing = trained.show_to(model, config, stop_requested)
    except InputError as error:
        reason = str(error)
    folder = workdir / 'report'
    return Run(workdir, folder, config, model, rows, lost, showing, reason, stop_requested)


def _page(run: Run) -> str:
    found, runner, is_finite = None, None, True
    search = unit_section.search_for(run.model.net.architecture)
    if run.showing is not None:
        layers = [last_hidden(run.showing), *([search.layer] if search else [])]
        runner = run.showing.runner(layers)
        count = len(run.showing.images.splits.get('train', ()))
        if count > MANY:
            print(f'report: {count} training images are searched for neighbors', flush=True)
        found = find(run.showing, runner, search.watching if search else lambda outputs: outputs)
        is_finite = math.isfinite(found.tally.scores()['loss'])
        if not is_finite:
            reason = 'its net gives NaN or infinite values for them.'
            run, found = dataclasses.replace(run, showing=None, reason=reason), None
    sections = [
        Section('The net', _net(run)),
        Section(
            'Training',
            training_section.content(run.folder, run.model, run.rows, run.lost_lines),
        ),
        Section('Kernels of the first layer', _kernels(run)),
        Section(f'{_kind(run).capitalize()} images', _images(run, found)),
        Section('Nearest training images', _neighbors(run, found)),
        Section('Errors by class', _classes(run, found)),
        Section(
            'Confidence', calibration_section.content(run.folder, found.tally) if found else []
        ),
        Section('What units respond to', _units(run, search) if is_finite else []),
        Section(
            'The columns',
            column_section.content(run.workdir, run.folder, run.model, run.showing, runner),
        ),
        Section(
            'What differs from the paper',
            differences.content(run.config, run.model, run.showing, run.rows),
        ),
        Section('The run', run_facts.content(run.workdir, run.config, run.model.step, run.rows)),
    ]
    net, source = run.config.network.name, set_name(run.model.config.data.source)
    return page.render(f'{net} on {source}', _lead(run, found), [s for s in sections if s.content])


def set_name(source: str) -> str:
    """Returns a set's name for a title: the last part of a folder's or file's path."""
    kind, _, path = source.partition(':')
    return Path(path).name if kind == 'folder' else without_folder(source)


def _kind(run: Run) -> str:
    """Of the images shown: training, validation or test."""
    return SPLITS[run.showing.split] if run.showing else 'test'


def _of_source(run: Run) -> str:
    """Names the set if it is not the run's own."""
    own = run.showing is None or run.showing.is_of_own_set
    return '' if own else f' of {run.config.data.source}'


def _lead(run: Run, found: Findings | None) -> str:
    about = f'Step {run.model.step} of {run.workdir}.'
    if found is None or run.showing is None:
        return page.paragraph(f'{about} No images could be shown to the net: {run.reason}')
    scores, split = found.tally.scores(), run.showing.split
    low, high = scores['top1_interval']
    top5 = f', top-5 error {scores["top5_error"]:.4f}' if has_top5(scores) else ''
    count, views = results.images_text(scores['examples']), results.views_text(run.showing.about)
    meaning = 'The top-1 error is the share of images whose most probable class is wrong' + (
        '; the top-5 error, of those whose class is not among the five most probable'
        if top5
        else ''
    )
    return page.paragraph(
        f'{split}{_of_source(run)}: top-1 error {scores["top1_error"]:.4f} [{low:.4f}, {high:.4f}]'
        f'{top5}, on {count}, {views}.', 'big'
    ) + page.paragraph(
        f'{about} {meaning}. In brackets, here and below: the 95 % interval.', 'muted'
    )  # fmt: skip


def _net(run: Run) -> list[str]:
    net, classes, path = run.model.net.architecture, run.model.net.classes, run.folder / 'net'
    diagram.draw(net, classes, path)
    shapes = layer_shapes(net, classes)
    rows = [(row.name, '×'.join(map(str, row.output)), f'{row.parameters:,}', f'{row.multiply_adds:,}')
            for row in shapes]  # fmt: skip
    total = f'{sum(row.parameters for row in shapes):,} parameters. Multiply-adds are those of one image.'
    caption = 'Each box is a layer of one column. Where arrows cross, each column reads both.'
    if net.columns == 1:
        caption = 'Each box is a layer.'
    table = page.table(('layer', 'output', 'parameters', 'multiply-adds'), rows, total)
    drawing = page.picture(path, diagram.described(net, classes), caption)
    return [page.side_by_side(drawing, table + _shares(run.folder / 'shares', shapes))]


def _shares(path: Path, shapes: Sequence[LayerShape]) -> str:
    """A figure of the parameters and the arithmetic of each layer."""
    sums = [sum(getattr(row, of) for row in shapes) for of in ('parameters', 'multiply_adds')]
    parameters = [row.parameters / sums[0] for row in shapes]
    arithmetic = [row.multiply_adds / sums[1] for row in shapes]
    bars.draw(
        [row.name for row in shapes], parameters, path, 'share of the parameters',
        marks=('of the multiply-adds', arithmetic),
    )  # fmt: skip
    described = 'Share of the parameters and of the multiply-adds of each layer: ' + ', '.join(
        f'{row.name} {one:.2f} and {other:.2f}'
        for row, one, other in zip(shapes, parameters, arithmetic, strict=True)
    )
    return page.picture(path, described, '')


def _kernels(run: Run) -> list[str]:
    net = run.model.net.architecture
    if not two_columns.has_first_kernels(net):
        return []
    path = run.folder / 'kernels'
    kernel = two_columns.kernel_of(run.model)
    kernels.draw(kernel, path)
    columns, side, count = kernel.shape[0], kernel.shape[1], kernel.shape[-1]
    caption = (
        f"As the paper's Figure 3: each square is a kernel of {net.layers[0].name}, {side}×{side}"
        ' weights in red, green and blue. Gray is 0; each kernel is scaled by its own largest weight.'
        ' Kernels are in the order of their color index, gray ones first.'
    )
    about = page.note(page.links(path, caption))
    described = f'{count} kernels of {net.layers[0].name}, {side}×{side} pixels.'
    if columns == 1:
        (sheet,) = kernels.sheets(kernel)
        drawn = page.sheet(sheet, described, '') + about + page.paragraph(column_section.INDICES)
        return [page.side_by_side(drawn, column_section.selectivity_figure(kernel, run.folder))]
    sheets = [
        page.sheet(sheet, f'Column {number}: {described}', f'Column {number}')
        for number, sheet in enumerate(kernels.sheets(kernel), start=1)
    ]
    return [page.side_by_side(*sheets), about]


def _images(run: Run, found: Findings | None) -> list[str]:
    if found is None:
        return [page.paragraph('There are no images at hand.')]
    parts = [
        page.paragraph(f"As the paper's Figure 4, left: {_kind(run)} images drawn at random"
                       f'{_of_source(run)}. Below each its class, green if the prediction is right and'
                       ' red if it is wrong; then the five most probable classes with their'
                       ' probabilities.'),
        _cards(run, found.drawn),
    ]  # fmt: skip
    _draw_predictions(run, 'images', found.drawn)
    if found.mistakes:
        parts += [
            page.heading('Wrong predictions with the highest probability'),
            _cards(run, found.mistakes),
        ]
        _draw_predictions(run, 'mistakes', found.mistakes)
    return parts


def _draw_predictions(run: Run, name: str, shown: Sequence[Shown]) -> None:
    predictions.draw([one.prediction for one in shown], run.folder / f'{name}.png')
    rows = [(one.id, one.prediction.title, place, *entry) for one in shown
            for place, entry in enumerate(one.prediction.classes, start=1)]  # fmt: skip
    write_numbers(run.folder / name, ('image', 'class', 'place', 'taken_for', 'probability'), rows)


def _cards(run: Run, shown: Sequence[Shown]) -> str:
    return page.predictions(
        [
            (one.prediction.image, one.prediction.title, one.prediction.classes, one.place)
            for one in shown
        ],
        f'{_kind(run)} image',
    )


def _neighbors(run: Run, found: Findings | None) -> list[str]:
    if found is None or not found.neighbors:
        return [page.paragraph('There are no training images at hand to look among.')]
    neighbors.draw(found.neighbors, run.folder / 'neighbors')
    assert run.showing is not None
    count = len(run.showing.images.splits['train'])
    but = ' but itself' * (run.showing.split == 'train')
    nearest = [one for row in found.neighbors for one in row[1:]]
    alike = sum(one.is_alike for one in nearest)
    about = (
        f"As the paper's Figure 4, right: a {_kind(run)} image{_of_source(run)}, and of all {count}"
        f' training images{but} those whose activations in the last hidden layer'
        f' ({last_hidden(run.showing)}) have the smallest Euclidean distance from its own. Below each its'
        f' class, green if it is that of the {_kind(run)} image, and the distance. Of these'
        f' {counted(len(nearest), "neighbor")} {alike} {"is" if alike == 1 else "are"} of the same class'
        ' as their image.'
    )
    rows = [[(one.image, one.title, one.distance, one.is_alike) for one in row]
            for row in found.neighbors]  # fmt: skip
    return [page.paragraph(about), page.neighbors(rows, f'{_kind(run)} image')]


def _classes(run: Run, found: Findings | None) -> list[str]:
    if found is None:
        return [page.paragraph('There are no images at hand.')]
    return class_section.content(run.folder, run.model.classes, found.tally)


def _units(run: Run, search: Search | None) -> list[str]:
    return unit_section.content(run.folder, run.model, run.showing, search, run.stop_requested)
