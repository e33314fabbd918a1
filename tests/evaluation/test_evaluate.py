"""A net over every image: on any mesh the same, to the last bit."""

import dataclasses

import chex
import jax
import numpy as np
import pytest

from alexnet_jax.data.synthetic import synthetic_set
from alexnet_jax.evaluation import evaluate
from alexnet_jax.evaluation.evaluate import Outputs, Reading
from alexnet_jax.network import device_mesh, inference
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.architectures import architecture
from alexnet_jax.runtime import heartbeat

MEAN, SCALE = np.float32([120, 110, 100]), np.ones(3, np.float32)


@pytest.fixture(scope='module')
def net():
    return AlexNet(architecture('krizhevsky2012', 99, 0.125), 7)


@pytest.fixture(scope='module')
def variables(net):
    """Every array with something in it, so that logits lie apart."""
    random = np.random.default_rng(0)
    return jax.tree.map(
        lambda shape: random.normal(0, 0.06, shape.shape).astype(np.float32),
        inference.variable_shapes(net),
    )


@pytest.fixture(scope='module')
def images():
    return synthetic_set(51, 7, 104, seed=0)


def run(net, variables, images, shape, names=(), split='train', **reading):
    mesh = device_mesh.make_mesh(*shape)
    forward = inference.make_forward(net, mesh, MEAN, SCALE, names)
    placed = inference.place_variables(net, mesh, variables)
    batches = evaluate.read(images, split, Reading(99, mesh, **reading))
    return evaluate.run(forward, placed, batches, split, len(images.splits[split]))


def joined(outputs) -> Outputs:
    parts = [dataclasses.astuple(part)[:3] for part in outputs]
    return Outputs(*(np.concatenate(column) for column in zip(*parts, strict=True)), {})


@pytest.mark.thorough
@pytest.mark.parametrize('views', [1, 10])
@pytest.mark.parametrize('shape', [(4, 1), (1, 2), (2, 2)])
def test_every_mesh_gives_the_same_bits_of_every_image_once(net, variables, images, shape, views):
    reading = {'views': views, 'crops_a_device': 4 * views}
    alone = joined(run(net, variables, images, (1, 1), **reading))
    other = joined(run(net, variables, images, shape, **reading))
    assert alone.ids.tolist() == [b'%d' % row for row in range(51)]
    assert other.ids.tolist() == alone.ids.tolist()
    np.testing.assert_array_equal(other.labels, alone.labels)
    np.testing.assert_array_equal(other.logits, alone.logits)
    chex.assert_shape(alone.logits, (51, views, 7))
    assert len(np.unique(alone.logits)) > 0.9 * alone.logits.size


@pytest.mark.thorough
def test_activations_have_the_columns_side_by_side(net, variables, images):
    """As the module gives them without any mesh."""
    names = ('conv1', 'conv2/pool', 'fc7/relu', 'fc8')
    (first, *_) = run(net, variables, images, (2, 2), names, crops_a_device=8)
    views = np.stack([
        images.splits['train'].read(row).image[2:101, 2:101] for row in range(16)
    ])  # fmt: skip
    _, expected = jax.jit(net.apply)(variables, (views.astype(np.float32) - MEAN) / SCALE)
    expected = {name: expected[name][:, None] for name in names}  # one view
    chex.assert_trees_all_close(first.activations, expected, rtol=1e-5, atol=1e-5)


def test_a_miscount_is_a_fault(net, variables, images, monkeypatch):
    batches = evaluate.pipeline.eval_batches
    monkeypatch.setattr(
        evaluate.pipeline, 'eval_batches', lambda *args, **kwargs: iter(list(batches(*args, **kwargs))[1:])
    )  # fmt: skip
    monkeypatch.setattr(evaluate.pipeline, 'ahead', lambda batches, place: map(place, batches))
    with pytest.raises(RuntimeError, match='evaluated 35 images where there are 51'):
        list(run(net, variables, images, (1, 1), crops_a_device=16))


def test_errors_are_those_of_the_mean_probabilities(random):
    """Against a loop in NumPy over single views."""
    logits = (random.normal(size=(40, 10, 8)) * 3).astype(np.float32)
    labels = random.integers(0, 8, 40).astype(np.int32)
    batches = [Outputs(np.full(len(rows), b''), labels[rows], logits[rows], {})
               for rows in np.split(np.arange(40), [13])]  # fmt: skip
    kept = []
    tally = evaluate.evaluate(
        (batch for batch in batches), 8, lambda batch, logarithms: kept.append(logarithms)
    )
    losses, wrong, means = [], [], []
    for image, label in zip(logits.astype(np.float64), labels, strict=True):
        mean = np.zeros(8)
        for view in image:
            mean += np.exp(view) / np.exp(view).sum() / 10
        means.append(mean)
        losses.append(-np.log(mean[label]))
        wrong.append(mean.argmax() != label)
    scores = tally.scores()
    assert scores['loss'] == pytest.approx(np.mean(losses), rel=1e-12)
    assert scores['top1_error'] == np.mean(wrong)
    np.testing.assert_allclose(np.exp(np.concatenate(kept)), means, rtol=1e-12)


def test_probabilities_that_underflow_are_still_ordered():
    """At a distance of 800 all but the first are 0 in float64: they are no ties."""
    logits = np.float32([[[0, -900, -800, -850, -999, -870, -860]] * views for views in (10,)])
    (batch,) = [Outputs(np.array([b'a']), np.array([2]), logits, {})]
    tally = evaluate.evaluate((batch for _ in range(1)), 7)
    assert (tally.scores()['top1_error'], tally.scores()['top5_error']) == (1, 0)
    assert tally.scores()['loss'] == pytest.approx(800)
    (last,) = [Outputs(np.array([b'a']), np.array([1]), logits, {})]
    assert evaluate.evaluate((last for _ in range(1)), 7).scores()['top5_error'] == 1


@pytest.mark.parametrize('of_set', [True, False])
@pytest.mark.parametrize('of_run', [True, False])
def test_mirror_images_are_shown_where_run_and_set_allow_them(of_set, of_run):
    record = np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)
    images = dataclasses.replace(synthetic_set(4, 2, 32, seed=0), mirror=of_set)
    seen = []
    reading = Reading(28, device_mesh.make_mesh(1, 1), views=10, mirror=of_run)
    batches = evaluate.read(images, 'train', reading)
    list(evaluate.run(lambda _, batch: _seen(seen, batch), {}, batches, 'train', 4))
    record = images.splits['train'].read(0).image
    five = [record[a : a + 28, b : b + 28] for a, b in ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2))]
    second = [crop[:, ::-1] for crop in five] if of_set and of_run else five
    np.testing.assert_array_equal(seen[0][:10], [*five, *second])


def _seen(seen, batch):
    seen.append(np.asarray(batch))
    return np.zeros((len(batch), 2), np.float32), {}


def test_the_loss_of_what_is_certain_and_wrong_is_finite():
    logits = np.float32([[[0, 3000]]])
    (batch,) = [Outputs(np.array([b'a']), np.array([0]), logits, {})]
    tally = evaluate.evaluate((batch for _ in range(1)), 2)
    assert tally.scores()['loss'] == 3000


FOUR = np.array([b'a', b'b', b'c', b'd'])
OTHERS = [
    (np.zeros((4, 1, 7)), np.zeros(4, int), r'logits has the shape \(4, 1, 7\); expected: \(4, views, 5\)'),
    (np.zeros((4, 5)), np.zeros(4, int), r'logits has the shape \(4, 5\)'),
    (np.zeros((3, 1, 5)), np.zeros(4, int), r'logits has the shape \(3, 1, 5\)'),
    (np.zeros((4, 0, 5)), np.zeros(4, int), r'logits has the shape \(4, 0, 5\)'),
    (np.zeros((4, 1, 5)), np.zeros(4), 'labels has the type float64; expected: integer'),
    (np.zeros((4, 1, 5)), np.array([0, 1, -1, 2]), 'a label is -1; expected: from 0 to 4'),
    (np.zeros((4, 1, 5)), np.array([0, 5, 1, 2]), 'a label is 5; expected: from 0 to 4'),
]  # fmt: skip


@pytest.mark.parametrize(('logits', 'labels', 'message'), OTHERS)
def test_outputs_of_other_classes_are_refused(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        evaluate.evaluate((Outputs(FOUR, labels, logits, {}) for _ in range(1)), 5)


@pytest.mark.parametrize('value', [np.inf, np.nan])
def test_beside_an_infinite_logit_no_class_is_probable(value):
    assert np.isnan(evaluate.log_softmax(np.array([[0.0, value, 1.0]]))).all()
    without = evaluate.log_softmax(np.array([0.0, -np.inf, np.log(3)]))
    np.testing.assert_allclose(np.exp(without), [0.25, 0, 0.75], rtol=1e-12)


def test_what_follows_the_last_image_may_be_slow(net, variables, images, monkeypatch):
    """A supervisor would take what comes next, a report's figures, for a batch that is stuck."""
    signs = []
    monkeypatch.setattr(heartbeat, '_send', signs.append)
    joined(run(net, variables, images, (1, 1), crops_a_device=32))
    assert [sign[0] for sign in signs] == ['.', '?']
