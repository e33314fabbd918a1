"""Checkpoints as they are read, by the run itself or beside a run that saves.

Nothing in their folder is touched.
"""

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath

from alexnet_jax.runtime import files, multihost
from alexnet_jax.runtime.errors import InputError
from alexnet_jax.training import declared, manifest
from alexnet_jax.training.manifest import DamagedError

RECORD_FILE = 'config/metadata'  # as Orbax calls the JSON `config`


def steps(folder: Path) -> list[int]:
    """Returns the steps that are kept there, ascending; nothing is touched."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdecimal() and str(int(name)) == name)


def newest_intact(folder: Path) -> tuple[int | None, list[str]]:
    """Returns the last step whose files are as they were written, None if none is kept.

    With it comes a line on each step after it.

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
                return newest_intact(folder)  # another process took it away: there is a newer one
            faults[step] = fault
        else:
            return step, [
                f'checkpoint {bad} is damaged: {fault}; that of step {step} is used instead'
                for bad, fault in faults.items()
            ]
    if faults:
        raise InputError(
            f'no checkpoint in {folder} is whole: {"; ".join(map(str, faults.values()))}\n'
            'Bring one back from elsewhere, or take another --workdir to begin again'
        )
    return None, []


def read_layers(
    folder: Path,
    step: int | None = None,
    asked_as: str = 'step',
) -> tuple[dict[str, dict[str, np.ndarray]], int, dict[str, Any]]:
    """Reads parameters and moving statistics by layer, of whatever net was saved there.

    With them come the step they are of, and the record that was saved with them. Nothing in the
    folder is touched: another process may be saving there.

    Args:
      step: None: the last that is whole; later ones are named on stderr.
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
    """Reads the layers of a checkpoint.

    Raises:
      InputError: it is no checkpoint, or holds numbers that are not finite.
    """
    with readable(place), quiet():
        wanted = {
            name: jax.ShapeDtypeStruct(x.shape, x.dtype)
            for name, x in declared_arrays(place).items()
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
        reader = ocp.Checkpointer(handler(), multiprocessing_options=_readers())
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
        raise InputError(f'{place} is no checkpoint of this program: {reason(error)}') from error


def _identity(place: Path) -> int | None:
    """Returns which folder it is, as one may take the place of another; None if it is gone."""
    try:
        return place.lstat().st_ino
    except OSError:
        return None


def _choose(folder: Path, step: int | None, asked_as: str) -> int:
    held = steps(folder)
    if step is None:
        step, warnings = newest_intact(folder)
        if step is None:
            raise InputError(f'{folder} holds no checkpoint; train first')
        for line in warnings:
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


def handler() -> ocp.CompositeCheckpointHandler:
    """Returns a handler of arrays as files of their own that hold their numbers and nothing else.

    This is as fast as it gets, and a file that is too short for its array is known before
    anything is read.
    """
    together = _readers()
    return ocp.CompositeCheckpointHandler(
        state=_array_handler(),
        config=ocp.JsonCheckpointHandler(multiprocessing_options=together),
        composite_options=ocp.CompositeOptions(multiprocessing_options=together),
    )


def _array_handler() -> ocp.PyTreeCheckpointHandler:
    return ocp.PyTreeCheckpointHandler(
        use_ocdbt=False, use_compression=False, multiprocessing_options=_readers()
    )


def _readers() -> ocp.options.MultiprocessingOptions:
    """Returns which processes Orbax waits for: all, or within `multihost.alone` none but this."""
    if multihost.count() == jax.process_count():
        return ocp.options.MultiprocessingOptions()
    here = jax.process_index()
    return ocp.options.MultiprocessingOptions(primary_host=here, active_processes={here})


@contextlib.contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Turns Orbax's errors of reading into an `InputError`.

    Raises:
      InputError: Orbax cannot make sense of the folder.
    """
    try:
        yield
    except (InputError, jax.errors.JaxRuntimeError):
        raise
    except Exception as error:  # Whatever a broken file makes its readers raise.
        raise InputError(f'{folder} is no checkpoint of this program: {reason(error)}') from error


def declared_arrays(folder: Path) -> declared.Arrays:
    """Returns the arrays that the checkpoint declares; none is read.

    Chunks that do not fit an array's file are refused by Tensorstore.
    """
    declared.require_own_form(folder / 'state')
    return declared.by_path(_array_handler().metadata(epath.Path(folder / 'state')).tree)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences Orbax, which warns of options that are as they should be and logs what it also raises."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.FATAL)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def reason(error: BaseException) -> str:
    """Returns the system's message, which Orbax's libraries quote in the midst of much else."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).strip()
    number = re.search(r"os_error_code='(\d+)'", text)
    if number:
        return os.strerror(int(number[1]))
    return f'{type(error).__name__}: {text.splitlines()[0][:300] if text else ""}'
