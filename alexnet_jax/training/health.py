"""Detects failing runs: values that are not finite, and nets that do not learn."""

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from alexnet_jax.runtime.errors import NotFiniteError, counted

CHANCE = 0.99  # of ln(classes): with a mean loss above it, the net has learned nothing
Part = tuple[str, int]  # a layer and its column
EPOCHS, STEPS = 2, 300  # a run that succeeds later may be at chance level before that


class Health:
    """Checks the metrics of every step, and warns once about each problem.

    Args:
      layers: layers of the net with biases, from the image on.
      classes: number of classes.
      warn: called with each warning, one line.
      reads_all: layers that read all columns below; others read their own column.
      gather_texts: an array -> the arrays of all processes, [processes, ...]. All processes call it
        at the end of each epoch.
    """

    def __init__(
        self,
        layers: Sequence[str] = (),
        classes: int = 0,
        warn: Callable[[str], None] = lambda line: None,
        reads_all: Collection[str] = (),
        gather_texts: Callable[[np.ndarray], np.ndarray] = lambda own: own[None],
    ):
        self._layers, self._warn = layers, warn
        self._reads_all, self._everyones = reads_all, gather_texts
        self._chance = math.log(classes) if classes else math.inf
        self._warned: set[str | Part] = set()
        self._epochs = self._last = 0
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        self._losses, self._steps = 0.0, 0
        self._gradients: np.ndarray = np.zeros((0, 1))

    def step(self, step: int, scores: dict[str, Any]) -> None:
        """Checks the metrics of a step.

        Args:
          scores: those of `step.make_train_step`, on the host; 'bias_gradients' are 0 where only
            other processes have them.

        Raises:
          NotFiniteError: the loss, the learning rate or a gradient is not finite.
        """
        loss, sizes = float(scores['loss']), scores['bias_gradients']
        require_finite(loss, 'the loss', step)
        require_finite(scores['learning_rate'], 'the learning rate', step)
        if not math.isfinite(sizes.sum()):
            for layer, of_columns in zip(self._layers, sizes, strict=True):
                require_finite(np.sum(of_columns), f'the gradient of {layer}', step)
        self._gradients = sizes + (self._gradients if self._steps else 0)
        self._losses += loss
        self._steps += 1
        self._last = step

    def epoch(self) -> None:
        """Warns at the end of an epoch."""
        self._epochs += 1
        dead = self._dead()
        for layer in self._layers:
            self._warn_if_dead(layer, [part for part in dead if part[0] == layer])
        mean = self._losses / self._steps if self._steps else 0.0
        at_chance = self._last >= STEPS and mean >= CHANCE * self._chance
        if self._epochs >= EPOCHS and at_chance and 'chance' not in self._warned:
            self._warned.add('chance')
            cause = 'its units died' if dead else 'the learning rate is too high or too low for it'
            self._warn(
                f'warning: after {counted(self._last, "step")} the loss is {mean:.4f}, that of a'
                f' random guess, ln(classes) = {self._chance:.4f}: the net has learned nothing;'
                f' a possible cause: {cause}'
            )
        self._begin_epoch()

    def _dead(self) -> list[Part]:
        """Returns the columns of layers that returned 0 for every image. Units that return 0
        propagate no gradient, so a column counts only if a column that reads it had a gradient.
        """
        if not self._steps or not self._layers:
            return []
        # Each process has only the gradients of its own columns.
        learns: np.ndarray = np.any(self._everyones(self._gradients > 0), axis=0)
        if not learns[-1].any():
            return []  # not even the output: there was nothing left to learn
        dead = []
        for number, layer in enumerate(self._layers[:-1]):
            above = learns[number + 1]
            is_read = np.full(above.shape, above.any()) if self._is_crossed(number) else above
            dead += [(layer, int(column)) for column in np.flatnonzero(is_read & ~learns[number])]
        return dead

    def _is_crossed(self, number: int) -> bool:
        """Returns whether all columns of the next layer read each column; the output always does."""
        return number + 2 == len(self._layers) or self._layers[number + 1] in self._reads_all

    def _warn_if_dead(self, layer: str, parts: list[Part]) -> None:
        new = [part for part in parts if part not in self._warned]
        if not new:
            return
        self._warned.update(new)
        columns = [str(column + 1) for _, column in new]
        of = '' if len(new) == self._gradients.shape[1] else f'column {" and ".join(columns)} of '
        self._warn(
            f'warning: {of}{layer} is dead: its gradient was 0 in every step of the last epoch, as'
            ' its units return 0 for every image; a lower optimizer.learning_rate, or other initial'
            ' biases, may help'
        )


def require_finite(number: Any, name: str, step: int) -> None:
    """Checks that a number is finite.

    Raises:
      NotFiniteError: it is not.
    """
    if not math.isfinite(number):
        raise NotFiniteError(f'{name} of step {step} is {float(number)}', step)
