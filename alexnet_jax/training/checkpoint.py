"""Writes checkpoints with Orbax: train state and configuration, one folder per step.

Orbax writes to `.partial/` in the background. Then the manifest is written, and the folder is
renamed to `checkpoints/STEP`. A checkpoint is therefore complete or absent, even if the process is
killed. Before deletion, a checkpoint is renamed into `.partial/`.
"""

import concurrent.futures
import contextlib
import errno
import itertools
import operator
import os
import shutil
import sys
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import InputError, NotFiniteError, StorageError
from alexnet_jax.training import declared, manifest
from alexnet_jax.training.checkpoint_reader import (
    declared_arrays,
    handler,
    quiet,
    readable,
    reason,
    steps,
)
from alexnet_jax.training.manifest import DamagedError
from alexnet_jax.training.step import TrainState

PARTIAL, REPLACED = '.partial', '.replaced'


class Checkpoints:
    """Writer of one run's checkpoints.

    It keeps the checkpoint with the lowest validation error and the last `keep`.
    """

    def __init__(
        self,
        folder: Path,
        keep: int = 1,
        record: Mapping[str, Any] = {},
        published: Callable[[], None] = lambda: None,
    ):
        """Creates the folder if necessary; deletes incomplete checkpoints of a killed process.

        Args:
          record: JSON that is saved with every state.
          published: is called in the saving thread after a checkpoint is complete and older ones
            are deleted; may raise StorageError.

        Raises:
          StorageError: it cannot be written.
        """
        self._folder, self._record = folder.absolute(), dict(record)
        self._published = published
        self._partial, self._policy = self._folder / PARTIAL, _retention(keep)
        self._is_first = jax.process_index() == 0
        with _write_errors(f'{folder} cannot be written'):
            if self._is_first:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._clear()
        with quiet():
            self._writer = ocp.AsyncCheckpointer(handler())
        self._thread = concurrent.futures.ThreadPoolExecutor(1, 'checkpoint', _yield_processor)
        # Several processes begin a save together, in the same order as their other collectives.
        self._alone = jax.process_count() == 1
        self._publishing: concurrent.futures.Future | None = None

    def save(self, state: TrainState, error: float | None = None) -> None:
        """Starts to save the state under its step; replaces an earlier checkpoint of this step.

        It first waits for the previous save. After the call the state may be donated.

        Args:
          error: the validation error at this step, or None.

        Raises:
          NotFiniteError: a number of the state is not finite. Nothing is saved.
          StorageError: as `check`.
        """
        self.wait()
        step = int(state.step)
        copy, finite = _snapshot(state)
        if not finite:
            raise NotFiniteError(f'the weights after step {step} are not all finite numbers', step)
        if not self._alone:
            self._begin(step, copy)

        def finish() -> None:
            if self._alone:
                self._begin(step, copy)
            self._publish(step, error, copy)

        self._publishing = self._thread.submit(finish)

    def check(self) -> None:
        """Raises the error of the last save.

        Raises:
          StorageError: the last save failed. Earlier checkpoints are unchanged.
        """
        if self._publishing is not None and self._publishing.done():
            self.wait()

    def wait(self) -> None:
        """Waits until the last save is on disk.

        Raises:
          StorageError: as `check`.
        """
        publishing, self._publishing = self._publishing, None
        if publishing is not None:
            publishing.result()

    def close(self) -> None:
        """Waits for a running save. It ignores errors, which `wait` raises."""
        self._thread.shutdown()
        with contextlib.suppress(Exception):  # Orbax raises the error of a failed save again
            self._writer.close()

    def rename_damaged_after(self, step: int) -> None:
        """Renames the checkpoints after a step to STEP.damaged.

        Later checkpoints can then use these steps, and the damaged ones can be inspected.
        """
        for later in steps(self._folder) if self._is_first else []:
            damaged = self._folder / f'{later}.damaged'
            if later > step:
                with _write_errors(f'{damaged} cannot be written'):
                    shutil.rmtree(damaged, ignore_errors=True)
                    os.rename(self._folder / str(later), damaged)

    def restore(self, step: int, like: TrainState) -> TrainState:
        """Restores the state of a checkpoint.

        Args:
          like: `step.abstract_state`: the expected tree, shapes and types, and the sharding of the
            arrays. The mesh may differ from that of the saving run.

        Raises:
          InputError: the checkpoint has other arrays, or they cannot be read.
        """
        if self._alone:  # Orbax's threads inherit the low priority of the thread that starts them
            return self._thread.submit(self._restore, step, like).result()
        return self._restore(step, like)

    def _restore(self, step: int, like: TrainState) -> TrainState:
        folder = self._folder / str(step)
        with readable(folder), quiet():
            found = declared_arrays(folder)
            declared.require_same(folder, found, declared.by_path(like))
            declared.require_whole(folder / 'state', found)
            how = ocp.args.PyTreeRestore(
                item=like, restore_args=ocp.checkpoint_utils.construct_restore_args(like)
            )
            state = self._writer.restore(folder, args=ocp.args.Composite(state=how))['state']
        if int(state.step) != step:
            raise InputError(f'{folder} holds the state of step {int(state.step)}')
        return state

    def _begin(self, step: int, copy: TrainState) -> None:
        """Starts Orbax's background save."""
        with self._save_errors(step, copy):
            if self._is_first:
                if not self._folder.is_dir():
                    # Otherwise a run whose folder was removed would continue in a new one.
                    raise FileNotFoundError(errno.ENOENT, 'the folder does not exist')
                self._clear()
                if shutil.disk_usage(self._folder).free < declared.size(copy):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self._partial.mkdir()
            self._writer.save(
                self._partial / str(step),
                args=ocp.args.Composite(
                    state=ocp.args.PyTreeSave(copy), config=ocp.args.JsonSave(self._record)
                ),
            )

    def _publish(self, step: int, error: float | None, copy: TrainState) -> None:
        """Makes the written folder a checkpoint, then deletes those that are no longer kept."""
        place, final = self._partial / str(step), self._folder / str(step)
        with self._save_errors(step, copy):
            self._writer.wait_until_finished()
            if not self._is_first:
                return
            manifest.write(place, {'step': step, 'top1_error': error})
            if final.exists():
                os.rename(final, self._partial / f'{step}{REPLACED}')
            os.rename(place, final)
            files.flush_folder(self._folder)
            self._prune()
        self._published()

    def _prune(self) -> None:
        held: list[Any] = [
            types.SimpleNamespace(step=step, metrics=_rank(self._folder / str(step)))
            for step in steps(self._folder)
        ]
        context = ocp.checkpoint_managers.PreservationContext()
        preserved = self._policy.should_preserve(held, context=context)
        for one in itertools.compress(held, map(operator.not_, preserved)):
            os.rename(self._folder / str(one.step), self._partial / f'{one.step}.old')
        self._clear()

    def _clear(self) -> None:
        """Deletes incomplete checkpoints; restores one whose replacement was not completed."""
        for replaced in self._partial.glob(f'*{REPLACED}'):
            final = self._folder / replaced.name.removesuffix(REPLACED)
            if not final.exists():
                os.rename(replaced, final)
        if self._partial.exists():
            shutil.rmtree(self._partial)

    @contextlib.contextmanager
    def _save_errors(self, step: int, state: TrainState) -> Iterator[None]:
        """Converts write errors in a `with` block to `StorageError`.

        Raises:
          StorageError: a write in the block failed.
        """
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            if self._is_first:
                with contextlib.suppress(OSError):
                    self._clear()
            raise StorageError(_not_saved(self._folder, step, state, error)) from error


def _retention(keep: int) -> ocp.checkpoint_managers.PreservationPolicy:
    """Returns Orbax's policy that keeps the last `keep` checkpoints and the best."""
    managers = ocp.checkpoint_managers
    best = managers.BestN(
        get_metric_fn=lambda rank: rank, reverse=True, n=1, keep_checkpoints_without_metrics=False
    )
    return managers.AnyPreservationPolicy([managers.LatestN(keep), best])


def _rank(folder: Path) -> tuple[float, int] | None:
    """Returns the validation error that was saved with a checkpoint, and its step, because the
    first of equal errors is the best.
    """
    with contextlib.suppress(DamagedError):
        error = manifest.read(folder)['top1_error']
        return None if error is None else (error, int(folder.name))
    return None


def _yield_processor() -> None:
    """Gives this thread, and those it starts, the lowest priority, so that a save uses only the
    processor time that training leaves idle.
    """
    if sys.platform == 'linux':  # other systems set the priority of the whole process
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)


@jax.jit
def _snapshot(state: TrainState) -> tuple[TrainState, jax.Array]:
    """Returns a copy of the state, and whether all values of the net are finite. The next step
    overwrites the state while Orbax still reads it (on CPU Orbax makes no copy).
    """
    numbers = jax.tree.leaves((state.params, state.batch_stats, state.momentum))
    finite = jnp.stack([jnp.all(jnp.isfinite(x)) for x in numbers])
    return jax.tree.map(jnp.copy, state), jnp.all(finite)


@contextlib.contextmanager
def _write_errors(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f'{what}: {reason(error)}') from error


def _not_saved(folder: Path, step: int, state: TrainState, error: BaseException) -> str:
    held = steps(folder)
    try:
        free = f'; there are {shutil.disk_usage(folder).free} bytes free'
    except OSError:
        free = ''
    last = f'that of step {held[-1]} is intact' if held else 'there is no earlier one'
    return (
        f'the checkpoint of step {step}, {declared.size(state)} bytes, cannot be written to'
        f' {folder}: {reason(error)}{free}\n'
        f'Of the checkpoints, {last}; with free disk space the same command resumes'
    )
