"""Errors by class and in all, against loops and numbers worked out by hand."""

import numpy as np
import pytest

from alexnet_jax.evaluation import seeds
from alexnet_jax.evaluation.tally import Tally, has_top5, interval, places_of


def test_places_by_hand():
    scores = np.array([
        [0, 0, 0, 0, 0, 9, 0.0],  # label 5: first
        [6, 5, 4, 3, 2, 1, 0.0],  # label 1: second
        [6, 5, 4, 3, 2, 1, 0.0],  # label 4: fifth
        [6, 5, 4, 3, 2, 1, 0.0],  # label 5: sixth
        [1, 1, 1, 1, 1, 1, 1.0],  # label 0: ties go by the order of the classes
        [1, 1, 1, 1, 1, 1, 1.0],  # label 1: one before it
        [np.nan] * 7,  # nothing to be read from these: behind all
    ])  # fmt: skip
    labels = np.array([5, 1, 4, 5, 0, 1, 0])
    np.testing.assert_array_equal(places_of(scores, labels), [0, 1, 4, 5, 0, 1, 7])


def test_a_tally_equals_a_loop_over_images(random):
    classes, count = 7, 500
    probabilities = random.dirichlet(np.ones(classes), count)
    labels = random.integers(0, classes - 1, count)  # none of the last class
    losses = random.random(count)
    tally = Tally.zero(classes)
    for part in np.split(np.arange(count), [1, 100, 433]):
        tally.add(probabilities[part], labels[part], losses[part])

    top1, top5, pairs = [], [], {}
    for row, label in zip(probabilities, labels, strict=True):
        ranked = sorted(range(classes), key=lambda c: -row[c])
        top1.append(ranked[0] != label)
        top5.append(label not in ranked[:5])
        if top1[-1]:
            pairs[label, ranked[0]] = pairs.get((label, ranked[0]), 0) + 1
    scores = tally.scores()
    assert scores['examples'] == count
    assert scores['top1_error'] == np.mean(top1)
    assert scores['top5_error'] == np.mean(top5)
    assert scores['loss'] == pytest.approx(losses.mean(), rel=1e-12)

    names = tuple('abcdefg')
    table = tally.by_class(names)
    for label, row in enumerate(table['classes'][:-1]):
        mine = labels == label
        assert row == {
            'class': names[label],
            'examples': mine.sum(),
            'top1_error': np.mean(np.array(top1)[mine]),
            'top5_error': np.mean(np.array(top5)[mine]),
        }
    assert table['classes'][-1] == {
        'class': 'g', 'examples': 0, 'top1_error': None, 'top5_error': None,
    }  # fmt: skip
    assert {(row['label'], row['taken_for']): row['images'] for row in table['confusions']} == {
        (names[label], names[other]): times for (label, other), times in pairs.items()
    }
    times = [row['images'] for row in table['confusions']]
    assert times == sorted(times, reverse=True) and sum(times) == sum(top1)


@pytest.mark.parametrize(('errors', 'count', 'expected'), [
    # Newcombe (1998), Statistics in Medicine 17, table I, method 3.
    (81, 263, (0.2553, 0.3662)),
    (15, 148, (0.0624, 0.1605)),
    (0, 20, (0.0, 0.1611)),
    (1, 29, (0.0061, 0.1718)),
    (20, 20, (0.8389, 1.0)),
])  # fmt: skip
def test_intervals_are_those_published(errors, count, expected):
    assert interval(errors, count) == pytest.approx(expected, abs=5e-5)
    assert interval(errors, count)[0] >= 0 and interval(errors, count)[1] <= 1


def test_intervals_are_the_roots_of_wilson_s_equation():
    """|rate - p| = z sqrt(p (1 - p) / n), solved by NumPy; every one lies within 0 and 1."""
    z = 1.959963984540054
    for count in (1, 2, 3, 10, 300, 50_000, 2**31):
        for errors in sorted({0, 1, count // 3, count // 2, count - 1, count}):
            rate = errors / count
            roots = np.roots([1 + z**2 / count, -(2 * rate + z**2 / count), rate**2])
            low, high = interval(errors, count)
            assert 0 <= low <= rate <= high <= 1
            np.testing.assert_allclose([low, high], sorted(roots.real), atol=1e-7, rtol=1e-5)
    assert interval(0, 0) == (0, 1)


@pytest.mark.parametrize(('values', 'highest', 'expected'), [
    # Student's t for one degree of freedom: 12.706 times |a - b| / 2.
    ([0.9, 0.95], 1.0, (0.6073, 1.0)),
    ([0.9, 0.95], 2.0, (0.6073, 1.2427)),
    ([0.0, 0.02], 1.0, (0.0, 0.1371)),
    ([0.5, 0.5, 0.5], 1.0, (0.5, 0.5)),
    ([1.0, 2.0, 3.0, 4.0, 5.0], 9.0, (3 - 1.9632, 3 + 1.9632)),  # for four: 2.776 √(2.5 / 5)
])  # fmt: skip
def test_intervals_over_seeds_stay_within_the_range(values, highest, expected):
    found = seeds.interval(values, 0.0, highest)
    assert (found['low'], found['high']) == pytest.approx(expected, abs=1e-4)
    assert found['mean'] == pytest.approx(np.mean(values))


def test_an_interval_without_a_range_is_not_cut():
    """As of CKA, whose unbiased estimate may fall below 0."""
    found = seeds.interval([-0.01, 0.01])
    assert (found['low'], found['high']) == pytest.approx((-0.1271, 0.1271), abs=1e-4)
    assert [seeds.interval(x)['mean'] for x in ([0.1, None], [np.nan, 1.0])] == [None, None]


@pytest.mark.parametrize(('classes', 'means_something'), [(1, False), (5, False), (6, True)])
def test_the_top5_error_of_five_classes_means_nothing(classes, means_something):
    tally = Tally.zero(classes)
    tally.add(np.zeros((3, classes)), np.zeros(3, int), np.ones(3))
    assert has_top5(tally.scores()) == means_something
    assert tally.scores()['top5_error'] == 0  # a number all the same: others read it


def test_ties_are_confused_in_the_order_of_the_classes_and_nan_with_none():
    tally = Tally.zero(3)
    scores = np.array([
        [0.4, 0.4, 0.2],  # label 0: right
        [0.4, 0.4, 0.2],  # label 1: taken for 0
        [0.1, 0.45, 0.45],  # label 2: taken for 1
        [np.nan, np.nan, np.nan],  # label 0: an error, and no class
        [0.2, np.nan, 0.1],  # label 2: likewise
    ])  # fmt: skip
    tally.add(scores, np.array([0, 1, 2, 0, 2]), np.ones(5))
    assert dict(tally.confusions) == {(1, 0): 1, (2, 1): 1}
    assert tally.top1.tolist() == [1, 1, 2]
    counts = np.diag(tally.examples - tally.top1)
    assert counts.sum() + sum(tally.confusions.values()) == 3


def test_one_image_of_one_class():
    tally = Tally.zero(1)
    tally.add(np.zeros((1, 1)), np.zeros(1, int), np.zeros(1))
    scores = tally.scores()
    assert (scores['examples'], scores['top1_error'], scores['loss']) == (1, 0, 0)
    assert scores['top1_interval'] == pytest.approx((0, 0.7935), abs=1e-4)
    assert tally.by_class(('only',))['confusions'] == []
