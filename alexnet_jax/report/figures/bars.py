"""Bar charts with intervals or reference values."""

from collections.abc import Sequence
from pathlib import Path

from alexnet_jax.report.figures.canvas import (
    BLUE,
    INK,
    MUTED,
    ORANGE,
    canvas,
    label,
    save,
    write_numbers,
)

Interval = tuple[float, float] | None


def draw(
    names: Sequence[str],
    values: Sequence[float | None],
    path: Path,
    axis: str,
    intervals: Sequence[Interval] | None = None,
    marks: tuple[str, Sequence[float | None]] | None = None,
    axis_label: str = '',
) -> None:
    """Draws one horizontal bar per name, downwards.

    Writes path.png, path.svg and path.csv.

    Args:
      values: None for a missing bar.
      axis: the name of the values, for the axis and the CSV file.
      intervals: (low, high) of each value.
      marks: reference values, such as published ones: their name, and a diamond for each bar.
      axis_label: the label of the axis with its unit and the name of the marks; default: `axis`.
    """
    intervals = intervals or [None] * len(names)
    name, marked = marks or ('', [None] * len(names))
    figure, ((axes,),) = canvas(height=0.9 + 0.27 * len(names))
    for row, (value, interval, mark) in enumerate(zip(values, intervals, marked, strict=True)):
        if value is not None:
            axes.barh(row, value, color=BLUE[0], height=0.62)
        else:
            axes.text(0, row, ' no value', va='center', fontsize=9, color=MUTED[0])
        if value is not None and interval is not None:
            spread = [[max(0, value - interval[0])], [max(0, interval[1] - value)]]
            axes.errorbar(value, row, xerr=spread, color=INK[0], linewidth=1, capsize=2)
        if mark is not None:
            axes.plot(mark, row, 'D', color=ORANGE[0], markersize=6)
    axes.set_yticks(range(len(names)), [label(text) for text in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(False, axis='y')
    axes.axvline(0, color=MUTED[0], linewidth=0.8)
    axes.locator_params(axis='x', nbins=5)
    axes.set_xlabel(axis_label or axis)
    save(figure, path)
    rows = [
        (text, value, *(interval or (None, None)), mark)
        for text, value, interval, mark in zip(names, values, intervals, marked, strict=True)
    ]
    write_numbers(path, ('name', axis, 'low', 'high', name or 'mark'), rows)
