"""Names as figures and pages show them, wherever they come from."""

import csv
from xml.etree import ElementTree

import pytest

from alexnet_jax.report.figures import bars, page
from alexnet_jax.report.figures.canvas import label, write_numbers

UNKNOWN = '\N{REPLACEMENT CHARACTER}'


@pytest.mark.parametrize(('name', 'shown'), [
    ('tabby, tabby cat', 'tabby, tabby cat'), ('a\x07b\n', f'a{UNKNOWN}b{UNKNOWN}'),
    ('\ud800', UNKNOWN), ('$x_1$', r'\$x_1\$'), ('a' * 60 + 'z' * 39, 'a' * 18 + '…' + 'z' * 9),
    ('고양이', '고양이'),
])  # fmt: skip
def test_labels(name, shown):
    assert label(name) == shown


def test_a_figure_can_be_drawn_of_any_names(tmp_path):
    names = ['<b>&', 'a\x00b', '\udcff', '$\\frac{', '한', '']
    bars.draw(names, [0.5, None, 0.0, 1.0, 0.25, 0.1], tmp_path / 'any', 'error')
    texts = ElementTree.parse(tmp_path / 'any.svg').getroot().itertext()
    assert '<b>&' in {text.strip() for text in texts}


@pytest.mark.parametrize(
    ('value', 'shown'),
    [(0.25, '0.250'), (0.0, '0.000'), (0.00012345, '0.0001234'), (0.00012, '0.00012'), (7, '7'), (None, ''),
     ('<&">\x00', f'&lt;&amp;&quot;&gt;{UNKNOWN}')],
)  # fmt: skip
def test_cells(value, shown):
    assert page.text(value) == shown


@pytest.mark.parametrize(
    'text',
    ['=1+1', '+1', '-1', '@SUM(A1)', '\tx', '\r=1', '\n=1', ' =1', '＝1', '＋1', '－1', '＠x', '=cmd|"/c calc"!A0', '-'],
)  # fmt: skip
def test_a_formula_becomes_a_text(text, tmp_path):
    write_numbers(tmp_path / 'a', ('class', text), [(text, -1, -0.5)])
    with (tmp_path / 'a.csv').open(newline='', encoding='utf-8') as file:
        assert list(csv.reader(file)) == [['class', f"'{text}"], [f"'{text}", '-1', '-0.5']]


def test_numbers_and_names_are_as_they_are(tmp_path):
    row = ('tabby, tabby cat', "o'clock", '1=1', '', None, 3, -2, 1e-30, -1 / 3, 'é', 'a-b')
    write_numbers(tmp_path / 'a', range(len(row)), [row])
    with (tmp_path / 'a.csv').open(newline='', encoding='utf-8') as file:
        _, read = csv.reader(file)
    assert read[:4] == list(row[:4]) and read[4] == ''
    assert [float(text) for text in read[5:9]] == list(row[5:9]) and read[9:] == ['é', 'a-b']
