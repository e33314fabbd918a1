"""The tables of docs/photographs.md are those of the results beside it."""

import json
from pathlib import Path

from alexnet_jax.evaluation.seeds import markdown_table, measure_table, measure_text, with_interval
from alexnet_jax.studies import ablations, figure1

FOLDER = Path('docs/photographs')
PAGE = Path('docs/photographs.md').read_text()


WORDS = {
    'photographs_half': 'half of the kernels',
    'photographs_no_lrn': 'no local response normalization',
    'photographs_non_overlapping': 'pooling without overlap',
    'photographs_no_communication': 'no crossings between the columns',
    'photographs_no_dropout': 'no dropout',
    'no_crops': 'no random crops and mirror images',
}


def read(name: str):
    return json.loads((FOLDER / name).read_text())


def test_errors_on_tiny_imagenet():
    rows = [
        [
            result['network'],
            str(result['seed']),
            result['processor'],
            str(result['views']),
            with_interval(result['top1_error'], *result['top1_interval']),
            with_interval(result['top5_error'], *result['top5_interval'])
            if 'top5_interval' in result
            else f'{result["top5_error"]:.4f}',
        ]
        for result in read('tiny_imagenet.json')
    ]
    head = ['net', 'seed', 'processor', 'views', 'top-1 error', 'top-5 error']
    assert '\n'.join(markdown_table(head, rows)) in PAGE


def test_measures_of_the_columns():
    found = read('columns.json')
    rows = [[measure_text(name), f'{value:.3f}'] for name, value in found['measures'].items()]
    rows += [
        [f'p of the separation by {index}', f'{of_index["p"]:.2f}']
        for index, of_index in found['separation'].items()
    ]
    assert '\n'.join(markdown_table(['measure', 'value'], rows)) in PAGE


def test_columns_over_seeds():
    found = read('column_study.json')
    assert '\n'.join(markdown_table(*measure_table(found['rows']))) in PAGE
    rows = []
    for name, run in sorted(found['runs'].items()):
        net, _, seed = name.rpartition('/seed-')
        indices = run['separation'].values()
        cells = [(', '.join(f'{mean:.2f}' for mean in one['means']), f'{one["p"]:.3f}') for one in indices]  # fmt: skip
        rows.append([net, seed, *(cell for pair in cells for cell in pair)])
    head = ['net', 'seed']
    for index in next(iter(found['runs'].values()))['separation']:
        head += [f'{index} index, column 1, column 2', 'p']
    assert '\n'.join(markdown_table(head, rows)) in PAGE


def test_figure_1_on_cifar10():
    found = read('figure1.json')
    lines = figure1.table(found['rows'], found['error'])
    assert '\n'.join(f'    {line}' for line in lines) in PAGE


def test_ablations_on_tiny_imagenet():
    rows = [
        [
            result['name'],
            str(result['seed']),
            with_interval(result['top1_error'], *result['top1_interval']),
            with_interval(result['top5_error'], *result['top5_interval']),
        ]
        for result in read('ablations.json')
    ]
    head = ['net', 'seed', 'top-1 error', 'top-5 error']
    assert '\n'.join(markdown_table(head, rows)) in PAGE


def test_differences_of_ablations():
    rows = read('ablation_study.json')['rows']
    for error in ablations.ERRORS:
        assert '\n'.join(ablations.table(rows, error)) in PAGE
    assert '\n'.join(markdown_table(*readme_rows(rows))) in Path('README.md').read_text()


def readme_rows(rows) -> tuple[list[str], list[list[str]]]:
    """The table of the README: its heads, and a row for each ablation of the study."""
    base, *others = rows
    found = [['none', f'{base["top1_error"]["mean"]:.3f}', '', '']]
    for row in others:
        of_net = row['top1_error']
        published = '' if of_net['published'] is None else f'{of_net["published"]:+.3f}'
        difference = f'{of_net["difference"]:+.3f} ± {of_net["standard_error"]:.3f}'
        found.append([WORDS[row['name']], f'{of_net["mean"]:.3f}', difference, published])
    return ['change', 'top-1 error', 'difference', 'difference on ImageNet'], found


def test_fine_tuning_on_cifar10():
    rows = [
        [
            result['start'],
            str(result['learning_rate']),
            str(result['fc8_rate']),
            str(result['seed']),
            with_interval(result['top1_error'], *result['top1_interval']),
        ]
        for result in read('fine_tuning.json')
    ]
    head = ['initial values', 'rate', 'factor of fc8', 'seed', 'top-1 error']
    assert '\n'.join(markdown_table(head, rows)) in PAGE
