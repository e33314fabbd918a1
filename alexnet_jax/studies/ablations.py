"""A net and its ablations, trained alike with several seeds, and what each part gains.

    python -m alexnet_jax.ablations --config configs/digits_krizhevsky2012.py --workdir runs/ablations
        [--ablations half,no_lrn,data.mirror=off,...] [--seeds 3] [--config.NAME=VALUE ...]

An ablation is one of the paper's (below), a net's name, or SETTING=VALUE, which is applied as
--config.SETTING=VALUE would be: a protocol brings its own defaults, train.epochs=N replaces the
train.steps of the base. Refused are settings that change nothing, that this command sets itself
(seed), or that decide which images are evaluated. The paper's ablations are there for
krizhevsky2012, paper and photographs; each differs from the base that is trained in one part alone.
Each run is an ordinary workdir, runs/ablations/NAME/seed-0 and so on; stopped and called again, the
command resumes. A folder holds one study (study.json): ablations, seeds and steps may be added to
it, everything else is refused, as are runs that are already longer than asked for. A run that ended
in NaN is named and counts nowhere. The table is printed and kept as ablations.md and .json.
Exit status: as for alexnet_jax.main.
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
    """Returns the ablations named, or all published ones for ''.

    Raises:
      InputError: one that is not known, is named twice or is of a setting that may not differ; none named
        for a net that was never ablated.
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
            _refuse_setting(name, setting)
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


def _refuse_setting(name: str, setting: str) -> None:
    why = ''
    if setting == 'seed':
        why = 'every row is trained with the same seeds (--config.seed, --seeds)'
    elif setting in IMAGES or setting.startswith('eval.'):
        why = 'all rows have the same images and the same evaluation'
    elif SETTINGS[setting].free and setting not in study.LENGTH:
        why = f'{setting} changes nothing that is computed'
    if why:
        raise InputError(f'--ablations has {shown(name)}, which is not allowed: {why}')


def maker(given: Config, overrides: Mapping[str, str]) -> Make:
    """Returns a function from the changes of an ablation to its configuration.

    The configuration is of a config file, changed by the command line and then by the ablation.
    """
    return lambda more: configuration.absolute_source(
        configuration.complete(given, configuration.followed(overrides, more))
    )


def plan(make: Make, ablations: Sequence[Ablation], seeds: Sequence[int]) -> dict[str, Config]:
    """Returns the configurations by name, NAME/seed-N; all seeds of the base first.

    Args:
      make: as `maker` returns it.

    Raises:
      InputError: a configuration that cannot be; an ablation that computes the same as the base
        or another; one of another net, where initial values come from another run.
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
                f'start.from is {shown(base.start["from"])}; allowed: nothing, as {row.name} is'
                ' another net than the one whose values these are'
            )
    _refuse_alike(rows, ablations)
    runs = {}
    for name, config in rows.items():
        for seed in seeds:
            runs[run_name(name, seed)] = configuration.changed(config, {'seed': seed})
    if len(runs) != len(rows) * len(seeds):
        raise InputError(
            f'--ablations has names that make the same folder: {", ".join(map(_folder, rows))}'
        )
    return runs


def _refuse_alike(rows: Mapping[str, Config], ablations: Sequence[Ablation]) -> None:
    first, *others = rows
    if len(others) != len(ablations):
        raise InputError(
            f'--ablations has a name twice, or that of the base, {first}: it changes nothing'
        )
    computed_by: dict[str, list[Any]] = {}
    for name, config in rows.items():
        computed = study.computed(config)
        same = next((other for other, it in computed_by.items() if it == computed), None)
        if same == first:
            rest = ','.join(other for other in others if other != name)
            raise InputError(
                f'--ablations has {shown(name)}, which changes nothing of what {first} computes'
                f' here; leave it out{f": --ablations {rest}" if rest else ""}'
            )
        if same:
            raise InputError(
                f'--ablations has {shown(same)} and {shown(name)}, which compute the same'
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
    """Returns the folder of a run below the study's: 'NET/seed-0'."""
    return f'{_folder(name)}/seed-{seed}'


def compare(values: list[float], base: list[float]) -> tuple[float, float | None]:
    """Returns the mean difference from the base over pairs of runs of one seed.

    With it comes its standard error, None for one pair.
    """
    differences = [value - other for value, other in zip(values, base, strict=True)]
    error = None
    if len(differences) > 1:
        error = statistics.stdev(differences) / len(differences) ** 0.5
    return statistics.mean(differences), error


def summarize(
    base: Config, ablations: Sequence[Ablation], seeds: Sequence[int], results: Mapping[str, Row]
) -> list[Row]:
    """Returns a row a net, the base first.

    For either error it has the values by seed, their mean, the difference from the base with its
    standard error, and the published difference. Values that cannot be computed, for a run whose
    loss was no number, are None; the row names such runs.
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
    """None for a run that ended in NaN, and for the top-5 error of five classes or fewer."""
    if error == 'top5_error' and result.get('class_count', 6) <= 5:
        return None
    return result.get(error)


def table(rows: Sequence[Row], error: str) -> list[str]:
    """Formats the rows as Markdown, for one of the errors."""
    head = ['net', f'{error}, mean', 'by seed', f'difference from {rows[0]["name"]}', 'published',
            'where']  # fmt: skip
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
    """Returns notes on the numbers.

    They state which net the published ones are of, and which runs are left out.
    """
    found = []
    if any(row[error]['published'] is not None for row in rows for error in ERRORS):
        whose = 'Published differences are of net 145 (`krizhevsky2012`)'
        if base.network.name != 'krizhevsky2012':
            whose += f', not of this base: the same parts are changed here in `{base.network.name}`'
        found.append(f'{whose}; on ILSVRC-2012, half on ILSVRC-2010, ten views.')
    for row in rows:
        found += study.left_out(row['faults'])
    return found


def report(rows: Sequence[Row], base: Config, seeds: Sequence[int], split: str) -> str:
    """Returns the page: what was run, a table for each error, how to read it."""
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
        ' Differences are means over pairs of runs with the same seed, ± their standard error;'
        ' below zero, the ablated net was the better one.',
        '',
        *tables,
        *(line for note in notes(base, rows) for line in (note, '')),
    ])  # fmt: skip


def parse(argv: list[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    """Parses the command line into options and overridden settings."""
    parser = study.parser_of(
        'ablations', __doc__, 'of the base net', 'runs of each net',
        epilog='\n'.join(f'  {row.name}: {row.changes}, {row.source}' for row in PUBLISHED),
    )  # fmt: skip
    parser.add_argument('--ablations', default='', help="commas between; all of the paper's")
    return parser.parse_with_settings(argv)


def run(argv: list[str]) -> int:
    """Trains the base net and its ablations and writes their differences; returns the exit status."""
    options, overrides = parse(argv)
    make = maker(config_file.read(options.config), overrides)
    base = make({})
    study.refuse_set(base, ['eval.step'])
    seeds, ablations = study.seeds_of(base, options.seeds), parse_ablations(options.ablations, base)
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
