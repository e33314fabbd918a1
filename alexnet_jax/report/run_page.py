"""The report of one run, WORKDIR/report/index.html, with its figures as pictures and numbers."""

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

MANY = 20_000  # training images; with more, the search takes long and is announced
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Run:
    """Inputs of a report.

    folder: the folder of the page. showing: None if the images are not available, for `reason`.
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
    """Writes the report of a workdir, in place of an earlier one; returns a line on it.

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
    without = f'the net could not be evaluated: {run.reason}\n' if run.showing is None else ''
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
            print(f'report: searching {count:,} training images for neighbors', flush=True)
        found = find(run.showing, runner, search.watching if search else lambda outputs: outputs)
        is_finite = math.isfinite(found.tally.scores()['loss'])
        if not is_finite:
            reason = 'it returns NaN or infinite values.'
            run, found = dataclasses.replace(run, showing=None, reason=reason), None
    folder, model = run.folder, run.model
    sections = [
        Section('Net', _net(run)),
        Section('Training', training_section.content(folder, model, run.rows, run.lost_lines)),
        Section('Kernels of the first layer', _kernels(run)),
        Section(f'{_kind(run).capitalize()} images', _images(run, found)),
        Section('Nearest training images', _neighbors(run, found)),
        Section('Errors by class', _classes(run, found)),
        Section('Calibration', calibration_section.content(folder, found.tally) if found else []),
        Section('Preferred images of units', _units(run, search) if is_finite else []),
        Section('Columns', column_section.content(run.workdir, folder, model, run.showing, runner)),
        Section(
            'Differences from the paper',
            differences.content(run.config, model, run.showing, run.rows),
        ),
        Section('Run', run_facts.content(run.workdir, run.config, model.step, run.rows)),
    ]
    net, source = run.config.network.name, set_name(run.model.config.data.source)
    return page.render(f'{net} on {source}', _lead(run, found), [s for s in sections if s.content])


def set_name(source: str) -> str:
    """Returns a set's name for a title: the last part of a folder's or file's path."""
    kind, _, path = source.partition(':')
    return Path(path).name if kind == 'folder' else without_folder(source)


def _kind(run: Run) -> str:
    """Returns the kind of the evaluated images: training, validation or test."""
    return SPLITS[run.showing.split] if run.showing else 'test'


def _of_source(run: Run) -> str:
    """Returns the set of the images if it is not that of the run."""
    own = run.showing is None or run.showing.is_of_own_set
    return '' if own else f' of {run.config.data.source}'


def _lead(run: Run, found: Findings | None) -> str:
    about = f'Step {run.model.step} of {run.workdir}'
    if found is None or run.showing is None:
        return page.paragraph(f'{about}. The net could not be evaluated: {run.reason}')
    scores = found.tally.scores()
    kind = f'{_kind(run)} image'
    on = counted(scores['examples'], kind) + _of_source(run)
    views = results.views_text(run.showing.about)
    return page.paragraph(lead_sentences(scores, on), 'big') + page.paragraph(
        f'{about}, evaluated with {views} of each image. The top-1 error is the fraction of images whose'
        ' most probable class is wrong. Brackets contain 95 % intervals.', 'muted'
    )  # fmt: skip


def lead_sentences(scores: Row, images: str) -> str:
    """Returns the errors of a net in sentences.

    Args:
      scores: as `Tally.scores` returns them. images: their number and kind.
    """
    low, high = scores['top1_interval']
    count = scores['examples']
    text = (
        f'The most probable class is wrong for {round(scores["top1_error"] * count):,} of {images}:'
        f' top-1 error {scores["top1_error"]:.3f} [{low:.3f}, {high:.3f}].'
    )
    if has_top5(scores):
        text += (
            ' The class is not among the five most probable classes for'
            f' {counted(round(scores["top5_error"] * count), "image")}: top-5 error'
            f' {scores["top5_error"]:.3f}.'
        )
    return text


def _net(run: Run) -> list[str]:
    net, classes, path = run.model.net.architecture, run.model.net.classes, run.folder / 'net'
    diagram.draw(net, classes, path)
    shapes = layer_shapes(net, classes)
    rows = [(row.name, '×'.join(map(str, row.output)), f'{row.parameters:,}', f'{row.multiply_adds:,}')
            for row in shapes]  # fmt: skip
    total = (
        f'The net has {sum(row.parameters for row in shapes):,} parameters. Multiply-adds are those of one'
        ' image.'
    )
    caption = (
        'Each box is a layer of one column. At crossing arrows, each column reads both columns.'
    )
    if net.columns == 1:
        caption = 'Each box is a layer.'
    table = page.table(('layer', 'output size', 'parameters', 'multiply-adds'), rows, total)
    drawing = page.picture(path, diagram.described(net, classes), caption)
    return [page.side_by_side(drawing, table + _shares(run.folder / 'shares', shapes))]


def _shares(path: Path, shapes: Sequence[LayerShape]) -> str:
    """Draws the shares of each layer; returns the figure as HTML."""
    sums = [sum(getattr(row, of) for row in shapes) for of in ('parameters', 'multiply_adds')]
    parameters = [row.parameters / sums[0] for row in shapes]
    arithmetic = [row.multiply_adds / sums[1] for row in shapes]
    bars.draw(
        [row.name for row in shapes], parameters, path, 'share of the parameters',
        marks=('of the multiply-adds', arithmetic),
        axis_label='fraction (bars: parameters; diamonds: multiply-adds)',
    )  # fmt: skip
    described = 'Share of the parameters and of the multiply-adds of each layer: ' + ', '.join(
        f'{row.name} {one:.2f} and {other:.2f}'
        for row, one, other in zip(shapes, parameters, arithmetic, strict=True)
    )
    caption = 'Fraction of the parameters and of the multiply-adds of the net in each layer.'
    return page.picture(path, described, caption)


def _kernels(run: Run) -> list[str]:
    net = run.model.net.architecture
    if not two_columns.has_first_kernels(net):
        return []
    path = run.folder / 'kernels'
    kernel = two_columns.kernel_of(run.model)
    kernels.draw(kernel, path)
    columns, side, count = kernel.shape[0], kernel.shape[1], kernel.shape[-1]
    caption = (
        f"As in the paper's Figure 3, each square is a kernel of {net.layers[0].name} with {side}×{side}"
        ' weights in red, green and blue. Gray is 0, and each kernel is scaled by its largest weight.'
        ' Kernels are sorted by their color index, gray ones first.'
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
        return [page.paragraph('No images are available.')]
    parts = [
        page.paragraph(
            f"As in the paper's Figure 4 (left), these are {_kind(run)} images{_of_source(run)} drawn at"
            ' random. Below each image is its class, green if the prediction is correct and red if it is'
            ' wrong, and the five most probable classes with their probabilities.'
        ),
        _cards(run, found.drawn),
    ]
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
    rows = [(one.id, one.prediction.title, rank, *entry) for one in shown
            for rank, entry in enumerate(one.prediction.classes, start=1)]  # fmt: skip
    write_numbers(run.folder / name, ('image', 'class', 'place', 'taken_for', 'probability'), rows)


def _cards(run: Run, shown: Sequence[Shown]) -> str:
    return page.predictions(
        [
            (one.prediction.image, one.prediction.title, one.prediction.classes, one.rank)
            for one in shown
        ],
        f'{_kind(run)} image',
    )


def _neighbors(run: Run, found: Findings | None) -> list[str]:
    if found is None or not found.neighbors:
        return [page.paragraph('No training images are available.')]
    neighbors.draw(found.neighbors, run.folder / 'neighbors')
    assert run.showing is not None
    count = len(run.showing.images.splits['train'])
    other = 'other ' * (run.showing.split == 'train')
    nearest = [one for row in found.neighbors for one in row[1:]]
    alike = sum(one.is_alike for one in nearest)
    about = (
        f"As in the paper's Figure 4 (right), each row has a {_kind(run)} image{_of_source(run)} and its"
        f' nearest neighbors among all {count:,} {other}training images, by Euclidean distance in the last'
        f' hidden layer ({last_hidden(run.showing)}). Below each neighbor are its class, green if it is the'
        f' class of the {_kind(run)} image, and its distance. {alike} of the'
        f' {counted(len(nearest), "neighbor")} {"has" if alike == 1 else "have"} the class of their image.'
    )
    rows = [[(one.image, one.title, one.distance, one.is_alike) for one in row]
            for row in found.neighbors]  # fmt: skip
    return [page.paragraph(about), page.neighbors(rows, f'{_kind(run)} image')]


def _classes(run: Run, found: Findings | None) -> list[str]:
    if found is None:
        return [page.paragraph('No images are available.')]
    return class_section.content(run.folder, run.model.classes, found.tally)


def _units(run: Run, search: Search | None) -> list[str]:
    return unit_section.content(run.folder, run.model, run.showing, search, run.stop_requested)
