"""Errors by class and in all, against loops and numbers worked out by hand."""

import numpy as np
import pytest

from alexnet_jax.evaluation.tally import Tally, interval, places_of


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
    told = tally.by_class(names)
    for label, row in enumerate(told['classes'][:-1]):
        mine = labels == label
        assert row == {
            'class': names[label],
            'examples': mine.sum(),
            'top1_error': np.mean(np.array(top1)[mine]),
            'top5_error': np.mean(np.array(top5)[mine]),
        }
    assert told['classes'][-1] == {
        'class': 'g', 'examples': 0, 'top1_error': None, 'top5_error': None,
    }  # fmt: skip
    assert {(row['label'], row['taken_for']): row['images'] for row in told['confusions']} == {
        (names[label], names[other]): times for (label, other), times in pairs.items()
    }
    times = [row['images'] for row in told['confusions']]
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
