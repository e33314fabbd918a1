"""The paper's Figure 1: how many epochs a four-layer net needs to a training error, with
each activation at its own best rate.

    python -m alexnet_jax.figure1 --config configs/figure1.py --workdir runs/figure1
        [--activations relu,tanh,...] [--rates 0.001,0.003,...] [--seeds 3] [--error 0.25]
        [--config.NAME=VALUE ...]

Each activation is trained once at each rate of the grid, and with the other seeds at
the rate that reached the error soonest. The training error is that of the last epoch's
worth of batches, each image as the net met it. Stopped and called again, the command
goes on. Keeps figure1.json and curves.csv. Exit status: as for alexnet_jax.main.
"""

import argparse
import csv
import itertools
import json
import math
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax import command_line
from alexnet_jax import config as configuration
from alexnet_jax.command_line import DONE, STOPPED, Parser
from alexnet_jax.config import Config
from alexnet_jax.errors import InputError, nearest
from alexnet_jax.network.layers import ACTIVATIONS
from alexnet_jax.results import write_json
from alexnet_jax.stop import stop_requests

Curve = list[tuple[float, float]]  # (epochs, training error)


def curve(workdir: Path) -> Curve:
    """The training error after each step from the end of the first epoch on: the mean
    over the batches of the last epoch."""
    lines = (workdir / 'metrics.jsonl').read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row['split'] == 'train']
    if not rows:
        return []
    window = math.ceil(rows[0]['step'] / rows[0]['epoch'])
    sums = np.cumsum([0.0, *(row['top1_error'] for row in rows)])
    means = (sums[window:] - sums[:-window]) / window
    return [
        (row['epoch'], float(mean)) for row, mean in zip(rows[window - 1 :], means, strict=True)
    ]


def epochs_to(curve: Curve, error: float) -> float | None:
    """The epochs after which the training error was first no higher than `error`."""
    return next((epochs for epochs, reached in curve if reached <= error), None)


def best_rate(curves: dict[float, Curve], error: float) -> float:
    """The rate that reached `error` first; if none did, the one that came closest."""

    def place(rate: float) -> tuple[float, float]:
        epochs = epochs_to(curves[rate], error)
        lowest = min((reached for _, reached in curves[rate]), default=math.inf)
        return (math.inf if epochs is None else epochs, lowest)

    return min(curves, key=place)


def run_name(activation: str, rate: float, seed: int) -> str:
    return f'{activation}/rate-{rate:g}/seed-{seed}'


def plan(base: Config, activation: str, rates: list[float], seeds: list[int]) -> dict[str, Config]:
    """The configurations of an activation at these rates with these seeds, by name.

    Raises:
      InputError: one that cannot be.
    """
    runs = {}
    for rate, seed in itertools.product(rates, seeds):
        config = base | {
            'network.activation': activation,
            'optimizer.learning_rate': rate,
            'seed': seed,
            'train.log_every_steps': 1,
        }
        faults = configuration.validate(config)
        if faults:
            raise InputError('\n'.join(faults))
        runs[run_name(activation, rate, seed)] = config
    return runs


def summarize(
    folder: Path, chosen: dict[str, float], seeds: list[int], error: float
) -> list[dict[str, Any]]:
    """A row an activation: its rate, and epochs to the error by seed."""
    rows = []
    for activation, rate in chosen.items():
        curves = [curve(folder / run_name(activation, rate, seed)) for seed in seeds]
        epochs = [epochs_to(found, error) for found in curves]
        reached = [value for value in epochs if value is not None]
        whole = len(reached) == len(epochs)
        rows.append({
            'activation': activation,
            'learning_rate': rate,
            'epochs': epochs,
            'mean': statistics.mean(reached) if whole else None,
            'standard_deviation': statistics.stdev(reached) if whole and len(reached) > 1 else None,
            'lowest_error': [min((e for _, e in found), default=None) for found in curves],
        })  # fmt: skip
    return rows


def table(rows: list[dict[str, Any]], error: float) -> list[str]:
    """The rows as text; times as many epochs as the first."""
    lines = [
        f'{"activation":12}{"rate":>8}{f"epochs to training error {error:g}":>34}{"mean":>8}'
        f'{"± s.d.":>8}{"times " + rows[0]["activation"]:>12}'
    ]
    for row in rows:
        by_seed = ', '.join('never' if x is None else f'{x:.2f}' for x in row['epochs'])
        ratio = row['mean'] and rows[0]['mean'] and row['mean'] / rows[0]['mean']
        numbers = (row['mean'], row['standard_deviation'], ratio)
        mean, deviation, times = ('' if x is None else f'{x:.2f}' for x in numbers)
        lines.append(
            f'{row["activation"]:12}{row["learning_rate"]:8g}{by_seed:>34}{mean:>8}'
            f'{deviation:>8}{times:>12}'
        )
    return lines


def write_curves(path: Path, folder: Path, names: list[str]) -> None:
    """run, epoch, training_error: a line a step of every run."""
    with path.open('w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['run', 'epoch', 'training_error'])
        for name in names:
            writer.writerows((name, f'{x:.6g}', f'{y:.6g}') for x, y in curve(folder / name))


def parse(argv: list[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    parser = Parser(prog='python -m alexnet_jax.figure1', description=__doc__)
    parser.add_argument('--config', type=Path, required=True, help='of the four-layer net')
    parser.add_argument('--workdir', type=Path, required=True, help='folder of all the runs')
    parser.add_argument('--activations', default=','.join(ACTIVATIONS), help='all')
    parser.add_argument('--rates', default='0.001,0.003,0.01,0.03', help='the grid of ε')
    parser.add_argument('--seeds', type=int, default=3, help='runs at the chosen rate (3)')
    parser.add_argument('--error', type=float, default=0.25, help='training error (0.25)')
    options, overrides = parser.parse_with_settings(argv)
    options.activations = list(filter(None, options.activations.split(',')))
    for name in options.activations:
        if name not in ACTIVATIONS:
            raise InputError(
                f'--activations has {name!r}; the nearest is {nearest(name, ACTIVATIONS)};'
                f' allowed: {", ".join(ACTIVATIONS)}'
            )
    try:
        options.rates = [float(rate) for rate in options.rates.split(',')]
    except ValueError:
        raise InputError(
            f'--rates is {options.rates!r}; allowed: numbers, commas between'
        ) from None
    if not options.activations or not 1 <= options.seeds <= 1000 or not 0 < options.error < 1:
        raise InputError(
            f'--activations, --seeds, --error are {options.activations}, {options.seeds},'
            f' {options.error}; allowed: one at least, from 1 to 1000, between 0 and 1'
        )
    return options, overrides


def run(argv: list[str]) -> int:
    options, overrides = parse(argv)
    base = configuration.load(options.config, overrides)
    seeds = [base['seed'] + number for number in range(options.seeds)]
    for activation in options.activations:  # to refuse what cannot be before JAX starts
        plan(base, activation, options.rates, seeds)
    command_line.before_jax()
    from alexnet_jax import runs
    from alexnet_jax.report import several

    folder, chosen, names = options.workdir, {}, []
    with stop_requests() as stop_requested:
        for activation in options.activations:
            grid = plan(base, activation, options.rates, seeds[:1])
            if runs.train_all(grid, folder, stop_requested) is None:
                return STOPPED
            rate = best_rate(
                {
                    rate: curve(folder / name)
                    for rate, name in zip(options.rates, grid, strict=True)
                },
                options.error,
            )
            print(f'{activation}: ε {rate:g}', flush=True)
            repeated = plan(base, activation, [rate], seeds[1:])
            if runs.train_all(repeated, folder, stop_requested) is None:
                return STOPPED
            chosen[activation] = rate
            names += [*grid, *repeated]
    rows = summarize(folder, chosen, seeds, options.error)
    write_json(folder / 'figure1.json', {'error': options.error, 'rows': rows})
    write_curves(folder / 'curves.csv', folder, names)
    print('\n'.join([*table(rows, options.error), f'curves: {folder / "curves.csv"}']))
    print(several.make(folder))
    return DONE


if __name__ == '__main__':
    sys.exit(command_line.run(run, None))
