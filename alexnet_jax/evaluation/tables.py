"""The paper's Tables 1 and 2 (§6), its rows beside those of our runs."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from alexnet_jax.errors import InputError

Interval = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Score:
    """An error as a fraction, and its 95 % interval where it is known."""

    error: float
    interval: Interval | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of either table. views: of each test image, where there are such."""

    model: str
    source: str
    views: int | None = None
    val_top1: Score | None = None
    val_top5: Score | None = None
    test_top1: Score | None = None
    test_top5: Score | None = None


_2010, _2012 = 'ILSVRC-2010, the paper', 'ILSVRC-2012, the paper'
TABLE1 = (
    Row('Sparse coding', _2010, test_top1=Score(0.471), test_top5=Score(0.282)),
    Row('SIFT + FVs', _2010, test_top1=Score(0.457), test_top5=Score(0.257)),
    Row('CNN', _2010, 10, test_top1=Score(0.375), test_top5=Score(0.170)),
    Row('CNN (§4.1)', _2010, 1, test_top1=Score(0.390), test_top5=Score(0.183)),
)
# A star: pre-trained on the whole Fall 2011 release.
TABLE2 = (
    Row('SIFT + FVs', _2012, test_top5=Score(0.262)),
    Row('1 CNN', _2012, 10, Score(0.407), Score(0.182)),
    Row('5 CNNs', _2012, 10, Score(0.381), Score(0.164), test_top5=Score(0.164)),
    Row('1 CNN*', _2012, 10, Score(0.390), Score(0.166)),
    Row('7 CNNs*', _2012, 10, Score(0.367), Score(0.154), test_top5=Score(0.153)),
)
COLUMNS = {
    'Table 1': {'test_top1': 'Top-1 (test)', 'test_top5': 'Top-5 (test)'},
    'Table 2': {
        'val_top1': 'Top-1 (val)', 'val_top5': 'Top-5 (val)', 'test_top5': 'Top-5 (test)',
    },
}  # fmt: skip
PAPER = {'Table 1': TABLE1, 'Table 2': TABLE2}


def rows_of(run: str, results: Sequence[dict[str, Any]]) -> list[Row]:
    """A run's evaluations (its eval/SPLIT-VIEWS.json), a row for each number of views and
    each source of images.

    Raises:
      InputError: an evaluation lacks what it should hold.
    """
    rows: dict[tuple[int, str], dict[str, Score]] = {}
    model = run
    try:
        for result in results:
            members = len(result.get('members', [run]))
            model = f'{members} CNN{"s" * (members > 1)}, {result["network"]}: {run}'
            scores = rows.setdefault((result['views'], result['source']), {})
            for error in ('top1', 'top5'):
                low, high = result[f'{error}_interval']
                score = Score(float(result[f'{error}_error']), (float(low), float(high)))
                scores[f'{result["split"]}_{error}'] = score
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f'{run} holds an evaluation without {error}; evaluate it anew') from error
    known = {field.name for field in dataclasses.fields(Row)}
    return [
        Row(model, source, views, **{name: x for name, x in scores.items() if name in known})
        for (views, source), scores in sorted(rows.items())
    ]


def filled(ours: Sequence[Row]) -> dict[str, list[Row]]:
    """The paper's rows of each table, then ours that have one of its columns at least."""
    return {
        name: [*PAPER[name], *(row for row in ours if any(getattr(row, c) for c in columns))]
        for name, columns in COLUMNS.items()
    }


def markdown(tables: dict[str, list[Row]]) -> str:
    """The tables as text: errors as fractions, in brackets their 95 % intervals."""
    lines = []
    for name, rows in tables.items():
        columns = COLUMNS[name]
        lines += [
            f'## {name}', '',
            f'| Model | Images | Views | {" | ".join(columns.values())} |',
            '|---' * (3 + len(columns)) + '|',
        ]  # fmt: skip
        for row in rows:
            cells = [row.model, row.source, '' if row.views is None else str(row.views)]
            cells += [_told(getattr(row, column)) for column in columns]
            lines.append(f'| {" | ".join(cells)} |')
        lines.append('')
    return '\n'.join(lines)


def _told(score: Score | None) -> str:
    if score is None:
        return '–'
    if score.interval is None:
        return f'{score.error:.3f}'
    return f'{score.error:.4f} [{score.interval[0]:.4f}, {score.interval[1]:.4f}]'


def tree(tables: dict[str, list[Row]]) -> dict[str, Any]:
    """The tables for JSON."""
    return {name: [dataclasses.asdict(row) for row in rows] for name, rows in tables.items()}
