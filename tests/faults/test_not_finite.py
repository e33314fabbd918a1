"""NaN planted in an image, a weight, a gradient and the rate of one step of a run."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax import main
from alexnet_jax.data import image_set, pipeline
from alexnet_jax.runtime.command_line import DONE, FAULT
from alexnet_jax.training import checkpoint_reader, optimizer, schedule, step
from tests.faults import driver

BATCH = int(driver.NET['data.batch_size'])
PLANTED = 33  # the step
SAVED = 28  # before it, by the plan


def in_an_image(monkeypatch):
    make = pipeline._Choices.map

    def planted(self, element):
        chosen = make(self, element)
        if element == PLANTED - 1:
            chosen['color_shift'][5, 1] = np.nan
        return chosen

    monkeypatch.setattr(pipeline._Choices, 'map', planted)


def in_a_weight(monkeypatch):
    make = step.make_train_step

    def make_planted(*arguments, **options):
        train_step = make(*arguments, **options)

        def planted(state, batch):
            if int(state.step) == PLANTED - 1:
                params = dict(state.params)
                kernel = params['conv3']['kernel'].at[1, 0, 0, 0, 0].set(np.nan)
                params['conv3'] = params['conv3'] | {'kernel': kernel}
                state = state.replace(params=params)
            return train_step(state, batch)

        return planted

    monkeypatch.setattr(step, 'make_train_step', make_planted)


def in_the_rate(monkeypatch, of_gradient: bool = False):
    rates, sgd, at = schedule.rates, optimizer.sgd, []

    def planted_rates(protocol, rate, drops, clock, now, plateau):
        at[:] = [now]
        found = rates(protocol, rate, drops, clock, now, plateau)
        if of_gradient:
            return found
        return jax.tree.map(lambda rate: jnp.where(now == PLANTED - 1, jnp.nan, rate), found)

    def planted_sgd(*arguments):
        rule = sgd(*arguments)

        def update(gradients, momentum, params):
            kernel = gradients['conv2']['kernel']
            bad = jnp.where(at[0] == PLANTED - 1, jnp.nan, kernel[0, 0, 0, 0, 0])
            layer = gradients['conv2'] | {'kernel': kernel.at[0, 0, 0, 0, 0].set(bad)}
            return rule.update({**gradients, 'conv2': layer}, momentum, params)

        return rule._replace(update=update)

    monkeypatch.setattr(schedule, 'rates', planted_rates)
    if of_gradient:
        monkeypatch.setattr(optimizer, 'sgd', planted_sgd)


def in_a_gradient(monkeypatch):
    in_the_rate(monkeypatch, of_gradient=True)


@pytest.fixture
def read_ids(monkeypatch) -> list[str]:
    """The ids of all records that are read from now on, in order."""
    ids, read = [], image_set.StoredRecords.read

    def noted(self, row, scratch=None):
        record = read(self, row, scratch)
        ids.append(record[2].decode())
        return record

    monkeypatch.setattr(image_set.StoredRecords, 'read', noted)
    return ids


@pytest.mark.thorough
@pytest.mark.parametrize(
    ('plant', 'found_at', 'what'),
    [
        (in_an_image, PLANTED, 'the loss'),
        (in_a_weight, PLANTED, 'the loss'),
        (in_a_gradient, PLANTED + 1, 'the loss'),
        (in_the_rate, PLANTED, 'the learning rate'),
    ],
)
def test_found_named_and_not_saved(
    plant, found_at, what, undisturbed, data_dir, tmp_path, monkeypatch, capsys, read_ids
):
    workdir = tmp_path / 'run'
    argv = driver.command(workdir, data_dir, **{'data.threads': '0', 'train.log_every_steps': '50'})
    with monkeypatch.context() as planting:
        plant(planting)
        assert main.main(argv) == FAULT
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 2, printed
    first, second = printed
    assert first.startswith(f'error: {what} of step {found_at} is nan; the images of that step: ')
    assert f'and {BATCH - 3} more, in {workdir}/not_finite.json' in first
    assert f'checkpoints up to step {SAVED} are intact' in second
    kept = json.loads((workdir / 'not_finite.json').read_text())
    # Validation after step 41 has not been: all records so far were for training.
    assert kept['records'] == read_ids[(found_at - 1) * BATCH : found_at * BATCH]
    assert kept['step'] == found_at
    assert checkpoint_reader.newest_intact(workdir / 'checkpoints') == (SAVED, [])

    if plant is in_a_gradient:  # from what was saved, without the NaN
        assert main.main(driver.command(workdir, data_dir)) == DONE
        driver.assert_same_state(workdir, undisturbed)
