"""The page of a study of ablations: errors of each net, and differences from the base."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.report.figures import bars, page
from alexnet_jax.report.figures.page import Section
from alexnet_jax.runtime.errors import counted

Row = dict[str, Any]
TITLES = {'top1_error': 'top-1 error', 'top5_error': 'top-5 error'}
ERRORS = tuple(TITLES)


def make(kept: Row, folder: Path, out: Path) -> str:
    """Returns the page of a study of ablations as HTML; writes its figures.

    Args:
      kept: the content of ablations.json. folder: the study's. out: for the figures.
    """
    # With five classes or fewer there is no top-5 error.
    shown = [error for error in ERRORS
             if any(value is not None for row in kept['rows'] for value in row[error]['seeds'])]  # fmt: skip
    drawn = [_differences(kept['rows'][1:], error, out / error) for error in shown]
    tables = [_errors_by_seed(kept['rows'], error) for error in shown]
    views = kept.get('views')
    how = '' if views is None else f', {counted(views, "view")}'
    lead = page.paragraph(
        f'Errors on the {kept["split"]} images{how}. A difference above 0 means that the ablated net has a'
        ' higher error. Published differences are of ImageNet; the effect of an ablation may differ'
        ' for other images.'
    )
    lead += ''.join(page.paragraph(note.replace('`', '')) for note in kept.get('notes', []))
    found = [' '.join(effects(kept['rows'], error)) for error in shown]
    lead += ''.join(page.paragraph(sentences) for sentences in found if sentences)
    sections = [Section('Differences', [page.side_by_side(*drawn)]), Section('Errors', tables)]
    return page.render(f'Ablations of {kept["rows"][0]["name"]}', lead, sections if shown else [])


def effects(rows: Sequence[Row], error: str) -> list[str]:
    """Returns sentences on the ablations that raise, or lower, an error with every seed."""
    base, *ablations = rows
    seeds = len(base[error]['seeds'])
    if seeds < 2:
        return []
    signs: dict[int, list[str]] = {1: [], -1: [], 0: []}
    for row in ablations:
        pairs = zip(base[error]['seeds'], row[error]['seeds'], strict=True)
        found = {0 if None in pair else int(np.sign(pair[1] - pair[0])) for pair in pairs}
        signs[found.pop() if len(found) == 1 else 0].append(row['name'])
    higher, lower, neither = (', '.join(names) for names in signs.values())
    each, than = (
        f'With each of {seeds} seeds the {TITLES[error]} is',
        f'than that of {base["name"]} for',
    )
    sentences = [
        f'{each} higher {than} {higher}.' if higher else '',
        f'{each} lower {than} {lower}.' if lower else '',
        f'The {TITLES[error]} is not higher with each seed, nor lower with each, for {neither}.'
        if neither else '',
    ]  # fmt: skip
    return [sentence for sentence in sentences if sentence]


def _differences(rows: Sequence[Row], error: str, path: Path) -> str:
    """Draws the difference in an error by ablation; returns the figure as HTML."""
    spread = [
        None if row[error]['difference'] is None or row[error]['standard_error'] is None
        else (row[error]['difference'] - row[error]['standard_error'],
              row[error]['difference'] + row[error]['standard_error'])
        for row in rows
    ]  # fmt: skip
    bars.draw(
        [row['name'] for row in rows], [row[error]['difference'] for row in rows],
        path, f'difference in {TITLES[error]}', spread, ('published', [row[error]['published'] for row in rows]),
        f'difference in {TITLES[error]} (fraction)',
    )  # fmt: skip
    described = f'Difference in {TITLES[error]} by ablation: ' + ', '.join(
        f'{row["name"]} {row[error]["difference"]:+.4f}'
        for row in rows if row[error]['difference'] is not None
    )  # fmt: skip
    caption = (
        'Mean difference between runs with the same seed. A diamond is the published difference.'
    )
    caption += ' The lines are ± one standard error.' if any(spread) else ''
    return page.picture(path, described, caption)


def _errors_by_seed(rows: Sequence[Row], error: str) -> str:
    return page.table(
        ('net', 'mean', 'by seed', f'difference from {rows[0]["name"]}', 'standard error',
         'published difference', 'source'),
        [(row['name'], row[error]['mean'],
          ', '.join('none' if x is None else f'{x:.3f}' for x in row[error]['seeds']),
          row[error]['difference'], row[error]['standard_error'], row[error]['published'],
          row['source']) for row in rows],
        f'{TITLES[error].capitalize()} of each net (fraction)',
    )  # fmt: skip
