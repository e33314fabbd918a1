"""Reads checkpoints, also while another process saves to their folder.

It never changes the folder.
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

RECORD_FILE = 'config/metadata'  # Orbax's name of the JSON `config`


def steps(folder: Path) -> list[int]:
    """Returns the steps of the checkpoints, ascending; changes nothing."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdecimal() and str(int(name)) == name)


def newest_intact(folder: Path) -> tuple[int | None, list[str]]:
    """Returns the last step with intact files, or None without checkpoints.

    It also returns one line about each damaged checkpoint after that step.

    Raises:
      InputError: there are checkpoints, but all are damaged.
    """
    faults: dict[int, DamagedError] = {}
    for step in reversed(steps(folder)):
        place = folder / str(step)
        before = _identity(place)
        try:
            manifest.verify(place)
        except DamagedError as fault:
            if before is None or _identity(place) != before:
                return newest_intact(folder)  # another process deleted it: there is a newer one
            faults[step] = fault
        else:
            return step, [
                f'checkpoint {bad} is damaged: {fault}; that of step {step} is used instead'
                for bad, fault in faults.items()
            ]
    if faults:
        raise InputError(
            f'no checkpoint in {folder} is intact: {"; ".join(map(str, faults.values()))}\n'
            'Restore one from a backup, or start a new run in another --workdir'
        )
    return None, []


def read_layers(
    folder: Path,
    step: int | None = None,
    asked_as: str = 'step',
) -> tuple[dict[str, dict[str, np.ndarray]], int, dict[str, Any]]:
    """Reads parameters and moving statistics by layer, of any net.

    It also returns their step and the record saved with them. It changes nothing in the folder,
    because another process may be saving to it.

    Args:
      step: None: the last intact one; later ones are listed on stderr.
      asked_as: name of `step` in messages.

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
            # Another process deleted it during the read: there is a newer one.


def _layers_at(place: Path) -> dict[str, dict[str, np.ndarray]]:
    """Reads the layers of a checkpoint.

    Raises:
      InputError: it is no checkpoint, or has values that are not finite.
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
    """Returns the JSON of a checkpoint: its configuration and other facts.

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
    """Returns the identity of a folder, because another may replace it; None if it was deleted."""
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
            if _identity(folder / str(step)) is None:  # deleted in the meantime
                return _choose(folder, step, asked_as)
            raise InputError(f'checkpoint {step} is damaged: {fault}') from fault
    return step


def handler() -> ocp.CompositeCheckpointHandler:
    """Returns a handler that stores each array uncompressed in a separate file.

    This is the fastest format, and a file that is too short for its array is found before reading.
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
    """Returns the processes that Orbax waits for: all, or only this one within `multihost.alone`."""
    if multihost.count() == jax.process_count():
        return ocp.options.MultiprocessingOptions()
    here = jax.process_index()
    return ocp.options.MultiprocessingOptions(primary_host=here, active_processes={here})


@contextlib.contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Converts Orbax's read errors to `InputError`.

    Raises:
      InputError: Orbax cannot read the folder.
    """
    try:
        yield
    except (InputError, jax.errors.JaxRuntimeError):
        raise
    except Exception as error:  # Readers raise various errors for a broken file.
        raise InputError(f'{folder} is no checkpoint of this program: {reason(error)}') from error


def declared_arrays(folder: Path) -> declared.Arrays:
    """Returns the declared arrays of a checkpoint without reading their values.

    Tensorstore raises errors for chunks that do not fit an array's file.
    """
    declared.require_own_form(folder / 'state')
    return declared.by_path(_array_handler().metadata(epath.Path(folder / 'state')).tree)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences Orbax's warnings about correct options, and its log of errors that it also raises."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.FATAL)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def reason(error: BaseException) -> str:
    """Extracts the system's message from a long error of Orbax's libraries."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).strip()
    number = re.search(r"os_error_code='(\d+)'", text)
    if number:
        return os.strerror(int(number[1]))
    return f'{type(error).__name__}: {text.splitlines()[0][:300] if text else ""}'
