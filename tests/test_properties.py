"""What holds for any values, tried on values that Hypothesis makes up; always the same ones."""

import functools
import itertools
import json
import math
import struct

import chex
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet_jax.data import augment, pipeline, shuffle
from alexnet_jax.data.image_set import ImageSet
from alexnet_jax.data.synthetic import synthetic_set
from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment import kept_config
from alexnet_jax.experiment.settings import SETTINGS, as_text, from_text
from alexnet_jax.training import schedule
from alexnet_jax.training.protocols import (
    PROTOCOLS,
    ExponentialSteps,
    Plateau,
    Protocol,
    RampPolynomial,
    Steps,
    WarmupPolynomial,
)

some = settings(derandomize=True, deadline=None, max_examples=60, database=None)
many = settings(some, max_examples=150)

SEEDS = st.integers(0, 2**31 - 1)
RANDOMS = st.integers(0, 2**31 - 1).map(np.random.default_rng)


# Configurations


def numbers_allowed(name: str) -> st.SearchStrategy:
    """For a number's setting, any that its rule lets pass, and those at the ends of what does."""
    default, rule = SETTINGS[name].default, SETTINGS[name].rule
    if isinstance(default, int):
        drawn = st.integers(0, 40) | st.integers(0, 2**31 - 1)
    else:
        drawn = st.floats(0, 2) | st.floats(0, 1e30, allow_subnormal=True)
    return drawn.filter(rule.allows)


def values_of(name: str) -> st.SearchStrategy:
    setting = SETTINGS[name]
    if setting.rule.names:
        return st.sampled_from([*setting.rule.names, setting.default])
    if isinstance(setting.default, bool):
        return st.booleans()
    if isinstance(setting.default, int | float):
        return numbers_allowed(name)
    channel = st.floats(0.5, 255)
    texts = {
        'data.source': st.sampled_from(
            ['digits', 'patterns', 'synthetic', 'folder:a b/ç', 'tfds:a/b:1.*.*']
        ),
        'data.mean': st.tuples(channel, channel, channel),
        'data.std': st.tuples(channel, channel, channel),
        'start.layers': st.sampled_from([(), ('fc8',), ('conv1', 'conv2')]),
        'optimizer.layer_rates': st.sampled_from([{}, {'fc8': 10.0}, {'conv1': 0.0, 'fc8': 0.5}]),
        'train.profile': st.lists(st.integers(1, 2**31 - 1), min_size=2, max_size=2).map(
            lambda steps: f'{min(steps)}:{max(steps)}'
        ),
        'train.log_to': st.sampled_from([(), ('wandb',), ('tensorboard', 'wandb')]),
    }
    anything = st.text(st.characters(exclude_categories=['Cs', 'Cc']), max_size=20)
    return texts.get(name, anything)


# Settings of which not all that are allowed alone are allowed together.
TOGETHER = (
    'network.name', 'network.input_size', 'network.width', 'network.activation', 'data.record_size',
    'data.batch_size', 'data.normalization', 'data.mean', 'data.std', 'train.micro_batches',
    'mesh.data', 'mesh.column', 'start.layers', 'optimizer.layer_rates',
)  # fmt: skip
ALONE = [name for name in SETTINGS if name not in TOGETHER]


@st.composite
def sound_changes(draw) -> dict:
    """Settings that are allowed together."""
    names = draw(st.lists(st.sampled_from(ALONE), unique=True))
    changes = {name: draw(values_of(name)) for name in names}
    changes['data.normalization'] = draw(values_of('data.normalization'))
    changes['data.batch_size'] = draw(st.integers(1, 500)) * 4
    changes['train.micro_batches'] = draw(st.sampled_from([1, 2, 4]))
    changes['mesh.column'] = draw(st.sampled_from([0, 1, 2]))
    if changes['data.normalization'] == 'standardized':
        changes |= {name: draw(values_of(name)) for name in ('data.mean', 'data.std')}
    changes['network.input_size'] = draw(st.sampled_from([0, 65, 224]))
    changes['data.record_size'] = draw(st.integers(256, 4096))
    return changes


@pytest.mark.thorough
@some
@given(changes=sound_changes())
def test_a_configuration_comes_back_from_text_and_from_a_workdir(changes, tmp_path_factory):
    config = configuration.complete(changes, {})
    values = configuration.flat(config)
    assert all(values[name] == value for name, value in changes.items())
    texts = {name: as_text(name, value) for name, value in values.items()}
    assert configuration.complete({}, texts) == config
    path = tmp_path_factory.getbasetemp() / 'config.json'
    path.write_text(json.dumps(kept_config.to_tree(config)))
    again = kept_config.read_workdir(path)
    assert again == config
    assert all(type(value) is type(SETTINGS[name].default) for name, value in values.items())


@many
@given(data=st.data(), name=st.sampled_from(sorted(SETTINGS)))
def test_the_text_of_a_value_is_the_value(data, name):
    value = data.draw(values_of(name))
    kind = type(SETTINGS[name].default)
    assert type(value) is kind and SETTINGS[name].rule.allows(value)
    assert from_text(name, as_text(name, value)) == value


# Augmentation


def picture(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    return random.integers(0, 256, (height, width, 3), dtype=np.uint8)


@many
@given(seed=SEEDS, first=st.integers(0, 2**40), size=st.integers(1, 30), more=st.integers(0, 40))
def test_a_crop_is_a_window_of_the_image(seed, first, size, more):
    image = picture(np.random.default_rng(seed), size + more, size + more)
    draws = augment.draw(seed, first, 4)
    windows = np.lib.stride_tricks.sliding_window_view(image, (size, size, 3))[:, :, 0]
    for top, left in augment.crop_offsets(draws.crops, size + more, size).tolist():
        assert 0 <= top <= more and 0 <= left <= more
        crop = augment.crop(image, top, left, size)
        np.testing.assert_array_equal(crop, windows[top, left])


@many
@given(seed=SEEDS, size=st.integers(1, 30), down=st.integers(0, 9), right=st.integers(0, 9))
def test_ten_views_are_four_corners_the_middle_and_their_mirror_images(seed, size, down, right):
    image = picture(np.random.default_rng(seed), size + down, size + right)
    middle = image[down // 2 : down // 2 + size, right // 2 : right // 2 + size]
    five = [
        image[:size, :size], image[:size, right:], image[down:, :size], image[down:, right:], middle,
    ]  # fmt: skip
    views = augment.ten_views(image, size)
    np.testing.assert_array_equal(views, five + [view[:, ::-1] for view in five])
    np.testing.assert_array_equal(augment.ten_views(image, size, mirror=False), five + five)
    np.testing.assert_array_equal(augment.views(image, size, 1), [middle])


# Order and batches


@many
@given(count=st.integers(1, 3000), seed=SEEDS, epoch=st.integers(0, 10**6))
def test_every_pass_is_a_permutation_and_any_part_of_it_is_that_part(count, seed, epoch):
    places = epoch * count + np.arange(count)
    rows = shuffle.rows_at(places, count, seed)
    np.testing.assert_array_equal(np.sort(rows), np.arange(count))
    part = slice(seed % count, seed % count + 7)
    np.testing.assert_array_equal(shuffle.rows_at(places[part], count, seed), rows[part])


@functools.cache
def little_set() -> ImageSet:
    return synthetic_set(examples=37, classes=5, size=12, seed=3)


def batches(first: int, count: int, **options) -> list[pipeline.Batch]:
    stream = pipeline.train_batches(little_set(), size=8, first_step=first, **options)
    made = list(itertools.islice(stream, count))
    stream.close()
    return made


@some
@given(
    seed=SEEDS, size=st.integers(1, 50), first=st.integers(0, 5), ahead=st.integers(0, 4),
    threads=st.integers(0, 3), cut=st.integers(0, 50),
)  # fmt: skip
def test_a_batch_depends_on_its_seed_and_step_alone(seed, size, first, ahead, threads, cut):
    options = {'seed': seed, 'batch_size': size}
    straight = batches(0, first + ahead + 1, threads=0, **options)[-1]
    cut %= size + 1
    *_, upper = batches(first, ahead + 1, threads=threads, rows=slice(0, cut), **options)
    (lower,) = batches(first + ahead, 1, threads=threads, rows=slice(cut, size), **options)
    joined = jax.tree.map(lambda *parts: np.concatenate(parts), upper, lower)
    chex.assert_trees_all_equal(joined, straight)


# Schedules


def plain_rate(protocol: Protocol, group: int, rate: float, clock: schedule.Clock, step: int):
    """The rate of a group at a step, in Python's floats, by counting pieces one by one."""
    if protocol.reference_batch:
        rate = rate * clock.batch_size / protocol.reference_batch
    rate, epoch = rate * protocol.groups[group].rate, step * clock.batch_size / clock.epoch_size
    match protocol.groups[group].schedule:
        case Plateau():
            return rate
        case Steps(drops, unit):
            for start, factor in reversed(drops):
                if (step if unit == 'steps' else epoch) >= start:
                    return rate * factor
            return rate
        case ExponentialSteps(count, total):
            return rate / total ** (step * count // clock.steps / (count - 1))
        case WarmupPolynomial(epochs, power):
            warmup = math.ceil(epochs * clock.epoch_size / clock.batch_size)
            if step < warmup:
                return rate * (step + 1) / warmup
            return rate * (1 - min(1, (step - warmup) / max(1, clock.steps - warmup))) ** power
        case RampPolynomial(ramp_steps, start, power):
            if step < ramp_steps:
                return rate * (start + (1 - start) * step / ramp_steps)
            return rate * ((clock.steps - step) / clock.steps) ** power
    raise TypeError(f'unknown schedule {protocol.groups[group].schedule!r}')


CLOCKS = st.builds(
    schedule.Clock, steps=st.integers(4, 500_000), batch_size=st.integers(1, 2000),
    epoch_size=st.integers(1, 2_000_000),
)  # fmt: skip
RATES = st.floats(1e-6, 10)


@some
@given(name=st.sampled_from(sorted(PROTOCOLS)), clock=CLOCKS, rate=RATES, random=RANDOMS)
def test_rates_are_the_protocol_s_and_those_that_step_down_never_rise(name, clock, rate, random):
    protocol = PROTOCOLS[name]
    steps = np.unique(random.integers(0, clock.steps, 6))
    table = np.array([
        jax.device_get(schedule.rates(protocol, rate, 3, clock, int(step), schedule.start()))
        for step in steps
    ])  # fmt: skip
    for group, rates in zip(protocol.groups, table.T, strict=True):
        number = protocol.groups.index(group)
        expected = [plain_rate(protocol, number, rate, clock, step) for step in steps.tolist()]
        np.testing.assert_allclose(rates, expected, rtol=2e-5, atol=1e-6 * max(expected))
        if not isinstance(group.schedule, WarmupPolynomial | RampPolynomial):
            assert (np.diff(rates) <= 0).all()


def single(number: float) -> float:
    """The nearest that 32 bits hold: the rule compares these."""
    return struct.unpack('f', struct.pack('f', number))[0]


ERRORS = st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.9]) | st.floats(0, 1) | st.just(math.nan))


@many
@given(errors=ERRORS, patience=st.integers(1, 4), drops=st.integers(0, 5), rate=RATES)
def test_the_plateau_rule_is_that_of_a_loop_over_floats(errors, patience, drops, rate):
    best, waited, times, state = math.inf, 0, 0, schedule.start()
    clock = schedule.Clock(100, 1, 1)
    for number, error in enumerate(errors, start=1):
        state = schedule.observe(state, error, number, patience)
        waited += 1
        if single(error) < best:
            best, waited = single(error), 0
        if waited == patience:
            times, waited = times + 1, 0
        found = (float(state.best_error), int(state.stale), int(state.drops))
        assert found == (best, waited, times)
        assert int(state.validations) == number
        assert schedule.finished(state, drops) == (times > drops)
    (found,) = schedule.rates(PROTOCOLS['paper'], rate, drops, clock, 0, state)
    np.testing.assert_allclose(found, rate * 0.1 ** min(times, drops), rtol=1e-6)
