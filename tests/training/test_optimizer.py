"""The update rules beside float64 recurrences and PyTorch's written-out formula."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

from alexnet_jax.training.optimizer import sgd
from alexnet_jax.training.protocols import (
    CONSTANT,
    LARGE_BATCH,
    PAPER,
    TORCHVISION,
    Group,
    Protocol,
    weights_and_biases,
)

STEPS = 50


def rate_at(step: int) -> float:
    return 0.01 if step < 25 else 0.001


def run(protocol: Protocol, params, gradients, rates, momentum=0.9, weight_decay=5e-4):
    """Parameters after each of the gradients; `rates` of the groups, a list a step."""

    @jax.jit
    def update(params, state, gradient, rates):
        rule = sgd(protocol, list(rates), momentum, weight_decay)
        updates, state = rule.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    params = jax.tree.map(lambda x: x.astype(np.float32), params)
    state = sgd(protocol, []).init(params)
    for gradient, rate in zip(gradients, rates, strict=True):
        gradient = jax.tree.map(lambda x: x.astype(np.float32), gradient)
        params, state = update(params, state, gradient, [np.float32(r) for r in rate])
        yield params, state


def draw(random, *shape):
    return {'conv1': {'kernel': random.standard_normal(shape), 'bias': random.standard_normal(4)}}


def close(values, expected) -> bool:
    return bool(np.abs(values - expected).max() < 1e-6 * np.abs(expected).max())


def test_equals_the_paper_s_recurrence_over_50_steps_and_a_drop(random):
    """§5 in float64: v ← 0.9 v − 0.0005 ε w − ε g; w ← w + v, biases too."""
    params = draw(random, 20, 30)
    gradients = [draw(random, 20, 30) for _ in range(STEPS)]
    w = {part: values.copy() for part, values in params['conv1'].items()}
    v = {part: np.zeros_like(values) for part, values in w.items()}
    ours = run(PAPER, params, gradients, [[rate_at(step)] for step in range(STEPS)])
    for step, ((params, _), gradient) in enumerate(zip(ours, gradients, strict=True)):
        for part, g in gradient['conv1'].items():
            v[part] = 0.9 * v[part] - 0.0005 * rate_at(step) * w[part] - rate_at(step) * g
            w[part] = w[part] + v[part]
            assert close(params['conv1'][part], w[part]), (step, part)


def test_torchvision_s_has_the_rate_outside_the_velocity(random):
    """PyTorch's SGD in float64: v ← 0.9 v + g + λ w; w ← w − ε v."""
    params = draw(random, 20, 30)
    gradients = [draw(random, 20, 30) for _ in range(STEPS)]
    w = params['conv1']['kernel'].copy()
    v = np.zeros_like(w)
    rates = [[rate_at(step)] for step in range(STEPS)]
    for step, (ours, _) in enumerate(run(TORCHVISION, params, gradients, rates, 0.9, 1e-4)):
        v = 0.9 * v + gradients[step]['conv1']['kernel'] + 1e-4 * w
        w = w - rate_at(step) * v
        assert close(ours['conv1']['kernel'], w), step


def test_biases_have_a_rate_of_their_own_and_no_decay(random):
    protocol = Protocol('two', '', weights_and_biases(CONSTANT))
    params, gradients = draw(random, 5, 6), [draw(random, 5, 6) for _ in range(3)]
    w, b = params['conv1']['kernel'].copy(), params['conv1']['bias'].copy()
    v, u = np.zeros_like(w), np.zeros_like(b)
    for step, (ours, _) in enumerate(run(protocol, params, gradients, [[0.01, 0.02]] * 3)):
        v = 0.9 * v - 0.0005 * 0.01 * w - 0.01 * gradients[step]['conv1']['kernel']
        u = 0.9 * u - 0.02 * gradients[step]['conv1']['bias']
        w, b = w + v, b + u
        assert close(ours['conv1']['kernel'], w) and close(ours['conv1']['bias'], b), step


def test_lars_scales_each_layer_s_weights_by_its_norms(random):
    """arXiv:1708.03888 in float64; biases learn as ever."""
    protocol = dataclasses.replace(LARGE_BATCH, trust=0.01)
    params, gradients = draw(random, 5, 6), [draw(random, 5, 6) for _ in range(4)]
    w, b = params['conv1']['kernel'].copy(), params['conv1']['bias'].copy()
    v, u = np.zeros_like(w), np.zeros_like(b)
    for step, (ours, _) in enumerate(run(protocol, params, gradients, [[2.0, 0.1]] * 4)):
        g = gradients[step]['conv1']['kernel'] + 0.0005 * w
        v = 0.9 * v - 2.0 * 0.01 * np.linalg.norm(w) / np.linalg.norm(g) * g
        u = 0.9 * u - 0.1 * gradients[step]['conv1']['bias']
        w, b = w + v, b + u
        assert close(ours['conv1']['kernel'], w) and close(ours['conv1']['bias'], b), step


@pytest.mark.parametrize('inside', [True, False])
def test_at_rate_0_weights_and_velocity_stay_bit_for_bit(inside, random):
    """Frozen after two steps, thawed after two more: the velocity is still there."""
    groups = (Group('conv1', CONSTANT, layers=('conv1',)), Group('all', CONSTANT))
    protocol = Protocol('frozen', '', groups, rate_in_velocity=inside)
    params = draw(random, 5, 6) | {'conv2': draw(random, 5, 6)['conv1']}
    gradients = [draw(random, 5, 6) | {'conv2': draw(random, 5, 6)['conv1']} for _ in range(5)]
    rates = [[0.1, 0.1], [0.1, 0.1], [0.0, 0.1], [0.0, 0.1], [0.1, 0.1]]
    after = list(run(protocol, params, gradients, rates))
    for layer, still in (('conv1', True), ('conv2', False)):
        for part in ('kernel', 'bias'):
            for step in (2, 3):
                same = [
                    np.array_equal(tree[layer][part], old[layer][part])
                    for tree, old in (
                        (after[step][0], after[step - 1][0]),
                        (after[step][1].trace, after[step - 1][1].trace),
                    )
                ]
                assert same == [still, still], (layer, part, step)
    assert not np.array_equal(after[4][0]['conv1']['kernel'], after[3][0]['conv1']['kernel'])
