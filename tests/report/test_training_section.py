"""The curves of a report and the sentences under them, against cases worked out by hand."""

import csv
import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from alexnet_jax.network.architectures import architecture
from alexnet_jax.report import training_section
from alexnet_jax.report.figures import curves
from alexnet_jax.report.figures.curves import Drop
from alexnet_jax.report.training_section import about_errors, about_plateau, plateau


def rows_of(losses, every: int = 1, rates=None, errors=None, split: str = 'train') -> list[dict]:
    """An epoch has 20 steps."""
    steps = [every * (number + 1) for number in range(len(losses))]
    return [
        {'split': split, 'step': step, 'epoch': step / 20, 'loss': float(loss),
         'top1_error': errors[i] if errors else 0.5, 'top5_error': 0.25,
         'learning_rate': rates[i] if rates else 0.01}
        for i, (step, loss) in enumerate(zip(steps, losses, strict=True))
    ]  # fmt: skip


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """The axes of a figure, as it is saved."""
    kept: list[Figure] = []
    save = curves.save
    monkeypatch.setattr(
        curves, 'save', lambda figure, path: (kept.append(figure), save(figure, path))
    )

    def axes():
        (place,) = kept[-1].axes
        return place

    return axes


def test_many_steps_are_averaged_and_drops_are_found():
    """3,000 steps make 100 points, each the mean of thirty; nine tenths is no drop."""
    rates = np.repeat([0.01, 0.009, 0.0009], 1000).tolist()
    rows = rows_of(range(3000), rates=rates)
    points = curves.thinned(rows)
    np.testing.assert_allclose([point['loss'] for point in points], np.arange(100) * 30 + 14.5)
    np.testing.assert_allclose([point['epoch'] for point in points], np.arange(100) * 1.5 + 0.775)
    assert curves.drops(rows) == [Drop(2001 / 20, 0.0009)]


def test_errors_are_drawn_on_a_logarithmic_axis(tmp_path, drawn):
    """The smallest error that is not 0 is 0.02: those of 0 lie at 0.01, the lower edge."""
    rates = [0.01] * 3 + [0.001] * 3 + [0.00001] * 2
    rows = rows_of([2.0] * 8, rates=rates, errors=[0.9, 0.8, 0.4, 0.2, 0.1, 0.04, 0.02, 0.0])
    curves.draw_errors(rows, tmp_path / 'errors', top5=False)
    axes = drawn()
    assert axes.get_yscale() == 'log' and axes.get_ylim() == pytest.approx((0.01, 1.02))
    line, *marks = axes.get_lines()
    np.testing.assert_allclose(line.get_ydata(), [0.9, 0.8, 0.4, 0.2, 0.1, 0.04, 0.02, 0.01])
    np.testing.assert_allclose(line.get_xdata(), np.arange(1, 9) / 20)
    assert [mark.get_xdata()[0] for mark in marks] == [4 / 20, 7 / 20]
    assert [text.get_text() for text in axes.texts] == ['0.001', '0.00001']
    ticks = [tick for tick in axes.get_yticks() if 0.01 <= tick <= 1]
    np.testing.assert_allclose(ticks, [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1])
    assert about_errors(rows, top5=False) == (
        'After 0.4 epochs the training top-1 error is 0.000. The vertical axis is logarithmic. Errors of 0'
        ' are drawn at its lower edge. At each dashed line the learning rate drops, from 0.01 to the number'
        ' at the line.'
    )
    with (tmp_path / 'errors.csv').open() as file:
        assert [float(row['top1_error']) for row in csv.DictReader(file)][-1] == 0


def test_errors_within_a_decade_have_a_tick_each_tenth(tmp_path, drawn):
    rows = rows_of([2.0] * 3, errors=[0.8, 0.5, 0.16])
    curves.draw_errors(rows, tmp_path / 'errors', top5=False)
    low, high = drawn().get_ylim()
    assert (low, high) == pytest.approx((0.16 / 1.15, 0.8 * 1.15))
    ticks = [tick for tick in drawn().get_yticks() if low <= tick <= high]
    np.testing.assert_allclose(ticks, [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    assert about_errors(rows, top5=False) == (
        'After 0.1 epochs the training top-1 error is 0.160. The vertical axis is logarithmic.'
    )


def test_errors_that_are_all_0_have_no_logarithm(tmp_path, drawn):
    curves.draw_errors(rows_of([1.0] * 2, errors=[0.0, 0.0]), tmp_path / 'errors', top5=False)
    assert drawn().get_yscale() == 'linear' and drawn().get_ylim() == (0, 1)
    assert [list(line.get_ydata()) for line in drawn().get_lines()] == [[0, 0]]


def test_the_loss_is_drawn_beside_that_of_guessing(tmp_path, drawn):
    curves.draw_loss(rows_of([2.0, 1.0]), tmp_path / 'loss', classes=200)
    line, guessing = drawn().get_lines()
    assert list(line.get_ydata()) == [2, 1]
    assert guessing.get_ydata()[0] == pytest.approx(5.298317, abs=1e-6)  # ln 200
    assert drawn().get_ylim()[0] == 0 and drawn().get_ylim()[1] > 5.3
    texts = {text.strip() for text in ElementTree.parse(tmp_path / 'loss.svg').getroot().itertext()}
    assert 'uniform prediction: ln 200 = 5.298' in texts
    curves.draw_loss(rows_of([0.0, 0.0]), tmp_path / 'loss', classes=1)
    assert len(drawn().get_lines()) == 1


def test_lines_of_several_runs(tmp_path, drawn):
    """Errors of 0 at half of the smallest, a triangle on the line where the rate falls."""
    lines = {'a': [(0.0, 0.8), (2.0, 0.4), (4.0, 0.0)], 'b': [(0.0, 0.5), (1.0, 0.3)]}
    path, axes = tmp_path / 'both', ('epoch', 'error')
    curves.compare(lines, path, axes, log=True, falls={'a': [Drop(1.0, 0.01)], 'b': []})
    first, mark, second, none = drawn().get_lines()
    np.testing.assert_allclose(first.get_ydata(), [0.8, 0.4, 0.15])
    np.testing.assert_allclose(second.get_ydata(), [0.5, 0.3])
    np.testing.assert_allclose(mark.get_xydata(), [[1, 0.6]])
    assert len(none.get_xdata()) == 0
    curves.compare(lines, path, axes, classes=10)
    assert drawn().get_yscale() == 'linear' and len(drawn().get_lines()) == 5
    assert drawn().texts[0].get_text() == 'uniform prediction: ln 10 = 2.303'


def test_a_line_of_one_point_is_visible(tmp_path, drawn):
    path = tmp_path / 'one'
    curves.compare({'a': [(1.0, 0.5)], 'b': [(0.0, 0.5), (1.0, 0.3)]}, path, ('epoch', 'error'))
    assert [line.get_marker() for line in drawn().get_lines()][::2] == ['o', '']
    for rows, marker in ((rows_of([2.0]), 'o'), (rows_of([2.0, 1.0]), 'None')):
        curves.draw_errors(rows, path, top5=False)
        assert drawn().get_lines()[0].get_marker() == marker
        curves.draw_loss(rows, path, classes=10)
        assert drawn().get_lines()[0].get_marker() == marker


LN10 = math.log(10)


@pytest.mark.parametrize(('losses', 'every', 'last'), [
    ([LN10] * 100 + [1.0] * 50, 1, 90),  # from step 91 on ten losses are below 0.99 ln 10 together
    ([LN10 - 0.03, LN10 + 0.03] * 50 + [1.0] * 50, 1, 90),  # as noisy as batches are
    ([LN10] * 40 + [1.0] * 50, 1, 0),  # every net begins there
    ([LN10] * 3 + [1.0] * 20, 100, 300),  # the mean of ten says nothing where few are logged
    ([1.9] + [1.0] * 20, 100, 0),
    ([LN10] * 60, 1, 60),  # it has not ended
    ([7.0] * 100, 1, 0),  # far above: not guessing
    ([], 1, 0),
])  # fmt: skip
def test_the_plateau_at_the_start(losses, every, last):
    found = plateau(rows_of(losses, every), classes=10)
    assert found == pytest.approx(last, abs=10)
    assert bool(found) == bool(last)
    assert plateau(rows_of(losses, every), classes=1) == 0


def test_a_plateau_is_explained_by_the_initial_values():
    """The digits' net: std 0.01 to 0.03, biases of 1."""
    rows = rows_of([LN10] * 60 + [1.0] * 40)
    net = architecture('small')
    text = about_plateau(60, rows, net, classes=10)
    assert text.startswith(
        'For the first 60 steps (3.0 epochs) the training loss stays near ln 10 = 2.303, the loss of a'
        ' net that assigns the same probability to each of the 10 classes. The reason is the initial values:'
        ' weights are small (standard deviation 0.01 to 0.03) and biases of 1 add the same value for every'
        ' image.'
    )
    # Weights that come from elsewhere, batch normalization: the reason is another.
    assert about_plateau(60, rows, net, 10, 'runs/other').endswith('each of the 10 classes.')
    assert about_plateau(60, rows, architecture('batchnorm227'), 10).endswith(
        'each of the 10 classes.'
    )
    assert 'standard deviation 0.0001 to 0.01).' in about_plateau(
        60, rows, architecture('cifar18'), 10
    )
    assert 'In all 100 steps (5.0 epochs)' in about_plateau(100, rows, net, classes=10)
    assert 'the net has not learned anything yet.' in about_plateau(100, rows, net, classes=10)
    assert about_plateau(100, rows, net, 10).endswith('training prints a warning for such layers.')
    assert text.endswith('larger initial weights shorten the plateau.')


def test_the_section_says_so_only_if_it_was(made, tmp_path):
    from alexnet_jax import load

    model = load(made)
    rows = rows_of([LN10] * 60 + [1.0] * 40)
    content = ''.join(training_section.content(tmp_path, model, rows, 0))
    assert re.search(r'<p>For the first \d\d steps', content) and 'ln 10 = 2.303' in content
    content = ''.join(training_section.content(tmp_path, model, rows_of([1.0] * 100), 0))
    assert (
        'For the first' not in content
        and 'The dotted line is the loss of a uniform prediction.' in content
    )
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        f'{name}.{end}' for name in ('errors', 'loss') for end in ('png', 'svg', 'csv')
    }
