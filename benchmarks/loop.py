"""What the training loop itself costs: around a step that does nothing.

    python benchmarks/loop.py --rounds=7

`loop.train` with what a run gives it: health, metrics.jsonl, TensorBoard's files and a progress
line on a terminal. Its step is compiled and takes and returns the whole tree of the net's state,
each array a number, and the scores of a real step. The batch is on the device already. Two turns a
round: a row asked for at each step, and at every tenth (train.log_every_steps).

Parts are timed where the loop calls them, ms a step; "the rest" is the loop's own order of things.
"Processor" is the time that the loop's thread was at work: on a busy machine it says more. Not
part of the loop: to place a batch of the host's on the device. Prints one table and writes the
same as JSON beside this file.
"""

import argparse
import collections
import contextlib
import functools
import io
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from alexnet_jax.runtime import command_line

command_line.before_jax()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import report  # noqa: E402
import timing  # noqa: E402

from alexnet_jax.network import device_mesh  # noqa: E402
from alexnet_jax.network.alexnet import AlexNet  # noqa: E402
from alexnet_jax.network.architectures import architecture  # noqa: E402
from alexnet_jax.training import loop, schedule, step  # noqa: E402
from alexnet_jax.training.console import Reporter  # noqa: E402
from alexnet_jax.training.health import Health  # noqa: E402
from alexnet_jax.training.metrics_log import MetricsLog  # noqa: E402
from alexnet_jax.training.trackers import TensorBoard  # noqa: E402

BATCH, CLASSES = 128, 1000
EVERY = (1, 10)  # steps between rows
WARM = 100  # steps before the time counts
PARTS = ('dispatch', 'health', 'metrics.jsonl', 'TensorBoard', 'progress')
REST, ALL, PROCESSOR = 'the rest', 'the loop', 'the loop, its thread at work'
PLACE = 'not counted: placing a batch'


class Terminal(io.StringIO):
    """Takes what is printed, as a terminal would."""

    def isatty(self) -> bool:
        """Returns True: the progress bar is drawn."""
        return True


class Unsaved:
    """Keeps no state."""

    def save(self, state: Any, error: float | None) -> None:
        """Saves nothing."""

    def check(self) -> None:
        """Raises nothing."""

    def wait(self) -> None:
        """Returns at once."""


class Parts:
    """Seconds by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = collections.defaultdict(float)

    def timed(self, part: str, function: Callable) -> Callable:
        """The function, its time added to the part's."""

        @functools.wraps(function)
        def call(*arguments: Any) -> Any:
            begun = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                self.seconds[part] += time.perf_counter() - begun

        return call


def step_that_does_nothing(net: AlexNet) -> tuple[Callable, step.TrainState]:
    """A compiled step and its first state."""
    mesh = device_mesh.make_mesh()
    of_nothing = jax.tree.map(lambda x: jnp.zeros((), x.dtype), step.abstract_state(net, mesh))
    layers = len(step.layer_names(net.architecture))
    numbers = ('loss', 'top1_error', 'top5_error', 'learning_rate')
    scores: step.Scores = {name: jnp.float32(0.5) for name in numbers}
    scores['bias_gradients'] = jnp.ones((layers, net.architecture.columns))

    @functools.partial(jax.jit, donate_argnums=0)
    def train_step(state: step.TrainState, batch: Any) -> tuple[step.TrainState, step.Scores]:
        return state.replace(step=state.step + 1), scores

    return train_step, of_nothing.replace(plateau=jax.device_put(schedule.start()))


@contextlib.contextmanager
def sinks(folder: Path, steps: int, parts: Parts) -> Iterator[Callable[[loop.Row], None]]:
    """What takes the rows of a run, as `training_run` puts it together."""
    with (
        contextlib.redirect_stdout(Terminal()),
        contextlib.closing(MetricsLog(folder / 'metrics.jsonl', 0)) as log,
        contextlib.closing(TensorBoard(folder / 'tensorboard', 0)) as board,
        contextlib.closing(Reporter(steps, 0)) as reporter,
    ):
        takers = [
            parts.timed('metrics.jsonl', log.write),
            parts.timed('TensorBoard', board.row),
            parts.timed('progress', reporter.train),
        ]

        def record(row: loop.Row) -> None:
            for take in takers:
                take(row)

        yield record


def turn(net: AlexNet, steps: int, every: int) -> dict[str, float]:
    """Milliseconds a step by part."""
    train_step, state = step_that_does_nothing(net)
    parts, batch = Parts(), timing.random_batch(BATCH, 8, CLASSES)
    place = functools.partial(device_mesh.place_batch, device_mesh.make_mesh())
    health = Health(step.layer_names(net.architecture), CLASSES)
    health.step = parts.timed('health', health.step)
    with tempfile.TemporaryDirectory() as folder, sinks(Path(folder), steps, parts) as record:

        def run(state: step.TrainState, upto: int) -> step.TrainState:
            # No epoch is ever full: no validation.
            plan = loop.Plan(upto, BATCH, 2**40, patience=5, drops=None, log_every=every)
            return loop.train(
                state, plan, train_step=parts.timed('dispatch', train_step),
                batches=itertools.repeat(placed), validate=_unreached, saves=Unsaved(),
                log=record, health=health,
            )[0]  # fmt: skip

        placed = place(batch)
        state = run(state, WARM)
        parts.seconds.clear()
        begun, at_work = time.perf_counter(), time.thread_time()
        run(state, WARM + steps)
        whole, at_work = time.perf_counter() - begun, time.thread_time() - at_work
    found = {name: parts.seconds[name] for name in PARTS}
    found |= {REST: whole - sum(found.values()), ALL: whole, PROCESSOR: at_work}
    found[PLACE] = statistics.median(_seconds(place, batch) for _ in range(100)) * steps
    return {name: 1e3 * seconds / steps for name, seconds in found.items()}


def _seconds(function: Callable, argument: Any) -> float:
    begun = time.perf_counter()
    function(argument)
    return time.perf_counter() - begun


def _unreached(variables: Any) -> loop.Row:
    raise AssertionError('a validation')


def main() -> None:
    """Measures the rounds and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--net', default='paper', help='whose state and scores they are')
    parser.add_argument('--steps', type=int, default=1000, help='of a turn')
    parser.add_argument('--rounds', type=int, default=7)
    options = parser.parse_args()
    net = AlexNet(architecture(options.net), CLASSES)
    columns = {f'a row every {every}': every for every in EVERY}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in columns}
    for _ in range(options.rounds):
        for name, every in columns.items():
            found[name].append(turn(net, options.steps, every))
    rows = [
        (part, *(report.spread([each[part] for each in turns], '.3f') for turns in found.values()))
        for part in (*PARTS, REST, ALL, PROCESSOR, PLACE)
    ]
    text = f'{options.net}, a step that does nothing, {jax.devices()[0].device_kind}; ms a step\n\n'
    result = {
        'machine': report.machine('jax', 'jaxlib', 'numpy', 'rich', 'tensorboardX'),
        **vars(options),
        'milliseconds_a_step': found,
    }
    report.publish(__file__, result, text + report.table(('', *columns), rows))


if __name__ == '__main__':
    main()
