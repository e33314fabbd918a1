"""The progress of a run: a live line on a terminal, plain lines elsewhere."""

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import Progress, TimeRemainingColumn

PLAIN_LINE_SECONDS = 10


class Reporter:
    """Prints training rows and validation rows."""

    def __init__(
        self,
        steps: int,
        first_step: int,
        silent: bool = False,
        print_every: int = 0,
        top5: bool = True,
    ):
        """Starts a progress bar if there is a terminal.

        Args:
          print_every: steps between lines where there is no terminal; 0: about ten seconds.
          top5: whether to print top-5 errors: for more than five classes.
        """
        self._top5 = top5
        self._console = Console(highlight=False, soft_wrap=True, quiet=silent)
        self._next_line = time.monotonic() + PLAIN_LINE_SECONDS
        self._steps, self._print_every, self._printed = steps, print_every, first_step
        self._bar = None
        if self._console.is_terminal:
            # No bar: the figures fill a terminal of 80 characters.
            columns = ('{task.completed}/{task.total}', '{task.fields[row]}')
            self._bar = Progress(
                *columns, TimeRemainingColumn(), console=self._console, transient=True
            )
            self._task = self._bar.add_task('', total=steps, completed=first_step, row='')
            self._bar.start()

    def train(self, row: dict[str, Any]) -> None:
        """Prints a training row, or moves the progress bar."""
        text = f'{describe(row, self._top5)}  {row["images_per_second"]:.0f} img/s'
        if self._bar is not None:
            self._bar.update(self._task, completed=row['step'], row=text)
        elif self._line_is_due(row['step']):
            self.print_line(f'train  step {row["step"]}/{self._steps}  {text}')

    def _line_is_due(self, step: int) -> bool:
        if self._print_every:  # rows may be less frequent than that
            before, self._printed = self._printed, step
            return step // self._print_every > before // self._print_every
        due = time.monotonic() >= self._next_line
        if due:
            self._next_line = time.monotonic() + PLAIN_LINE_SECONDS
        return due

    def evaluation(self, row: dict[str, Any]) -> None:
        """Prints an evaluation row."""
        self.print_line(f'{row["split"]:5}  step {row["step"]}  {describe(row, self._top5)}')

    def print_line(self, text: str) -> None:
        """Prints a line at once."""
        self._console.print(text, markup=False)
        sys.stdout.flush()

    def close(self) -> None:
        """Ends the progress bar."""
        if self._bar is not None:
            self._bar.stop()


def describe(row: dict[str, Any], top5: bool = True) -> str:
    """Formats the figures that every row has."""
    last = f'{row["top5_error"]:.4f}' if top5 else '–'
    return (
        f'epoch {row["epoch"]:.2f}  loss {row["loss"]:.4f}'
        f'  top1 {row["top1_error"]:.4f}  top5 {last}'
    )
