"""Everything that needs a GPU, for one that is at hand for a quarter of an hour.

    python benchmarks/gpu.py --out runs/gpu --parts digits,figure1,parity,tests --images cifar10.tar.xz
    python benchmarks/gpu.py --out runs/gpu --parts ceilings,bf16_128,flag_128 --seconds 570

Each part (`gpu_parts.py`, `gpu_training.py`, `gpu_steps.py`) is a process with its own time limit.
They run in the order of GROUPS: the parts of a group side by side, so that those that measure
speed have the GPU to themselves. All of them take twenty minutes. A part that does not end in its
time is killed, one for which too little time is left is skipped.
Every result is printed and appended to DIR/gpu.jsonl as it comes, so that a process that is
killed loses nothing; a record of the same name that comes later replaces the earlier.

Needs the package's own requirements, PyTorch for the comparison with it, and pytest for the part
`tests`. `--images` is an archive of train/CLASS/*.jpg and test/CLASS/*.jpg, CIFAR-10 as images;
without it Figure 1 is run on the digits. `--dry-run` runs all parts on the CPU in tiny shapes.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import gpu_parts
import gpu_steps
import gpu_training
import report
from gpu_parts import Place

LIBRARIES = (
    'jax', 'jaxlib', 'jax-cuda12-plugin', 'jax-cuda13-plugin', 'flax', 'optax', 'orbax-checkpoint',
    'numpy', 'torch', 'triton', 'nvidia-cudnn-cu12', 'nvidia-cudnn-cu13', 'nvidia-cublas',
)  # fmt: skip
LOG = 'gpu.log'  # what the parts write to stderr


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of the session: what it runs, its time limit, and the least time worth a start."""

    run: Callable[[Place], None]
    limit: float  # seconds
    least: float = 25  # seconds without which it is not worth a start


# Programs compile slowly side by side: in groups of two, digits and tests come to their ends.
GROUPS: tuple[dict[str, Part], ...] = (
    {
        'digits': Part(gpu_training.digits, 300),
        'figure1': Part(gpu_training.figure1, 300),
    },
    {
        'parity': Part(gpu_parts.parity, 240),
        'tests': Part(gpu_parts.tests, 240),
    },
    {'ceilings': Part(gpu_steps.ceilings, 45)},
    {'bf16_128': Part(gpu_steps.bf16_128, 120)},
    {'flag_128': Part(gpu_steps.flag_128, 120)},
    {'float32_128': Part(gpu_steps.float32_128, 150)},
    {'bf16_1024': Part(gpu_steps.bf16_1024, 150)},
    {'bf16_4096': Part(gpu_steps.bf16_4096, 220, least=120)},
    {'compiled_128': Part(gpu_steps.compiled_128, 260, least=220)},
)
PARTS = {name: part for group in GROUPS for name, part in group.items()}
# Processes that a part starts itself.
INNER = {'parity_reference': gpu_parts.parity_reference}


def environment(dry: bool) -> dict[str, str]:
    """The variables of all parts: this folder's package, and a GPU that several programs share.

    JAX_PLATFORMS names the GPU, so that a missing one is an error and not a run on the CPU.
    """
    root = str(Path(__file__).parents[1])
    return os.environ | {
        'PYTHONPATH': os.pathsep.join(filter(None, [root, os.getenv('PYTHONPATH')])),
        'PYTHONUNBUFFERED': '1',
        'JAX_PLATFORMS': 'cpu' if dry else 'cuda,cpu',
        'XLA_PYTHON_CLIENT_PREALLOCATE': 'false',
        'TF_CPP_MIN_LOG_LEVEL': '2',
    }


def graphics_card() -> str:
    """The card and its driver as nvidia-smi reports them."""
    query = ['nvidia-smi', '--query-gpu=name,driver_version,memory.total', '--format=csv,noheader']
    try:
        return subprocess.run(query, capture_output=True, text=True, timeout=30).stdout.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        return f'not known: {error}'


@dataclasses.dataclass
class Started:
    """A part's process, in a process group of its own."""

    name: str
    process: subprocess.Popen
    begun: float
    end: float

    def kill(self) -> None:
        """Kills the process and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def start(name: str, place: Place, options: argparse.Namespace) -> Started:
    """Starts a part with the time that is left for it."""
    seconds = min(PARTS[name].limit * options.stretch, place.left())
    command = [
        sys.executable, __file__, '--one', name, '--out', str(place.out),
        '--scratch', str(place.scratch), '--seconds', str(seconds),
    ]  # fmt: skip
    command += ['--dry-run'] if place.dry else []
    command += ['--images', str(place.images)] if place.images else []
    with (place.out / LOG).open('ab') as log:
        process = subprocess.Popen(
            command, env=environment(place.dry), stderr=log, start_new_session=True
        )
    return Started(name, process, time.monotonic(), time.monotonic() + seconds)


def wait(running: list[Started], place: Place) -> None:
    """Waits until every part has ended or is out of time."""
    while running:
        for part in list(running):
            status, late = part.process.poll(), time.monotonic() > part.end
            if status is None and not late:
                continue
            part.kill()  # also what a part that failed has left behind
            running.remove(part)
            outcome = 'out of time' if status is None else 'done' if status == 0 else 'failed'
            seconds = round(time.monotonic() - part.begun, 1)
            end = (place.out / LOG).read_text(errors='replace')[-1000:] if status else ''
            place.record(
                f'part {part.name}', outcome=outcome, status=status, seconds=seconds, log=end
            )
        time.sleep(0.1)


def run_all(names: list[str], place: Place, options: argparse.Namespace) -> None:
    """Runs the parts group by group, those of a group side by side."""
    for group in GROUPS:
        chosen = [name for name in group if name in names]
        late = [name for name in chosen if place.left() < PARTS[name].least]
        if late:
            place.record('skipped', parts=late)
        running = [start(name, place, options) for name in chosen if name not in late]
        try:
            wait(running, place)
        finally:
            for part in running:
                part.kill()


def summary(place: Place) -> str:
    """Returns the rates of all comparisons as a table."""
    rows = []
    for line in (place.out / gpu_parts.RESULTS).read_text().splitlines():
        result = json.loads(line)
        for name, rate in result.get('medians', {}).items():
            share = result.get('share_of_floor', {}).get(name)
            rows.append((
                result['record'], name, f'{rate:,.0f}', '' if share is None else f'{share:.0%}',
            ))  # fmt: skip
    return report.table(('', '', 'images/s', 'share of the limit'), rows)


def parse() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, required=True, help='folder of the results')
    parser.add_argument('--parts', default=','.join(PARTS), help='names, with commas between; all')
    parser.add_argument('--seconds', type=float, default=570, help='time for all parts (570)')
    parser.add_argument('--stretch', type=float, default=1, help="times each part's own limit (1)")
    parser.add_argument('--images', type=Path, help="Figure 1's archive of images")
    parser.add_argument(
        '--scratch', type=Path, help='folder for data and runs, left there (a temporary one)'
    )
    parser.add_argument('--dry-run', action='store_true', help='tiny shapes, on the CPU')
    parser.add_argument('--one', help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.names = options.parts.split(',')
    for name in options.names:
        if name not in PARTS:
            parser.error(f'--parts has {name!r}; allowed: {", ".join(PARTS)}')
    return options


def main() -> None:
    """Runs the parts, group by group, within the time limit, and prints a summary."""
    options = parse()
    out = options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    scratch = (options.scratch or Path(tempfile.mkdtemp(prefix='alexnet_jax_gpu_'))).absolute()
    scratch.mkdir(parents=True, exist_ok=True)
    images = options.images and options.images.absolute()
    end = time.monotonic() + options.seconds
    place = Place(out, scratch, end, options.dry_run, images)
    if options.one:
        one = INNER.get(options.one) or PARTS[options.one].run
        one(place)
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and the parts end with it
    place.record('machine', **report.machine(*LIBRARIES), card=graphics_card())
    try:
        run_all(options.names, place, options)
        print(summary(place))
    finally:
        if not options.scratch:
            shutil.rmtree(scratch, ignore_errors=True)


if __name__ == '__main__':
    main()
