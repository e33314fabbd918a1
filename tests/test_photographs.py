"""The tables of docs/photographs.md are those of the results beside it."""

import json
from pathlib import Path

from alexnet_jax.evaluation.seeds import markdown_table, measure_text, with_interval
from alexnet_jax.studies import figure1

FOLDER = Path('docs/photographs')
PAGE = Path('docs/photographs.md').read_text()


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
