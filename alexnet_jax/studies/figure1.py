"""Reproduces the paper's Figure 1: epochs of a four-layer net to a training error, by activation.

    python -m alexnet_jax.figure1 --config configs/figure1.py --workdir runs/figure1
        [--activations relu,tanh,...] [--rates 0.001,0.003,...] [--seeds 3] [--error 0.25]
        [--config.NAME=VALUE ...]

Each activation function is trained once with each learning rate of the grid, and with the other seeds
at its best rate, which reaches the error first. A run ends when it reaches the error, when it is
slower than another rate of the grid, or after train.epochs. The training error is the mean over the
batches of the last epoch, with each image as augmented for training. The command sets
network.activation, optimizer.learning_rate and train.log_every_steps; those of the configuration file
are not used, and they are errors on the command line. Runs that end in NaN are listed and excluded.
Repeat the command to resume an interrupted study. A folder has one study (study.json): activations,
rates, seeds and steps may be added; any other change is an error, and so is a run that is longer than
requested. Writes figure1.json and curves.csv. Exit status: as for alexnet_jax.main.
"""

import argparse
import csv
import io
import itertools
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from alexnet_jax.evaluation.seeds import epochs_text
from alexnet_jax.experiment import config_file
from alexnet_jax.experiment.defaults import Config
from alexnet_jax.network.layers import ACTIVATIONS
from alexnet_jax.runtime import command_line
from alexnet_jax.runtime.command_line import STOPPED
from alexnet_jax.runtime.errors import InputError
from alexnet_jax.studies import study
from alexnet_jax.studies.curves import Curve, Reached, epochs_to, train_rows, whole_curve

OWN = {
    'network.activation': 'use --activations',
    'optimizer.learning_rate': 'use --rates',
    'train.log_every_steps': 'every step is logged',
}
Row = dict[str, Any]


def best_rate(curves: Mapping[float, Curve], error: float) -> float:
    """Returns the rate that reached `error` first, or otherwise that of the lowest error."""

    def place(rate: float) -> tuple[float, float]:
        epochs = epochs_to(curves[rate], error)
        lowest = min((reached for _, reached in curves[rate]), default=math.inf)
        return (math.inf if epochs is None else epochs, lowest)

    return min(curves, key=place)


def run_name(activation: str, rate: float, seed: int) -> str:
    """Returns the folder of a run in that of the study, such as 'relu/rate-0.01/seed-0'."""
    return f'{activation}/rate-{rate:g}/seed-{seed}'


def plan(
    base: Config, activation: str, rates: Sequence[float], seeds: Sequence[int]
) -> dict[str, Config]:
    """Returns the configurations of an activation function with these rates and seeds, by name.

    Raises:
      InputError: a configuration is invalid.
    """
    runs = {}
    for rate, seed in itertools.product(rates, seeds):
        values = {
            'network.activation': activation,
            'optimizer.learning_rate': rate,
            'seed': seed,
            'train.log_every_steps': 1,
        }
        runs[run_name(activation, rate, seed)] = study.changed(
            base, values, f'{activation}, rate {rate!r}'
        )
    return runs


def choose(
    grid: Mapping[float, str], faults: Mapping[str, str], curves: Mapping[str, Curve], error: float
) -> float | None:
    """Returns the best rate of a grid, {rate: name of its run}, or None if all runs ended in NaN."""
    whole = {rate: curves[name] for rate, name in grid.items() if name not in faults}
    return best_rate(whole, error) if whole else None


def summarize(
    curves: Mapping[str, Curve],
    chosen: Mapping[str, float | None],
    faults: Mapping[str, str],
    seeds: Sequence[int],
    error: float,
) -> list[Row]:
    """Returns a row for each activation function: its rate, and its epochs to the error by seed.

    The epochs are None for a seed that did not reach the error. There is no rate if every rate ended in
    NaN.

    Args:
      curves: of all runs, by name. faults: of runs that ended in NaN, by name.
    """
    rows = []
    for activation, rate in chosen.items():
        names = [] if rate is None else [run_name(activation, rate, seed) for seed in seeds]
        found = [[] if name in faults else curves[name] for name in names]
        epochs = [epochs_to(one, error) for one in found]
        reached = [value for value in epochs if value is not None]
        whole = len(reached) == len(epochs) > 0
        rows.append({
            'activation': activation,
            'learning_rate': rate,
            'epochs': epochs,
            'mean': statistics.mean(reached) if whole else None,
            'standard_deviation': statistics.stdev(reached) if whole and len(reached) > 1 else None,
            'lowest_error': [min((e for _, e in one), default=None) for one in found],
            'no_number': [name in faults for name in names],
        })  # fmt: skip
    return rows


def table(rows: Sequence[Row], error: float) -> list[str]:
    """Returns the rows as lines of text, with the ratio of the epochs to those of the first row."""
    lines = [
        f'{"activation":12}{"learning rate":>14}{f"epochs to training error {error:g}":>34}{"mean":>8}'
        f'{"± s.d.":>8}{"ratio to " + rows[0]["activation"]:>17}'
    ]
    for row in rows:
        rate = '' if row['learning_rate'] is None else f'{row["learning_rate"]:g}'
        quotient = row['mean'] and rows[0]['mean'] and row['mean'] / rows[0]['mean']
        numbers = (row['mean'], row['standard_deviation'], quotient)
        mean, deviation, ratio = ('' if x is None else f'{x:.2f}' for x in numbers)
        lines.append(
            f'{row["activation"]:12}{rate:>14}{epochs_text(row):>34}{mean:>8}{deviation:>8}{ratio:>17}'
        )
    return lines


def curves_text(curves: Mapping[str, Curve]) -> str:
    """Returns the content of curves.csv: run, epoch and training_error of every step."""
    content = io.StringIO(newline='')
    writer = csv.writer(content)
    writer.writerow(['run', 'epoch', 'training_error'])
    for name, points in curves.items():
        writer.writerows((name, f'{x:.6g}', f'{y:.6g}') for x, y in points)
    return content.getvalue()


def parse(argv: list[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    """Parses the command line into options and overridden settings."""
    parser = study.parser_of(
        'figure1', __doc__, 'configuration of the four-layer net', 'runs at the best rate'
    )
    parser.add_argument(
        '--activations',
        default=','.join(ACTIVATIONS),
        help='comma-separated activation functions; default: all',
    )
    parser.add_argument(
        '--rates',
        default='0.001,0.003,0.01,0.03',
        help='comma-separated learning rates of the grid',
    )
    parser.add_argument('--error', type=float, default=0.25, help='training error to reach (0.25)')
    options, overrides = parser.parse_with_settings(argv)
    study.require_not_given(overrides, OWN)
    options.activations = study.names_of('--activations', options.activations, ACTIVATIONS)
    options.rates = parse_rates(options.rates)
    if not 0 < options.error < 1:
        raise InputError(f'--error is {options.error}; allowed: between 0 and 1')
    return options, overrides


def parse_rates(text: str) -> list[float]:
    """Returns the learning rates of a comma-separated text.

    Raises:
      InputError: one is not a number, or two have the same folder.
    """
    rates = study.numbers_of('--rates', text, 'comma-separated numbers')
    for first, second in itertools.combinations(rates, 2):
        if f'{first:g}' == f'{second:g}':
            raise InputError(
                f'--rates has {first!r} and {second!r}; allowed: each once, with different'
                f' folders (both have rate-{first:g})'
            )
    return rates


def run(argv: list[str]) -> int:
    """Trains the net with each activation function and writes Figure 1; returns the exit status."""
    options, overrides = parse(argv)
    base = config_file.load(options.config, overrides)
    study.require_defaults(base)
    seeds = study.seeds_from(base, options.seeds)
    configs = {}
    for activation in options.activations:  # reports invalid configurations before JAX starts
        configs |= plan(base, activation, options.rates, seeds)
    asking = study.asked(
        'figure1', base, OWN,
        activations=options.activations, rates=options.rates, seeds=len(seeds),
    )  # fmt: skip
    folder = options.workdir
    for name in configs:
        train_rows(folder / name)
    trained = study.conduct(
        folder, asking, configs, lambda train_all, _: train(base, options, seeds, train_all),
        ends_early=True,
    )  # fmt: skip
    if trained is None:
        return STOPPED
    curves, chosen, faults = trained
    rows = summarize(curves, chosen, faults, seeds, options.error)
    content = {
        'figure1.json': {'error': options.error, 'rows': rows, 'faults': faults},
        'curves.csv': curves_text(curves),
    }
    lines = [*table(rows, options.error), *study.excluded(faults)]
    return study.publish(folder, content, '\n'.join([*lines, f'curves: {folder / "curves.csv"}']))


def train(
    base: Config,
    options: argparse.Namespace,
    seeds: Sequence[int],
    train_all: study.TrainAll,
) -> tuple[dict[str, Curve], dict[str, float | None], dict[str, str]] | None:
    """Trains the grid of every activation function, and the other seeds at its best rate.

    Returns:
      the curves of the runs by name, without those that ended in NaN; the rate by activation function;
      the faults of the runs that ended in NaN. None after a stop request.
    """
    curves: dict[str, Curve] = {}
    faults: dict[str, str] = {}
    chosen = {}

    def done(configs: Mapping[str, Config], most_epochs: float = math.inf) -> bool:
        def reached(name: str) -> Reached:
            batch_size = configs[name].data.batch_size
            return Reached(options.workdir / name, batch_size, options.error, most_epochs)

        results = train_all(configs, reached=reached)
        for name, result in (results or {}).items():
            if 'fault' in result:
                faults[name] = result['fault']
            else:
                curves[name] = whole_curve(
                    options.workdir / name, configs[name].data.batch_size, result['step']
                )
        return results is not None

    for activation in options.activations:
        grid = plan(base, activation, options.rates, seeds[:1])
        soonest = math.inf
        for name, config in grid.items():
            if not done({name: config}, soonest):
                return None
            soonest = min(soonest, epochs_to(curves.get(name, []), options.error) or math.inf)
        rate = choose(dict(zip(options.rates, grid, strict=True)), faults, curves, options.error)
        chosen[activation] = rate
        if rate is None:
            print(f'{activation}: every rate ended in NaN', flush=True)
            continue
        print(f'{activation}: best learning rate {rate:g}', flush=True)
        if not done(plan(base, activation, [rate], seeds[1:])):
            return None
    return curves, chosen, faults


def main(argv: list[str] | None = None) -> int:
    """Runs the command line in this process and returns its exit status."""
    return command_line.run(run, argv)


if __name__ == '__main__':
    sys.exit(main())
