"""What tells that a run goes wrong: numbers that are not finite, and nets that do not learn."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from alexnet_jax.errors import NotFiniteError

CHANCE = 0.99  # of ln(classes): a mean loss above it says that nothing was learnt
EPOCHS, STEPS = 2, 300  # before that, a run that does well later may stand at chance


class Health:
    """Looks at the scores of every step, and tells once of each thing that goes wrong.

    Args:
      layers: of the net, those with biases, from the image on.
      classes: of the net.
      warn: is told what, in a line.
    """

    def __init__(
        self,
        layers: Sequence[str] = (),
        classes: int = 0,
        warn: Callable[[str], None] = lambda line: None,
    ):
        self._layers, self._warn = layers, warn
        self._chance = math.log(classes) if classes else math.inf
        self._told: set[str] = set()
        self._epochs = self._last = 0
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        self._losses, self._steps, self._gradients = 0.0, 0, np.zeros((0, 1))

    def step(self, step: int, scores: dict[str, Any]) -> None:
        """
        Args:
          scores: of `step.make_train_step`, on the host.

        Raises:
          NotFiniteError: the loss, the learning rate or a gradient is not.
        """
        require_finite(scores['loss'], 'the loss', step)
        require_finite(scores['learning_rate'], 'the learning rate', step)
        sizes = scores['bias_gradients']
        for layer, of_columns in zip(self._layers, sizes, strict=True):
            require_finite(np.sum(of_columns), f'the gradient of {layer}', step)
        self._gradients = sizes + (self._gradients if self._steps else 0)
        self._losses += float(scores['loss'])
        self._steps += 1
        self._last = step

    def epoch(self) -> None:
        """At the end of each."""
        self._epochs += 1
        dead = self._dead()
        if dead:
            self._tell(
                dead,
                f'{dead} is dead: no step of the last epoch had a gradient for it, as its units give'
                ' 0 for every image; a lower optimizer.learning_rate, or other initial biases, may'
                ' help',
            )
        mean = self._losses / self._steps if self._steps else 0.0
        if self._epochs >= EPOCHS and self._last >= STEPS and mean >= CHANCE * self._chance:
            cause = 'its units died' if dead else 'the learning rate is too high or too low for it'
            self._tell(
                'chance',
                f'after {self._last} steps the loss is {mean:.4f}, that of guessing, ln(classes)'
                f' = {self._chance:.4f}: the net has learnt nothing; maybe {cause}',
            )
        self._begin_epoch()

    def _dead(self) -> str:
        """The last layer, or column of one, that had no gradient: a ReLU that gives 0 passes
        none on, so those before it may have none either."""
        if not np.any(self._gradients[-1:]):
            return ''  # not of the output itself: there was nothing left to learn
        for layer, sizes in reversed(list(zip(self._layers, self._gradients, strict=True))):
            gone = [str(column) for column, size in enumerate(sizes, start=1) if not size]
            if len(gone) == len(sizes):
                return layer
            if gone:
                return f'column {" and ".join(gone)} of {layer}'
        return ''

    def _tell(self, what: str, line: str) -> None:
        if what not in self._told:
            self._told.add(what)
            self._warn(f'warning: {line}')


def require_finite(number: Any, name: str, step: int) -> None:
    """
    Raises:
      NotFiniteError: it is not.
    """
    if not np.isfinite(number):
        raise NotFiniteError(f'{name} of step {step} is {float(number)}', step)
