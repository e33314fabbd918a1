"""The reliability curve of a report, beside the result that the workdir keeps."""

import json

import pytest

from tests.report.test_run_page import numbers, page


def test_the_reliability_curve_is_that_of_the_result(made):
    kept = json.loads((made / 'eval' / 'test-1.json').read_text())
    assert f'Expected calibration error {kept["calibration_error"]:.4f}' in page(made)
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
