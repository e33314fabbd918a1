"""Trains a net and its ablations with several seeds, and compares their errors.

    python -m alexnet_jax.ablations --config configs/digits_krizhevsky2012.py --workdir runs/ablations
        [--ablations half,no_lrn,data.mirror=off,...] [--seeds 3] [--config.NAME=VALUE ...]

An ablation is one of the paper's (below), the name of a net, or SETTING=VALUE, which has the same
effect as --config.SETTING=VALUE: a protocol sets defaults of other settings, and train.epochs=N
replaces train.steps of the base. Settings without an effect, the seed, and settings that select the
evaluated images are errors. The paper's ablations are available for krizhevsky2012, paper and
photographs; each differs from the base in one part. Each run is an ordinary workdir, such as
runs/ablations/NAME/seed-0. Repeat the command to resume an interrupted study. A folder has one study
(study.json): ablations, seeds and steps may be added; any other change is an error, and so is a run
that is longer than requested. Runs that end in NaN are listed and excluded. The tables are printed
and written to ablations.md and ablations.json. Exit status: as for alexnet_jax.main.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from alexnet_jax.evaluation.seeds import markdown_table
from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment import config_file
from alexnet_jax.experiment.defaults import Config
from alexnet_jax.experiment.settings import IMAGES, SETTINGS
from alexnet_jax.network.architectures import ABLATED, ARCHITECTURES
from alexnet_jax.runtime import command_line
from alexnet_jax.runtime.command_line import STOPPED
from alexnet_jax.runtime.errors import InputError, nearest, shown
from alexnet_jax.studies import study
from alexnet_jax.studies.published import PUBLISHED, Ablation, published

ERRORS = ('top1_error', 'top5_error')
Make = Callable[[Mapping[str, str]], Config]  # overrides -> the whole configuration
Row = dict[str, Any]


def parse_ablations(text: str, base: Config) -> list[Ablation]:
    """Returns the named ablations, or all published ones for ''.

    Raises:
      InputError: a name is unknown, occurs twice, or is a setting that may not differ; no names for a
        net without published ablations.
    """
    name_of_base = base.network.name
    rows = published(name_of_base)
    known = {row.name: row for row in rows}
    known |= {row.name: ours for row, ours in zip(PUBLISHED, rows, strict=bool(rows))}
    if not text:
        if not rows:
            raise InputError(
                f'--ablations is not given; those of the paper are of {", ".join(ABLATED)}, not'
                f' of network {name_of_base}: name nets, or SETTING=VALUE'
            )
        return rows
    found = []
    for name in study.split_names('--ablations', text):
        setting, equals, value = name.partition('=')
        if name in known:
            found.append(known[name])
        elif equals and setting in SETTINGS:
            _require_ablatable(name, setting)
            found.append(Ablation(name, {setting: value}))
        elif name in ARCHITECTURES:
            found.append(Ablation(name, {'network.name': name}))
        else:
            allowed = [*known, *ARCHITECTURES]
            raise InputError(
                f'--ablations has {shown(name)}; the nearest is {nearest(name, allowed)};'
                f' allowed: {", ".join(dict.fromkeys(allowed))}, SETTING=VALUE'
            )
    return found


def _require_ablatable(name: str, setting: str) -> None:
    why = ''
    if setting == 'seed':
        why = 'every row is trained with the same seeds (--config.seed, --seeds)'
    elif setting in IMAGES or setting.startswith('eval.'):
        why = 'all rows have the same images and the same evaluation'
    elif SETTINGS[setting].free and setting not in study.LENGTH:
        why = f'{setting} has no effect on the results'
    if why:
        raise InputError(f'--ablations has {shown(name)}, which is not allowed: {why}')


def maker(given: Config, overrides: Mapping[str, str]) -> Make:
    """Returns a function that makes the configuration of an ablation from its changes.

    It changes the configuration file by the command line, then by the ablation.
    """
    return lambda more: configuration.absolute_source(
        configuration.complete(given, configuration.followed(overrides, more))
    )


def plan(make: Make, ablations: Sequence[Ablation], seeds: Sequence[int]) -> dict[str, Config]:
    """Returns the configurations by name, NAME/seed-N, with all seeds of the base first.

    Args:
      make: as `maker` returns it.

    Raises:
      InputError: a configuration is invalid; an ablation has the same results as the base or another
        ablation; an ablation has another net, but initial values come from another run.
    """
    base = make({})
    rows = {base.network.name: base}
    for row in ablations:
        try:
            rows[row.name] = make(row.changes)
        except InputError as error:
            lines = str(error).splitlines()
            raise InputError('\n'.join(f'{row.name}: {line}' for line in lines)) from error
        if base.start['from'] and study.table_of(rows[row.name]) != study.table_of(base):
            raise InputError(
                f'start.from is {shown(base.start["from"])}; allowed: empty, because {row.name} is'
                ' another net than that of these values'
            )
    _require_different(rows, ablations)
    runs = {}
    for name, config in rows.items():
        for seed in seeds:
            runs[run_name(name, seed)] = configuration.changed(config, {'seed': seed})
    if len(runs) != len(rows) * len(seeds):
        raise InputError(
            f'--ablations has names with the same folder: {", ".join(map(_folder, rows))}'
        )
    return runs


def _require_different(rows: Mapping[str, Config], ablations: Sequence[Ablation]) -> None:
    first, *others = rows
    if len(others) != len(ablations):
        raise InputError(f'--ablations has a name twice, or the name of the base, {first}')
    computed_by: dict[str, list[Any]] = {}
    for name, config in rows.items():
        computed = study.computed(config)
        same = next((other for other, it in computed_by.items() if it == computed), None)
        if same == first:
            rest = ','.join(other for other in others if other != name)
            raise InputError(
                f'--ablations has {shown(name)}, which has the same results as {first}'
                f' here; remove it{f": --ablations {rest}" if rest else ""}'
            )
        if same:
            raise InputError(
                f'--ablations has {shown(same)} and {shown(name)}, which have the same results'
            )
        if len(_folder(name)) > study.LONGEST_NAME:
            raise InputError(
                f'--ablations has {shown(name)}, of {len(name)} characters; allowed: up to'
                f' {study.LONGEST_NAME}, as it names a folder'
            )
        computed_by[name] = computed


def _folder(name: str) -> str:
    return name.replace('/', '_')


def run_name(name: str, seed: int) -> str:
    """Returns the folder of a run in that of the study, such as 'NET/seed-0'."""
    return f'{_folder(name)}/seed-{seed}'


def compare(values: list[float], base: list[float]) -> tuple[float, float | None]:
    """Returns the mean difference from the base over pairs of runs with the same seed.

    Returns also its standard error, or None for a single pair.
    """
    differences = [value - other for value, other in zip(values, base, strict=True)]
    error = None
    if len(differences) > 1:
        error = statistics.stdev(differences) / len(differences) ** 0.5
    return statistics.mean(differences), error


def summarize(
    base: Config, ablations: Sequence[Ablation], seeds: Sequence[int], results: Mapping[str, Row]
) -> list[Row]:
    """Returns a row for each net, the base first.

    For each error it has the values by seed, their mean, the difference from the base with its standard
    error, and the published difference. Values that depend on a run that ended in NaN are None; the row
    names these runs.
    """
    rows, first = [], base.network.name
    for ablation in [Ablation(first, {}), *ablations]:
        names = [run_name(ablation.name, seed) for seed in seeds]
        row: Row = {'name': ablation.name, 'source': ablation.source}
        row['faults'] = {name: results[name]['fault'] for name in names if 'fault' in results[name]}
        for error, theirs in zip(ERRORS, ablation.published, strict=True):
            found: list[list[Any]] = [
                [_error(results[run_name(name, seed)], error) for seed in seeds]
                for name in (ablation.name, first)
            ]
            values, against = found
            difference, deviation = None, None
            if None not in values + against and ablation.name != first:
                difference, deviation = compare(values, against)
            row[error] = {
                'seeds': values,
                'mean': None if None in values else statistics.mean(values),
                'difference': difference,
                'standard_error': deviation,
                'published': theirs,
            }
        rows.append(row)
    return rows


def _error(result: Row, error: str) -> float | None:
    """Returns an error, or None if the run ended in NaN or the top-5 error is meaningless."""
    if error == 'top5_error' and result.get('class_count', 6) <= 5:
        return None
    return result.get(error)


def table(rows: Sequence[Row], error: str) -> list[str]:
    """Returns a Markdown table of one error."""
    head = ['net', f'{error}, mean', 'by seed', f'difference from {rows[0]["name"]}', 'published',
            'source']  # fmt: skip
    lines = []
    for row in rows:
        values = row[error]
        by_seed = ', '.join('none' if x is None else f'{x:.4f}' for x in values['seeds'])
        difference = _number(values['difference'], '+.4f')
        spread = _number(values['standard_error'], '.4f', ' ± ')
        mean, published = _number(values['mean'], '.4f'), _number(values['published'], '+.3f')
        lines.append([row['name'], mean, by_seed, difference + spread, published, row['source']])
    return markdown_table(head, lines)


def _number(value: float | None, form: str, before: str = '') -> str:
    return '' if value is None else f'{before}{value:{form}}'


def notes(base: Config, rows: Sequence[Row]) -> list[str]:
    """Returns notes on the net of the published numbers and on excluded runs."""
    found = []
    if any(row[error]['published'] is not None for row in rows for error in ERRORS):
        whose = 'Published differences are of net 145 (`krizhevsky2012`)'
        if base.network.name != 'krizhevsky2012':
            whose += (
                f', not of this base, `{base.network.name}`, in which the same parts are changed'
            )
        found.append(f'{whose}; on ILSVRC-2012, half on ILSVRC-2010, ten views.')
    for row in rows:
        found += study.excluded(row['faults'])
    return found


def report(rows: Sequence[Row], base: Config, seeds: Sequence[int], split: str) -> str:
    """Returns the text of the study: its settings, and a table for each error."""
    views, count = base.eval.views, len(seeds)
    tables = [
        part
        for error in ERRORS
        if error == ERRORS[0] or any(value is not None for row in rows for value in row[error]['seeds'])
        for part in (*table(rows, error), '')
    ]  # fmt: skip
    return '\n'.join([
        f'# Ablations of {base.network.name} on {base.data.source}',
        '',
        f'{count} seed{"s" * (count > 1)} each, from {seeds[0]}; errors on the {split} images,'
        f' {views} view{"s" * (views > 1)}; protocol {base.train.protocol}, width {base.network.width:g}.'
        ' Differences are means over pairs of runs with the same seed, ± their standard error. A difference'
        ' below 0 means that the ablated net has a lower error.',
        '',
        *tables,
        *(line for note in notes(base, rows) for line in (note, '')),
    ])  # fmt: skip


def parse(argv: list[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    """Parses the command line into options and overridden settings."""
    parser = study.parser_of(
        'ablations', __doc__, 'configuration of the base net', 'runs of each net',
        epilog='\n'.join(f'  {row.name}: {row.changes}, {row.source}' for row in PUBLISHED),
    )  # fmt: skip
    parser.add_argument(
        '--ablations', default='', help='comma-separated ablations; default: those of the paper'
    )
    return parser.parse_with_settings(argv)


def run(argv: list[str]) -> int:
    """Trains the base net and its ablations and writes their differences; returns the exit status."""
    options, overrides = parse(argv)
    make = maker(config_file.read(options.config), overrides)
    base = make({})
    study.require_defaults(base, ['eval.step'])
    seeds, ablations = (
        study.seeds_from(base, options.seeds),
        parse_ablations(options.ablations, base),
    )
    configs = plan(make, ablations, seeds)
    names = [ablation.name for ablation in ablations]
    asking = study.asked('ablations', base, ablations=names, seeds=len(seeds))
    results = study.conduct(options.workdir, asking, configs)
    if results is None:
        return STOPPED
    rows = summarize(base, ablations, seeds, results)
    split = next((result['split'] for result in results.values() if 'split' in result), 'held-out')
    page = report(rows, base, seeds, split)
    tree = {'split': split, 'views': base.eval.views, 'notes': notes(base, rows), 'rows': rows}
    return study.publish(options.workdir, {'ablations.md': page, 'ablations.json': tree}, page)


def main(argv: list[str] | None = None) -> int:
    """Runs the command line in this process and returns its exit status."""
    return command_line.run(run, argv)


if __name__ == '__main__':
    sys.exit(main())
