"""The report of one run: WORKDIR/report/index.html, and beside it every figure of it as a picture
and as numbers."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.data import class_names
from alexnet_jax.evaluation.tally import has_top5
from alexnet_jax.experiment import results, trained, two_columns
from alexnet_jax.experiment.defaults import Config
from alexnet_jax.experiment.model import Model
from alexnet_jax.experiment.trained import Showing
from alexnet_jax.network.shapes import layer_shapes
from alexnet_jax.report import column_section, differences, run_facts
from alexnet_jax.report.figures import (  # fmt: skip
    bars,
    confusion,
    curves,
    diagram,
    kernels,
    neighbors,
    page,
    predictions,
)
from alexnet_jax.report.figures.canvas import write_numbers
from alexnet_jax.report.figures.page import Section
from alexnet_jax.report.findings import Findings, Shown, find, last_hidden
from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import InputError, StorageError, counted
from alexnet_jax.training import metrics_log

MANY = 20_000  # training images, which take a while
WORST = 20  # classes, and confusions, that are listed
SPLITS = {'train': 'training', 'val': 'validation', 'test': 'test'}
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Run:
    """What a report is made of. folder: where it is made. showing: None where the images cannot
    be had, for `reason`."""

    workdir: Path
    folder: Path
    config: Config
    model: Model
    rows: list[Row]
    lost_lines: int
    showing: Showing | None
    reason: str


def make(config: Config, workdir: Path, stop_requested: Callable[[], bool] = lambda: False) -> str:
    """Makes the report of a workdir, which takes the place of one that is there; returns a line
    on it.

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
    return f'report -> {run.folder}/index.html'


def open_run(config: Config, workdir: Path, stop_requested: Callable[[], bool]) -> Run:
    """
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
    return Run(workdir, workdir / 'report', config, model, rows, lost, showing, reason)


def _page(run: Run) -> str:
    found, runner = None, None
    if run.showing is not None:
        runner = run.showing.runner([last_hidden(run.showing)])
        count = len(run.showing.images.splits.get('train', ()))
        if count > MANY:
            print(f'report: {count} training images are looked through for neighbours', flush=True)
        found = find(run.showing, runner)
        if not math.isfinite(found.tally.scores()['loss']):
            reason = 'its net gives NaN or infinite values for them.'
            run, found = dataclasses.replace(run, showing=None, reason=reason), None
    sections = [
        Section('The net', _net(run)),
        Section('Training', _training(run)),
        Section('What conv1 looks for', _kernels(run)),
        Section(f'{_kind(run).capitalize()} images', _images(run, found)),
        Section('Nearest training images', _neighbors(run, found)),
        Section('Errors by class', _classes(run, found)),
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
    net, source = run.config.network.name, run.model.config.data.source
    return page.render(f'{net} on {source}', _lead(run, found), [s for s in sections if s.content])


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
    count, views = results.images_told(scores['examples']), results.views_told(run.showing.about)
    return page.paragraph(
        f'{split}{_of_source(run)}: top-1 error {scores["top1_error"]:.4f} [{low:.4f}, {high:.4f}]'
        f'{top5}, on {count}, {views}.', 'big'
    ) + page.paragraph(f'{about} In brackets, here and below: the 95 % interval.', 'muted')  # fmt: skip


def _net(run: Run) -> list[str]:
    net, classes, path = run.model.net.architecture, run.model.net.classes, run.folder / 'net'
    diagram.draw(net, classes, path)
    shapes = layer_shapes(net, classes)
    rows = [(row.name, '×'.join(map(str, row.output)), f'{row.parameters:,}', f'{row.multiply_adds:,}')
            for row in shapes]  # fmt: skip
    total = f'{sum(row.parameters for row in shapes):,} parameters in all.'
    caption = 'Each box a layer of one column; where arrows cross, the columns meet.'
    if net.columns == 1:
        caption = 'Each box a layer.'
    return [
        page.side_by_side(
            page.picture(path, diagram.described(net, classes), caption),
            page.table(('layer', 'leaves', 'parameters', 'multiply-adds an image'), rows, total),
        )
    ]


def _training(run: Run) -> list[str]:
    parts = []
    if run.lost_lines:
        lines = f'{run.lost_lines} line{"s" * (run.lost_lines > 1)}'
        parts.append(page.paragraph(f'{lines} of metrics.jsonl cannot be read and are left out.'))
    if not run.rows:
        return [*parts, page.paragraph('There is no log of a training: metrics.jsonl has no rows.')]
    path = run.folder / 'curves'
    curves.draw(run.rows, path, top5=len(run.model.classes) > 5)
    last = run.rows[-1]
    described = (
        f'Error and loss by epoch, up to epoch {last["epoch"]:.1f}: at last {last["split"]} loss'
        f' {last["loss"]:.3f}, top-1 error {last["top1_error"]:.3f}.'
    )
    return [
        *parts,
        page.picture(path, described, 'Training values are means over neighbouring steps.'),
    ]


def _kernels(run: Run) -> list[str]:
    if not two_columns.has_first_kernels(run.model.net.architecture):
        return []
    path = run.folder / 'kernels'
    kernel = two_columns.kernel_of(run.model)
    kernels.draw(kernel, path)
    count, side = kernel.shape[0] * kernel.shape[-1], kernel.shape[1]
    described = f'The {count} kernels of the first layer, {side}×{side} pixels, by column.'
    caption = "As the paper's Figure 3. Grey is 0; each kernel is scaled by its own largest weight."
    return [page.picture(path, described, caption)]


def _images(run: Run, found: Findings | None) -> list[str]:
    if found is None:
        return [page.paragraph('There are no images at hand.')]
    parts = [
        page.paragraph(f"As the paper's Figure 4, left: {_kind(run)} images drawn at random"
                       f'{_of_source(run)}, their class, and the five classes that the net holds'
                       ' for most probable.'),
        _cards(run, found.drawn),
    ]  # fmt: skip
    _draw_predictions(run, 'images', found.drawn)
    if found.mistakes:
        parts += [page.heading('The surest mistakes'), _cards(run, found.mistakes)]
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
    about = (
        f"As the paper's Figure 4, right: a {_kind(run)} image{_of_source(run)}, and of all {count}"
        f' training images{but} those whose activations in the last hidden layer ({last_hidden(run.showing)}) have the smallest'
        ' Euclidean distance from its own, which stands below.'
    )
    rows = [[(one.image, one.title, one.distance) for one in row] for row in found.neighbors]
    return [page.paragraph(about), page.neighbors(rows, f'{_kind(run)} image')]


def _classes(run: Run, found: Findings | None) -> list[str]:
    names = run.model.classes
    if found is None:
        return [page.paragraph('There are no images at hand.')]
    by_class = found.tally.by_class(names)
    rows = [row for row in by_class['classes'] if row['examples']]
    rows.sort(key=lambda row: -row['top1_error'])
    worst: list[Row] = [row | {'name': class_names.told(row['class'])} for row in rows[:WORST]]
    bars.draw(
        [row['name'] for row in worst], [row['top1_error'] for row in worst],
        run.folder / 'classes', 'top-1 error',
    )  # fmt: skip
    some = f'The {len(worst)} worst of {len(rows)} classes.' if len(rows) > len(worst) else ''
    described = 'Top-1 error by class, the worst first: ' + ', '.join(
        f'{row["name"]} {row["top1_error"]:.3f}' for row in worst[:3]
    )
    parts = [page.picture(run.folder / 'classes', described, some)]
    if 1 < len(names) <= confusion.MOST_CLASSES:
        parts.append(_confusion(run, found, [class_names.told(name) for name in names]))
    listed = by_class['confusions'][:WORST]
    if listed:
        parts.append(page.table(
            ('class', 'taken for', 'images'),
            [(class_names.told(row['label']), class_names.told(row['taken_for']), row['images'])
             for row in listed],
            'The costliest confusions',
        ))  # fmt: skip
    else:
        parts.append(page.paragraph('No image was taken for one of another class.'))
    return [page.side_by_side(*parts)]


def _confusion(run: Run, found: Findings, names: list[str]) -> str:
    counts = np.diag(found.tally.examples - found.tally.top1)
    for (label, taken_for), times in found.tally.confusions.items():
        counts[label, taken_for] = times
    confusion.draw(counts, names, run.folder / 'confusion')
    wrong = int(found.tally.top1.sum())
    described = (
        f'How often each class was taken for each: {counted(wrong, "image")} off the diagonal.'
    )
    return page.picture(
        run.folder / 'confusion', described, 'Rows: the class; columns: what it was taken for.'
    )
