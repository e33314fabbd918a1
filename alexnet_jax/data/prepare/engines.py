"""Engines for the tasks of a preparation: this process, several processes, or a Beam pipeline.

An engine runs tasks in any order and reports each finished shard.
"""

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import connection
from typing import Any

from alexnet_jax.data.prepare import shards
from alexnet_jax.data.prepare.shards import Shard, Task
from alexnet_jax.runtime.errors import InputError, StopRequestedError
from alexnet_jax.runtime.stop import stop_requests

SECONDS_BETWEEN_LOOKS = 0.2
SIGNALS = (signal.SIGINT, signal.SIGTERM)

Engine = Callable[[list[Task]], Iterable[Shard]]


def one_by_one(tasks: list[Task]) -> Iterator[Shard]:
    """Runs the tasks in this process."""
    return map(shards.write_shard, tasks)


def stoppable(tasks: list[Task]) -> Iterator[Shard]:
    """Runs the tasks in this process; ends at the next image if a stop is requested."""
    with stop_requests() as stop_requested:
        for task in tasks:
            yield shards.write_shard(task, stop_requested)


def in_processes(tasks: list[Task], workers: int) -> Iterator[Shard]:
    """Runs the tasks in several processes.

    If one ends in an error, or the caller ends, or a stop is requested, all stop at their next
    image.

    Raises:
      RuntimeError: a process died.
    """
    context = multiprocessing.get_context('spawn')  # threads of this one must not be forked
    with stop_requests() as stop_requested:
        # Not before: an interrupt while semaphores are made leaks one, and says so.
        stop = context.Event()
        executor = concurrent.futures.ProcessPoolExecutor(
            min(workers, len(tasks)) or 1, context, _start_worker, (stop,)
        )
        try:
            with _signals_held():  # workers receive Ctrl-C as well
                waiting = {executor.submit(_work, task) for task in tasks}
            while waiting:
                done, waiting = concurrent.futures.wait(
                    waiting, SECONDS_BETWEEN_LOOKS, concurrent.futures.FIRST_COMPLETED
                )
                if stop_requested():
                    raise StopRequestedError
                for future in done:
                    yield future.result()
        except concurrent.futures.process.BrokenProcessPool as error:
            raise RuntimeError(
                'a worker process died, maybe for lack of memory; run the same command again,'
                ' with fewer --workers'
            ) from error
        finally:
            stop.set()
            executor.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Defers stop requests to the end of the block, and blocks them in child processes."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


_stop_requested: Callable[[], bool] = lambda: False  # noqa: E731


def _start_worker(stop: Any) -> None:
    """A worker stops when asked to, and ends when the main process does, even if
    that one was killed."""
    global _stop_requested
    _stop_requested = stop.is_set
    main_process = multiprocessing.parent_process()
    assert main_process is not None

    def end_with_main() -> None:
        connection.wait([main_process.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_main, daemon=True).start()


def _work(task: Task) -> Shard:
    return shards.write_shard(task, _stop_requested)


def in_beam(tasks: list[Task], runner: str, options: list[str]) -> Iterator[Shard]:
    """Does the tasks as an Apache Beam pipeline: an element a task.

    The folder must be one that all of the runner's workers see.

    Raises:
      InputError: Beam is not installed, or there is no such runner.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise InputError(
            '--beam_runner needs Apache Beam, which is not installed:\npip install apache-beam'
        ) from error
    try:
        pipeline = beam.Pipeline(runner=runner, options=PipelineOptions(options))
    except ValueError as error:
        raise InputError(f'--beam_runner {runner}: {str(error).splitlines()[0]}') from error
    if tasks:
        with pipeline:
            _ = pipeline | beam.Create(tasks) | beam.Reshuffle() | beam.Map(_work_or_note)
    for task in tasks:
        fault = task.note_file('.fault')
        if fault.exists():
            message = fault.read_text()
            fault.unlink()
            raise InputError(message)
    return (shards.read_note(task) for task in tasks)


def _work_or_note(task: Task) -> None:
    """Notes what is wrong with the input: a runner would only try again."""
    try:
        shards.write_shard(task)
    except InputError as error:
        task.note_file('.fault').write_text(str(error))
