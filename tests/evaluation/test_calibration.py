"""Calibration, against a loop over images and bins, and by hand."""

import itertools
import math

import numpy as np
import pytest

from alexnet_jax.evaluation.calibration import expected_error, reliability
from alexnet_jax.evaluation.tally import Tally


def slowly(confidences, right) -> tuple[float, list[tuple]]:
    """Guo et al., §2 and equation 3, image by image."""
    error, bins = 0.0, []
    for m in range(1, 16):
        mine = [
            (confidence, hit)
            for confidence, hit in zip(confidences, right, strict=True)
            if (m - 1) / 15 < confidence <= m / 15 or (m == 1 and confidence == 0)
        ]
        if not mine:
            bins.append((0, None, None))
            continue
        accuracy = sum(hit for _, hit in mine) / len(mine)
        confidence = sum(value for value, _ in mine) / len(mine)
        error += len(mine) / len(confidences) * abs(accuracy - confidence)
        bins.append((len(mine), confidence, accuracy))
    return error, bins


@pytest.mark.parametrize('sharpness', [0.1, 1, 10])
def test_bins_and_error_equal_a_loop_over_images(random, sharpness):
    logits = random.normal(0, sharpness, (700, 9))
    labels = random.integers(0, 9, 700)
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    tally = Tally.zero(9)
    for part in np.split(np.arange(700), [3, 250]):
        tally.add(log_probabilities[part], labels[part], np.zeros(len(part)))
    found = tally.calibration()
    probabilities = np.exp(log_probabilities)
    error, bins = slowly(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels)
    assert found['calibration_error'] == pytest.approx(error, abs=1e-12)
    for ours, (images, confidence, accuracy) in zip(found['calibration'], bins, strict=True):
        assert (ours['images'], ours['accuracy']) == (images, accuracy)
        assert ours['confidence'] == pytest.approx(confidence, abs=1e-12)
    assert sum(one['images'] for one in found['calibration']) == 700


def test_the_same_bits_in_any_batches_and_order(random):
    log_probabilities = np.log(random.dirichlet(np.ones(5) / 3, 333))
    labels = random.integers(0, 5, 333)
    found = []
    for rows, size in ((np.arange(333), 64), (np.arange(333), 7), (random.permutation(333), 50)):
        tally = Tally.zero(5)
        for start in range(0, 333, size):
            part = rows[start : start + size]
            tally.add(log_probabilities[part], labels[part], np.zeros(len(part)))
        found.append(tally.calibration() | tally.top(3))
    assert found[0] == found[1] == found[2]
    assert 0 < found[0]['calibration_error'] < 1


def test_edges_belong_to_the_bin_below():
    confidences = [0.0, 1 / 15, np.nextafter(1 / 15, 1), 2 / 15, 0.2, 0.5, 1.0]
    bins = reliability(confidences, [True] * 7)
    assert [one['images'] for one in bins] == [2, 2, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1]
    assert (bins[0]['above'], bins[-1]['at_most']) == (0, 1)
    assert all(a['at_most'] == b['above'] for a, b in itertools.pairwise(bins))


def test_nan_is_in_no_bin_and_nothing_has_no_error():
    bins = reliability([math.nan, 0.5], [False, True])
    assert sum(one['images'] for one in bins) == 1 and expected_error(bins) == 0.5
    assert math.isnan(expected_error(reliability([math.nan], [False])))


def test_top_k_errors_equal_sorted_scores(random):
    scores, labels = random.normal(size=(400, 12)), random.integers(0, 12, 400)
    tally = Tally.zero(12)
    tally.add(scores, labels, np.zeros(400))
    ranked = np.argsort(-scores, axis=1)
    for k in (1, 2, 5, 10, 12, 100):
        error = np.mean([label not in row[:k] for label, row in zip(labels, ranked, strict=True)])
        assert tally.top(k)[f'top{k}_error'] == error
    assert tally.top(5) == {name: tally.scores()[name] for name in ('top5_error', 'top5_interval')}
