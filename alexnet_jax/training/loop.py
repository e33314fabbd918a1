"""Training: steps, validations, checkpoints, log."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from alexnet_jax import alive
from alexnet_jax.training import schedule
from alexnet_jax.training.step import TrainState

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Plan(schedule.Clock):
    """How long, and how often what.

    patience: of the plateau rule, as in `schedule`.
    drops: likewise; None: no plateau ends the run.
    log_every, save_every: steps between train rows, and between checkpoints; a
      `save_every` of 0 saves at every validation.
    """

    patience: int
    drops: int | None
    log_every: int = 1
    save_every: int = 0


def train(
    state: TrainState,
    plan: Plan,
    *,
    train_step: Callable[[TrainState, Any], tuple[TrainState, dict[str, jax.Array]]],
    batches: Iterator[Any],
    validate: Callable[[Any], Row],
    save: Callable[[TrainState, float | None], None],
    log: Callable[[Row], None],
    stop_requested: Callable[[int], bool] = lambda step: False,
) -> tuple[TrainState, bool]:
    """Trains from the state's step on until the plan or the learning rate ends
    it, or a stop is requested. The last state is always saved.

    Validates whenever an epoch is full. What happens at a step's end, happens in
    the order validation, learning rate, save: a saved state has its validation
    behind it, and a run that starts from it goes on as if it had never stopped.

    Args:
      batches: the first is the one of the state's step.
      validate: the net's variables -> {'loss', 'top1_error', 'top5_error', ...}.
      save: keeps a state, with the validation error if it was just measured.
      log: takes rows for metrics.jsonl.
      stop_requested: whether to stop after so many steps.

    Raises:
      FloatingPointError: a loss is no finite number. Its step is not saved.

    Returns:
      the last state, and whether a stop was requested before the end.
    """
    step = saved_step = int(state.step)
    plateau = jax.device_get(state.plateau)
    rows = _TrainRows(plan, log)
    alive.slow('compiling the first step')
    while True:
        error, is_best = None, False
        if int(plan.epoch(step)) > plateau.validations:
            rows.flush()
            alive.slow(f'validation after step {step}')
            begun = time.perf_counter()
            scores = validate(state.variables)
            _require_finite(scores['loss'], 'validation loss', step)
            row = evaluation_row('val', step, plan, scores)
            log(row | {'seconds_evaluation': _since(begun)})
            error = scores['top1_error']
            best_before = plateau.best_error
            plateau = schedule.observe(plateau, error, int(plan.epoch(step)), plan.patience)
            is_best = plateau.best_error < best_before
            state = state.replace(plateau=jax.device_put(plateau, state.step.sharding))

        at_last_plateau = plan.drops is not None and schedule.finished(plateau, plan.drops)
        ended = step >= plan.steps or at_last_plateau
        stopped = not ended and stop_requested(step)
        every = plan.save_every
        due = (is_best or step % every == 0) if every else error is not None
        if (due or ended or stopped) and step > saved_step:
            rows.flush()
            alive.slow(f'saving step {step}')
            with rows.seconds_of('save'):
                save(state, error)
            saved_step = step
        if ended or stopped:
            return state, stopped

        with rows.seconds_of('input'):
            batch = next(batches)
        state, scores = train_step(state, batch)
        step += 1
        rows.add(step, scores)


def evaluation_row(split: str, step: int, plan: Plan, scores: Row) -> Row:
    """The row of metrics.jsonl for an evaluation after `step` steps."""
    return {'split': split, 'step': step, 'epoch': plan.epoch(step)} | _errors(scores)


class _TrainRows:
    """Writes the row of a step once the next step is under way, so that the
    device never waits for the log.

    A row says how many seconds since the row before this thread spent waiting for input, writing
    rows, and saving. The device is idle for no longer than that; saves stop it for all of theirs.
    """

    def __init__(self, plan: Plan, log: Callable[[Row], None]):
        self._plan, self._log = plan, log
        self._waiting: tuple[int, dict[str, jax.Array]] | None = None
        self._last_time, self._images = time.perf_counter(), 0
        self._seconds: dict[str, float] = dict.fromkeys(('input', 'log', 'save'), 0.0)

    @contextlib.contextmanager
    def seconds_of(self, what: str) -> Iterator[None]:
        """Adds the time it is open to that of the next row."""
        begun = time.perf_counter()
        yield
        self._seconds[what] += time.perf_counter() - begun

    def add(self, step: int, scores: dict[str, jax.Array]) -> None:
        if self._waiting is not None:
            last, found = self._waiting
            jax.block_until_ready(found)  # no more than one step ahead of the device
            alive.beat(f'step {last}')
        self._write()
        self._waiting = (step, scores)

    def flush(self) -> None:
        """Writes what waits. Time until the next step is nobody's."""
        if self._waiting is not None:
            step, scores = self._waiting
            _require_finite(scores['loss'], 'loss', step)
        self._write()
        self._last_time = None

    def _write(self) -> None:
        if self._last_time is None:
            self._last_time = time.perf_counter()
        if self._waiting is None:
            return
        (step, scores), self._waiting = self._waiting, None
        self._images += self._plan.batch_size
        if step % self._plan.log_every:
            return
        row = {'split': 'train', 'step': step, 'epoch': self._plan.epoch(step)}
        _require_finite(scores['loss'], 'loss', step)
        row |= _errors(scores) | {'learning_rate': _number(scores['learning_rate'])}
        now = time.perf_counter()
        row['images_per_second'] = round(self._images / (now - self._last_time), 1)
        self._last_time, self._images = now, 0
        row |= {f'seconds_{what}': round(s, 6) for what, s in self._seconds.items()}
        self._seconds = dict.fromkeys(self._seconds, 0.0)
        with self.seconds_of('log'):
            self._log(row)


def _since(begun: float) -> float:
    return round(time.perf_counter() - begun, 6)


def _require_finite(loss: Any, name: str, step: int) -> None:
    if not np.isfinite(loss):
        raise FloatingPointError(
            f'the {name} of step {step} is {float(loss)}; nothing was saved since.'
            ' A lower optimizer.learning_rate may help'
        )


def _errors(scores: Row) -> Row:
    return {name: _number(scores[name]) for name in ('loss', 'top1_error', 'top5_error')}


def _number(value: Any) -> float:
    """The shortest decimal that stands for the same float32: 0.01, not 0.009999999776."""
    return float(str(np.float32(value))) if not isinstance(value, float) else value
