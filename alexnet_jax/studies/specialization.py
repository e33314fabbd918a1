"""Measures whether the two columns of a net specialize, as the paper's Figure 3 suggests.

    python -m alexnet_jax.specialization --config configs/patterns.py --workdir runs/specialization
        [--nets patterns_no_communication,patterns,patterns_one_column] [--seeds 5]
        [--config.NAME=VALUE ...]

Trains each net with several seeds and measures every run: the separation of the columns' kernels in
color and orientation, compared with chance; the errors of each column alone, by group of classes; and
the similarity of the columns' outputs. Each run is an ordinary workdir. Repeat the command to resume an
interrupted study. The command sets network.name; that of the configuration file is not used, and it is
an error on the command line. Runs that end in NaN are listed and excluded. A folder has one study
(study.json): nets, seeds and steps may be added; any other change is an error, and so is a run that is
longer than requested. Writes specialization.md, specialization.json and a page, report/index.html
(docs/columns.md). Exit status: as for alexnet_jax.main.
"""

import argparse
import itertools
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

from alexnet_jax.evaluation import seeds
from alexnet_jax.experiment import config_file
from alexnet_jax.experiment.defaults import Config
from alexnet_jax.network.architectures import ARCHITECTURES
from alexnet_jax.runtime import command_line
from alexnet_jax.runtime.command_line import STOPPED
from alexnet_jax.runtime.errors import counted
from alexnet_jax.studies import study

LEANING = 'columns alone differ in leaning'
NETS = ('patterns_no_communication', 'patterns', 'patterns_one_column')
Row = dict[str, Any]


def parse(argv: list[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    """Parses the command line into options and overridden settings."""
    parser = study.parser_of(
        'specialization', __doc__, 'configuration of all runs', 'runs of each net'
    )
    parser.set_defaults(seeds=5)
    parser.add_argument('--nets', default=','.join(NETS), help='comma-separated nets')
    options, overrides = parser.parse_with_settings(argv)
    study.require_not_given(overrides, {'network.name': 'use --nets'})
    options.nets = study.names_of('--nets', options.nets, ARCHITECTURES)
    return options, overrides


def plan(base: Config, nets: Sequence[str], seeds: Sequence[int]) -> dict[str, Config]:
    """Returns the configurations by name, NET/seed-N; every net with the first seed comes first.

    Raises:
      InputError: a configuration is invalid.
    """
    runs = {}
    for seed, net in itertools.product(seeds, nets):
        values = {'network.name': net, 'seed': seed}
        runs[f'{net}/seed-{seed}'] = study.changed(base, values, net)
    return runs


def summarize(nets: list[str], measured: dict[str, Row]) -> list[Row]:
    """Returns a row for each net: the values of each measure by seed, their mean and interval.

    A row also has the number of runs with a separation of p < 0.05, by index.

    Args:
      measured: by run, as `column_runs.measure` returns it.
    """
    rows = []
    for net in nets:
        runs = [row for name, row in measured.items() if name.rpartition('/')[0] == net]
        names = list(dict.fromkeys(name for row in runs for name in row['measures']))
        rows.append({
            'net': net,
            'runs': len(runs),
            'measures': {
                name: seeds.interval([row['measures'].get(name) for row in runs], *_range_of(name))
                for name in names
            },
            'apart': {
                index: sum(_is_apart(row['separation'][index]['p']) for row in runs)
                for index in ('color', 'orientation')
            },
        })  # fmt: skip
    return rows


def _is_apart(p: float | None) -> bool:
    """Returns whether a separation is significant; p is None for kernels of zeros."""
    return p is not None and p < 0.05


def _range_of(measure: str) -> tuple[float, float]:
    """Returns the range of a measure. CKA has none: its unbiased estimate may be below 0."""
    if measure.startswith('CKA'):
        return -math.inf, math.inf
    return 0.0, 2.0 if measure == LEANING else 1.0


def run(argv: list[str]) -> int:
    """Trains each net with each seed and measures its columns; returns the exit status."""
    options, overrides = parse(argv)
    base = config_file.load(options.config, overrides)
    study.require_defaults(base)
    configs = plan(base, options.nets, study.seeds_from(base, options.seeds, least=2))
    asking = study.asked(
        'specialization', base, ['network.name'], nets=options.nets, seeds=options.seeds
    )
    folder = options.workdir

    def work(train_all: study.TrainAll, stop_requested: Callable[[], bool]) -> Any:
        from alexnet_jax.studies import column_runs

        results = train_all(configs)
        if results is None:
            return None
        faults = {name: row['fault'] for name, row in results.items() if 'fault' in row}
        whole = {name: config for name, config in configs.items() if name not in faults}
        return study.excluded(faults), column_runs.measure_all(whole, folder, stop_requested)

    done = study.conduct(folder, asking, configs, work)
    if done is None:
        return STOPPED
    notes, measured = done
    rows = summarize(options.nets, measured)
    table = '\n'.join(seeds.markdown_table(*seeds.measure_table(rows)))
    page = '\n\n'.join([_about(base, options.seeds), table, *notes]) + '\n'
    tree = {'rows': rows, 'runs': measured, 'notes': notes}
    content = {'specialization.md': page, 'specialization.json': tree}
    return study.publish(folder, content, page)


def _about(base: Config, seeds: int) -> str:
    return (
        f'# Columns on {base.data.source}\n\n{counted(seeds, "seed")}, from {base.seed};'
        f' protocol {base.train.protocol}. docs/columns.md defines the measures.'
    )


def main(argv: list[str] | None = None) -> int:
    """Runs the command line in this process and returns its exit status."""
    return command_line.run(run, argv)


if __name__ == '__main__':
    sys.exit(main())
