"""Names as figures and pages show them, wherever they come from."""

from xml.etree import ElementTree

import pytest

from alexnet_jax.report.figures import bars, page
from alexnet_jax.report.figures.canvas import SHORTEN, label

UNKNOWN = '\N{REPLACEMENT CHARACTER}'


@pytest.mark.parametrize(
    ('name', 'shown'),
    [
        ('tabby, tabby cat', 'tabby, tabby cat'),
        ('a\x07b\n', f'a{UNKNOWN}b{UNKNOWN}'),
        ('\ud800', UNKNOWN),
        ('$x_1$', r'\$x_1\$'),
        ('x' * 99, 'x' * (SHORTEN - 1) + '…'),
        ('고양이', '고양이'),
    ],
)
def test_labels(name, shown):
    assert label(name) == shown


def test_a_figure_can_be_drawn_of_any_names(tmp_path):
    names = ['<b>&', 'a\x00b', '\udcff', '$\\frac{', '한', '']
    bars.draw(names, [0.5, None, 0.0, 1.0, 0.25, 0.1], tmp_path / 'any', 'error')
    texts = ElementTree.parse(tmp_path / 'any.svg').getroot().itertext()
    assert '<b>&' in {text.strip() for text in texts}


@pytest.mark.parametrize(
    ('value', 'shown'),
    [(0.25, '0.2500'), (0.0, '0.0000'), (0.00012, '0.00012'), (7, '7'), (None, ''),
     ('<&">\x00', f'&lt;&amp;&quot;&gt;{UNKNOWN}')],
)  # fmt: skip
def test_cells(value, shown):
    assert page.text(value) == shown
