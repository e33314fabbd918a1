"""The parts of `gpu.py` that train to an end: the digits, and Figure 1."""

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

from gpu_parts import DETERMINISTIC, ROOT, Place, log_end, rows, start, with_flags

FIGURE1_RATES = (0.003, 0.01)
FIGURE1_CONFIG = 'configs/figure1.py'
ENDING = 12  # seconds that a part needs to record what it has
# Runs on the digits that are compared.
PAIRS = (
    ('cpu', 'gpu'), ('gpu', 'gpu again'), ('gpu', 'gpu, same programs'), ('flag', 'flag again'),
    ('flag', 'flag, killed'), ('flag', 'gpu'),
)  # fmt: skip


# The digits.


@dataclasses.dataclass
class Training:
    """A run of configs/digits.py in a process of its own."""

    place: Place
    name: str
    environment: dict[str, str]
    cache: str  # the folder of compiled programs; runs that share one share the programs
    kill_at: int = 0  # the run is killed when a checkpoint of at least this step is there
    cores: int = 0
    process: subprocess.Popen | None = None
    begun: float = 0.0

    @property
    def workdir(self) -> Path:
        """Folder of the run."""
        return self.place.scratch / 'digits' / self.name

    def start(self) -> None:
        """Starts the run in a process of its own, or resumes it."""
        tiny = ['--config.train.steps=24', '--config.data.batch_size=16'] if self.place.dry else []
        tiny += ['--config.checkpoint.every_steps=8'] if self.place.dry else []
        self.begun = self.begun or time.monotonic()
        self.process = start(
            self.place,
            f'digits-{self.name}',
            ['-m', 'alexnet_jax.main', '--config', 'configs/digits.py', '--workdir', str(self.workdir),
             f'--config.data.dir={self.place.scratch / "data"}', '--noconfig.train.report',
             '--config.checkpoint.keep=4', *tiny],
            self.environment | {'JAX_COMPILATION_CACHE_DIR': str(self.place.scratch / self.cache)},
            self.cores,
        )  # fmt: skip

    def checkpoints(self) -> dict[int, Path]:
        """Returns the folders of the run's checkpoints by step."""
        folder = self.workdir / 'checkpoints'
        paths = folder.iterdir() if folder.is_dir() else ()
        return {int(path.name): path for path in paths if path.name.isdecimal()}

    def is_done(self) -> bool:
        """Returns whether it has ended; kills and resumes it on the way if that is asked."""
        assert self.process
        if self.kill_at and max(self.checkpoints(), default=0) >= self.kill_at:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            lines = len(rows(self.workdir))
            self.place.record(f'digits {self.name}', killed_at=max(self.checkpoints()), rows=lines)
            self.kill_at = 0
            self.start()
        return self.process.poll() is not None

    def stop(self) -> None:
        """Kills the process and waits for its end."""
        assert self.process
        self.process.kill()
        self.process.wait()

    def report(self) -> None:
        """Records the exit status, the time and the last evaluation."""
        assert self.process
        held_out = [row for row in rows(self.workdir) if row['split'] != 'train']
        status = self.process.returncode
        self.place.record(
            f'digits {self.name}',
            status=status,
            seconds=time.monotonic() - self.begun,
            last=held_out[-1] if held_out else None,
            log=log_end(self.place, f'digits-{self.name}') if status else '',
        )


def digits(place: Place) -> None:
    """Trains the digits on the GPU and on the CPU, with and without the deterministic flag."""
    from alexnet_jax.data.prepare import stored

    stored.digits(32, str(place.scratch / 'data'))
    flag, kill_at = with_flags(DETERMINISTIC), 8 if place.dry else 300
    cpu = {'JAX_PLATFORMS': 'cpu'}
    first = [
        Training(place, 'gpu', {}, 'cache-1'),
        Training(place, 'cpu', cpu, 'cache-cpu', cores=4),
        Training(place, 'flag', flag, 'cache-2'),
        Training(place, 'flag, killed', flag, 'cache-3', kill_at),
        Training(place, 'gpu again', {}, 'cache-4'),
        Training(place, 'flag again', flag, 'cache-5'),
    ]
    same = Training(place, 'gpu, same programs', {}, 'cache-1')
    if place.dry:
        first, same = [first[0], first[1], first[3]], None
    waiting, done = [], {}
    for run in first:
        run.start()
        waiting.append(run)

    def finish(run: Training) -> None:
        run.report()
        waiting.remove(run)
        done[run.name] = run
        for one, other in PAIRS:
            if run.name in (one, other) and {one, other} <= done.keys():
                compare_runs(place, done[one], done[other])

    while waiting and place.left() > ENDING:
        for run in [run for run in waiting if run.is_done()]:
            finish(run)
            if run.name == 'gpu' and same:
                same.start()
                waiting.append(same)
        time.sleep(0.02)
    for run in waiting:
        run.stop()
    for run in list(waiting):  # out of time: as far as they came
        finish(run)


def compare_runs(place: Place, one: Training, other: Training) -> None:
    """Records how far two runs are apart: their losses row by row, and their checkpoints' bytes."""
    both = [rows(run.workdir) for run in (one, other)]
    last = [run.checkpoints() for run in (one, other)]
    common = sorted(last[0].keys() & last[1].keys())
    digests = [[state_digest(found[step]) for found in last] for step in common]
    place.record(
        f'digits: {one.name} and {other.name}',
        **compare_rows(*both),
        checkpoints_compared=common,
        checkpoints_equal=[first == second for first, second in digests],
    )


def compare_rows(one: list[dict], other: list[dict]) -> dict[str, Any]:
    """Returns the first row that differs, and the losses' relative differences up to some steps."""
    pairs = list(zip(one, other, strict=False))
    unequal = [a for a, b in pairs if a != b]
    losses = [
        (a, abs(a['loss'] - b['loss']) / abs(a['loss'])) for a, b in pairs if a['step'] == b['step']
    ]
    upto = {
        step: max((by for row, by in losses if row['step'] <= step), default=None)
        for step in (1, 10, 30, 100, 300, 1000)
    }
    return {
        'rows': [len(one), len(other)],
        'rows_equal': bool(one) and one == other,
        'first_unequal_step': unequal[0]['step'] if unequal else None,
        'largest_relative_difference_of_loss_up_to_step': upto,
    }


def state_digest(checkpoint: Path) -> str:
    """Returns a digest of a checkpoint's arrays: the files, not compressed, beside each
    `.zarray`."""
    digest = hashlib.sha256()
    for about in sorted(checkpoint.glob('state/*/.zarray')):
        for path in sorted(about.parent.iterdir()):
            digest.update(f'{about.parent.name}/{path.name}\0'.encode() + path.read_bytes())
    return digest.hexdigest()


# Figure 1.


@dataclasses.dataclass(frozen=True)
class Figure1Run:
    """A run of `alexnet_jax.figure1` with one activation at one rate."""

    place: Place
    activation: str
    rate: float
    process: subprocess.Popen

    @property
    def name(self) -> str:
        """The run's activation and learning rate: 'relu-0.01'."""
        return f'{self.activation}-{self.rate:g}'

    def curve(self) -> list[tuple[float, float]]:
        """Returns the training error by epochs so far."""
        from alexnet_jax.experiment import config_file
        from alexnet_jax.studies import curves, figure1

        batch_size = config_file.load(str(ROOT / FIGURE1_CONFIG), {}).data.batch_size
        run = figure1.run_name(self.activation, self.rate, 0)
        return curves.curve(self.place.scratch / 'figure1' / self.name / run, batch_size)


def _start_figure1(place: Place, activation: str, rate: float, settings: list[str]) -> Figure1Run:
    name = f'{activation}-{rate:g}'
    words = [
        '-m', 'alexnet_jax.figure1', '--config', FIGURE1_CONFIG, '--seeds', '1',
        '--workdir', str(place.scratch / 'figure1' / name),
        '--activations', activation, '--rates', f'{rate:g}', *settings,
    ]  # fmt: skip
    return Figure1Run(place, activation, rate, start(place, f'figure1-{name}', words))


def figure1(place: Place) -> None:
    """Trains Figure 1's net with two activations at several rates, all at the same time, for as
    many epochs as there is time."""
    from alexnet_jax.data.prepare import stored
    from alexnet_jax.studies.figure1 import epochs_to

    source, data = 'digits', place.scratch / 'figure1-data'
    if place.images:
        source = _prepare_images(place, place.images, data)
    else:
        stored.digits(32, str(data))
    settings = [
        f'--config.data.source={source}', f'--config.data.dir={data}', '--noconfig.train.report',
        f'--config.train.epochs={1 if place.dry else 60}',
    ]  # fmt: skip
    begun = reported = time.monotonic()
    runs = [
        _start_figure1(place, activation, rate, settings)
        for rate in FIGURE1_RATES[: 1 if place.dry else None]
        for activation in ('relu', 'tanh')
    ]
    while any(run.process.poll() is None for run in runs) and place.left() > ENDING:
        time.sleep(0.5)
        if time.monotonic() - reported > 20:
            reported = time.monotonic()
            place.record('figure1, so far', **{run.name: run.curve()[-1:] for run in runs})
    curves = {}
    for run in runs:
        run.process.kill()
        status, found = run.process.wait(), run.curve()
        place.record(
            f'figure1 {run.name}',
            source=source,
            status=status,
            epochs_to_error={error: epochs_to(found, error) for error in (0.5, 0.35, 0.25)},
            epochs=found[-1][0] if found else 0,
            lowest=min((error for _, error in found), default=None),
            seconds=time.monotonic() - begun,
            log='' if found else log_end(place, f'figure1-{run.name}'),
        )
        curves[run.name] = found[:: max(1, len(found) // 400)]
    (place.out / 'figure1.json').write_text(json.dumps({'source': source, 'curves': curves}))


def _prepare_images(place: Place, archive: Path, data: Path) -> str:
    """Unpacks the archive and prepares its images as records of 32 pixels; returns the source."""
    folder, begun = place.scratch / 'images', time.monotonic()
    with tarfile.open(archive, 'r|*') as file:
        file.extractall(folder, filter='data')
    unpacked = time.monotonic()
    source = f'folder:{folder}'
    words = [
        '-m', 'alexnet_jax.data.prepare', '--source', source, '--size', '32', '--encoding', 'raw',
        '--val_fraction', '0.02', '--workers', str(min(8, os.cpu_count() or 1)), '--out', str(data),
    ]  # fmt: skip
    if start(place, 'prepare', words).wait(place.left()) != 0:
        raise RuntimeError(f'the images were not prepared: {log_end(place, "prepare")}')
    place.record(
        'figure1, images',
        unpacking=unpacked - begun,
        preparing=time.monotonic() - unpacked,
        log=log_end(place, 'prepare')[-200:],
    )
    return source
