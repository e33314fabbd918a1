"""The training loop: steps, validations, checkpoints, log."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import numpy as np

from alexnet_jax.runtime import heartbeat
from alexnet_jax.runtime.errors import StopRequestedError
from alexnet_jax.training import schedule
from alexnet_jax.training.health import Health, require_finite
from alexnet_jax.training.step import TrainState

Row = dict[str, Any]
READ_AT_ONCE = 8  # maximum number of steps whose metrics are read together


class Saves(Protocol):
    """Saves states, as `checkpoint.Checkpoints` does.

    `save` may return early, `check` raises the error of a save, `wait` waits for all saves.
    """

    def save(self, state: TrainState, error: float | None) -> None:
        """Saves a checkpoint; `error` is the validation error, None if there is none yet."""

    def check(self) -> None:
        """Raises the error of a save in the background."""

    def wait(self) -> None:
        """Waits until all saves are written."""


@dataclasses.dataclass(frozen=True)
class Plan(schedule.Clock):
    """Run length and logging and checkpoint intervals.

    patience: that of the plateau rule, as in `schedule`.
    drops: maximum number of drops of the plateau rule; None: no plateau ends the run.
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
    saves: Saves,
    log: Callable[[Row], None],
    health: Health,
    watch: Callable[[int, Any], None] = lambda step, variables: None,
    stop_requested: Callable[[], bool] = lambda: False,
    reached: Callable[[], bool] = lambda: False,
) -> tuple[TrainState, bool]:
    """Trains from the state's step until the end of the plan, the last plateau, or a stop.

    `reached` may also end it. The last state is always saved.

    Every epoch ends with a validation. The order at the end of a step is validation, learning rate,
    save: the validation of a saved state is done, unless it was stopped; a resumed run then starts
    with it. Interrupted runs resume bit-exactly.

    Args:
      batches: batches from the state's step on.
      validate: the net's variables -> {'loss', 'top1_error', 'top5_error', ...}; raises
        StopRequestedError if a stop is requested meanwhile.
      saves: saves states, each with its validation error if it was just measured.
      log: called with rows for metrics.jsonl.
      health: called with the metrics of every step.
      watch: called with the step and the net's variables before the first step and at every
        validation.
      stop_requested: whether to stop before the next step.
      reached: whether the run has reached its target, before its plan ends.

    Raises:
      NotFiniteError: a loss, a gradient or a weight is no finite number. That state is not saved.
        It is raised at most two steps later, or READ_AT_ONCE + 1 steps where not every step has a
        row.
      StorageError: a state or a row could not be saved.

    Returns:
      the last state, and whether a stop was requested before the end.
    """
    step = int(state.step)
    plateau = jax.device_get(state.plateau)
    saved = step, int(plateau.validations)
    rows = _TrainRows(plan, log, health)
    if step == 0:
        watch(step, state.variables)
    heartbeat.slow('compiling the first step')
    while True:
        error, is_best, stopped = None, False, False
        if not is_validated(step, plateau, plan):
            rows.flush()
            scores = _validation(step, plan, validate, state, log)
            if scores is None:
                stopped = True
            else:
                watch(step, state.variables)
                health.epoch()
                error = scores['top1_error']
                best_before = plateau.best_error
                plateau = schedule.observe(plateau, error, int(plan.epoch(step)), plan.patience)
                is_best = plateau.best_error < best_before
                state = state.replace(plateau=jax.device_put(plateau, state.step.sharding))

        at_last_plateau = plan.drops is not None and schedule.finished(plateau, plan.drops)
        ended = not stopped and (step >= plan.steps or at_last_plateau or reached())
        stopped = stopped or (not ended and stop_requested())
        every = plan.save_every
        due = (is_best or step % every == 0) if every else error is not None
        if (due or ended or stopped) and (step, int(plateau.validations)) != saved:
            rows.flush()
            heartbeat.slow(f'saving step {step}')
            with rows.seconds_of('save'):
                saves.save(state, error)
            saved = step, int(plateau.validations)
        if ended or stopped:
            saves.wait()
            return state, stopped
        saves.check()

        with rows.seconds_of('input'):
            batch = next(batches)
        state, scores = train_step(state, batch)
        step += 1
        rows.add(step, scores)


def is_validated(step: int, plateau: schedule.PlateauState, plan: Plan) -> bool:
    """Returns whether the validation of a state's step is done."""
    return int(plan.epoch(step)) <= int(plateau.validations)


def _validation(
    step: int, plan: Plan, validate: Callable[[Any], Row], state: TrainState, log: Callable
) -> Row | None:
    """Returns the metrics after they are logged; None if a stop was requested."""
    heartbeat.slow(f'validation after step {step}')
    begun = time.perf_counter()
    try:
        scores = validate(state.variables)
    except StopRequestedError:
        return None
    require_finite(scores['loss'], 'the validation loss', step)
    row = evaluation_row('val', step, plan, scores)
    log(row | {'seconds_evaluation': _since(begun)})
    heartbeat.beat(f'validation after step {step}')
    return scores


def evaluation_row(split: str, step: int, plan: Plan, scores: Row) -> Row:
    """Returns the row of metrics.jsonl for an evaluation after `step` steps."""
    return {'split': split, 'step': step, 'epoch': plan.epoch(step)} | _errors(scores)


class _TrainRows:
    """Reads the metrics of steps and writes the rows of some of them after the next step is
    dispatched, so that the device never waits for the log.

    It waits for the end of each step, so that at most one step is dispatched ahead. If not every
    step has a row, the metrics of several steps, at most READ_AT_ONCE, are read together.

    A row has the seconds since the previous row that this thread spent on waiting for input,
    writing rows, and saving. The device is idle for at most this time; saves stop it for their
    whole duration.
    """

    def __init__(self, plan: Plan, log: Callable[[Row], None], health: Health):
        self._plan, self._log, self._health = plan, log, health
        self._unread: list[tuple[int, dict[str, Any]]] = []
        self._last_time: float | None = time.perf_counter()
        self._images = 0
        self._seconds: dict[str, float] = dict.fromkeys(('input', 'log', 'save'), 0.0)

    @contextlib.contextmanager
    def seconds_of(self, what: str) -> Iterator[None]:
        """Adds the duration of the `with` block to the next row."""
        begun = time.perf_counter()
        yield
        self._seconds[what] += time.perf_counter() - begun

    def add(self, step: int, scores: dict[str, Any]) -> None:
        """Adds the metrics of a dispatched step."""
        if self._last_time is None:
            self._last_time = time.perf_counter()
        if self._unread:
            done, before = self._unread[-1]
            before['loss'].block_until_ready()
            heartbeat.beat(f'step {done}')
            if done % self._plan.log_every == 0 or len(self._unread) == READ_AT_ONCE:
                self._read()
        self._unread.append((step, scores))

    def flush(self) -> None:
        """Reads and writes pending metrics. The time until the next step is not counted."""
        self._read()
        self._last_time, self._images = None, 0

    def _read(self) -> None:
        unread, self._unread = self._unread, []
        for _, scores in unread:  # start all copies before waiting for the first
            for array in scores.values():
                if array.is_fully_addressable:
                    array.copy_to_host_async()
        for step, scores in unread:
            scores = {name: _own_part(array) for name, array in scores.items()}
            self._health.step(step, scores)
            self._images += self._plan.batch_size
            if step % self._plan.log_every == 0:
                self._write(step, scores)

    def _write(self, step: int, scores: dict[str, np.ndarray]) -> None:
        row = {'split': 'train', 'step': step, 'epoch': self._plan.epoch(step)}
        row |= _errors(scores) | {'learning_rate': _number(scores['learning_rate'])}
        now = time.perf_counter()
        assert self._last_time is not None  # `add` was there
        row['images_per_second'] = round(self._images / (now - self._last_time), 1)
        self._last_time, self._images = now, 0
        row |= {f'seconds_{what}': round(s, 6) for what, s in self._seconds.items()}
        self._seconds = dict.fromkeys(self._seconds, 0.0)
        with self.seconds_of('log'):
            self._log(row)


def _own_part(array: jax.Array) -> np.ndarray:
    """Returns this process's part of an array; 0 where only other processes hold it."""
    if array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    own = np.zeros(array.shape, array.dtype)
    for shard in array.addressable_shards:
        own[shard.index] = shard.data
    return own


def _since(begun: float) -> float:
    return round(time.perf_counter() - begun, 6)


def _errors(scores: Row) -> Row:
    return {name: _number(scores[name]) for name in ('loss', 'top1_error', 'top5_error')}


def _number(value: Any) -> float:
    """Returns the shortest decimal of the same float32: 0.01, not 0.009999999776."""
    return float(str(np.float32(value))) if not isinstance(value, float) else value
