"""Runs the tasks of a preparation on a Dask cluster: a scheduler, and workers on any machines.

Beam's own runner for Dask is not used: it puts up to 128 tasks on one worker, makes finished shards
again when the worker that made them is lost, and waits for a lost scheduler.
"""

import contextlib
import dataclasses
import logging
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from typing import Any

from alexnet_jax.data.images import PIXELS
from alexnet_jax.data.prepare import shards
from alexnet_jax.data.prepare.begun import PLAN
from alexnet_jax.data.prepare.shards import LIBRARIES, Shard, Task
from alexnet_jax.runtime.errors import (
    InputError,
    LostProcessError,
    StopRequestedError,
    plain,
)
from alexnet_jax.runtime.stop import stop_requests

ADDRESS = re.compile(r'((tcp|tls)://)?([\w.-]+|\[[\da-fA-F:]+\]):\d{1,5}', re.ASCII)
CONNECT_SECONDS = 10
NO_WORKER_SECONDS = 60  # a worker that was killed is started again within seconds
SECONDS_BETWEEN_LOOKS = 0.2
CLOSE_SECONDS = 5
# Number of submissions of a shard to the cluster. Each time, Dask itself tries on four workers by
# default.
TRIES = 3
GO_ON = 'what is finished is kept; the same command resumes'


def in_dask(tasks: list[Task], address: str) -> Iterator[Shard]:
    """Runs each task on any worker of a Dask cluster.

    All workers must see the source and the folder of the set under the same paths.

    Args:
      address: of the scheduler, 'HOST:PORT'; may begin with tcp:// or tls://.

    Raises:
      InputError: Dask is not installed; no scheduler answers, or it has no workers; a worker has
        other versions of the libraries that affect the bytes, or does not see a folder; an original
        cannot be read.
      LostProcessError: the scheduler, or all workers, were lost; workers died of a shard.
      StopRequestedError: a stop was requested. Workers finish the shards they have begun.
    """
    if not ADDRESS.fullmatch(address):
        raise InputError(f'--dask {plain(address)}; allowed: HOST:PORT of a Dask scheduler')
    with stop_requests() as stop_requested, _connected(address) as client:
        waiting = {_submit(client, task): (task, 1) for task in map(_absolute, tasks)}
        seen = time.monotonic()
        while waiting:
            if stop_requested():
                client.cancel(list(waiting))
                raise StopRequestedError
            if client.status != 'running':
                raise LostProcessError(f'the Dask scheduler at {address} was lost; {GO_ON}')
            done = [future for future in waiting if future.done()]
            for future in done:
                # Forgotten at once: Dask makes results again that are lost with a worker.
                task, tries = waiting.pop(future)
                shard = _result(future, task, tries)
                if shard:
                    yield shard
                else:
                    waiting[_submit(client, task)] = (task, tries + 1)
            if done or _has_workers(client):
                seen = time.monotonic()
            _require_recent(seen, address)
            time.sleep(0 if done else SECONDS_BETWEEN_LOOKS)


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Yields a client of the cluster."""
    try:
        import distributed
    except ImportError as error:
        raise InputError(
            '--dask needs Dask, which is not installed:\npip install distributed'
        ) from error
    # Dask gives each logger a level of its own. What it logs of a lost scheduler is reported here.
    for name in filter(
        lambda name: name.startswith('distributed'), logging.root.manager.loggerDict
    ):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    where = address if '://' in address else f'tcp://{address}'
    client = _within(
        lambda: distributed.Client(where, timeout=CONNECT_SECONDS, set_as_default=False),
        CONNECT_SECONDS + 1,
    )
    if client is None:
        raise InputError(
            f'--dask {address}: no Dask scheduler answers there within {CONNECT_SECONDS} s'
        )
    try:
        # Some may be starting.
        end = time.monotonic() + CONNECT_SECONDS
        while not _has_workers(client) and time.monotonic() < end:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        if not _has_workers(client):
            raise InputError(
                f'--dask {address}: the scheduler has no workers; start some: dask worker {where}'
            )
        yield client
    finally:
        with contextlib.suppress(Exception):  # of a scheduler that is not there any more
            client.close(timeout=CLOSE_SECONDS)


def _within(connect: Callable[[], Any], seconds: float) -> Any:
    """Returns the result of a call, or None if it fails or takes longer: Dask waits for ever for
    the answer of another kind of server."""
    results = []

    def call() -> None:
        with contextlib.suppress(OSError, ValueError), warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of versions that need not be the same
            results.append(connect())

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    return results[0] if results else None


def _has_workers(client: Any) -> bool:
    try:
        return bool(client.scheduler_info(n_workers=1)['workers'])
    except Exception:  # lost in this moment: the client's status says so at the next look
        return False


def _require_recent(seen: float, address: str) -> None:
    if time.monotonic() - seen > NO_WORKER_SECONDS:
        raise LostProcessError(
            f'the Dask scheduler at {address} has had no worker for {NO_WORKER_SECONDS} s; {GO_ON}'
        )


def _absolute(task: Task) -> Task:
    """Returns the task for a process that has another working folder."""
    return dataclasses.replace(task, path=task.path.absolute(), notes=task.notes.absolute())


def _submit(client: Any, task: Task) -> Any:
    versions = {name: metadata.version(name) for name in LIBRARIES} | {'pixels': PIXELS}
    return client.submit(_work, task, versions, pure=False)


def _result(future: Any, task: Task, tries: int) -> Shard | None:
    """Returns the shard of a future that is done, or None if the task is to be tried again."""
    name = task.path.name
    if future.cancelled():
        return None  # the client's status says why, at the next look
    error = future.exception()
    if error is None:
        result = future.result()
        if isinstance(result, InputError):
            raise result
        return result
    if type(error).__name__ != 'KilledWorker':
        raise InputError(
            f'--dask: {name} cannot be made: {_cause(error)}; the scheduler and all'
            ' workers need the same installation'
        ) from error
    if tries < TRIES:
        return None
    raise LostProcessError(
        f'{name}: the workers that were making it died, maybe for lack of memory; {GO_ON}'
    ) from error


def _cause(error: BaseException) -> str:
    """Returns the first of a chain of errors, in words."""
    while error.__cause__ is not None:
        error = error.__cause__
    return plain(f'{type(error).__name__}: {error}')


def _work(task: Task, versions: Mapping[str, Any]) -> Shard | InputError:
    """Does a task in a worker. An error of the input is returned: raised, it would come with the
    worker's traceback in its log."""
    try:
        _require_same_view(task, versions)
        return shards.read_note(task) if task.is_done() else shards.write_shard(task)
    except InputError as error:
        return error


def _require_same_view(task: Task, versions: Mapping[str, Any]) -> None:
    """Checks that this worker sees the folders, and would make the same bytes.

    Raises:
      InputError: it does not.
    """
    import distributed

    worker = distributed.get_worker().address
    for place in (task.notes / PLAN, task.originals.place):
        if place is not None and not place.exists():
            raise InputError(
                f'the Dask worker {worker} does not see {plain(place)}; the source and --out must'
                ' have the same paths on all machines'
            )
    for name, version in versions.items():
        here = PIXELS if name == 'pixels' else metadata.version(name)
        if here != version:
            raise InputError(
                f'the Dask worker {worker} has {name} {here}, this command {version}; a set is made'
                ' with one version'
            )
