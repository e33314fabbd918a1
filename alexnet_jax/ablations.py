"""A net and its ablations, trained alike with several seeds, and what each part gains.

    python -m alexnet_jax.ablations --config configs/digits_krizhevsky2012.py --workdir runs/ablations
        [--ablations half,no_lrn,data.mirror=off,...] [--seeds 3] [--config.NAME=VALUE ...]

An ablation is one of the paper's (below), a net's name, or SETTING=VALUE. Each run is
an ordinary workdir, runs/ablations/NAME/seed-0 and so on; stopped and called again, the
command goes on. The table is printed and kept as ablations.md and ablations.json.
Exit status: as for alexnet_jax.main.
"""

import argparse
import dataclasses
import statistics
import sys
from pathlib import Path
from typing import Any

from alexnet_jax import command_line
from alexnet_jax import config as configuration
from alexnet_jax.command_line import DONE, STOPPED, Parser
from alexnet_jax.config import Config
from alexnet_jax.errors import InputError, nearest
from alexnet_jax.network.architectures import ARCHITECTURES
from alexnet_jax.results import write_json
from alexnet_jax.settings import SETTINGS
from alexnet_jax.stop import stop_requests

ERRORS = ('top1_error', 'top5_error')


@dataclasses.dataclass(frozen=True)
class Ablation:
    """What is changed, and by how much the top-1 and top-5 errors rose by it where it
    was published, as fractions."""

    name: str
    changes: dict[str, Any]
    published: tuple[float | None, float | None] = (None, None)
    source: str = ''


# Differences from net 145 (`krizhevsky2012`); the authors' numbers are of ten views on
# the validation images of ILSVRC-2012.
PUBLISHED = (
    Ablation('half', {'network.name': 'half'}, (0.017, 0.012), '§3.2'),
    Ablation('no_lrn', {'network.name': 'no_lrn'}, (0.014, 0.012), '§3.3'),
    Ablation('non_overlapping', {'network.name': 'non_overlapping'}, (0.004, 0.003), '§3.4'),
    Ablation('no_communication', {'network.name': 'no_communication'},
             (0.0117, 0.0112), "the authors' code, net 150"),
    Ablation('six_conv', {'network.name': 'six_conv'}, (-0.017, -0.016),
             'Table 2, started from a net of 22,000 classes'),
    Ablation('no_conv4', {'network.name': 'no_conv4'}, (0.02, None), '§7, "about 2 %"'),
    Ablation('no_color', {'data.color_std': 0.0}, (0.01, None), '§4.1, "over 1 %"'),
)  # fmt: skip
BASES = ('krizhevsky2012', 'paper')  # of which these are the ablations


def parse_ablations(text: str, base: Config) -> list[Ablation]:
    """The ablations named, or all published ones for ''.

    Raises:
      InputError: one that is not known; none named for a net that was never ablated.
    """
    known = {row.name: row for row in PUBLISHED}
    if not text:
        if base['network.name'] not in BASES:
            raise InputError(
                f'--ablations is not given; those of the paper are of {" and ".join(BASES)}, not'
                f' of network {base["network.name"]}: name nets, or SETTING=VALUE'
            )
        return list(known.values())
    found = []
    for name in filter(None, text.split(',')):
        setting, equals, value = name.partition('=')
        if name in known and base['network.name'] in BASES:
            found.append(known[name])
        elif equals and setting in SETTINGS:
            changed = configuration.override(base, {setting: value})
            found.append(Ablation(name, {setting: changed[setting]}))
        elif name in ARCHITECTURES:
            found.append(Ablation(name, {'network.name': name}))
        else:
            allowed = [*known, *ARCHITECTURES]
            raise InputError(
                f'--ablations has {name!r}; the nearest is {nearest(name, allowed)};'
                f' allowed: {", ".join(dict.fromkeys(allowed))}, SETTING=VALUE'
            )
    return found


def plan(base: Config, ablations: list[Ablation], seeds: int) -> dict[str, Config]:
    """The configurations by name, NAME/seed-N; all seeds of the base first.

    Raises:
      InputError: a configuration that cannot be.
    """
    rows = [Ablation(base['network.name'], {}), *ablations]
    runs = {}
    for row in rows:
        for number in range(seeds):
            config = base | row.changes | {'seed': base['seed'] + number}
            faults = configuration.validate(config)
            if faults:
                raise InputError('\n'.join(f'{row.name}: {fault}' for fault in faults))
            runs[run_name(row.name, config['seed'])] = config
    return runs


def run_name(name: str, seed: int) -> str:
    return f'{name.replace("/", "_")}/seed-{seed}'


def compare(values: list[float], base: list[float]) -> tuple[float, float | None]:
    """Mean difference from the base over pairs of runs of one seed, and its standard
    error (None for one pair)."""
    differences = [value - other for value, other in zip(values, base, strict=True)]
    error = None
    if len(differences) > 1:
        error = statistics.stdev(differences) / len(differences) ** 0.5
    return statistics.mean(differences), error


def summarize(
    base: Config, ablations: list[Ablation], seeds: int, results: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """A row a net, the base first: for either error its values by seed, their mean, the
    difference from the base with its standard error, and the published difference. What
    cannot be computed, for a run whose loss was no number, is None."""

    def errors(name: str, error: str) -> list[Any]:
        names = [run_name(name, base['seed'] + number) for number in range(seeds)]
        return [results[run].get(error) for run in names]

    rows, first = [], base['network.name']
    for ablation in [Ablation(first, {}), *ablations]:
        row: dict[str, Any] = {'name': ablation.name, 'source': ablation.source}
        for error, published in zip(ERRORS, ablation.published, strict=True):
            values, against = errors(ablation.name, error), errors(first, error)
            difference, deviation = None, None
            if None not in values + against and ablation.name != first:
                difference, deviation = compare(values, against)
            row[error] = {
                'seeds': values,
                'mean': None if None in values else statistics.mean(values),
                'difference': difference,
                'standard_error': deviation,
                'published': published,
            }
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]], error: str) -> list[str]:
    """The rows as Markdown, for one of the errors."""
    lines = [
        f'| net | {error}, mean | by seed | difference from {rows[0]["name"]} | published | where |',
        '|---|---|---|---|---|---|',
    ]
    for row in rows:
        values = row[error]
        by_seed = ', '.join('none' if x is None else f'{x:.4f}' for x in values['seeds'])
        deviation = values['standard_error']
        spread = '' if deviation is None else f' ± {deviation:.4f}'
        difference = _signed(values['difference'], '.4f')
        lines.append(
            f'| {row["name"]} | {"" if values["mean"] is None else format(values["mean"], ".4f")}'
            f' | {by_seed} | {difference}{spread} | {_signed(values["published"], ".3f")}'
            f' | {row["source"]} |'
        )
    return lines


def _signed(value: float | None, form: str) -> str:
    return '' if value is None else format(value, '+' + form)


def report(rows: list[dict[str, Any]], base: Config, seeds: int, split: str) -> str:
    """The page: what was run, a table for each error, how to read it."""
    return '\n'.join([
        f'# Ablations of {base["network.name"]} on {base["data.source"]}',
        '',
        f'{seeds} seed{"s" * (seeds > 1)} each, from {base["seed"]}; errors on the {split} images,'
        f' one view; protocol {base["train.protocol"]}, width {base["network.width"]:g}.'
        ' Differences are means over pairs of runs with the same seed, ± their standard error;'
        ' below zero, the ablated net was the better one.',
        '',
        *table(rows, ERRORS[0]), '', *table(rows, ERRORS[1]), '',
    ])  # fmt: skip


def parse(argv: list[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    parser = Parser(
        prog='python -m alexnet_jax.ablations', description=__doc__,
        epilog='\n'.join(f'  {row.name}: {row.changes}, {row.source}' for row in PUBLISHED),
    )  # fmt: skip
    parser.add_argument('--config', type=Path, required=True, help='of the base net')
    parser.add_argument('--workdir', type=Path, required=True, help='folder of all the runs')
    parser.add_argument('--ablations', default='', help="commas between; all of the paper's")
    parser.add_argument('--seeds', type=int, default=3, help='runs of each net (3)')
    options, overrides = parser.parse_with_settings(argv)
    if not 1 <= options.seeds <= 1000:
        raise InputError(f'--seeds is {options.seeds}; allowed: from 1 to 1000')
    return options, overrides


def run(argv: list[str]) -> int:
    options, overrides = parse(argv)
    base = configuration.load(options.config, overrides)
    ablations = parse_ablations(options.ablations, base)
    configs = plan(base, ablations, options.seeds)
    command_line.before_jax()
    from alexnet_jax import runs  # JAX starts here: not before a bad setting is found
    from alexnet_jax.report import several

    with stop_requests() as stop_requested:
        results = runs.train_all(configs, options.workdir, stop_requested)
    if results is None:
        return STOPPED
    rows = summarize(base, ablations, options.seeds, results)
    split = next((result['split'] for result in results.values() if 'split' in result), 'held-out')
    page = report(rows, base, options.seeds, split)
    (options.workdir / 'ablations.md').write_text(page)
    write_json(options.workdir / 'ablations.json', {'split': split, 'rows': rows})
    print(page)
    print(several.make(options.workdir))
    return DONE


if __name__ == '__main__':
    sys.exit(command_line.run(run, None))
