"""The paper's Tables 1 and 2 (§6), with rows of our runs."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from alexnet_jax.evaluation.seeds import cell, markdown_table, with_interval
from alexnet_jax.evaluation.tally import has_top5
from alexnet_jax.experiment.results import steps_text

Interval = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Score:
    """An error as a fraction, and its 95 % interval if it is known."""

    error: float
    interval: Interval | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table. views: the number of views of each test image, or None."""

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
# Nets with a star were pre-trained on the whole Fall 2011 release.
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
    """Returns the evaluations of a run, as `results.every` reads them, as rows.

    Evaluations share a row if they have the same members, steps, set and views.
    """
    rows: dict[tuple[str, str, int, str], dict[str, Score]] = {}
    for result in results:
        views = result.get('distinct_views', result['views'])
        source = result.get('set', result['source'])
        data = json.dumps(result.get('data'), sort_keys=True)
        scores = rows.setdefault((_model(run, result), source, views, data), {})
        for error in ('top1', 'top5') if has_top5(result) else ('top1',):
            low, high = result[f'{error}_interval']
            scores[f'{result["split"]}_{error}'] = Score(result[f'{error}_error'], (low, high))
    known = {field.name for field in dataclasses.fields(Row)}
    return [
        Row(*row[:3], **{name: score for name, score in scores.items() if name in known})
        for row, scores in sorted(rows.items(), key=lambda item: (item[0][2], item[0]))
    ]


def _model(run: str, result: dict[str, Any]) -> str:
    """Returns the number of nets, their tables and steps, and the members of an ensemble."""
    members = list(map(str, result.get('members', [])))
    nets = f'{len(members)} CNNs' if len(members) > 1 else '1 CNN'
    of = f' of {", ".join(members)}' if members else ''
    return f'{nets}, {result["network"]}, {steps_text(result)}: {run}{of}'


def filled(ours: Sequence[Row]) -> dict[str, list[Row]]:
    """Returns the rows of each table: those of the paper, then ours with one of its columns."""
    return {
        name: [*PAPER[name], *(row for row in ours if any(getattr(row, c) for c in columns))]
        for name, columns in COLUMNS.items()
    }


def markdown(tables: dict[str, list[Row]]) -> str:
    """Returns the tables as Markdown, with errors as fractions and 95 % intervals in brackets."""
    lines = []
    for name, rows in tables.items():
        columns = COLUMNS[name]
        head = ['Model', 'Images', 'Views', *columns.values()]
        cells = [
            [cell(row.model), cell(row.source), '' if row.views is None else str(row.views),
             *(_score_text(getattr(row, column)) for column in columns)]
            for row in rows
        ]  # fmt: skip
        lines += [f'## {name}', '', *markdown_table(head, cells), '']
    return '\n'.join(lines)


def _score_text(score: Score | None) -> str:
    if score is None:
        return '–'
    if score.interval is None:
        return f'{score.error:.3f}'
    return with_interval(score.error, *score.interval)


def tree(tables: dict[str, list[Row]]) -> dict[str, Any]:
    """Returns the tables for JSON."""
    return {name: [dataclasses.asdict(row) for row in rows] for name, rows in tables.items()}
