"""Averages of several nets' probabilities, against exact sums in decimal numbers or float64."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest

from alexnet_jax.evaluation import arrays, ensemble
from alexnet_jax.evaluation.ensemble import LOG_PROBABILITIES, Member
from alexnet_jax.runtime.errors import InputError
from alexnet_jax.studies import tables

ABOUT = {
    'split': 'test', 'views': 1, 'distinct_views': 1, 'source': 'digits', 'set': 'digits',
    'data': {'content': 'a'},
    'classes': [str(label) for label in range(7)], 'network': 'small', 'step': 60,
}  # fmt: skip


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """In extended precision, a class at a time."""
    logits = logits.astype(np.longdouble)
    return logits - np.log(sum(np.exp(logits[:, [c]] - 0) for c in range(logits.shape[1])))


def member(name: str, logits: np.ndarray, labels: np.ndarray, **about) -> Member:
    ids = [str(row) for row in range(len(labels))]
    kept = ensemble.kept(log_softmax(logits).astype(np.float64))
    return Member(name, ABOUT | about, ids, labels, kept)


def saved(member: Member, folder) -> Member:
    """The same by way of files."""
    with arrays.writing(folder, member.about, len(member.ids)) as writer:
        rows = {LOG_PROBABILITIES: member.log_probabilities}
        writer.add(np.array([i.encode() for i in member.ids], object), member.labels, rows)
    return ensemble.saved_member(arrays.read(folder))


@pytest.fixture
def labels(random):
    return random.integers(0, 7, 40)


@pytest.fixture
def logits(random):
    return random.normal(size=(40, 7)).astype(np.float32)


def expected(logits: list[np.ndarray], weights: list[float], labels: np.ndarray):
    """Loss, places of the labels, and which of them nobody can tell from another class, of the
    mean probability: in extended precision, whose smallest number is far below e**-400."""
    shares = np.array(weights, np.longdouble)
    shares /= shares.sum()
    mean = sum(w * np.exp(log_softmax(x)) for w, x in zip(shares, logits, strict=True))
    of_label = mean[np.arange(len(labels)), labels]
    places = [
        sum(p > row[label] for p in row) + sum(p == row[label] for p in row[:label])
        for row, label in zip(mean, labels, strict=True)
    ]
    close = (np.abs(mean / of_label[:, None] - 1) < 1e-9).sum(axis=1) > 1
    return float(-np.log(of_label).mean()), np.array(places), close


@pytest.mark.parametrize('spread', [1, 30, 200])
@pytest.mark.parametrize('weights', [[1, 1, 1], [1, 2, 5], [1e-300, 1, 1], [1e300, 1e308, 1e308]])
def test_the_mean_is_that_of_the_probabilities(spread, weights, labels, random, tmp_path):
    logits = [random.uniform(-spread, spread, (40, 7)).astype(np.float32) for _ in weights]
    members = [member(str(i), x, labels) for i, x in enumerate(logits)]
    result = ensemble.average(members, weights)
    loss, places, close = expected(logits, weights, labels)
    scores = result.together.scores()
    assert scores['loss'] == pytest.approx(loss, rel=1e-6)
    assert abs(result.together.top1.sum() - np.sum(places >= 1)) <= close.sum()
    assert abs(result.together.top5.sum() - np.sum(places >= 5)) <= close.sum() <= 12
    from_files = ensemble.average(
        [saved(one, tmp_path / one.name) for one in members], weights
    ).together.scores()
    assert from_files == scores


def moved(member: Member, name: str) -> Member:
    """Another member with probabilities that differ by rounding alone."""
    return dataclasses.replace(
        member, name=name, log_probabilities=np.nextafter(member.log_probabilities, np.float32(-1))
    )


def test_two_members_that_agree_are_as_good_as_one(labels, random, tmp_path):
    """Losses of 14 and more: float16 had 0 for these probabilities, at two different floors."""
    logits = random.uniform(-60, 60, (40, 7)).astype(np.float32)
    one = member('one', logits, labels)
    other = saved(moved(one, 'other'), tmp_path / 'other')
    loss, _, _ = expected([logits], [1], labels)
    assert loss > 14
    for members in ([one, other], [other, one]):
        result = ensemble.average(members, [1, 1])
        for scores in (result.together.scores(), *(tally.scores() for tally in result.members)):
            assert scores['loss'] == pytest.approx(loss, rel=1e-6)
            assert scores['top1_error'] == result.members[0].scores()['top1_error']
        np.testing.assert_array_equal(result.agreement, np.ones((2, 2)))


def test_ties_fall_in_the_order_of_the_classes():
    logits = np.zeros((7, 7), np.float32)
    labels = np.arange(7)
    one = member('a', logits, labels)
    result = ensemble.average([one, moved(one, 'b')], [1, 3])
    scores = result.together.scores()
    assert scores['top1_error'] == pytest.approx(6 / 7)
    assert scores['top5_error'] == pytest.approx(2 / 7)
    assert scores['loss'] == pytest.approx(np.log(7))


def test_the_smallest_logarithm_is_a_number():
    kept = ensemble.kept(np.array([[0.0, -1e300, -np.inf]]))
    assert np.isfinite(kept).all() and kept.dtype == np.float32


@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_a_member_that_ended_in_nan_is_named(bad, labels, logits):
    good = member('good', logits, labels)
    values = good.log_probabilities.copy()
    values[3, 2] = bad
    broken = dataclasses.replace(good, name='broken', log_probabilities=values)
    with pytest.raises(InputError, match='broken has NaN or infinite probabilities'):
        ensemble.average([good, broken], [1, 1])


@pytest.mark.parametrize(('about', 'message'), [
    ({'views': 10}, 'of another views than a: 10, not 1'),
    ({'distinct_views': 5}, 'of another distinct_views than a: 5, not 1'),
    ({'split': 'val'}, "of another split than a: 'val', not 'test'"),
    ({'data': {'content': 'b'}}, "of another data than a: {'content': 'b'}, not"),
    ({'set': 'synthetic, seed 1'}, "of another set than a: 'synthetic, seed 1', not 'digits'"),
    ({'classes': ABOUT['classes'][::-1]}, 'of another classes than a'),
    ({'compute': 'bfloat16'}, "of another compute than a: 'bfloat16', not 'float32'"),
])  # fmt: skip
def test_members_of_something_else_are_refused(about, message, labels, logits):
    members = [member('a', logits, labels), member('b', logits, labels, **about)]
    with pytest.raises(InputError, match=message):
        ensemble.average(members, [1, 1])


def test_members_of_other_images_are_refused(labels, logits):
    one = member('a', logits, labels)
    for other in (
        dataclasses.replace(one, name='b', ids=one.ids[::-1]),
        dataclasses.replace(one, name='b', labels=(labels + 1) % 7),
    ):
        with pytest.raises(InputError, match='b is of other images than a'):
            ensemble.average([one, other], [1, 1])


def test_steps_are_named_one_by_one(labels, logits):
    members = [member('a', logits, labels), member('b', -logits, labels, step=20)]
    about = ensemble.average(members, [1, 1]).about
    assert about['steps'] == [60, 20] and about['members'] == ['a', 'b']
    assert tables.steps_text(about) == 'steps 60, 20' and about['step'] == 60
    assert (
        tables.steps_text({'step': 60})
        == tables.steps_text({'step': 60, 'steps': [60, 60]})
        == 'step 60'
    )


def test_one_net_under_two_names_is_refused(labels, logits, tmp_path):
    one, run = member('a', logits, labels), tmp_path / 'run'
    (run / 'eval').mkdir(parents=True)
    (run / 'config.json').touch()
    (tmp_path / 'link').symlink_to(run)
    other = {name: moved(one, str(tmp_path / name))
             for name in ('run', 'link', 'run/eval/test-1-predictions')}  # fmt: skip
    for members in (
        [one, dataclasses.replace(one, name='b')],
        [one, saved(one, tmp_path / 'copy')],
        [other['run'], dataclasses.replace(one, name=other['link'].name)],
        [other['run'], dataclasses.replace(one, name=other['run/eval/test-1-predictions'].name)],
    ):
        names = rf'{members[1].name} and {members[0].name} are the same net'
        with pytest.raises(InputError, match=names):
            ensemble.average(members, [1, 1])
    # A run at another step is another net.
    earlier = dataclasses.replace(other['link'], about=ABOUT | {'step': 20})
    ensemble.average([dataclasses.replace(one, name=str(run)), earlier], [1, 1])


def unseal(folder):
    """Makes of predictions some that an earlier version kept."""
    about = json.loads((folder / 'about.json').read_text())
    del about['sha256']
    (folder / 'about.json').write_text(json.dumps(about))


def exchange_rows(path):
    values = np.load(path)
    np.save(path, values[::-1])


def exchange_ids(path):
    path.write_text(json.dumps(json.loads(path.read_text())[::-1]))


@pytest.mark.parametrize(
    ('name', 'change'),
    [('log_probabilities.npy', exchange_rows), ('labels.npy', exchange_rows), ('ids.json', exchange_ids)],
)  # fmt: skip
def test_saved_arrays_that_changed_are_refused_and_older_ones_read(
    name, change, labels, logits, tmp_path
):
    folder = tmp_path / 'a'
    saved(member('a', logits, labels), folder)
    kept = json.loads((folder / 'about.json').read_text())['sha256']
    assert kept == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir() if path.name != 'about.json'
    } and len(kept) == 3  # fmt: skip
    change(folder / name)
    with pytest.raises(InputError, match=f'{folder / name} was modified'):
        ensemble.saved_member(arrays.read(folder))
    unseal(folder)
    assert ensemble.saved_member(arrays.read(folder)).ids
    change_about(folder, {'sha256': 5})
    with pytest.raises(InputError, match='states no usable sha256'):
        arrays.read(folder)


def change_about(folder, changes):
    about = json.loads((folder / 'about.json').read_text())
    (folder / 'about.json').write_text(json.dumps({**about, **changes}))


@pytest.mark.parametrize(('change', 'message'), [
    (lambda folder: (folder / 'log_probabilities.npy').unlink(),
     'holds no log_probabilities.npy; earlier versions'),
    (lambda folder: np.save(folder / 'log_probabilities.npy', np.zeros((40, 7), np.float16)),
     'type float16; allowed:'),
    (lambda folder: np.save(folder / 'log_probabilities.npy', np.zeros((40, 6), np.float32)),
     r'shape \(40, 6\)'),
    (lambda folder: np.save(folder / 'log_probabilities.npy', np.zeros((40, 7), np.float32)),
     'probabilities that sum to 7; allowed: 1'),
    (lambda folder: np.save(folder / 'labels.npy', np.full(40, 7)), 'labels beyond its 7 classes'),
    (lambda folder: change_about(folder, {'classes': 'abcdefg'}), 'no list of classes'),
    (lambda folder: change_about(folder, {'network': ['x']}), 'no usable network'),
    (lambda folder: change_about(folder, {'set': ['x']}), 'no usable set'),
    (lambda folder: change_about(folder, {'views': True}), 'no usable views'),
    (lambda folder: change_about(folder, {'step': None}), 'no list of classes or no step'),
    (lambda folder: (folder / 'about.json').write_text('{}'), 'does not state its source'),
])  # fmt: skip
def test_files_that_are_no_predictions_are_refused(change, message, labels, logits, tmp_path):
    saved(member('a', logits, labels), tmp_path / 'a')
    unseal(tmp_path / 'a')
    change(tmp_path / 'a')
    with pytest.raises(InputError, match=message):
        ensemble.average([ensemble.saved_member(arrays.read(tmp_path / 'a'))], [1])
