"""The reliability curve of a report, beside the result that the workdir keeps."""

import json

import pytest

from alexnet_jax.report import calibration_section
from tests.report.test_run_page import numbers, page


def test_the_reliability_curve_is_that_of_the_result(made):
    kept = json.loads((made / 'eval' / 'test-1.json').read_text())
    assert f'The expected calibration error (ECE) is {kept["calibration_error"]:.3f}:' in page(made)
    lines = numbers(made, 'reliability')
    assert [int(line['images']) for line in lines] == [one['images'] for one in kept['calibration']]
    filled = [
        (line, one) for line, one in zip(lines, kept['calibration'], strict=True) if one['images']
    ]
    for line, one in filled:
        for name in ('above', 'at_most', 'confidence', 'accuracy'):
            assert float(line[name]) == one[name]
        # Wilson's interval, by its formula.
        n, share, z = one['images'], one['accuracy'], 1.959964
        middle_of = (share + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
        assert float(line['low']) == pytest.approx(middle_of - half, abs=1e-6)
        assert float(line['high']) == pytest.approx(middle_of + half, abs=1e-6)
    assert len(filled) > 3


@pytest.mark.parametrize(('confidence', 'accuracy', 'words'), [
    (0.9, 0.7, 'The mean confidence, 0.900, is higher than the accuracy, 0.700.'),
    (0.6, 0.7, 'The mean confidence, 0.600, is lower than the accuracy, 0.700.'),
    (0.70001, 0.7, 'The mean confidence, 0.700, is as high as the accuracy, 0.700.'),
])  # fmt: skip
def test_the_error_is_explained(confidence, accuracy, words):
    text = calibration_section.explanation(0.0507, 15, confidence, accuracy)
    assert words in text
    assert 'The expected calibration error (ECE) is 0.051' in text
    assert 'differ by 5.1 percentage points on average (15 bins' in text
