"""A page as one file: no request goes out of it, and whatever it is given is shown as text."""

import base64
import dataclasses
import io
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from alexnet_jax.report.figures.canvas import printable

SMALL = 64  # pixels a side: up to here an image keeps its pixels as they are
MOST_COLUMNS, MOST_LETTERS = 4, 40  # of a table's head that a phone shows as it is
SHEET = (
    1600  # pixels across that a sheet of kernels is enlarged to: a reader sees each weight's edge
)
LONG = 16  # letters of a word that may be broken
Cell = str | int | float | None

STYLE = """
:root{color-scheme:light dark;--ink:#1f2328;--muted:#59636e;--faint:#d1d9e0;--paper:#fff;
--panel:#f6f8fa;--accent:#0550ae;--bar:#b6d4fe;--right:#116329;--wrong:#b31d28}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--muted:#9da7b3;--faint:#3d444d;
--paper:#0d1117;--panel:#161b22;--accent:#79b8ff;--bar:#1f4b82;--right:#56d364;--wrong:#ff8a84}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.2rem 1rem 4rem;max-width:74rem;background:var(--paper);
color:var(--ink);font:1rem/1.55 system-ui,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.7rem;line-height:1.2;margin:.4rem 0}h2{font-size:1.25rem;margin:2.6rem 0 .6rem;
border-bottom:1px solid var(--faint);padding-bottom:.2rem}h3{font-size:1rem;margin:1.4rem 0 .3rem}
p,ul{max-width:50rem}a{color:var(--accent)}nav ul{display:flex;flex-wrap:wrap;gap:.2rem 1rem;
list-style:none;padding:0}.muted,figcaption{color:var(--muted);font-size:.87rem}
.big{font-size:1.15rem;max-width:none}figure{margin:.6rem 0 1rem}figure>img{width:100%;max-width:36rem;height:auto;
display:block}.pair{display:grid;gap:0 2rem;grid-template-columns:repeat(2,minmax(0,1fr))}
.three{grid-template-columns:repeat(3,minmax(0,1fr))}.pair>:only-child{grid-column:1/-1}
.cards{display:grid;gap:1rem;grid-template-columns:repeat(4,minmax(0,1fr));list-style:none;
padding:0;max-width:none}.card{background:var(--panel);border-radius:.5rem;padding:.6rem;margin:0}
.card img{width:100%;height:auto;display:block}
.bars span:last-child{flex:none}
.card strong{display:block;margin:.3rem 0}.bars{list-style:none;margin:0;padding:0;font-size:.87rem}
.bars li{position:relative;padding:.05rem .35rem;margin:2px 0;z-index:0;display:flex;
justify-content:space-between;gap:.5rem}
.bars i{position:absolute;z-index:-1;left:0;top:0;bottom:0;background:var(--bar);border-radius:2px}
.right{color:var(--right)}.wrong{color:var(--wrong)}
.strip{display:grid;grid-template-columns:repeat(7,minmax(0,1fr));gap:.6rem;list-style:none;
padding:.6rem;margin:.8rem 0;background:var(--panel);border-radius:.5rem;max-width:none}
.strip li{font-size:.8rem;line-height:1.3}.strip img{width:100%;height:auto;display:block}
.strip li:first-child{position:relative}.strip li:first-child::after{content:"";position:absolute;
top:0;bottom:0;right:-.35rem;border-right:2px solid var(--muted)}
.unit{background:var(--panel);border-radius:.5rem;padding:.6rem;max-width:44rem}
.unit>div{display:grid;gap:.6rem;grid-template-columns:repeat(2,minmax(0,1fr))}
.unit img{width:100%;height:100%;object-fit:contain;display:block}
.unit ul{display:grid;gap:.2rem;grid-template-columns:repeat(3,minmax(0,1fr));list-style:none;
margin:0;padding:0}.unit li{aspect-ratio:1;min-height:0}.unit figcaption{margin-top:.4rem}
.listed{columns:3;gap:2rem;padding-left:1.2rem;max-width:none;font-size:.87rem}
.scroll{overflow-x:auto;margin:.8rem 0}table{border-collapse:collapse;font-size:.87rem}
th,td{text-align:left;vertical-align:top;padding:.25rem .9rem .25rem 0;
border-bottom:1px solid var(--faint);max-width:26rem}
th,td{overflow-wrap:break-word}.long{overflow-wrap:anywhere}
th{font-weight:600}.number{text-align:right;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--muted);padding-bottom:.3rem}
pre{background:var(--panel);border-radius:.5rem;padding:.7rem;white-space:pre-wrap;font-size:.82rem}
details{margin:.8rem 0}summary{cursor:pointer}
@media(max-width:64rem){.three{grid-template-columns:repeat(2,minmax(0,1fr))}}
@media(max-width:48rem){.pair{grid-template-columns:minmax(0,1fr)}.listed{columns:1}.cards{grid-template-columns:repeat(2,minmax(0,1fr));gap:.6rem}
.strip{grid-template-columns:repeat(4,minmax(0,1fr))}.strip li:first-child{grid-row:span 2}
th,td{padding-right:.6rem}.wide thead{display:none}.wide tr{display:block;padding:.5rem 0;
border-bottom:1px solid var(--faint)}.wide td{display:flex;gap:1rem;justify-content:space-between;
border:0;padding:.1rem 0;text-align:right;max-width:none}.wide,.wide tbody,.wide caption{display:block}
.wide td::before{content:attr(data-name);color:var(--muted);text-align:left}
.wide td:empty{display:none}}
"""


def text(value: Cell) -> str:
    """Returns a value as HTML that shows it."""
    if value is None:
        return ''
    if isinstance(value, float):
        return f'{value:.4g}' if value and abs(value) < 0.001 else f'{value:.4f}'
    return escape(printable(str(value)))


def paragraph(content: str, kind: str = '') -> str:
    """Returns a paragraph of escaped text."""
    return f'<p{_kind(kind)}>{text(content)}</p>'


def note(content: str) -> str:
    """Returns a paragraph of HTML in smaller letters."""
    return f'<p class="muted">{content}</p>'


def heading(content: str, level: int = 3) -> str:
    """Returns a heading of escaped text."""
    return f'<h{level}>{text(content)}</h{level}>'


def table(names: Sequence[str], rows: Sequence[Sequence[Cell]], caption: str = '') -> str:
    """Returns a table, its numbers to the right.

    On a phone a table of many columns has a line a cell, with the column's name; one that is
    still wider than the screen scrolls by itself.
    """
    words = sum(max(map(len, name.split()), default=0) for name in names)  # these are not broken
    is_wide = len(names) > MOST_COLUMNS or words > MOST_LETTERS
    numeric = [
        rows and all(isinstance(row[i], int | float) for row in rows) for i in range(len(names))
    ]
    head = ''.join(
        f'<th scope="col"{_kind("number" if is_number else "")}>{text(name)}</th>'
        for name, is_number in zip(names, numeric, strict=True)
    )
    lines = ''.join(
        '<tr>' + ''.join(
            f'<td{_kind(_kind_of(cell, place))}{_data_name(name) if is_wide else ""}>{text(cell)}</td>'
            for place, (name, cell) in enumerate(zip(names, row, strict=True))
        ) + '</tr>'
        for row in rows
    )  # fmt: skip
    about = f'<caption>{text(caption)}</caption>' if caption else ''
    region = f' role="region" tabindex="0" aria-label="{text(caption or names[0])}"'
    return (
        f'<div class="scroll"{region}><table{_kind("wide" if is_wide else "")}>{about}<thead><tr>{head}</tr></thead>'
        f'<tbody>{lines}</tbody></table></div>'
    )


def listed(sentences: Sequence[str]) -> str:
    """Returns short sentences as a list, on a desk in three columns."""
    return f'<ul class="listed">{"".join(f"<li>{text(one)}</li>" for one in sentences)}</ul>'


def listing(content: str) -> str:
    """Returns preformatted, escaped text that scrolls."""
    lines = '\n'.join(map(text, content.split('\n')))
    return f'<pre tabindex="0">{lines}</pre>'


def folded(summary: str, content: str) -> str:
    """Returns a summary that unfolds HTML content."""
    return f'<details><summary>{text(summary)}</summary>{content}</details>'


def side_by_side(*parts: str) -> str:
    """Parts in rows of three where that leaves no hole, else of two; below each other on a phone."""
    three = ' three' * (len(parts) % 3 == 0)
    return f'<div class="pair{three}">{"".join(f"<div>{part}</div>" for part in parts)}</div>'


def picture(path: Path, described: str, caption: str) -> str:
    """Returns a figure of the page's folder, path.svg and path.png, with a link to its numbers."""
    svg = base64.b64encode(path.with_suffix('.svg').read_bytes()).decode()
    return _figure(f'data:image/svg+xml;base64,{svg}', described, links(path, caption))


def links(path: Path, caption: str) -> str:
    """Returns the caption of a figure, and links to its files in the page's folder."""
    files = [path.with_suffix(suffix) for suffix in ('.png', '.svg', '.csv', '.npz')]
    named = ', '.join(
        f'<a href="{text(file.name)}">{text(file.name)}</a>' for file in files if file.exists()
    )
    return f'{text(caption)} {named}'


def sheet(pixels: np.ndarray, described: str, caption: str) -> str:
    """Returns a picture whose every pixel is to be seen, uint8 [height, width, channels]."""
    times = math.ceil(SHEET / pixels.shape[1])
    data = _encoded(pixels.repeat(times, axis=0).repeat(times, axis=1), 'png')
    return _figure(f'data:image/png;base64,{data}', described, text(caption))


def _figure(source: str, described: str, caption: str) -> str:
    """`caption` is HTML."""
    return (
        f'<figure><img alt="{text(described)}" src="{source}">'
        f'<figcaption>{caption}</figcaption></figure>'
    )


def image(pixels: np.ndarray, described: str) -> str:
    """Returns an image, uint8 [size, size, 3]."""
    form = 'png' if len(pixels) <= SMALL else 'jpeg'
    return f'<img alt="{text(described)}" src="data:image/{form};base64,{_encoded(pixels, form)}">'


def _encoded(pixels: np.ndarray, form: str) -> str:
    """A picture's file in base64."""
    content = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(content, form, quality=85)
    return base64.b64encode(content.getvalue()).decode()


def predictions(
    cards: Sequence[tuple[np.ndarray, str, Sequence[tuple[str, float]], int | None]], kind: str
) -> str:
    """Returns a card an image with its predictions, the most probable first.

    A card is (image, its class, [(class, probability), ...], the place of its class among these).
    Two classes may have one name.

    Args:
      kind: what to call an image.
    """
    return f'<ul class="cards">{"".join(_card(kind, *card) for card in cards)}</ul>'


def _card(
    kind: str,
    pixels: np.ndarray,
    label: str,
    classes: Sequence[tuple[str, float]],
    own: int | None,
) -> str:
    bars = ''.join(
        f'<li><i style="width:{100 * probability:.1f}%"></i>'
        f'<span{_kind("right" if place == own else "")}>{text(name)}</span>'
        f'<span>{probability:.3f}</span></li>'
        for place, (name, probability) in enumerate(classes)
    )
    verdict = 'right' if own == 0 else 'wrong'
    return (
        f'<li class="card">{image(pixels, f"{kind} of class {label}")}'
        f'<strong class="{verdict}">{text(label)}</strong><ol class="bars">{bars}</ol></li>'
    )


def neighbors(rows: Sequence[Sequence[tuple[np.ndarray, str, float, bool]]], kind: str) -> str:
    """Returns a row an image: itself, then those nearest to it.

    A member of a row is (image, its class, distance, whether it is of the first's class).

    Args:
      kind: what to call the image.
    """
    return ''.join(
        '<ul class="strip">'
        f'{"".join(_neighbor(kind, place, *one) for place, one in enumerate(row))}</ul>'
        for row in rows
    )


def _neighbor(
    kind: str, place: int, pixels: np.ndarray, label: str, distance: float, is_alike: bool
) -> str:
    described = f'neighbor {place}, class {label}' if place else f'{kind}, class {label}'
    far = f'<br><span class="muted">{distance:.2f}</span>' if place else ''
    name = f'<span class="{"right" if is_alike else "wrong"}">{text(label)}</span>'
    return f'<li>{image(pixels, described)}{name if place else f"<strong>{text(label)}</strong>"}{far}</li>'


def unit(
    first: tuple[np.ndarray, str], others: Sequence[tuple[np.ndarray, str]], caption: str
) -> str:
    """Returns a picture and others in rows of three beside it, each (pixels, description)."""
    beside = ''.join(f'<li>{image(*one)}</li>' for one in others)
    return (
        f'<figure class="unit"><div>{image(*first)}{f"<ul>{beside}</ul>" if others else ""}</div>'
        f'<figcaption>{text(caption)}</figcaption></figure>'
    )


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a page: its title, and its content as pieces of HTML."""

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


def _kind_of(cell: Cell, place: int) -> str:
    """What the style has to know of a cell: it breaks long words, but none of the first column."""
    if isinstance(cell, int | float):
        return 'number'
    words = cell.split() if cell else ()
    return 'long' if place and max(map(len, words), default=0) > LONG else ''


def _data_name(name: str) -> str:
    return f' data-name="{text(name)}"'


def _kind(name: str) -> str:
    return f' class="{name}"' if name else ''
