"""The parts of `gpu.py` that compare results; they share the GPU and run side by side."""

import concurrent.futures
import contextlib
import dataclasses
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

DETERMINISTIC = '--xla_gpu_deterministic_ops=true'
ROOT = Path(__file__).parents[1]
RESULTS = 'gpu.jsonl'
PRINTED = 700  # characters of a result; the file has all of it
PARITY_CASES = ('paper', 'krizhevsky2012', 'batchnorm227 training')


@dataclasses.dataclass(frozen=True)
class Place:
    """The folders of a measurement, and its end by `time.monotonic`."""

    out: Path
    scratch: Path
    end: float
    dry: bool
    images: Path | None

    @property
    def width(self) -> float:
        """Of a net for photographs, as a share of the whole."""
        return 0.125 if self.dry else 1.0

    def left(self) -> float:
        """Returns the seconds until the end."""
        return self.end - time.monotonic()

    def record(self, name: str, **values: Any) -> None:
        """Prints a result and appends it to the results of all parts."""
        line = json.dumps(
            {'record': name, 'time': time.strftime('%H:%M:%S'), **values}, default=str
        )
        with (self.out / RESULTS).open('a') as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(line + '\n')
        print(line[:PRINTED], flush=True)


def with_flags(flags: str) -> dict[str, str]:
    """Returns the environment variable XLA_FLAGS with some flags appended."""
    return {'XLA_FLAGS': f'{os.getenv("XLA_FLAGS", "")} {flags}'.strip()}


def start(
    place: Place, name: str, words: list[str], environment: Mapping[str, str] = {}, cores: int = 0
) -> subprocess.Popen:
    """Starts a Python process whose output goes to SCRATCH/NAME.log, on some cores only if asked."""
    allowed = sorted(os.sched_getaffinity(0))
    log = (place.scratch / f'{name}.log').open('ab')
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=log,
        stderr=log,
    )
    if cores:
        os.sched_setaffinity(process.pid, allowed[-cores:])
    return process


def log_end(place: Place, name: str) -> str:
    """Returns the last 1500 characters of a part's log."""
    path = place.scratch / f'{name}.log'
    return path.read_text(errors='replace')[-1500:] if path.exists() else ''


def rows(workdir: Path) -> list[dict[str, Any]]:
    """Returns the rows of metrics.jsonl, less the times in them."""
    path = workdir / 'metrics.jsonl'
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):  # the last, of a process that was just killed
            found.append(json.loads(line))
    timed = ('images_per_second', 'seconds_', 'tflops', 'mfu')
    return [{k: v for k, v in row.items() if not k.startswith(timed)} for row in found]


# Parity.


def _results(case: str, precision: str | None, width: float) -> dict[str, np.ndarray]:
    """Returns the logits and gradients of a net of `tests/network/parity.py` on the default
    device."""
    import jax
    import optax
    from flax.traverse_util import flatten_dict

    from alexnet_jax.network import compiler
    from alexnet_jax.network.alexnet import AlexNet
    from tests.network import parity

    net = parity.table(case, width)
    variables = parity.variables(net, parity.FULL_WIDTH_SEEDS[case])
    images, labels = parity.images_and_labels(net.input_size)
    key = jax.random.key(0) if case.endswith('training') else None

    def loss(params):
        (logits, _), _ = AlexNet(net, parity.CLASSES).apply(
            {**variables, 'params': params}, images, dropout_key=key, mutable=['batch_stats']
        )
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), logits

    with jax.default_matmul_precision(precision) if precision else contextlib.nullcontext():
        compute = jax.jit(jax.grad(loss, has_aux=True), compiler_options=compiler.options())
        gradients, logits = compute(variables['params'])
    layers = flatten_dict(gradients, sep='/')
    return {name: np.asarray(x) for name, x in {'logits': logits, **layers}.items()}


def parity_reference(place: Place) -> None:
    """Writes the results of all cases on the CPU, each as soon as it is there."""

    def write(case: str) -> None:
        path = place.scratch / f'parity-{case}.npz'
        results: dict[str, Any] = _results(case, None, place.width)
        np.savez(path.with_suffix('.partial.npz'), **results)
        path.with_suffix('.partial.npz').rename(path)

    with concurrent.futures.ThreadPoolExecutor(1 if place.dry else 3) as pool:
        list(pool.map(write, PARITY_CASES))


def parity(place: Place) -> None:
    """Compares logits and gradients with those on the CPU, in two precisions."""
    words = [
        str(Path(__file__).with_name('gpu.py')), '--one', 'parity_reference',
        '--out', str(place.out), '--scratch', str(place.scratch), '--seconds', str(place.left()),
    ]  # fmt: skip
    words += ['--dry-run'] if place.dry else []
    environment = {'JAX_PLATFORMS': 'cpu'}
    reference = start(place, 'parity_reference', words, environment, cores=4)
    cases = [(case, precision) for precision in ('highest', None) for case in PARITY_CASES]

    def compare(case: str, precision: str | None) -> None:
        begun = time.monotonic()
        ours = _results(case, precision, place.width)
        seconds = time.monotonic() - begun
        path = place.scratch / f'parity-{case}.npz'
        while not path.exists():
            if reference.poll() not in (None, 0):
                raise RuntimeError(f'no reference: {log_end(place, "parity_reference")}')
            time.sleep(0.2)
        with np.load(path) as arrays:
            differences = {name: _difference(ours[name], arrays[name]) for name in arrays}
        place.record(
            f'parity {case}, precision {precision or "default"}',
            logits=differences.pop('logits'),
            worst_gradient=max(differences.items(), key=lambda item: item[1]['relative']),
            gradients={name: each['relative'] for name, each in differences.items()},
            seconds=seconds,
        )

    with concurrent.futures.ThreadPoolExecutor(1 if place.dry else 3) as pool:
        list(pool.map(lambda case: compare(*case), cases))


def _difference(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """relative: the norm of the difference over that of theirs."""
    apart = np.float64(ours) - theirs
    return {
        'relative': float(np.linalg.norm(apart) / np.linalg.norm(theirs)),
        'max_abs': float(np.abs(apart).max()),
        'largest': float(np.abs(theirs).max()),
    }


# The project's own tests.


def tests(place: Place) -> None:
    """Runs the tests of nets and layers on the GPU, in full float32."""
    names = ['parity', 'convolution', 'pooling', 'normalization']
    names = names[1:3] if place.dry else names
    words = [
        '-m', 'pytest', '-v', '-p', 'no:cacheprovider', '-rf', '--tb=line', '-W', 'default',
        '-k', 'not two_devices', *(f'tests/network/test_{name}.py' for name in names),
    ]  # fmt: skip
    words += [] if place.dry else ['-n', '4']
    environment = {
        'ALEXNET_TEST_PLATFORM': os.environ['JAX_PLATFORMS'],
        'JAX_DEFAULT_MATMUL_PRECISION': 'highest',
    }
    process = start(place, 'tests', words, environment)
    try:
        process.wait(place.left() - 20)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # pytest then reports the failures so far
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
    process.kill()
    text = (place.scratch / 'tests.log').read_text(errors='replace')
    (place.out / 'tests.log').write_text(text)
    place.record('tests', status=process.wait(), **outcomes(text), end=text[-2500:])


def outcomes(log: str) -> dict[str, Any]:
    """Returns how many tests passed and the names of those that failed, from `pytest -v`."""
    named = r'(tests/\S+::.+)'
    failed = re.findall(
        rf'^(?:\[.*\] (?:FAILED|ERROR) {named}|{named} (?:FAILED|ERROR))', log, re.M
    )
    return {
        'passed': len(re.findall(r'\bPASSED\b', log)),
        'failed': sorted({(one or other).strip() for one, other in failed}),
    }
