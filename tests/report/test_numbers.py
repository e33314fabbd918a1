"""Numbers beside a figure: read back as they were, and never a spreadsheet's formula."""

import csv

import pytest

from alexnet_jax.report.figures import numbers


@pytest.mark.parametrize(
    'text',
    ['=1+1', '+1', '-1', '@SUM(A1)', '\tx', '\r=1', '\n=1', ' =1', '＝1', '＋1', '－1', '＠x', '=cmd|"/c calc"!A0', '-'],
)  # fmt: skip
def test_a_formula_becomes_a_text(text, tmp_path):
    numbers.write(tmp_path / 'a', ('class', text), [(text, -1, -0.5)])
    with (tmp_path / 'a.csv').open(newline='', encoding='utf-8') as file:
        assert list(csv.reader(file)) == [['class', f"'{text}"], [f"'{text}", '-1', '-0.5']]


def test_numbers_and_names_are_as_they_are(tmp_path):
    row = ('tabby, tabby cat', "o'clock", '1=1', '', None, 3, -2, 1e-30, -1 / 3, 'é', 'a-b')
    numbers.write(tmp_path / 'a', range(len(row)), [row])
    with (tmp_path / 'a.csv').open(newline='', encoding='utf-8') as file:
        _, read = csv.reader(file)
    assert read[:4] == list(row[:4]) and read[4] == ''
    assert [float(text) for text in read[5:9]] == list(row[5:9]) and read[9:] == ['é', 'a-b']
