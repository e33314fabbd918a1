"""The loop's order of things, on a state that counts."""

import itertools

import jax.numpy as jnp
import numpy as np
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
        self.steps_made = 0
        self.losses = lambda step: (1.0, 0.5)
        self.failing_save, self.on_its_way = -1, False
        self.stop_validation = -1

    def train_step(self, state, batch):
        assert int(state.step) == batch
        self.steps_made += 1
        loss, error = self.losses(batch + 1)
        loss = float('nan') if batch + 1 >= self.nan_from else loss
        scores = {'loss': loss, 'top1_error': error, 'top5_error': 0.25, 'learning_rate': 0.01}
        scores = {name: jnp.float32(number) for name, number in scores.items()}
        return state.replace(step=state.step + 1), scores | {'bias_gradients': jnp.ones((0, 1))}

    def train(self, state: TrainState | None = None, stop_after: int = 10**9, health=None, **plan):
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
            health=health or Health(),
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


@pytest.mark.parametrize(('log_every', 'bad', 'steps_made'), [
    (1, 1, 2), (1, 7, 8),  # seen once the next step is under way
    (4, 5, 9), (4, 8, 9),  # with the row of step 8
    (100, 1, 9), (100, 8, 9), (100, 9, 17),  # eight steps are read at once
])  # fmt: skip
def test_a_loss_that_is_no_number_is_seen_so_many_steps_later(log_every, bad, steps_made):
    run = Run([0.5] * 9)
    run.nan_from = bad
    with pytest.raises(NotFiniteError, match=f'the loss of step {bad} is nan'):
        run.train(steps=90, log_every=log_every, epoch_size=4000)
    assert run.steps_made == steps_made and run.saves == []


class Loss:
    """A loss on a device; notes when its step is waited for, when a copy is asked for and read."""

    is_fully_addressable = True

    def __init__(self, events, step):
        self._note = lambda what: events.append(f'{what}{step}')

    def block_until_ready(self):
        self._note('wait')

    def copy_to_host_async(self):
        self._note('copy')

    def __array__(self, dtype=None, copy=None):
        self._note('read')
        return np.array(1, np.float32)


@pytest.mark.parametrize(('log_every', 'expected'), [
    (1, 'step1 step2 wait1 copy1 read1 step3 wait2 copy2 read2 copy3 read3'),
    (3, 'step1 step2 wait1 step3 wait2 step4 wait3 copy1 copy2 copy3 read1 read2 read3'
        ' step5 wait4 copy4 copy5 read4 read5'),
    (99, 'step1 step2 wait1 step3 wait2 step4 wait3 copy1 copy2 copy3 copy4 read1 read2 read3'
         ' read4'),
])  # fmt: skip
def test_a_step_is_waited_for_in_the_next_and_its_scores_are_read_with_others(
    log_every, expected, monkeypatch
):
    run, events = Run([0.5] * 9), []
    real = run.train_step

    def train_step(state, batch):
        state, scores = real(state, batch)
        events.append(f'step{batch + 1}')
        return state, scores | {'loss': Loss(events, batch + 1)}

    monkeypatch.setattr(run, 'train_step', train_step)
    steps = expected.count('step')
    run.train(steps=steps, log_every=log_every, epoch_size=4000)
    assert ' '.join(events) == expected


@pytest.mark.parametrize('log_every', [1, 3, 20])
def test_rows_and_health_are_the_same_however_many_steps_are_read_at_once(log_every):
    """The loss of step n is n / 2, its error 1 / n."""
    run, seen = Run([0.5] * 9), []
    run.losses = lambda step: (step / 2, 1 / step)
    health = Health()
    health.step = lambda step, scores: seen.append((step, float(scores['loss'])))
    run.train(steps=24, log_every=log_every, epoch_size=60, health=health)
    assert seen == [(step, step / 2) for step in range(1, 25)]
    rows = [row for row in run.rows if row['split'] == 'train']
    assert [row['step'] for row in rows] == list(range(log_every, 25, log_every))
    for row in rows:
        step = row['step']
        assert (row['loss'], row['epoch']) == (step / 2, step / 15)
        assert row['top1_error'] == float(str(np.float32(1 / step)))


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
