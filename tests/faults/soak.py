"""Training on digits-sized steps for a long time: nothing may grow.

    python -m tests.faults.soak --minutes 60

Runs the main command in a process of its own and reads its memory, open files, threads and
shared memory from the system once a second. Prints the first and last medians after warm-up
as JSON; ends with status 1 if memory or open files grew by 2 % or more, or anything is left
in shared memory or temporary folders.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 0.02  # growth
WARM_UP = 0.2  # of the time
SHARED = Path('/dev/shm')


def sample(pid: int) -> dict[str, int]:
    pages = int(Path(f'/proc/{pid}/statm').read_text().split()[1])
    return {
        'memory': pages * os.sysconf('SC_PAGE_SIZE'),
        'files': len(os.listdir(f'/proc/{pid}/fd')),
        'threads': len(os.listdir(f'/proc/{pid}/task')),
    }


def names(*folders: Path) -> set[str]:
    return {str(path) for folder in folders if folder.is_dir() for path in folder.iterdir()}


def growth(samples: list[dict[str, int]]) -> dict[str, tuple[float, float, float]]:
    """Medians of the first and the last fifth after warm-up, and the growth."""
    warm = samples[int(WARM_UP * len(samples)) :]
    fifth = max(1, len(warm) // 5)
    found = {}
    for name in warm[0]:
        first, last = (
            statistics.median(each[name] for each in part) for part in (warm[:fifth], warm[-fifth:])
        )
        found[name] = first, last, last / first - 1
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--minutes', type=float, default=60)
    parser.add_argument('--save_every', type=int, default=200, help='steps')
    options = parser.parse_args()
    before = names(SHARED)
    with tempfile.TemporaryDirectory(dir=Path.home()) as folder:
        command = [
            sys.executable, '-m', 'alexnet_jax.main', '--config', 'configs/digits.py',
            '--workdir', f'{folder}/run', f'--config.data.dir={folder}/data',
            '--config.train.steps=100000000', '--config.schedule.patience=1000000',
            f'--config.checkpoint.every_steps={options.save_every}',
        ]  # fmt: skip
        (temporary := Path(folder, 'temporary')).mkdir()
        own = os.environ | {'TMPDIR': str(temporary)}
        with open(f'{folder}/printed', 'w') as printed:
            process = subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT, env=own)
        samples, end = [], time.monotonic() + 60 * options.minutes
        while time.monotonic() < end and process.poll() is None:
            time.sleep(1)
            samples.append(sample(process.pid))
        process.send_signal(signal.SIGTERM)
        status = process.wait(60)
        with open(f'{folder}/run/metrics.jsonl', 'rb') as log:
            steps = json.loads(log.readlines()[-1])['step']
        held = sorted(os.listdir(f'{folder}/run/checkpoints'))
        left = sorted(names(temporary) | (names(SHARED) - before))
    found = growth(samples)
    print(
        json.dumps({'status': status, 'steps': steps, 'growth': found, 'left': left, 'held': held})
    )
    grown = max(found[name][2] for name in ('memory', 'files'))
    return int(status != 75 or grown >= LIMIT or bool(left))


if __name__ == '__main__':
    sys.exit(main())
