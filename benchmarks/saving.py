"""What checkpoints cost a training run: copy, write in the background, manifest, checks.

    python benchmarks/saving.py --net=paper --batch=64 --rounds=5

Blocks of training steps take turns, with one save begun before the first of them and without;
a save is on disk before its block ends, and its block is as long as another. What a save costs
is the difference, all that it takes from the training on the same cores; at one save a minute
its share is that over 60 s. Beside it: how long the loop waits for it, how long
it takes until it is on disk, its size, and how long a start takes to verify it.
"""

import argparse
import contextlib
import tempfile
import time
from pathlib import Path

from alexnet_jax.runtime import command_line

command_line.before_jax()

import jax  # noqa: E402
import report  # noqa: E402
import timing  # noqa: E402

from alexnet_jax.network import device_mesh  # noqa: E402
from alexnet_jax.network.alexnet import AlexNet  # noqa: E402
from alexnet_jax.network.architectures import ARCHITECTURES, architecture  # noqa: E402
from alexnet_jax.training import manifest, step  # noqa: E402
from alexnet_jax.training.checkpoint import Checkpoints  # noqa: E402


class Run:
    """A run that trains on one batch, and may save."""

    def __init__(self, net: AlexNet, images: int, steps: int, checkpoints: Checkpoints):
        mesh, size = device_mesh.make_mesh(), net.architecture.input_size
        self._step = step.make_train_step(
            net, mesh, timing.mean_image(size),
            seed=0, learning_rate=timing.RATE, clock=timing.clock(images),
        )  # fmt: skip
        batch = timing.random_batch(images, size, net.classes)
        self._batch = device_mesh.place_batch(mesh, batch)
        self._state, self._steps = step.create_state(net, 0, mesh), steps
        self._checkpoints = checkpoints
        self.standing: list[float] = []

    def block(self, saving: bool) -> float:
        """The seconds that it takes."""
        begun = time.perf_counter()
        if saving:
            self._checkpoints.save(self._state)
            self.standing.append(time.perf_counter() - begun)
        for _ in range(self._steps):
            self._state, scores = self._step(self._state, self._batch)
            jax.block_until_ready(scores)
        self._checkpoints.wait()
        return time.perf_counter() - begun

    def seconds_to_disk(self) -> float:
        """Of a save beside which nothing runs."""
        begun = time.perf_counter()
        self._checkpoints.save(self._state)
        self._checkpoints.wait()
        return time.perf_counter() - begun


def verify_seconds(folder: Path) -> tuple[float, int]:
    """And the bytes that were verified."""
    begun = time.perf_counter()
    files = manifest.verify(folder)['files']
    return time.perf_counter() - begun, sum(about['bytes'] for about in files.values())


def main(argv: list[str] | None = None) -> None:
    """Measures the rounds and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--net', choices=ARCHITECTURES, default='paper')
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--width', type=float, default=1.0)
    parser.add_argument('--steps', type=int, default=8, help='in a block')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--folder', type=Path, help='to save in; default: a temporary one')
    options = parser.parse_args(argv)

    net = AlexNet(architecture(options.net, width=options.width), 1000)
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(dir=options.folder))
        folder = Path(place) / 'checkpoints'
        checkpoints = stack.enter_context(contextlib.closing(Checkpoints(folder)))
        run = Run(net, options.batch, options.steps, checkpoints)
        run.block(saving=True)  # compiles
        run.standing.clear()
        runs = {'saving': lambda: run.block(True), 'not saving': lambda: run.block(False)}
        seconds = report.in_turns(runs, options.rounds)
        alone = [run.seconds_to_disk() for _ in range(options.rounds)]
        verified, size = verify_seconds(next(folder.glob('[0-9]*')))

    cost = [a - b for a, b in zip(*seconds.values(), strict=True)]
    rows = [
        ['a block of steps', 's', report.spread(seconds['not saving'])],
        ['the same with a save', 's', report.spread(seconds['saving'])],
        ['cost of a save', 's', report.spread(cost)],
        ['its share at one a minute', '%', report.spread([100 * x / 60 for x in cost])],
        ['the loop waits', 's', report.spread(run.standing)],
        ['to disk, with nothing beside it', 's', report.spread(alone)],
        ['verified at a start', 's', f'{verified:.2f}'],
        ['size', 'MB', f'{size / 1e6:.0f}'],
    ]
    result = {
        'machine': report.machine('jax', 'jaxlib', 'flax', 'orbax-checkpoint'),
        'device': jax.devices()[0].device_kind,
        'options': {name: str(value) for name, value in vars(options).items()},
        'seconds': seconds,
        'cost': cost,
        'standing': run.standing,
        'to_disk': alone,
        'verified': verified,
        'bytes': size,
    }
    report.publish(__file__, result, report.table(['', '', ''], rows))


if __name__ == '__main__':
    main()
