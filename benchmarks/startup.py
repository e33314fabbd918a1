"""How long a run takes from its command to its first step, cold and warm.

    python benchmarks/startup.py --config=configs/imagenet.py --rounds=5

Every round starts two new processes: cold, with an empty folder for JAX's compilation cache
(`JAX_COMPILATION_CACHE_DIR`), then warm, with what the first left there. Both do what training
does before it goes on by itself, on photographs of 256×256 pixels prepared as JPEG (those of
input_rate.py), and time:

- Python: until the first line of the program;
- the imports: of JAX, then of the package;
- set up: the configuration read, the images, the net and the mesh made;
- state: the initial values, compiled and drawn;
- first batch: made and placed;
- traced, compiled, first step: the training step, until its scores are there.

The workdir is left out. Cold is about compiling alone: the files are in the system's memory in
both. With --bare the package is no more than the net, the state and the step, which need neither
Grain nor TFDS. Prints one table and writes the same as JSON beside this file.
"""

import time

BEGUN = time.time()

import argparse  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

TEMPERATURES = ('cold', 'warm')
CLASSES = 1000  # of the full net, whatever the photographs' are


class Stages:
    """Seconds between one mark and the next, by the name of the latter."""

    def __init__(self, begun: float):
        self.seconds: dict[str, float] = {}
        self._begun = self._last = begun

    def mark(self, name: str, now: float | None = None) -> None:
        """Notes the seconds since the last stage, and since the start."""
        now = time.time() if now is None else now
        self.seconds[name] = now - self._last
        self._last = now
        self.seconds['all'] = now - self._begun


def work(options: argparse.Namespace) -> dict[str, float]:
    """One start, in this process."""
    stages = Stages(options.begun)
    stages.mark('Python', BEGUN)
    from alexnet_jax.runtime import command_line

    command_line.before_jax()
    import jax

    stages.mark('import of JAX')
    begin = _begin_bare if options.bare else _begin
    step, state, batches = begin(stages, options)
    batch = next(batches)
    stages.mark('first batch')
    traced = step.lower(state, batch)
    stages.mark('traced')
    compiled = traced.compile()
    stages.mark('compiled')
    _, scores = compiled(state, batch)
    jax.block_until_ready(scores)
    stages.mark('first step')
    return stages.seconds


def _settings(options: argparse.Namespace) -> Any:
    from alexnet_jax.experiment import config_file

    own = {
        'data.source': 'synthetic' if options.bare else f'folder:{options.photographs}/folder',
        'data.dir': f'{options.photographs}/jpeg',
        'data.batch_size': str(options.batch),
    }
    return config_file.load(
        options.config, own | dict(change.split('=', 1) for change in options.set)
    )


def prepare_photographs(folder: Path, count: int) -> None:
    """A folder of images, `count` of them, and the set prepared from it."""
    import input_rate

    input_rate.write_folder(folder / 'folder', count)
    input_rate.prepared_set(folder / 'folder', 'jpeg')


def _begin(stages: Stages, options: argparse.Namespace) -> tuple[Any, Any, Any]:
    """The step, the state and the batches, as `training_run.train` makes them."""
    import dataclasses

    from alexnet_jax.experiment import build

    stages.mark('import of the package')
    built = build.build(_settings(options))
    built = dataclasses.replace(built, net=built.net.clone(classes=CLASSES))
    stages.mark('set up')
    state = build.initial_state(built, {})
    stages.mark('state')
    return build.train_step(built), state, build.train_batches(built, 0)


def _begin_bare(stages: Stages, options: argparse.Namespace) -> tuple[Any, Any, Any]:
    """The same of the net alone, its one batch noise."""
    import itertools

    import timing

    from alexnet_jax.experiment import config
    from alexnet_jax.network import device_mesh
    from alexnet_jax.network.alexnet import AlexNet
    from alexnet_jax.training.step import create_state, make_train_step

    stages.mark('import of the package')
    settings = _settings(options)
    architecture = config.network_of(settings)
    net, mesh, size = (
        AlexNet(architecture, CLASSES),
        device_mesh.make_mesh(),
        architecture.input_size,
    )
    stages.mark('set up')
    state = create_state(net, settings['seed'], mesh)
    stages.mark('state')
    step = make_train_step(
        net, mesh, timing.mean_image(size), seed=settings['seed'],
        learning_rate=settings['optimizer.learning_rate'], clock=timing.clock(options.batch),
        protocol=config.protocol_of(settings, architecture),
    )  # fmt: skip
    batch = device_mesh.place_batch(mesh, timing.random_batch(options.batch, size, CLASSES))
    return step, state, itertools.repeat(batch)


def start(photographs: str, cache: str) -> dict[str, float]:
    """The stages of a new process with that folder for its cache."""
    command = [sys.executable, __file__, *sys.argv[1:], '--worker', f'--photographs={photographs}']
    command.append(f'--begun={time.time()}')
    environment = os.environ | {'JAX_COMPILATION_CACHE_DIR': cache}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(photographs: str, rounds: int) -> dict[str, list[dict[str, float]]]:
    """The stages of each round, cold and warm."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in TEMPERATURES}
    for number in range(rounds + 1):
        with tempfile.TemporaryDirectory() as cache:
            for name in TEMPERATURES:
                stages = start(photographs, cache)
                if number:  # the first round brings the files into memory
                    found[name].append(stages)
    return found


def main() -> None:
    """Measures the starts and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--config', default='configs/imagenet.py')
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--set', action='append', default=[], metavar='SETTING=VALUE',
                        help='changes a setting of the configuration')  # fmt: skip
    parser.add_argument('--images', type=int, default=400, help='photographs to prepare')
    parser.add_argument('--photographs', help='where they are, of a worker')
    parser.add_argument('--bare', action='store_true', help='without Grain and TFDS')
    parser.add_argument('--worker', action='store_true', help='one start, in this process')
    parser.add_argument('--begun', type=float, default=BEGUN, help='when it was started')
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(work(options)))
        return

    import report

    with tempfile.TemporaryDirectory() as photographs:
        if not options.bare:
            prepare_photographs(Path(photographs), options.images)
        found = measure(photographs, options.rounds)
    seconds = {
        name: {stage: [turn[stage] for turn in turns] for stage in _in_order(turns[0])}
        for name, turns in found.items()
    }
    rows = [
        [stage, *[report.spread(seconds[name][stage]) for name in TEMPERATURES],
         report.spread(report.ratios(*(seconds[name][stage] for name in TEMPERATURES)), '.2f')]
        for stage in seconds['cold']
    ]  # fmt: skip
    result = {
        'machine': report.machine('jax', 'jaxlib', 'flax', 'orbax-checkpoint', 'grain',
                                  'tensorflow-datasets'),
        'options': {name: str(value) for name, value in vars(options).items()},
        'seconds': seconds,
    }  # fmt: skip
    header = ['seconds', *TEMPERATURES, 'ratio, round by round']
    report.publish(__file__, result, report.table(header, rows))


def _in_order(stages: dict[str, float]) -> list[str]:
    """Their sum last."""
    return [*(name for name in stages if name != 'all'), 'all']


if __name__ == '__main__':
    main()
