import jax
import numpy as np
import optax

from alexnet_jax.training.optimizer import paper_sgd


def test_equals_the_paper_s_recurrence_over_50_steps_and_a_drop(random):
    """§5 in float64: v ← 0.9 v − 0.0005 ε w − ε g; w ← w + v."""
    w = random.standard_normal((20, 30))
    v = np.zeros_like(w)
    params = {'w': w.astype(np.float32)}
    state = paper_sgd(0.01).init(params)

    @jax.jit
    def update(params, state, gradient, rate):
        updates, state = paper_sgd(rate, 0.9, 5e-4).update({'w': gradient}, state, params)
        return optax.apply_updates(params, updates), state

    for step in range(50):
        rate = 0.01 if step < 25 else 0.001
        gradient = random.standard_normal(w.shape)
        v = 0.9 * v - 0.0005 * rate * w - rate * gradient
        w = w + v
        params, state = update(params, state, gradient.astype(np.float32), np.float32(rate))
        assert np.abs(params['w'] - w).max() < 1e-6 * np.abs(w).max(), step


def test_optax_sgd_is_another_rule_once_the_rate_drops():
    """Why the rule is composed here: ε outside v shrinks the old updates too."""
    ours, theirs = paper_sgd(0.01, 0.9, 0.0), optax.sgd(0.01, momentum=0.9)
    params = {'w': np.float32(0)}
    state, their_state = ours.init(params), theirs.init(params)
    _, state = ours.update({'w': np.float32(1)}, state, params)
    _, their_state = theirs.update({'w': np.float32(1)}, their_state, params)
    after, _ = paper_sgd(0.001, 0.9, 0.0).update({'w': np.float32(0)}, state, params)
    theirs_after, _ = optax.sgd(0.001, momentum=0.9).update(
        {'w': np.float32(0)}, their_state, params
    )
    np.testing.assert_allclose(after['w'], -0.009, rtol=1e-6)
    np.testing.assert_allclose(theirs_after['w'], -0.0009, rtol=1e-6)
