"""How fast the training loop is beside its own compiled step: what input and log cost.

    python benchmarks/end_to_end.py --rounds=5

Two runs: the digits (configs/digits.py), and the paper's full net (configs/imagenet.py, 1000
classes) on photographs of 256×256 pixels prepared as JPEG (those of input_rate.py). Of each, in
one process and in turns, with one state that both move on:

- step: the compiled step on one batch that is on the device already, each loss read one step
  late, as the loop does;
- loop: `loop.train` with the run's own batches from the records, its metrics.jsonl and its
  line for the terminal. Validations and checkpoints are left out.

Batches that were made ready meanwhile are used up before the loop's time counts. Where the
loop's rows say how long a step waited for its batch, or for the log, so does the table. Prints
one table and writes the same as JSON beside this file.
"""

import argparse
import contextlib
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alexnet_jax.runtime import command_line

command_line.before_jax()

import input_rate  # noqa: E402
import jax  # noqa: E402
import report  # noqa: E402

from alexnet_jax.experiment import build as experiments  # noqa: E402
from alexnet_jax.experiment import config_file  # noqa: E402
from alexnet_jax.experiment.build import Experiment  # noqa: E402
from alexnet_jax.training import health, loop, step  # noqa: E402
from alexnet_jax.training.console import Reporter  # noqa: E402
from alexnet_jax.training.metrics_log import MetricsLog  # noqa: E402

CLASSES = 1000  # of the full net, whatever the photographs' are
PARTS = ('seconds_input', 'seconds_log')  # of a train row
SETTLE = 0.5  # seconds in which the batches that are kept ready are made again


class Run:
    """An experiment's loop and its bare step, in turns."""

    def __init__(self, experiment: Experiment, steps: int, workdir: Path):
        self._experiment, self._steps = experiment, steps
        self._batch_size = experiment.plan.batch_size
        self._train_step = experiments.train_step(experiment)
        self._state = experiments.initial_state(experiment, {})
        self._batches = experiments.train_batches(experiment, 0)
        self._batch = next(self._batches)
        self._log = MetricsLog(workdir / 'metrics.jsonl', 0)
        self._reporter = Reporter(experiment.plan.steps, 0)
        self.rows: list[loop.Row] = []  # of the last time the loop's time counted

    def close(self) -> None:
        """Ends the input pipeline, the progress bar and the log."""
        self._batches.close()
        self._reporter.close()
        self._log.close()

    def bare(self) -> float:
        """Images a second of the step alone."""
        time.sleep(SETTLE)
        begun = time.perf_counter()
        last = None
        for _ in range(self._steps):
            self._state, scores = self._train_step(self._state, self._batch)
            if last is not None:
                float(last['loss'])
            last = scores
        jax.block_until_ready(last)
        return self._rate(begun)

    def looped(self) -> float:
        """Images a second of the loop."""
        # As many as Grain keeps ready, and those that are placed ahead.
        self._train(2 * self._experiment.config.data.threads + 3)
        self.rows = []
        begun = time.perf_counter()
        self._train(self._steps)
        return self._rate(begun)

    def _rate(self, begun: float) -> float:
        return self._batch_size * self._steps / (time.perf_counter() - begun)

    def _train(self, steps: int) -> None:
        # No epoch is ever full: no validation.
        plan = dataclasses.replace(
            self._experiment.plan, steps=int(self._state.step) + steps, epoch_size=2**40
        )
        self._state, _ = loop.train(
            self._state,
            plan,
            train_step=self._train_step,
            batches=self._batches,
            validate=_unreached,
            saves=_Unsaved(),
            log=self._record,
            health=health.Health(step.layer_names(self._experiment.net.architecture)),
        )

    def _record(self, row: loop.Row) -> None:
        self._log.write(row)
        self._reporter.train(row)
        self.rows.append(row)


class _Unsaved:
    """Keeps no state."""

    def save(self, state: Any, error: float | None) -> None: ...

    def check(self) -> None: ...

    def wait(self) -> None: ...


def _unreached(variables: Any) -> loop.Row:
    raise AssertionError('a validation')


@contextlib.contextmanager
def digits(workdir: Path, options: argparse.Namespace) -> Iterator[Run]:
    """Yields a run of the digits, which is closed afterwards."""
    config = config_file.load('configs/digits.py', {})
    with contextlib.closing(Run(experiments.build(config), options.digits_steps, workdir)) as run:
        yield run


@contextlib.contextmanager
def full_net(workdir: Path, options: argparse.Namespace) -> Iterator[Run]:
    """On photographs."""
    folder = workdir / 'photographs'
    input_rate.write_folder(folder, options.images)
    input_rate.prepared_set(folder, 'jpeg')
    changes = {
        'data.source': f'folder:{folder}',
        'data.dir': str(workdir / 'jpeg'),
        'data.batch_size': str(options.batch),
    }
    config = config_file.load('configs/imagenet.py', changes | dict(options.set))
    built = experiments.build(config)
    built = dataclasses.replace(built, net=built.net.clone(classes=CLASSES))
    with contextlib.closing(Run(built, options.steps, workdir)) as run:
        yield run


def measure(run: Run, rounds: int) -> dict[str, Any]:
    """Measures images a second of each, and the parts of the loop's step that its rows state."""
    parts: dict[str, list[float]] = {name: [] for name in PARTS}

    def looped() -> float:
        rate = run.looped()
        for name, values in parts.items():
            known = [row[name] for row in run.rows if row.get(name) is not None]
            values.extend([statistics.mean(known)] if known else [])
        return rate

    rates = report.in_turns({'step': run.bare, 'loop': looped}, rounds, warmup=1)
    return {
        'images_per_second': rates,
        'ratio': report.ratios(rates['loop'], rates['step']),
        'of_a_step': {name: values[-rounds:] for name, values in parts.items()},
    }


def cells(found: dict[str, Any]) -> list[str]:
    """Formats a contestant's rates, its ratio and the parts of a step for the table."""
    rates = [report.spread(values) for values in found['images_per_second'].values()]
    parts = [
        report.spread([1e3 * x for x in values]) if values else ''
        for values in found['of_a_step'].values()
    ]
    return [*rates, report.spread(found['ratio']), *parts]


def changed(text: str) -> tuple[str, ...]:
    """Splits 'SETTING=VALUE' into its two parts."""
    return tuple(text.split('=', 1))


def main() -> None:
    """Measures the rounds and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--digits_steps', type=int, default=200, help='a turn of the digits')
    parser.add_argument('--steps', type=int, default=6, help='a turn of the full net')
    parser.add_argument('--batch', type=int, default=64, help='of the full net')
    parser.add_argument('--images', type=int, default=2000, help='photographs')
    parser.add_argument('--set', action='append', default=[], type=changed,
                        metavar='SETTING=VALUE', help="changes the full net's settings")  # fmt: skip
    options = parser.parse_args()
    found = {}
    for name, opened in {'digits': digits, 'full net': full_net}.items():
        with tempfile.TemporaryDirectory() as folder, opened(Path(folder), options) as run:
            found[name] = measure(run, options.rounds)
    header = ['', 'step, images/s', 'loop, images/s', 'ratio, round by round']
    header += [f'{name.removeprefix("seconds_")}, ms a step' for name in PARTS]
    rows = [[name, *cells(of)] for name, of in found.items()]
    result = {
        'machine': report.machine('jax', 'jaxlib', 'flax', 'grain', 'simplejpeg'),
        'device': jax.devices()[0].device_kind,
        'options': vars(options),
    } | found
    report.publish(__file__, result, report.table(header, rows))


if __name__ == '__main__':
    main()
