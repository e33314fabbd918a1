import numpy as np
import pytest

from alexnet_jax.training import schedule

# error of each validation -> rate after it, with ε = 0.01, 2 validations of
# patience and three drops; worked out by hand.
HISTORY = [
    (0.9, 0.01),
    (0.5, 0.01),
    (0.6, 0.01),
    (0.4, 0.01),  # lower just in time
    (0.4, 0.01),  # equal is not lower
    (0.5, 0.001),
    (0.3, 0.001),
    (0.3, 0.001),
    (0.3, 0.0001),
    (0.3, 0.0001),
    (0.3, 0.00001),
    (0.2, 0.00001),
    (0.2, 0.00001),
]


def test_divides_by_ten_three_times_and_then_ends():
    state = schedule.start()
    for number, (error, rate) in enumerate(HISTORY, start=1):
        state = schedule.observe(state, error, number, patience=2)
        assert not schedule.finished(state, drops=3), number
        assert float(schedule.learning_rate(state, 0.01, 3)) == pytest.approx(rate), number
    state = schedule.observe(state, 0.2, len(HISTORY) + 1, patience=2)
    assert schedule.finished(state, drops=3)
    assert float(schedule.learning_rate(state, 0.01, 3)) == np.float32(0.00001)
    assert float(state.best_error) == np.float32(0.2)
    assert int(state.validations) == len(HISTORY) + 1


def test_an_error_that_is_no_number_is_no_improvement():
    state = schedule.observe(schedule.start(), float('nan'), 1, patience=1)
    assert int(state.drops) == 1
    assert float(schedule.observe(state, 0.5, 2, patience=1).best_error) == 0.5
