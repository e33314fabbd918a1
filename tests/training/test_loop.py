"""The loop's order of things, on a state that counts."""

import itertools

import jax.numpy as jnp
import pytest

from alexnet_jax.runtime.errors import NotFiniteError, StopRequestedError, StorageError
from alexnet_jax.training import loop, schedule
from alexnet_jax.training.health import Health
from alexnet_jax.training.step import TrainState


class Run:
    """Trains nothing; writes down what the loop asks for."""

    def __init__(self, errors: list[float]):
        self.errors = iter(errors)
        self.rows, self.saves = [], []
        self.nan_from = 10**9
        self.failing_save, self.on_its_way = -1, False
        self.stop_validation = -1

    def train_step(self, state, batch):
        assert int(state.step) == batch
        loss = float('nan') if batch + 1 >= self.nan_from else 1.0
        scores = {'loss': loss, 'top1_error': 0.5, 'top5_error': 0.25, 'learning_rate': 0.01}
        scores = {name: jnp.float32(number) for name, number in scores.items()}
        return state.replace(step=state.step + 1), scores | {'bias_gradients': jnp.ones((0, 1))}

    def train(self, state: TrainState | None = None, stop_after: int = 10**9, **plan):
        state = state or TrainState(jnp.int32(0), {}, {}, (), schedule.start())
        settings = {'steps': 100, 'batch_size': 4, 'epoch_size': 10, 'patience': 2, 'drops': 1}
        done = itertools.count(int(state.step))
        return loop.train(
            state,
            loop.Plan(**settings | plan),
            train_step=self.train_step,
            batches=itertools.count(int(state.step)),
            validate=self.validate,
            saves=self,
            log=self.rows.append,
            health=Health(),
            stop_requested=lambda: next(done) >= stop_after,
        )

    def validate(self, variables):
        self.stop_validation -= 1
        if self.stop_validation == 0:
            raise StopRequestedError
        return {'loss': 2.0, 'top1_error': next(self.errors), 'top5_error': 0.1}

    def save(self, state, error):
        self.saves.append((int(state.step), error))
        self.on_its_way = True

    def check(self):
        if self.failing_save == len(self.saves):
            raise StorageError('no room')

    def wait(self):
        self.check()
        self.on_its_way = False

    def steps(self, split: str) -> list[int]:
        return [row['step'] for row in self.rows if row['split'] == split]


def test_validates_at_each_epoch_and_ends_after_the_last_plateau():
    # Epochs of 2.5 steps are full after steps 3, 5, 8, 10, 13, ...
    run = Run([0.5, 0.4, 0.4, 0.4, 0.3, 0.3, 0.3])
    state, stopped = run.train()
    assert run.steps('val') == [3, 5, 8, 10, 13, 15, 18]
    assert run.steps('train') == list(range(1, 19))
    assert (int(state.step), stopped, int(state.plateau.drops)) == (18, False, 2)
    assert run.saves == list(
        zip(run.steps('val'), [0.5, 0.4, 0.4, 0.4, 0.3, 0.3, 0.3], strict=True)
    )


def test_rows_are_in_order_of_the_steps():
    run = Run([0.5] * 9)
    run.train(steps=7)
    order = [(row['step'], row['split'] == 'val') for row in run.rows]
    assert order == sorted(order)
    assert run.rows[2] == {
        'split': 'train', 'step': 3, 'epoch': 1.2, 'loss': 1.0, 'top1_error': 0.5,
        'top5_error': 0.25, 'learning_rate': 0.01,
        'images_per_second': run.rows[2]['images_per_second'],
        **{name: run.rows[2][name] for name in ('seconds_input', 'seconds_log', 'seconds_save')},
    }  # fmt: skip
    assert all(row['images_per_second'] > 0 for row in run.rows if row['split'] == 'train')


def test_a_row_says_what_went_by_in_waiting_and_saving(monkeypatch):
    run = Run([0.5] * 9)
    now = itertools.count()  # every look at the clock is a second later
    monkeypatch.setattr(loop.time, 'perf_counter', lambda: float(next(now)))
    run.train(steps=5)
    train = [row for row in run.rows if row['split'] == 'train']
    assert [row['seconds_input'] for row in train] == [2, 1, 0, 2, 0]
    assert [row['seconds_save'] for row in train] == [0, 0, 0, 1, 0]
    assert [row['seconds_evaluation'] for row in run.rows if row['split'] == 'val'] == [1, 1]


def test_the_rate_after_a_validation_counts_no_image_from_before_it(monkeypatch):
    """Each step takes a second and has four images. Step 3 is validated; the row of step 4 is
    written a second after step 4 has begun."""
    run, seconds = Run([0.5] * 9), itertools.count(1)
    now = [0.0]
    monkeypatch.setattr(loop.time, 'perf_counter', lambda: now[0])
    step = run.train_step

    def one_second(state, batch):
        now[0] = float(next(seconds))
        return step(state, batch)

    monkeypatch.setattr(run, 'train_step', one_second)
    run.train(steps=5, log_every=4)
    (row,) = (row for row in run.rows if row['split'] == 'train')
    assert (row['step'], row['images_per_second']) == (4, 4.0)


@pytest.mark.parametrize(
    ('every', 'saved'), [(0, [3, 5, 8, 10, 11]), (4, [3, 4, 5, 8, 11]), (100, [3, 5, 11])]
)
def test_saves_at_validations_or_every_n_steps_and_if_best_and_at_the_end(every, saved):
    run = Run([0.5, 0.3, 0.3, 0.45])  # 0.3 as float32 is above 0.3: equal is no better
    run.train(steps=11, save_every=every)
    assert [number for number, _ in run.saves] == saved


def test_log_every():
    run = Run([0.5] * 9)
    run.train(steps=10, log_every=4)
    assert run.steps('train') == [4, 8]


@pytest.mark.parametrize('log_every', [1, 100])
def test_a_loss_that_is_no_number_ends_the_run_unsaved(log_every):
    run = Run([0.5] * 9)
    run.nan_from = 7
    with pytest.raises(NotFiniteError, match=r'the loss of step 7 is nan'):
        run.train(steps=20, log_every=log_every)
    assert [number for number, _ in run.saves] == [3, 5]
    assert all(row['loss'] == row['loss'] for row in run.rows)


@pytest.mark.parametrize('stop_after', range(1, 12))
def test_stopped_anywhere_and_started_again_it_is_one_run(stop_after):
    errors = [0.5, 0.4, 0.4, 0.3, 0.3]
    whole = Run(errors)
    expected, _ = whole.train(steps=12)
    first = Run(errors)
    state, stopped = first.train(steps=12, stop_after=stop_after)
    assert stopped and int(state.step) == stop_after == first.saves[-1][0]
    second = Run(errors[len(first.steps('val')) :])
    state, stopped = second.train(state, steps=12)
    assert not stopped
    assert state == expected
    for split in ('train', 'val'):
        assert first.steps(split) + second.steps(split) == whole.steps(split)


def test_stopped_in_a_validation_it_comes_first_when_the_run_goes_on():
    errors = [0.5, 0.4, 0.3, 0.2]
    whole = Run(errors)
    expected, _ = whole.train(steps=9)
    first = Run(errors)
    first.stop_validation = 3
    state, stopped = first.train(steps=9)
    assert stopped and first.saves == [(3, 0.5), (5, 0.4), (8, None)]
    assert int(state.plateau.validations) == 2
    second = Run(errors[2:])
    state, stopped = second.train(state, steps=9)
    assert not stopped and state == expected
    assert second.saves == [(8, 0.3), (9, None)]  # with its error now, in place of the other
    assert first.steps('val') + second.steps('val') == whole.steps('val')


def test_the_last_save_is_waited_for():
    run = Run([0.5] * 9)
    run.train(steps=7)
    assert run.saves[-1][0] == 7 and not run.on_its_way


@pytest.mark.parametrize(('failing', 'steps_done'), [(1, 3), (2, 5), (4, 9)])
def test_a_save_that_fails_ends_the_run_at_the_next_step(failing, steps_done):
    run = Run([0.5] * 9)
    run.failing_save = failing
    with pytest.raises(StorageError):
        run.train(steps=9)
    assert run.steps('train')[-1] == steps_done
