"""Training by several processes, on one machine or many.

Each runs the same command; JAX joins their devices to one mesh. Only process 0 writes files and
prints. With one process these functions are trivial.
"""

import contextlib
import itertools
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from alexnet_jax.runtime import files, heartbeat, roll_call
from alexnet_jax.runtime.command_line import DONE, STOPPED
from alexnet_jax.runtime.errors import InputError, LostProcessError, StopRequestedError
from alexnet_jax.runtime.joining import Joining
from alexnet_jax.runtime.stop import stop_requests

T = TypeVar('T')
POLL = 0.5  # seconds
TURN = '.turn-'  # prefix of the files of `by_first`
# JAX's messages when a collective or a barrier waits for a lost process.
LOST = re.compile('gloo|nccl|coordination|barrier|unavailable|deadline', re.IGNORECASE)

_alone = False  # as `alone` sets it


def join(joining: Joining) -> None:
    """Joins this process to the others, before any other use of JAX.

    Raises:
      InputError: there are no other processes, the coordinator is not reachable, or not all
        processes joined.
    """
    heartbeat.slow(heartbeat.JOINING)
    if joining.coordinator:
        roll_call.wait_for_all(joining)
        heartbeat.slow(heartbeat.JOINING)
    try:
        with roll_call.reporting(joining, 'JAX to join the processes'):
            jax.distributed.initialize(
                joining.coordinator,
                joining.count,
                joining.index,
                coordinator_bind_address=roll_call.local_address(joining),
                initialization_timeout=joining.timeout,
                heartbeat_timeout_seconds=joining.heartbeat,
            )
    except ValueError as error:
        raise InputError(
            '--processes is auto, and no Slurm step, Kubernetes job or TPU was found here;'
            ' allowed there: --processes=N --process=I --coordinator=HOST:PORT'
        ) from error
    jax.devices()  # waits until all processes have differing of their devices
    heartbeat.slow('reading the configuration and the images')


def leave(status: int) -> NoReturn:
    """Ends this process; after success, together with the others.

    After an error the others may be lost, and JAX would wait for them.
    """
    if status in (DONE, STOPPED):
        heartbeat.slow('waiting for the other processes to end')
        jax.distributed.shutdown()
    os._exit(status)  # what was printed is flushed by `command_line.run`


def count() -> int:
    """Returns the number of processes; within `alone`, 1."""
    return 1 if _alone else jax.process_count()


def devices() -> list[Any]:
    """Returns the devices of all processes; within `alone`, of this one."""
    return jax.local_devices() if _alone else jax.devices()


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Keeps this process out of all collectives in the block.

    It computes like a single-process run, on its own devices.
    """
    global _alone
    _alone = True
    try:
        yield
    finally:
        _alone = False


def by_first(folder: Path, work: Callable[[Callable[[], bool]], None]) -> None:
    """Runs `work(stop_requested)` in the first process, which is alone meanwhile; the others wait.

    They communicate by files: a collective would occupy the devices of waiting processes, and
    libraries may time it out. A stop request to any process stops the work.

    Args:
      folder: a folder shared by all processes.

    Raises:
      StopRequestedError: the work was stopped; in all processes. Other errors of the work are
        raised in the first process, whose end then ends the others.
    """
    heartbeat.slow('the report' if is_first() else 'waiting for process 0')
    name = f'{TURN}{gather_texts(secrets.token_hex(8))[0]}'
    done, stopped, stop = (folder / f'{name}.{what}' for what in ('done', 'stopped', 'stop'))
    with stop_requests() as stop_requested:
        if is_first():
            for left in folder.glob(f'{TURN}*'):  # by a process that was killed
                left.unlink(missing_ok=True)
            try:
                with alone():
                    work(lambda: stop_requested() or stop.exists())
                done.touch()
            except StopRequestedError:
                stopped.touch()
        while not (done.exists() or stopped.exists()):
            if stop_requested():
                stop.touch()
            time.sleep(POLL)
        was_stopped = stopped.exists()
        gather_texts('')  # all have seen it
        if is_first():
            for path in (done, stopped, stop):
                path.unlink(missing_ok=True)
    if was_stopped:
        raise StopRequestedError


def is_first() -> bool:
    """Returns whether this is process 0."""
    return jax.process_index() == 0


def require_alike(facts: Mapping[str, Any]) -> None:
    """Compares facts, JSON by name, between the processes of a run.

    Raises:
      InputError: they differ between the processes; in all of them.
    """
    first, *others = [json.loads(text) for text in gather_texts(json.dumps(facts))]
    faults = []
    for index, theirs in enumerate(others, start=1):
        differing = [
            f'{name} is {theirs.get(name)!r}, not {first.get(name)!r}'
            for name in first | theirs
            if theirs.get(name) != first.get(name)
        ]
        if differing:
            faults.append(f'process {index} differs from process 0: {"; ".join(differing)}')
    if faults:
        raise InputError('\n'.join(faults))


def require_shared(folder: Path) -> None:
    """Checks that all processes see the folder of the first.

    Raises:
      InputError: not all processes see the folder of the first; in all of them.
    """
    if count() == 1:
        return
    path = folder / '.shared'
    token = gather_texts(secrets.token_hex() if is_first() else '')[0]
    with together():
        if is_first():
            files.write_bytes(path, token.encode())
    with together():
        try:
            seen = files.read_bytes(path).decode(errors='replace')
        except (OSError, ValueError):
            seen = ''
        if seen != token:
            raise InputError(
                f'--workdir {folder} is not the folder that process 0 has; allowed: one on a'
                ' file system that all processes share'
            )
    if is_first():
        path.unlink()


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Raises an `InputError` of any process in all processes."""
    fault = ''
    try:
        yield
    except InputError as error:
        if count() == 1:
            raise
        fault = str(error)
    texts = gather_texts(fault)
    if fault and set(texts) == {fault}:
        raise InputError(fault)  # once, not by each process
    faults = [
        f'process {index} of {count()}: {line}'
        for index, text in enumerate(texts)
        for line in text.splitlines()
    ]
    if faults:
        raise InputError('\n'.join(dict.fromkeys(faults)))


def gather_texts(text: str) -> list[str]:
    """Returns the values of all processes, in their order."""
    if count() == 1:
        return [text]
    own = np.frombuffer(text.encode(), np.uint8)
    lengths = np.ravel(multihost_utils.process_allgather(np.int32(len(own))))
    padded = np.zeros(max(1, lengths.max()), np.uint8)
    padded[: len(own)] = own
    rows = np.asarray(multihost_utils.process_allgather(padded))
    return [bytes(row[:length]).decode() for row, length in zip(rows, lengths, strict=True)]


def gather_arrays(own: np.ndarray) -> np.ndarray:
    """Returns the arrays of all processes, of one shape, in their order: [processes, ...]."""
    return own[None] if count() == 1 else np.asarray(multihost_utils.process_allgather(own))


@contextlib.contextmanager
def lost_process_errors() -> Iterator[None]:
    """Converts JAX's errors in the block to that of a lost process.

    Raises:
      LostProcessError: another process was lost in the block.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if count() == 1 or not LOST.search(str(error)):
            raise
        raise LostProcessError(
            f'process {jax.process_index()} of {count()} lost the connection to another one, whose last'
            ' lines have the cause. The same command resumes from the last checkpoint'
        ) from error


def agreed(stop_requested: Callable[[], bool]) -> Callable[[], bool]:
    """Returns whether to stop now; the same in all processes.

    All processes must call it equally often. For several processes, JAX receives SIGTERM and agrees
    on the call at which all stop.
    """
    if count() == 1:
        return stop_requested
    times = itertools.count(1)
    return lambda: multihost_utils.reached_preemption_sync_point(next(times))


def until_stopped(things: Generator[T], stop_requested: Callable[[], bool]) -> Generator[T]:
    """Yields the same items, and checks for stop requests before each.

    Raises:
      StopRequestedError: a stop was requested.
    """
    with contextlib.closing(things):
        for thing in things:
            if stop_requested():
                raise StopRequestedError
            yield thing
