"""Checkpoints: the train state and the configuration, one folder a step, by Orbax.

Orbax writes in `.partial/`, and in the background. Then come the manifest, which makes the
folder whole, and one rename, which makes it a checkpoint: `checkpoints/STEP` is never a
half of one, whatever ends the process. What is to go is renamed into `.partial/` first.
"""

import concurrent.futures
import contextlib
import errno
import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath

from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import InputError, NotFiniteError, StorageError
from alexnet_jax.training import declared, manifest
from alexnet_jax.training.manifest import DamagedError
from alexnet_jax.training.step import TrainState

PARTIAL, REPLACED = '.partial', '.replaced'
RECORD_FILE = 'config/metadata'  # as Orbax calls the JSON `config`


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Orbax warns of options that are as they should be, and logs what it also raises."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.FATAL)
    try:
        yield
    finally:
        logging.set_verbosity(before)


class Checkpoints:
    """The checkpoints of one run, to be written: the one with the lowest validation error
    and the last `keep`."""

    def __init__(self, folder: Path, keep: int = 1, record: Mapping[str, Any] = {}):
        """Makes the folder if need be; what a killed process has left half saved goes.

        Args:
          record: JSON that is saved with every state.

        Raises:
          StorageError: it cannot be written.
        """
        self._folder, self._keep, self._record = folder.absolute(), keep, dict(record)
        self._partial = self._folder / PARTIAL
        self._is_first = jax.process_index() == 0
        with _told(f'{folder} cannot be written'):
            if self._is_first:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._clear()
        with _quiet():
            self._writer = ocp.AsyncCheckpointer(_handler())
        self._thread = concurrent.futures.ThreadPoolExecutor(1, 'checkpoint', _give_way)
        # Several processes begin a save together, which has its place among what else they
        # do together.
        self._alone = jax.process_count() == 1
        self._publishing: concurrent.futures.Future | None = None

    def save(self, state: TrainState, error: float | None = None) -> None:
        """Begins to save the state under its step, in place of one saved there before, when
        the save before is done. The state may be given away (donated) then.

        Args:
          error: the validation error at this step, if it was measured.

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
        """
        Raises:
          StorageError: the last save failed. What was saved before is as it was.
        """
        if self._publishing is not None and self._publishing.done():
            self.wait()

    def wait(self) -> None:
        """Until the last save is on disk.

        Raises:
          StorageError: as `check`.
        """
        publishing, self._publishing = self._publishing, None
        if publishing is not None:
            publishing.result()

    def close(self) -> None:
        """Waits for a save that is on its way; if it fails, `wait` was there to be called."""
        self._thread.shutdown()
        with contextlib.suppress(Exception):  # what Orbax met in a save that failed, once more
            self._writer.close()

    def set_aside_after(self, step: int) -> None:
        """Renames those after a step to STEP.damaged, out of the way of those to come, for
        whoever wants to look into them."""
        for later in steps(self._folder) if self._is_first else []:
            damaged = self._folder / f'{later}.damaged'
            if later > step:
                with _told(f'{damaged} cannot be written'):
                    shutil.rmtree(damaged, ignore_errors=True)
                    os.rename(self._folder / str(later), damaged)

    def restore(self, step: int, like: TrainState) -> TrainState:
        """The state that was saved there.

        Args:
          like: `step.abstract_state`: the tree, shapes and types to expect, and
            where the arrays are to lie. The mesh need not be the one they were
            saved from.

        Raises:
          InputError: it has other arrays, or they cannot be read.
        """
        if self._alone:  # Orbax's threads give way too if they are started by one that does
            return self._thread.submit(self._restore, step, like).result()
        return self._restore(step, like)

    def _restore(self, step: int, like: TrainState) -> TrainState:
        folder = self._folder / str(step)
        with _readable(folder), _quiet():
            found = _declared(folder)
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
        """Has Orbax write, in threads of its own."""
        with self._told_of(step, copy):
            if self._is_first:
                if not self._folder.is_dir():
                    # Or else a run whose folder was taken away would go on in a new one.
                    raise FileNotFoundError(errno.ENOENT, 'the folder is gone')
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
        """Makes a checkpoint of what is written; then those go that are no longer wanted."""
        place, final = self._partial / str(step), self._folder / str(step)
        with self._told_of(step, copy):
            self._writer.wait_until_finished()
            if not self._is_first:
                return
            manifest.write(place, {'step': step, 'top1_error': error})
            if final.exists():
                os.rename(final, self._partial / f'{step}{REPLACED}')
            os.rename(place, final)
            _flush(self._folder)
            self._prune()

    def _prune(self) -> None:
        held = steps(self._folder)
        best = min(
            (
                (error, step)
                for step in held
                if (error := _error(self._folder / str(step))) is not None
            ),
            default=(None, None),
        )[1]
        for step in held[: -self._keep]:
            if step != best:
                os.rename(self._folder / str(step), self._partial / f'{step}.old')
        self._clear()

    def _clear(self) -> None:
        """Away with all that is half done; a checkpoint that was to be replaced, and was not yet,
        is put back."""
        for replaced in self._partial.glob(f'*{REPLACED}'):
            final = self._folder / replaced.name.removesuffix(REPLACED)
            if not final.exists():
                os.rename(replaced, final)
        if self._partial.exists():
            shutil.rmtree(self._partial)

    @contextlib.contextmanager
    def _told_of(self, step: int, state: TrainState) -> Iterator[None]:
        """
        Raises:
          StorageError: something could not be written within.
        """
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            if self._is_first:
                with contextlib.suppress(OSError):
                    self._clear()
            raise StorageError(_not_saved(self._folder, step, state, error)) from error


def steps(folder: Path) -> list[int]:
    """The steps that are kept there, ascending; nothing is touched."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdecimal() and str(int(name)) == name)


def newest_whole(folder: Path) -> tuple[int | None, list[str]]:
    """The last step whose files are as they were written, and a line on each after it. None:
    none is kept.

    Raises:
      InputError: some are, but none that is whole.
    """
    faults: dict[int, DamagedError] = {}
    for step in reversed(steps(folder)):
        place = folder / str(step)
        before = _identity(place)
        try:
            manifest.verify(place)
        except DamagedError as fault:
            if before is None or _identity(place) != before:
                return newest_whole(folder)  # another process took it away: there is a newer one
            faults[step] = fault
        else:
            return step, [
                f'checkpoint {bad} is damaged: {fault}; that of step {step} is taken instead'
                for bad, fault in faults.items()
            ]
    if faults:
        raise InputError(
            f'no checkpoint in {folder} is whole: {"; ".join(map(str, faults.values()))}\n'
            'Bring one back from elsewhere, or take another --workdir to begin anew'
        )
    return None, []


def read_layers(
    folder: Path,
    step: int | None = None,
    asked_as: str = 'step',
) -> tuple[dict[str, dict[str, np.ndarray]], int, dict[str, Any]]:
    """Parameters and moving statistics by layer, of whatever net was saved there, the step they
    are of, and the record that was saved with them. Nothing in the folder is touched: another
    process may be saving there.

    Args:
      step: None: the last that is whole; of those after it, stderr is told.
      asked_as: what a message calls `step`.

    Raises:
      InputError: there is no such step, it is damaged, or something else is in its folder.
    """
    while True:
        chosen = _choose(folder, step, asked_as)
        place = (folder / str(chosen)).absolute()
        before = _identity(place)
        try:
            return _layers_at(place), chosen, read_record(place)
        except (InputError, jax.errors.JaxRuntimeError):
            if before is not None and _identity(place) == before:
                raise
            # Another process took it away while it was read: there is a newer one.


def _layers_at(place: Path) -> dict[str, dict[str, np.ndarray]]:
    """
    Raises:
      InputError: it is no checkpoint, or holds numbers that are not finite.
    """
    with _readable(place), _quiet():
        wanted = {
            name: jax.ShapeDtypeStruct(x.shape, x.dtype)
            for name, x in _declared(place).items()
            if name[0] in ('params', 'batch_stats')
        }
        if not any(name[0] == 'params' for name in wanted):
            raise InputError(f'{place} is no checkpoint of this program')
        declared.require_whole(place / 'state', wanted)
        tree = declared.nested(wanted)
        how = ocp.args.PyTreeRestore(
            item=tree,
            restore_args=jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree),
            partial_restore=True,
        )
        reader = ocp.Checkpointer(_handler())
        trees = reader.restore(place, args=ocp.args.Composite(state=how))['state']
        reader.close()
    layers: dict[str, dict[str, np.ndarray]] = {}
    for kind in trees.values():
        for layer, parts in kind.items():
            layers.setdefault(layer, {}).update(parts)
    for layer, parts in layers.items():
        for part, array in parts.items():
            if not np.isfinite(array).all():
                raise InputError(f'{place}: {layer}/{part} has numbers that are not finite')
    return layers


def read_record(place: Path) -> dict[str, Any]:
    """Returns the JSON that was saved with a checkpoint: its configuration, and more.

    Raises:
      InputError: it cannot be read.
    """
    try:
        record = files.read_json(place / RECORD_FILE)
        if not isinstance(record, dict):
            raise ValueError('it is not an object')
        return record
    except (OSError, ValueError) as error:
        raise InputError(f'{place} is no checkpoint of this program: {_reason(error)}') from error


def _identity(place: Path) -> int | None:
    """Returns which folder it is, as one may take the place of another; None if it is gone."""
    try:
        return place.lstat().st_ino
    except OSError:
        return None


def _choose(folder: Path, step: int | None, asked_as: str) -> int:
    held = steps(folder)
    if step is None:
        step, told = newest_whole(folder)
        if step is None:
            raise InputError(f'{folder} holds no checkpoint; train first')
        for line in told:
            print(f'warning: {line}', file=sys.stderr)
    elif step not in held:
        raise InputError(
            f'{asked_as} is {step}; {folder} holds: {", ".join(map(str, held)) or "none"}'
        )
    else:
        try:
            manifest.verify(folder / str(step))
        except DamagedError as fault:
            if _identity(folder / str(step)) is None:  # taken away meanwhile
                return _choose(folder, step, asked_as)
            raise InputError(f'checkpoint {step} is damaged: {fault}') from fault
    return step


def _handler() -> ocp.CompositeCheckpointHandler:
    """Arrays as files of their own that hold their numbers and nothing else: as fast as it
    gets, and a file that is too short for its array is known before anything is read."""
    return ocp.CompositeCheckpointHandler(
        state=_array_handler(), config=ocp.JsonCheckpointHandler()
    )


def _array_handler() -> ocp.PyTreeCheckpointHandler:
    return ocp.PyTreeCheckpointHandler(use_ocdbt=False, use_compression=False)


def _give_way() -> None:
    """Puts this thread, and those it starts, behind all others that want a processor: what a save
    has to do fits into the moments in which a training step leaves one idle."""
    if sys.platform == 'linux':  # elsewhere a priority is of a whole process
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)


@jax.jit
def _snapshot(state: TrainState) -> tuple[TrainState, jax.Array]:
    """A copy, as the next step writes over the state while Orbax still reads it (on CPU it
    makes no copy itself); and whether all the net's numbers are finite."""
    numbers = jax.tree.leaves((state.params, state.batch_stats, state.momentum))
    finite = jnp.stack([jnp.all(jnp.isfinite(x)) for x in numbers])
    return jax.tree.map(jnp.copy, state), jnp.all(finite)


@contextlib.contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """
    Raises:
      InputError: Orbax cannot make sense of the folder.
    """
    try:
        yield
    except (InputError, jax.errors.JaxRuntimeError):
        raise
    except Exception as error:  # Whatever a broken file makes its readers raise.
        raise InputError(f'{folder} is no checkpoint of this program: {_reason(error)}') from error


def _declared(folder: Path) -> declared.Arrays:
    """What the checkpoint says of its arrays; none is read. Chunks that do not fit an array's file
    are refused by Tensorstore."""
    declared.require_own_form(folder / 'state')
    return declared.by_path(_array_handler().metadata(epath.Path(folder / 'state')).tree)


def _error(folder: Path) -> float | None:
    """The validation error that was saved with a checkpoint."""
    with contextlib.suppress(DamagedError):
        return manifest.read(folder)['top1_error']
    return None


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f'{what}: {_reason(error)}') from error


def _not_saved(folder: Path, step: int, state: TrainState, error: BaseException) -> str:
    held = steps(folder)
    try:
        free = f'; there are {shutil.disk_usage(folder).free} bytes free'
    except OSError:
        free = ''
    last = f'that of step {held[-1]} is whole' if held else 'there is none before it'
    return (
        f'the checkpoint of step {step}, {declared.size(state)} bytes, cannot be written to'
        f' {folder}: {_reason(error)}{free}\n'
        f'Of the checkpoints, {last}; once there is room, the same command goes on'
    )


def _reason(error: BaseException) -> str:
    """What the system said: Orbax's libraries quote it in the midst of much else."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).strip()
    number = re.search(r"os_error_code='(\d+)'", text)
    if number:
        return os.strerror(int(number[1]))
    return f'{type(error).__name__}: {text.splitlines()[0][:300] if text else ""}'


def _flush(folder: Path) -> None:
    """Waits until the disk has the names in a folder."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
