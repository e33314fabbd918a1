"""Real runs in processes of their own, killed where one says.

A process is forked off a server that has imported everything but started nothing: it begins
to train in a second. `Moment` says when it sends itself SIGKILL, as no handler can see.
"""

import contextlib
import ctypes
import dataclasses
import json
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import chex
import jax

from alexnet_jax.network import device_mesh
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.architectures import architecture
from alexnet_jax.training import checkpoint, checkpoint_reader, step
from alexnet_jax.training.checkpoint import Checkpoints

CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(
    ['tests.faults.driver', 'alexnet_jax.experiment.training_run', 'alexnet_jax.main']
)
NET = {'network.width': '0.5', 'data.batch_size': '32', 'train.steps': '75'}


@dataclasses.dataclass(frozen=True)
class Moment:
    """When a process sends itself a signal: `seconds` after it began, or at the `count`th time
    that it comes to a place of `PLACES`.

    number: of the signal; None: SIGTERM twice, while the main thread hears nothing.
    saved: a workdir and a step: the thread waits there until that step is saved.
    """

    place: str
    count: int = 1
    seconds: float = 0.0
    number: int | None = signal.SIGKILL
    saved: tuple[Path, int] | None = None

    def send(self) -> None:
        while self.saved and saved_step(self.saved[0]) < self.saved[1]:
            time.sleep(0.01)
        if self.number is not None:
            return os.kill(os.getpid(), self.number)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            hold_up(0.5)


def hold_up(seconds: float) -> None:
    """Keeps this thread where no handler of Python's can run, as a compilation does."""
    ctypes.CDLL(None).usleep(int(seconds * 1e6))


def listens(pid: int) -> bool:
    """Whether the process has a handler for SIGTERM."""
    try:
        status = Path(f'/proc/{pid}/status').read_text()
    except OSError:
        return False
    caught = int(re.findall(r'(?m)^SigCgt:\s*(\w+)', status)[0], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def _places() -> dict[str, tuple[Any, str]]:
    """Where a process may be killed: what is called there. 'X' is before the call, 'X/after'
    behind it."""
    from orbax.checkpoint import AsyncCheckpointer

    from alexnet_jax.data import pipeline
    from alexnet_jax.evaluation import evaluate
    from alexnet_jax.experiment import results
    from alexnet_jax.training import loop, manifest, metrics_log

    return {
        'saving begins': (AsyncCheckpointer, 'save'),
        'written': (AsyncCheckpointer, 'wait_until_finished'),
        'manifest': (manifest, 'write'),
        'digest': (manifest, '_digest'),
        'rename': (os, 'rename'),
        'replace': (os, 'replace'),
        'clear': (checkpoint.Checkpoints, '_clear'),
        'prune': (checkpoint.Checkpoints, '_prune'),
        'row': (metrics_log.MetricsLog, 'write'),
        'input': (pipeline, 'ahead'),
        'evaluated batch': (evaluate, '_outputs'),
        'validation row': (loop, 'evaluation_row'),
        'result': (results, 'keep'),
    }


PLACES = [f'{name}{behind}' for name in _places() for behind in ('', '/after')]


def arm(moment: Moment | None) -> None:
    """Has the signal sent at the moment."""
    if moment is None:
        return
    if moment.place == 'time':
        threading.Timer(moment.seconds, moment.send).start()
        return
    name, _, behind = moment.place.partition('/')
    owner, attribute = _places()[name]
    call, left = getattr(owner, attribute), moment.count

    def counted(*arguments, **options):
        nonlocal left
        left -= 1
        if left == 0 and not behind:
            moment.send()
        result = call(*arguments, **options)
        if left == 0 and behind:
            moment.send()
        return result

    setattr(owner, attribute, counted)


def command(workdir: Path, data_dir: str, **settings: str) -> list[str]:
    """A small net on the digits, that takes 75 steps of a few hundredths of a second."""
    given = {'data.dir': data_dir, 'checkpoint.every_steps': '7', **NET, **settings}
    return [
        '--config', 'configs/digits.py', '--workdir', str(workdir), '--noconfig.train.report',
        *(f'--config.{name}={value}' for name, value in given.items()),
    ]  # fmt: skip


def _main(argv: list[str], output: Path, moment: Moment | None) -> None:
    with output.open('ab', buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ['XLA_FLAGS'] = ''
    arm(moment)
    from alexnet_jax import main

    status = main.main(argv)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def start(argv: list[str], output: Path, moment: Moment | None = None):
    """A process that runs the command; what it prints is added to `output`."""
    process = CONTEXT.Process(target=_main, args=(argv, output, moment))
    process.start()
    return process


def run(argv: list[str], output: Path, moment: Moment | None = None) -> int:
    """The exit status of the command, minus the signal that killed it."""
    process = start(argv, output, moment)
    process.join(240)
    if process.exitcode is None:
        process.kill()
        raise AssertionError(f'hangs: {output.read_text()[-2000:]}')
    return process.exitcode


def wait_for(condition: Callable[[], bool], process, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.is_alive() and time.monotonic() < end, process.exitcode
        time.sleep(0.01)


def rows(workdir: Path) -> list[dict[str, Any]]:
    """Of metrics.jsonl, what is the same in any run."""
    lines = (workdir / 'metrics.jsonl').read_text().splitlines()
    return [
        {
            key: value
            for key, value in json.loads(line).items()
            if not key.startswith(('images_per_second', 'seconds_', 'tflops', 'mfu'))
        }
        for line in lines
    ]


@contextlib.contextmanager
def held_still(process) -> Iterator[None]:
    """From when the process has stopped itself until it is let go on."""
    wait_for(lambda: Path(f'/proc/{process.pid}/stat').read_text().split()[2] == 'T', process)
    yield
    os.kill(process.pid, signal.SIGCONT)


def saved_step(workdir: Path) -> int:
    return max(checkpoint_reader.steps(workdir / 'checkpoints'), default=0)


def last_state(workdir: Path) -> step.TrainState:
    net = AlexNet(architecture('small', width=float(NET['network.width'])), 10)
    folder = workdir / 'checkpoints'
    with contextlib.closing(Checkpoints(folder)) as checkpoints:
        like = step.abstract_state(net, device_mesh.make_mesh())
        return jax.device_get(checkpoints.restore(saved_step(workdir), like))


def assert_same_run(workdir: Path, undisturbed: Path) -> None:
    """Bit for bit: rows, results, parameters, momentum, the state of the rate, and which
    checkpoints there are."""
    assert rows(workdir) == rows(undisturbed)
    results = [
        json.loads((path / 'eval' / 'test-1.json').read_text()) for path in (workdir, undisturbed)
    ]
    assert results[0] == results[1]
    assert_same_state(workdir, undisturbed)


def assert_same_state(workdir: Path, undisturbed: Path) -> None:
    """Bit for bit, and the same checkpoints, and nothing beside them."""
    held = [checkpoint_reader.steps(path / 'checkpoints') for path in (workdir, undisturbed)]
    assert held[0] == held[1]
    chex.assert_trees_all_equal(last_state(workdir), last_state(undisturbed))
    left = {path.name for path in (workdir / 'checkpoints').iterdir()} - set(map(str, held[0]))
    assert not left, left
