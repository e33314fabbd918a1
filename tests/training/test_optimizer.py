"""The update rules beside float64 recurrences and PyTorch's written-out formula."""

import dataclasses
import math

import jax
import numpy as np
import optax
import pytest

from alexnet_jax.training.optimizer import rule, sgd, start
from alexnet_jax.training.protocols import (
    ADAMW,
    ALEXNET_BN,
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


def lars(w: np.ndarray, g: np.ndarray, trust: float, decay: float) -> float:
    """arXiv:1708.03888 in float64, number by number: η ‖w‖ / (‖g‖ + β ‖w‖)."""
    of_w = math.sqrt(sum(x * x for x in w.ravel().tolist()))
    of_g = math.sqrt(sum(x * x for x in g.ravel().tolist()))
    return trust * of_w / (of_g + decay * of_w)


DECAY = 0.5  # far more than usual, or no denominator would show


def test_lars_has_the_sum_of_both_norms_beneath_it_and_biases_learn_as_ever(random):
    """Each layer's weights by their own norms; the momentum takes ε and the factor in."""
    protocol = dataclasses.replace(LARGE_BATCH, groups=tuple(
        dataclasses.replace(group, trust=group.trust and 0.01) for group in LARGE_BATCH.groups
    ))  # fmt: skip
    params = draw(random, 5, 6) | {'conv2': draw(random, 7, 2)['conv1']}
    gradients = [draw(random, 5, 6) | {'conv2': draw(random, 7, 2)['conv1']} for _ in range(6)]
    w = {layer: {part: x.copy() for part, x in parts.items()} for layer, parts in params.items()}
    v = {layer: {part: 0 * x for part, x in parts.items()} for layer, parts in w.items()}
    ours = run(protocol, params, gradients, [[2.0, 0.1]] * 6, weight_decay=DECAY)
    for step, ((ours_now, _), gradient) in enumerate(zip(ours, gradients, strict=True)):
        for layer, parts in gradient.items():
            kernel, g, b = w[layer]['kernel'], parts['kernel'], parts['bias']
            rate = 2.0 * lars(kernel, g, 0.01, DECAY)
            v[layer]['kernel'] = 0.9 * v[layer]['kernel'] - rate * (g + DECAY * kernel)
            v[layer]['bias'] = 0.9 * v[layer]['bias'] - 0.1 * b
            for part in ('kernel', 'bias'):
                w[layer][part] = w[layer][part] + v[layer][part]
                assert close(ours_now[layer][part], w[layer][part]), (step, layer, part)


def test_nvcaffe_adapts_and_decays_every_array_by_itself(random):
    """Biases, scales and shifts too; at rate ε itself where an array or its gradient is 0."""
    params, gradients = draw(random, 5, 6), [draw(random, 5, 6) for _ in range(4)]
    params['conv1_norm'] = {'scale': np.ones(4), 'bias': np.zeros(4)}
    for step, gradient in enumerate(gradients):
        still = step == 2
        gradient['conv1_norm'] = {part: random.standard_normal(4) for part in ('scale', 'bias')}
        gradient['conv1']['bias'] *= not still
    w = {layer: {part: x.copy() for part, x in parts.items()} for layer, parts in params.items()}
    v = {layer: {part: 0 * x for part, x in parts.items()} for layer, parts in w.items()}
    ours = run(ALEXNET_BN[0], params, gradients, [[0.3]] * 4, weight_decay=DECAY)
    for step, ((ours_now, _), gradient) in enumerate(zip(ours, gradients, strict=True)):
        for layer, parts in gradient.items():
            for part, g in parts.items():
                x = w[layer][part]
                nothing = not x.any() or not g.any()
                rate = 0.3 * (1.0 if nothing else lars(x, g, 0.001, DECAY))
                v[layer][part] = 0.9 * v[layer][part] - rate * (g + DECAY * x)
                w[layer][part] = x + v[layer][part]
                assert close(ours_now[layer][part], w[layer][part]), (step, layer, part)


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


def run_adamw(protocol, params, gradients, rates, momentum, weight_decay):
    """Parameters after each of the gradients, as `run` of `sgd`."""

    @jax.jit
    def update(params, state, gradient, rates):
        updates, state = rule(protocol, list(rates), momentum, weight_decay).update(
            gradient, state, params
        )
        return optax.apply_updates(params, updates), state

    params = jax.tree.map(lambda x: x.astype(np.float32), params)
    state = start(params, protocol)
    for gradient, rate in zip(gradients, rates, strict=True):
        gradient = jax.tree.map(lambda x: x.astype(np.float32), gradient)
        params, state = update(params, state, gradient, [np.float32(r) for r in rate])
        yield params


def test_adamw_equals_pytorch_s_and_a_recurrence_in_float64(random):
    """Weights and biases, a rate that drops; biases are not decayed."""
    torch = pytest.importorskip('torch')
    params, beta1, decay = draw(random, 20, 30), 0.8, 0.1
    gradients = [draw(random, 20, 30) for _ in range(STEPS)]
    theirs = {part: torch.tensor(x, requires_grad=True) for part, x in params['conv1'].items()}
    adam = torch.optim.AdamW(
        [
            {'params': [theirs['kernel']], 'weight_decay': decay},
            {'params': [theirs['bias']], 'weight_decay': 0.0},
        ],
        betas=(beta1, 0.999), eps=1e-8,
    )  # fmt: skip
    w = {part: values.copy() for part, values in params['conv1'].items()}
    m, v = ({part: np.zeros_like(values) for part, values in w.items()} for _ in range(2))
    rates = [[rate_at(step)] * 2 for step in range(STEPS)]
    ours = run_adamw(ADAMW, params, gradients, rates, beta1, decay)
    for step, (params, gradient) in enumerate(zip(ours, gradients, strict=True)):
        for group in adam.param_groups:
            group['lr'] = rate_at(step)
        for part, g in gradient['conv1'].items():
            m[part] = beta1 * m[part] + (1 - beta1) * g
            v[part] = 0.999 * v[part] + 0.001 * g**2
            by = m[part] / (1 - beta1 ** (step + 1))
            by = by / (np.sqrt(v[part] / (1 - 0.999 ** (step + 1))) + 1e-8)
            w[part] = w[part] - rate_at(step) * (by + (decay if part == 'kernel' else 0) * w[part])
            theirs[part].grad = torch.tensor(g)
        adam.step()
        for part, values in w.items():
            np.testing.assert_allclose(theirs[part].detach().numpy(), values, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(params['conv1'][part], values, rtol=2e-5, atol=2e-6)


def test_adamw_at_rate_0_keeps_parameters_bit_for_bit(random):
    params = draw(random, 20, 30)
    (kept,) = run_adamw(ADAMW, params, [draw(random, 20, 30)], [[0.0, 0.1]], 0.9, 0.01)
    np.testing.assert_array_equal(kept['conv1']['kernel'], params['conv1']['kernel'].astype('f4'))
    assert (np.asarray(kept['conv1']['bias']) != params['conv1']['bias'].astype('f4')).all()
