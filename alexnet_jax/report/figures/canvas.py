"""Shared parts of the figures: colors, axes and files.

NAME.png is light, for slides and print. NAME.svg has text that can be read aloud and searched; it
follows the reader's light or dark theme.
"""

import contextlib
import csv
import io
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet_jax.runtime import files

WIDTH = 4.6  # inches; as wide as a phone, so that letters keep their size
SHORTEN = 28  # characters of a name
# Colors by role: (light theme, dark theme).
INK, MUTED, FAINT = ('#1f2328', '#e6edf3'), ('#59636e', '#9198a1'), ('#d1d9e0', '#3d444d')
BLUE, ORANGE, GREEN = ('#0969da', '#4493f8'), ('#bc4c00', '#f0883e'), ('#1a7f37', '#3fb950')
PURPLE, RED, PAPER = ('#8250df', '#ab7df8'), ('#cf222e', '#f85149'), ('#ffffff', '#0d1117')
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, RED, MUTED)
TURNING = ('LRE', 'RLE', 'LRO', 'RLO', 'PDF', 'LRI', 'RLI', 'FSI', 'PDI')
LINES = ('-', '--', '-.', ':')  # for readers who do not distinguish the colors


def color(number: int) -> str:
    """Returns the color of line `number` of a figure."""
    return PALETTE[number % len(PALETTE)][0]


def canvas(height: float, rows: int = 1, columns: int = 1, width: float = WIDTH):
    """Returns a figure of `height` inches, and its axes [rows][columns]."""
    figure = Figure(figsize=(width, height), layout='constrained')
    axes = figure.subplots(rows, columns, squeeze=False)
    for place in axes.flat:
        dress(place)
    return figure, axes


def dress(axes: Axes) -> None:
    """Sets the colors and fonts of axes, and removes the upper and right frame."""
    axes.spines[['top', 'right']].set_visible(False)
    axes.spines[['left', 'bottom']].set_color(MUTED[0])
    axes.tick_params(colors=MUTED[0], labelcolor=INK[0], labelsize=9)
    axes.grid(True, color=FAINT[0], linewidth=0.6)
    axes.set_axisbelow(True)
    for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
        text.set_color(INK[0])
        text.set_fontsize(10)


def legend(axes: Axes, **where) -> None:
    """Draws the legend of axes without a frame."""
    axes.legend(fontsize=9, frameon=False, labelcolor=INK[0], **where)


def save(figure: Figure, path: Path) -> None:
    """Writes path.png and path.svg."""
    save_png(figure, path)
    fixed: dict[Any, Any] = {'svg.fonttype': 'none', 'svg.hashsalt': path.name}
    content = io.BytesIO()
    with matplotlib.rc_context(fixed), _any_letters():
        figure.savefig(content, format='svg', transparent=True, metadata={'Date': None})
    files.write_bytes(path.with_suffix('.svg'), _themed(content.getvalue().decode()).encode())


def save_png(figure: Figure, path: Path) -> None:
    """Writes path.png alone, of a figure that is all pictures."""
    content = io.BytesIO()
    with _any_letters():
        figure.savefig(content, format='png', dpi=150, facecolor=PAPER[0])
    files.write_bytes(path.with_suffix('.png'), content.getvalue())


@contextlib.contextmanager
def _any_letters() -> Iterator[None]:
    """Ignores warnings about letters that Matplotlib's font lacks; it draws boxes for them."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)
        yield


def _themed(svg: str) -> str:
    """Returns an SVG with colors of both themes in place of fixed colors."""
    roles = {f'c{number}': pair for number, pair in
             enumerate((INK, MUTED, FAINT, BLUE, ORANGE, GREEN, PURPLE, RED, PAPER))}  # fmt: skip
    for name, (light, _) in roles.items():
        svg = svg.replace(light, f'var(--{name})')
    sets = [';'.join(f'--{name}:{pair[shade]}' for name, pair in roles.items()) for shade in (0, 1)]
    style = (
        f'<style>:root{{{sets[0]}}}@media(prefers-color-scheme:dark){{:root{{{sets[1]}}}}}</style>'
    )
    head, end, rest = svg.partition('<defs>')
    return head + style + end + rest


def label(text: str, most: int = SHORTEN) -> str:
    """Returns a name for a figure: shortened, printable, and without Matplotlib's formulas."""
    return printable(shortened(text, most)).replace('$', r'\$')


def shortened(name: str, most: int) -> str:
    """Returns a name of at most `most` characters.

    A longer name keeps its beginning and its end, as names of one set often differ in their ends.
    """
    if len(name) <= most:
        return name
    tail = (most - 1) // 3
    return f'{name[: most - 1 - tail]}…{name[-tail:]}'


def printable(text: str) -> str:
    """Returns a text with U+FFFD in place of characters that cannot be printed.

    These are control characters, surrogates, unassigned characters and characters that change the
    text direction.
    """
    return ''.join('\N{REPLACEMENT CHARACTER}' if _is_control(sign) else sign for sign in text)


def _is_control(sign: str) -> bool:
    return unicodedata.category(sign) in ('Cc', 'Cs', 'Cn') or (
        unicodedata.bidirectional(sign) in TURNING
    )


# First characters of formulas in spreadsheets; some spreadsheets strip spaces first.
FORMULA = ('=', '+', '-', '@', '\t', '\r', '\n', ' ', '＝', '＋', '－', '＠')


def write_numbers(path: Path, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes path.csv.

    Floats are written with all their digits and None as an empty cell. File names that are not
    valid text are escaped. An apostrophe precedes text that a spreadsheet would execute as a
    formula.
    """
    table = io.StringIO(newline='')
    writer = csv.writer(table)
    writer.writerow(map(_cell, names))
    writer.writerows(map(_cell, row) for row in rows)
    files.write_bytes(
        path.with_suffix('.csv'), table.getvalue().encode('utf-8', 'backslashreplace')
    )


def _cell(value: Any) -> Any:
    """Returns a cell without formulas: class names and file names may come from anywhere."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
