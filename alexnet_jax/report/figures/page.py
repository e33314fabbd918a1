"""HTML pages in one file: they make no network requests, and all inputs are escaped."""

import base64
import dataclasses
import io
import math
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from alexnet_jax.report.figures.canvas import printable, shortened
from alexnet_jax.report.figures.style import STYLE

SMALL = 64  # pixels per side; images up to this size are stored without loss
# A phone shows a table with more columns, or with longer column names, as one line per cell.
MOST_COLUMNS, MOST_LETTERS = 4, 40
SHEET = (
    1600  # pixels; minimum width of an enlarged sheet of kernels, so that weights have sharp edges
)
LONG = 16  # letters; longer words may be broken
NAME = 48  # characters of a class name
NUMBER = re.compile(r'[+-]?(\d+|\d{1,3}(,\d{3})+)(\.\d+)?')
Cell = str | int | float | None


def text(value: Cell) -> str:
    """Returns a value as escaped HTML.

    Floats have three decimals, or four significant digits below 0.001.
    """
    if value is None:
        return ''
    if isinstance(value, float):
        return f'{value:.4g}' if value and abs(value) < 0.001 else f'{value:.3f}'
    return escape(printable(str(value)))


def paragraph(content: str, kind: str = '') -> str:
    """Returns a paragraph of escaped text."""
    return f'<p{_class(kind)}>{text(content)}</p>'


def note(content: str) -> str:
    """Returns HTML as a paragraph in smaller letters."""
    return f'<p class="muted">{content}</p>'


def heading(content: str, level: int = 3) -> str:
    """Returns a heading of escaped text."""
    return f'<h{level}>{text(content)}</h{level}>'


def table(names: Sequence[str], rows: Sequence[Sequence[Cell]], caption: str = '') -> str:
    """Returns a table. Columns of numbers are aligned at the right.

    On a phone, a table with many columns has one line per cell, with the name of the column. A table
    that is wider than the screen scrolls by itself.
    """
    letters = sum(max(map(len, name.split()), default=0) for name in names)  # words are not broken
    is_wide = len(names) > MOST_COLUMNS or letters > MOST_LETTERS
    numeric = [_is_numeric([row[i] for row in rows]) for i in range(len(names))]
    head = ''.join(
        f'<th scope="col"{_class("number" if is_number else "")}>{text(name)}</th>'
        for name, is_number in zip(names, numeric, strict=True)
    )
    lines = ''.join(
        '<tr>' + ''.join(
            f'<td{_class("number" if numeric[i] else _class_of_text(cell, i))}'
            f'{_data_name(names[i]) if is_wide else ""}>{text(cell)}</td>'
            for i, cell in enumerate(row)
        ) + '</tr>'
        for row in rows
    )  # fmt: skip
    about = f'<caption>{text(caption)}</caption>' if caption else ''
    region = f' role="region" tabindex="0" aria-label="{text(caption or names[0])}"'
    return (
        f'<div class="scroll"{region}><table{_class("wide" if is_wide else "")}>{about}<thead><tr>{head}</tr></thead>'
        f'<tbody>{lines}</tbody></table></div>'
    )


def listed(sentences: Sequence[str]) -> str:
    """Returns short sentences as a list, in three columns on a wide screen."""
    return f'<ul class="listed">{"".join(f"<li>{text(one)}</li>" for one in sentences)}</ul>'


def listing(content: str) -> str:
    """Returns preformatted, escaped text that scrolls."""
    lines = '\n'.join(map(text, content.split('\n')))
    return f'<pre tabindex="0">{lines}</pre>'


def folded(summary: str, content: str) -> str:
    """Returns a summary that unfolds HTML content."""
    return f'<details><summary>{text(summary)}</summary>{content}</details>'


def side_by_side(*parts: str) -> str:
    """Returns parts in rows of two, or of three if their number is a multiple of three.

    A phone has one part per row.
    """
    three = ' three' * (len(parts) % 3 == 0)
    return f'<div class="pair{three}">{"".join(f"<div>{part}</div>" for part in parts)}</div>'


def picture(path: Path, described: str, caption: str) -> str:
    """Returns the figure path.svg with its caption and links to its files."""
    svg = base64.b64encode(path.with_suffix('.svg').read_bytes()).decode()
    return _figure(f'data:image/svg+xml;base64,{svg}', described, links(path, caption))


def links(path: Path, caption: str) -> str:
    """Returns the caption of a figure and links to its files, which paper omits."""
    files = [path.with_suffix(suffix) for suffix in ('.png', '.svg', '.csv', '.npz')]
    named = ', '.join(
        f'<a href="{text(file.name)}">{text(file.name)}</a>' for file in files if file.exists()
    )
    return f'{text(caption)} <span class="files">{named}</span>'


def sheet(pixels: np.ndarray, described: str, caption: str) -> str:
    """Returns an enlarged picture with visible pixels.

    Args:
      pixels: uint8 [height, width, channels].
    """
    times = math.ceil(SHEET / pixels.shape[1])
    data = _encoded(pixels.repeat(times, axis=0).repeat(times, axis=1), 'png')
    return _figure(f'data:image/png;base64,{data}', described, text(caption))


def _figure(source: str, described: str, caption: str) -> str:
    """Returns a figure; `caption` is HTML."""
    return (
        f'<figure><img alt="{text(described)}" src="{source}">'
        f'<figcaption>{caption}</figcaption></figure>'
    )


def image(pixels: np.ndarray, described: str) -> str:
    """Returns an image, uint8 [size, size, 3]."""
    form = 'png' if len(pixels) <= SMALL else 'jpeg'
    return f'<img alt="{text(described)}" src="data:image/{form};base64,{_encoded(pixels, form)}">'


def _encoded(pixels: np.ndarray, form: str) -> str:
    """Returns a picture as a file in base64."""
    content = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(content, form, quality=85)
    return base64.b64encode(content.getvalue()).decode()


def predictions(
    cards: Sequence[tuple[np.ndarray, str, Sequence[tuple[str, float]], int | None]], kind: str
) -> str:
    """Returns a card for each image, with its class and its most probable classes.

    Args:
      cards: (image, class, [(class, probability), ...], rank), where the rank is the index of the
        image's class in the list, or None. Ranks are needed because two classes may have one name.
      kind: the noun for an image in descriptions, such as 'test image'.
    """
    return f'<ul class="cards">{"".join(_card(kind, *card) for card in cards)}</ul>'


def _card(
    kind: str,
    pixels: np.ndarray,
    label: str,
    classes: Sequence[tuple[str, float]],
    rank: int | None,
) -> str:
    bars = ''.join(
        f'<li><i style="width:{100 * probability:.1f}%"></i>'
        f'<span{_class("right" if index == rank else "")}>{class_name(name)}</span>'
        f'<span>{probability:.3f}</span></li>'
        for index, (name, probability) in enumerate(classes)
    )
    verdict = 'right' if rank == 0 else 'wrong'
    return (
        f'<li class="card">{image(pixels, f"{kind} of class {label}")}'
        f'<strong class="{verdict}">{class_name(label)}</strong><ol class="bars">{bars}</ol></li>'
    )


def neighbors(rows: Sequence[Sequence[tuple[np.ndarray, str, float, bool]]], kind: str) -> str:
    """Returns a row for each image: the image, then its nearest neighbors.

    Args:
      rows: (image, class, distance, whether the class is that of the first image).
      kind: the noun for the first image in descriptions, such as 'test image'.
    """
    return ''.join(
        '<ul class="strip">'
        f'{"".join(_neighbor(kind, rank, *one) for rank, one in enumerate(row))}</ul>'
        for row in rows
    )


def _neighbor(
    kind: str, rank: int, pixels: np.ndarray, label: str, distance: float, is_alike: bool
) -> str:
    if not rank:
        return f'<li>{image(pixels, f"{kind}, class {label}")}<strong>{class_name(label)}</strong></li>'
    return (
        f'<li>{image(pixels, f"neighbor {rank}, class {label}")}'
        f'<span class="{"right" if is_alike else "wrong"}">{class_name(label)}</span>'
        f'<br><span class="muted">{distance:{".2f" if distance >= 0.1 else ".2g"}}</span></li>'
    )


def unit(
    first: tuple[np.ndarray, str], others: Sequence[tuple[np.ndarray, str]], caption: str
) -> str:
    """Returns a picture next to other pictures in rows of three, each (pixels, description).

    Without other pictures, the caption is next to the first.
    """
    about = f'<figcaption>{text(caption)}</figcaption>'
    if not others:
        return f'<figure class="unit"><div>{image(*first)}{about}</div></figure>'
    items = ''.join(f'<li>{image(*one)}</li>' for one in others)
    return f'<figure class="unit"><div>{image(*first)}<ul>{items}</ul></div>{about}</figure>'


@dataclasses.dataclass(frozen=True)
class Section:
    """A section of a page: its title, and its content as parts of HTML."""

    title: str
    content: Sequence[str]


def render(title: str, lead: str, sections: Sequence[Section]) -> str:
    """Returns the whole page; `lead` is HTML."""
    links = ''.join(
        f'<li><a href="#s{number}">{text(section.title)}</a></li>'
        for number, section in enumerate(sections)
    )
    body = ''.join(
        f'<section id="s{number}"><h2>{text(section.title)}</h2>{"".join(section.content)}</section>'
        for number, section in enumerate(sections)
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f'<title>{text(title)}</title><style>{STYLE}</style></head>\n'
        f'<body><header><h1>{text(title)}</h1>{lead}<nav aria-label="sections"><ul>{links}</ul></nav>'
        f'</header><main>{body}</main></body></html>\n'
    )


def class_name(name: str) -> str:
    """Returns the name of a class as escaped HTML, shortened if it is long."""
    return text(shortened(name, NAME))


def _is_numeric(cells: Sequence[Cell]) -> bool:
    """Returns whether a column has numbers and otherwise only empty cells."""
    filled = [cell for cell in cells if cell not in (None, '', '–')]
    return bool(filled) and all(
        isinstance(cell, int | float) or bool(NUMBER.fullmatch(cell)) for cell in filled
    )


def _class_of_text(cell: Cell, column: int) -> str:
    """Returns the CSS class of a cell. Long words may be broken, except in the first column."""
    words = str(cell).split() if cell is not None else ()
    return 'long' if column and max(map(len, words), default=0) > LONG else ''


def _data_name(name: str) -> str:
    return f' data-name="{text(name)}"'


def _class(name: str) -> str:
    return f' class="{name}"' if name else ''
