"""Checkpoints: the train state and the configuration, one folder a step, by Orbax."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint.checkpoint_managers import (
    AnyPreservationPolicy,
    BestN,
    LatestN,
)

from alexnet_jax.errors import InputError
from alexnet_jax.training.step import TrainState

ERROR = 'top1_error'


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Orbax warns of options that are as they should be."""
    before = logging.get_verbosity()
    logging.set_verbosity(min(before, logging.ERROR))
    try:
        yield
    finally:
        logging.set_verbosity(before)


class Checkpoints:
    """The checkpoints of one run: the one with the lowest validation error and
    the last `keep`. What a killed process has left half saved is cleared up."""

    @_without_warnings()
    def __init__(self, folder: Path, keep: int = 1):
        best = BestN(
            get_metric_fn=lambda metrics: metrics[ERROR],
            reverse=True,
            n=1,
            keep_checkpoints_without_metrics=False,
        )
        self._folder = folder
        self._manager = ocp.CheckpointManager(
            folder.absolute(),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=AnyPreservationPolicy([LatestN(keep), best]),
                cleanup_tmp_directories=True,
                enable_async_checkpointing=False,
            ),
        )

    @_without_warnings()
    def save(self, state: TrainState, config: dict[str, Any], error: float | None = None) -> None:
        """Saves the state under its step and returns when it is on disk. `error`:
        the validation error at this step, if it was measured."""
        self._manager.save(
            int(state.step),
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state), config=ocp.args.JsonSave(config)
            ),
            metrics=None if error is None else {ERROR: error},
        )

    def steps(self) -> list[int]:
        """The steps that are kept, ascending."""
        return sorted(self._manager.all_steps())

    @_without_warnings()
    def restore(self, like: TrainState) -> TrainState:
        """The state of the last step that is kept.

        Args:
          like: `step.abstract_state`: the tree, shapes and types to expect, and
            where the arrays are to lie. The mesh need not be the one they were
            saved from.

        Raises:
          InputError: there is none, or its arrays have other shapes.
        """
        step = _choose(self._folder, self.steps())
        try:
            restored = self._manager.restore(
                step, args=ocp.args.Composite(state=ocp.args.StandardRestore(like))
            )
        except ValueError as error:
            if 'not compatible with the stored shape' not in str(error):
                raise
            raise InputError(
                f'{self._folder / str(step)} was saved by another version of this program, whose'
                ' arrays had other shapes; train anew in another --workdir'
            ) from error
        return restored['state']

    def close(self) -> None:
        self._manager.close()


@_without_warnings()
def read_layers(
    folder: Path, step: int | None = None, asked_as: str = 'step'
) -> tuple[dict[str, dict[str, np.ndarray]], int]:
    """Parameters and moving statistics by layer, of whatever net was saved there, and the
    step they are of: the last if None. Nothing in the folder is touched: another process
    may be saving there.

    Args:
      asked_as: what a message calls `step`.

    Raises:
      InputError: there is no such step, or something else is in its folder.
    """
    manager = ocp.CheckpointManager(
        folder.absolute(),
        options=ocp.CheckpointManagerOptions(read_only=True, enable_async_checkpointing=False),
        item_handlers={'state': ocp.PyTreeCheckpointHandler()},
    )
    step = _choose(folder, sorted(manager.all_steps()), step, asked_as)
    items = manager.item_metadata(step)
    if 'state' not in items or 'params' not in items['state'].tree:
        raise InputError(f'{folder / str(step)} is no checkpoint of this program')
    saved = items['state'].tree
    wanted = jax.tree.map(
        lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype),
        {name: saved[name] for name in ('params', 'batch_stats') if name in saved},
    )
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
    how = ocp.args.PyTreeRestore(item=wanted, restore_args=as_numpy, partial_restore=True)
    trees = manager.restore(step, args=ocp.args.Composite(state=how))['state']
    manager.close()
    layers: dict[str, dict[str, np.ndarray]] = {}
    for tree in trees.values():
        for layer, parts in tree.items():
            layers.setdefault(layer, {}).update(parts)
    return layers, step


def _choose(folder: Path, steps: list[int], step: int | None = None, asked_as: str = 'step') -> int:
    if not steps:
        raise InputError(f'{folder} holds no checkpoint; train first')
    if step is None:
        return steps[-1]
    if step not in steps:
        held = ', '.join(map(str, steps))
        raise InputError(f'{asked_as} is {step}; {folder} holds: {held}')
    return step
