"""Profiles some steps, for xprof and TensorBoard's profile page."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from alexnet_jax.runtime.errors import StorageError, in_words

Step = Callable[[Any, Any], tuple[Any, Any]]


@contextlib.contextmanager
def traced(
    train_step: Step, folder: Path | None, span: tuple[int, int] | None, done: int
) -> Iterator[Step]:
    """Yields a training step that writes a profile of some steps into a folder.

    The profile begins before the first step is dispatched, while the device is idle, and ends with
    the last step or the `with` block.

    Args:
      folder: None: no profile.
      span: the first and last step, counted from 1; None: no profile.
      done: number of steps done before.

    Raises:
      StorageError: the profile cannot be written.
    """
    if span is None or folder is None:
        yield train_step
        return
    first, last = span
    step, opened = done, contextlib.ExitStack()

    def call(state: Any, batch: Any) -> tuple[Any, Any]:
        nonlocal step
        step += 1
        if step == max(first, done + 1) <= last:
            jax.block_until_ready(state)
            with _reporting(folder):
                jax.profiler.start_trace(folder)
            opened.callback(_stop, folder)
        with jax.profiler.StepTraceAnnotation('train', step_num=step):
            state, scores = train_step(state, batch)
        if step == last:
            jax.block_until_ready(state)
            opened.close()
        return state, scores

    with opened:
        yield call


def _stop(folder: Path) -> None:
    with _reporting(folder):
        jax.profiler.stop_trace()


@contextlib.contextmanager
def _reporting(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, jax.errors.JaxRuntimeError) as error:
        raise StorageError(f'{folder}/ cannot be written: {in_words(error)}') from error
