"""Pages of several runs: Figure 1, ablations, columns over seeds, and comparisons of workdirs."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.evaluation import seeds
from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment import identity, kept_config, results, settings
from alexnet_jax.report import ablation_page, run_facts
from alexnet_jax.report.figures import curves, page
from alexnet_jax.report.figures.page import Section
from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import InputError, StorageError, counted
from alexnet_jax.training import metrics_log

Row = dict[str, Any]
TITLES = {'top1_error': 'top-1 error', 'loss': 'loss'}
MOST_LINES = 12  # lines of a figure
PAGES = ('figure1.json', 'ablations.json', 'specialization.json')


def make(folder: Path) -> str:
    """Writes the page of a study from the files in its folder.

    Raises:
      InputError: the folder has no study, or its file cannot be read.
      StorageError: the page cannot be written.
    """
    kind = kind_of(folder)
    if kind is None:
        raise InputError(f'{folder} holds none of {", ".join(PAGES)}')
    try:
        kept = files.read_json(folder / kind)
        make_page = {'figure1.json': _figure1, 'ablations.json': ablation_page.make}.get(
            kind, _columns
        )
        return _written(folder / 'report', lambda out: make_page(kept, folder, out))
    except InputError:
        raise
    except OSError as error:
        raise InputError(f'{folder / kind} cannot be read: {error.strerror}') from error
    except (
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        raise InputError(f'{folder / kind} cannot be read: {error!r:.200}') from error


def kind_of(folder: Path) -> str | None:
    """Returns the file with the results of a study, or None if the folder has no study."""
    return next((name for name in PAGES if (folder / name).is_file()), None)


def _written(out: Path, make_page: Any) -> str:
    try:
        out.mkdir(parents=True, exist_ok=True)
        files.write_bytes(out / 'index.html', make_page(out).encode())
    except OSError as error:
        raise StorageError(f'{out}/ cannot be written: {error.strerror}') from error
    return f'report -> {out}/index.html'


def _figure1(kept: Row, folder: Path, out: Path) -> str:
    error, rows = kept['error'], kept['rows']
    lines = _curves(folder / 'curves.csv')
    chosen = {}
    for row in rows:
        if row['learning_rate'] is None:  # every rate ended in NaN
            continue
        start = f'{row["activation"]}/rate-{row["learning_rate"]:g}/'
        first_seed = next((name for name in lines if name.startswith(start)), '')
        name = f'{row["activation"]}, learning rate {row["learning_rate"]:g}'
        chosen[name] = lines.get(first_seed, [])
    drawn = []
    if chosen:
        curves.compare(chosen, out / 'figure1', ('epoch', 'training error'), level=error)
        described = (
            f'Training error by epoch of {counted(len(chosen), "activation function")}, each at its best'
            ' learning rate.'
        )
        caption = (
            f'Runs with the first seed. The gray line is the training error of {error:g}; an activation'
            ' function is faster if its curve reaches the line earlier.'
        )
        drawn.append(page.picture(out / 'figure1', described, caption))
    lead = page.paragraph(
        "The paper's Figure 1 (§3.1) compares activation functions: the number of epochs until a"
        f' four-layer net has a training error of {error:g}. Each has its best learning rate.'
    )
    notes = [f'{excluded(name, fault)}.' for name, fault in kept.get('faults', {}).items()]
    findings = page.paragraph(' '.join([*speeds(rows, error), *notes]))
    content = [page.side_by_side(*drawn, _epochs(rows, error) + findings)]
    return page.render(f'Figure 1: {folder.name}', lead, [Section('Activation functions', content)])


def speeds(rows: Sequence[Row], error: float) -> list[str]:
    """Returns the mean epochs of the first activation function and the ratios of the others."""
    first, *others = rows
    if not first['mean']:
        return []
    name, mean = first['activation'], first['mean']
    return [
        f'With {name} the net needs {mean:.2f} epochs to a training error of {error:g} on average.',
        *(
            f'With {row["activation"]} it needs {row["mean"] / mean:.2f} times as many.'
            for row in others
            if row['mean']
        ),
    ]


def _epochs(rows: Sequence[Row], error: float) -> str:
    """Returns the table of epochs by activation function."""
    first = rows[0]['mean']
    return page.table(
        ('activation function', 'learning rate', 'epochs, by seed', 'mean', 'standard deviation',
         f'ratio to {rows[0]["activation"]}'),
        [(row['activation'], _decimals(row['learning_rate'], 'g'), seeds.epochs_text(row),
          _decimals(row['mean']), _decimals(row['standard_deviation']),
          _decimals(row['mean'] / first if row['mean'] and first else None)) for row in rows],
        f'Epochs to a training error of {error:g}',
    )  # fmt: skip


def _decimals(value: float | None, form: str = '.2f') -> str:
    return '' if value is None else f'{value:{form}}'


def excluded(name: str, fault: str) -> str:
    """Returns the note on a run that ended in NaN."""
    return f'{name} is excluded: {fault}'


def _curves(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Returns (epoch, training error) of every run."""
    lines: dict[str, list[tuple[float, float]]] = {}
    try:
        content = files.read_bytes(path).decode()
    except OSError as error:
        raise InputError(f'{path} cannot be read: {error.strerror}') from error
    for row in csv.DictReader(io.StringIO(content, newline='')):
        point = float(row['epoch']), float(row['training_error'])
        lines.setdefault(row['run'], []).append(point)
    return lines


def _columns(kept: Row, folder: Path, out: Path) -> str:
    rows, runs = kept['rows'], kept['runs']
    table = page.table(*seeds.measure_table(rows), 'Means over the seeds, with 95 % intervals')
    p = page.paragraph(
        'The p-value of a run is that of the separation of its columns: the kernels are assigned to two'
        ' columns at random, and p is the fraction of assignments with at least the measured difference.'
        ' Of 20 runs whose columns do not differ, one is expected to have p < 0.05.'
    )
    drawn = []
    for index in rows[0]['apart']:
        lines = {row['net']: _over_training(runs, row['net'], index) for row in rows}
        lines = {name: line for name, line in lines.items() if line}
        if lines:
            path = out / f'apart_{index}'
            curves.compare(lines, path, ('step', f'{index}: difference over chance'))
            described = (
                f"Difference between the columns' mean {index} indices during training, by net."
            )
            caption = (
                f"Difference between the columns' mean {index} indices, divided by the mean difference of"
                ' random assignments and averaged over the seeds. At 1, the columns differ as much as by'
                ' chance.'
            )
            drawn.append(page.picture(path, described, caption))
    lead = page.paragraph(
        'These measures show whether the two columns of a net specialize. docs/columns.md defines them.'
    )
    lead += ''.join(page.paragraph(note) for note in kept.get('notes', []))
    return page.render(
        f'Columns: {folder.name}', lead,
        [Section('Measures', [table, p]), Section('Separation during training', [page.side_by_side(*drawn)])],
    )  # fmt: skip


def _over_training(runs: Mapping[str, Row], net: str, index: str) -> list[tuple[float, float]]:
    """Returns (step, difference divided by its chance level): means over the seeds, at common steps."""
    of_net = [row['over_training'] for name, row in runs.items() if name.rpartition('/')[0] == net]
    steps = set.intersection(*(set(row) for row in of_net)) if of_net else set()
    points = []
    for step in sorted(steps, key=int):
        found = [row[step][index] for row in of_net]
        if any(one['difference'] is None or not one['by_chance'] for one in found):
            continue  # kernels of zeros have no index
        ratios = [abs(one['difference']) / one['by_chance'] for one in found]
        points.append((float(step), float(np.mean(ratios))))
    return points


def compare(workdirs: Sequence[Path], out: Path) -> str:
    """Writes a page of several workdirs: errors, curves, and different settings.

    Raises:
      InputError: one of them is not a workdir, or one of its results cannot be read.
      StorageError: the page cannot be written.
    """
    runs = {_name(path, workdirs): _run(path) for path in workdirs}
    return _written(out, lambda folder: _compared(runs, folder))


def _name(path: Path, paths: Sequence[Path]) -> str:
    """Returns the shortest end of a path that no other path has."""
    for length in range(1, len(path.parts) + 1):
        short = path.parts[-length:]
        if sum(other.parts[-length:] == short for other in paths) == 1:
            return '/'.join(short)
    return str(path)


def _run(workdir: Path) -> Row:
    config = kept_config.read_workdir(workdir / identity.CONFIG)
    rows, _ = metrics_log.read(workdir / 'metrics.jsonl')
    about = workdir / identity.ABOUT
    classes = len(identity.read_about(about)['classes']) if about.exists() else None
    return {'config': config, 'rows': rows, 'stored': results.own(workdir), 'classes': classes}


def _compared(runs: Mapping[str, Row], out: Path) -> str:
    sections = [Section('Errors', [_errors(runs)])]
    shown = dict(list(runs.items())[:MOST_LINES])
    drawn = [figure for split, value in (('val', 'top1_error'), ('val', 'loss'), ('train', 'loss'))
             if (figure := _curves_of(shown, split, value, out))]  # fmt: skip
    if drawn:
        more = [page.paragraph(f'The first {MOST_LINES} of {len(runs)} runs.')] * (
            len(runs) > len(shown)
        )
        sections.append(Section('Training', [*more, page.side_by_side(*drawn)]))
    sections.append(Section('Different settings', [_settings(runs)]))
    return page.render('Comparison of runs', page.paragraph(f'Runs: {", ".join(runs)}.'), sections)


def _curves_of(runs: Mapping[str, Row], split: str, value: str, out: Path) -> str:
    """Returns a figure of a value by epoch with a line for each run, or '' if no run has the value."""
    lines = {name: _line(run['rows'], split, value) for name, run in runs.items()}
    lines = {name: line for name, line in lines.items() if line}
    if not lines:
        return ''
    path, title = out / f'{split}_{value}', f'{curves.SPLITS[split]} {TITLES[value]}'
    is_loss, classes = value == 'loss', {runs[name]['classes'] for name in lines}
    uniform_over = classes.pop() if is_loss and len(classes) == 1 else None
    falls = {name: curves.drops([row for row in runs[name]['rows'] if row['split'] == 'train'])
             for name in lines}  # fmt: skip
    curves.compare(
        lines, path, ('epoch', title), classes=uniform_over, log=not is_loss, falls=falls
    )
    last = ', '.join(f'{name} {line[-1][1]:.3f}' for name, line in lines.items())
    notes = [f'Last values: {last}.', *([] if is_loss else ['The vertical axis is logarithmic.'])]
    notes += ['Triangles mark drops of the learning rate.'] if any(falls.values()) else []
    described = f'{title.capitalize()} by epoch. Last values: {last}.'
    return page.picture(path, described, ' '.join(notes))


def _errors(runs: Mapping[str, Row]) -> str:
    rows = []
    for name, run in runs.items():
        net = configuration.network_of(run['config'])
        for row in run['stored']:
            low, high = row['top1_interval']
            *about, top1, top5, loss = run_facts.cells(row)
            rows.append((name, net.name, *about, top1, f'{low:.3f} to {high:.3f}', top5, loss))
        if not run['stored']:
            source = run['config']['data.source']
            rows.append((name, net.name, 'no evaluation', source, *[None] * 6))
    names = ('run', 'net', 'split and views', 'set', 'step', 'images', 'top-1 error',
             '95 % interval', 'top-5 error', 'loss')  # fmt: skip
    return page.table(names, rows, 'Evaluations in eval/ (errors as fractions)')


def _line(rows: Sequence[Row], split: str, value: str) -> list[tuple[float, float]]:
    kept = [row for row in rows if row['split'] == split]
    points = curves.thinned(kept) if kept and split == 'train' else kept
    return [(row['epoch'], row[value]) for row in points]


def _settings(runs: Mapping[str, Row]) -> str:
    configs = [configuration.flat(run['config']) for run in runs.values()]
    texts = {
        name: [settings.as_text(name, config[name]) for config in configs] for name in configs[0]
    }
    rows = [(name, *values) for name, values in texts.items() if len(set(values)) > 1]
    same = page.paragraph('All runs have the same configuration.')
    return page.table(('setting', *runs), rows) if rows else same
