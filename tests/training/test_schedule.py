import jax
import jax.numpy as jnp
import pytest

from alexnet_jax.training import optimizer, protocols, schedule
from alexnet_jax.training.protocols import PROTOCOLS

IMAGENET = 1_281_167


def rates(name: str, steps, clock: schedule.Clock, plateau=None, learning_rate=0.01) -> list[dict]:
    """The rate of each group, at each of the steps."""
    protocol, plateau = PROTOCOLS[name], plateau or schedule.start()
    values = jax.vmap(
        lambda step: jnp.stack(schedule.rates(protocol, learning_rate, 3, clock, step, plateau))
    )(jnp.asarray(steps, jnp.int32))
    names = [group.name for group in protocol.groups]
    return [dict(zip(names, row, strict=True)) for row in values.tolist()]


# By hand from the authors' diaries (layer-params-145.cfg and so on): epochs in all and with a color
# shift; in the last epoch before each entry and the first after it the rates of weights, conv1's
# weights and conv1's biases. Other biases are at 0.02 throughout.
DIARIES = [
    ('diary', 91, 67, {
        0: (1e-2, 1e-2, 0.02), 24: (1e-2, 1e-2, 0.02), 25: (1e-3, 1e-3, 0.02), 50: (1e-3, 1e-3, 0.02),
        51: (1e-4, 1e-4, 0.02), 66: (1e-4, 1e-4, 0.02), 67: (1e-4, 1e-5, 0.02),
        71: (1e-4, 1e-5, 0.02), 72: (1e-4, 0, 0), 78: (1e-4, 0, 0), 79: (1e-5, 0, 0),
        90: (1e-5, 0, 0),
    }),
    ('diary_half', 96, 66, {
        0: (1e-2, 1e-2, 0.02), 19: (1e-2, 1e-2, 0.02), 20: (1e-3, 1e-3, 0.02), 47: (1e-3, 1e-3, 0.02),
        48: (1e-4, 1e-4, 0.02), 65: (1e-4, 1e-4, 0.02), 66: (1e-4, 1e-5, 0.02),
        71: (1e-4, 1e-5, 0.02), 72: (1e-4, 0, 0), 95: (1e-4, 0, 0),
    }),
    ('diary_non_overlapping', 90, 0, {
        0: (1e-2, 1e-2, 0.02), 22: (1e-2, 1e-2, 0.02), 23: (1e-3, 1e-3, 0.02), 50: (1e-3, 1e-3, 0.02),
        51: (1e-4, 1e-4, 0.02), 78: (1e-4, 1e-4, 0.02), 79: (1e-5, 0, 0), 89: (1e-5, 0, 0),
    }),
    ('diary_no_lrn', 97, 69, {
        0: (1e-2, 1e-2, 0.02), 21: (1e-2, 1e-2, 0.02), 22: (1e-3, 1e-3, 0.02), 43: (1e-3, 1e-3, 0.02),
        44: (1e-4, 1e-4, 0.02), 68: (1e-4, 1e-4, 0.02), 69: (1e-4, 1e-5, 0.02),
        72: (1e-4, 1e-5, 0.02), 73: (1e-4, 0, 0), 85: (1e-4, 0, 0), 86: (1e-5, 0, 0),
        96: (1e-5, 0, 0),
    }),
    ('diary_no_communication', 92, 66, {
        0: (1e-2, 1e-2, 0.02), 24: (1e-2, 1e-2, 0.02), 25: (1e-3, 1e-3, 0.02), 48: (1e-3, 1e-3, 0.02),
        49: (1e-4, 1e-4, 0.02), 65: (1e-4, 1e-4, 0.02), 66: (1e-4, 1e-5, 0.02),
        71: (1e-4, 1e-5, 0.02), 72: (1e-4, 0, 0), 78: (1e-4, 0, 0), 79: (1e-5, 0, 0),
        91: (1e-5, 0, 0),
    }),
    ('diary_six_conv', 54, 38, {
        0: (1e-3, 1e-4, 0.02), 4: (1e-3, 1e-4, 0.02), 5: (1e-3, 1e-5, 0.02), 6: (1e-3, 1e-5, 0.02),
        7: (1e-3, 0, 0), 21: (1e-3, 0, 0), 22: (1e-4, 0, 0), 41: (1e-4, 0, 0), 42: (1e-5, 0, 0),
        53: (1e-5, 0, 0),
    }),
]  # fmt: skip


@pytest.mark.parametrize(
    ('name', 'epochs', 'color_epochs', 'entries'), DIARIES, ids=[row[0] for row in DIARIES]
)
@pytest.mark.parametrize('epoch_size', [IMAGENET, 1197])
def test_diaries_at_each_of_their_entries(name, epochs, color_epochs, entries, epoch_size):
    """In the first and the last update that begins within an epoch."""
    assert PROTOCOLS[name].settings == {'train.epochs': epochs, 'data.color_epochs': color_epochs}
    clock = schedule.Clock(epochs * epoch_size // 128, 128, epoch_size)
    first = [-(-epoch * epoch_size // 128) for epoch in entries]
    last = [-(-(epoch + 1) * epoch_size // 128) - 1 for epoch in entries]
    for steps in (first, last):
        for epoch, ours in zip(entries, rates(name, steps, clock), strict=True):
            assert ('fc8 weights' in ours) == (name == 'diary_six_conv')
            ours.pop('fc8 weights', None)
            weights, conv1, conv1_biases = entries[epoch]
            expected = {
                'conv1 weights': conv1, 'conv1 biases': conv1_biases,
                'weights': weights, 'biases': 0.02,
            }  # fmt: skip
            assert ours == {
                group: pytest.approx(rate, rel=1e-6) for group, rate in expected.items()
            }, epoch


def test_the_new_classifier_of_the_warm_start():
    """fc8 by hand: 300 data batches of 1,024 images are 2,400 steps of 128; then the diary's epochs."""
    clock = schedule.Clock(54 * IMAGENET // 128, 128, IMAGENET)
    by_step = [(0, 1e-3), (2399, 1e-3), (2400, 1e-2)]
    by_epoch = [(9, 1e-3), (22, 1e-4), (42, 1e-5)]
    for before, (epoch, rate) in zip((1e-2, 1e-3, 1e-4), by_epoch, strict=True):
        at = -(-epoch * IMAGENET // 128)
        by_step += [(at - 1, before), (at, rate)]
    ours = rates('diary_six_conv', [step for step, _ in by_step], clock)
    assert [row['fc8 weights'] for row in ours] == pytest.approx([rate for _, rate in by_step])


def test_which_parameters_a_diary_s_groups_take():
    protocol = PROTOCOLS['diary_six_conv']
    key = jax.tree_util.DictKey

    def group(layer: str, part: str) -> tuple[str, float]:
        found = protocol.groups[optimizer.group_of(protocol, (key(layer), key(part)))]
        return found.name, found.decay

    assert group('conv1', 'kernel') == ('conv1 weights', 1)
    assert group('conv1', 'bias') == ('conv1 biases', 0)
    assert group('fc8', 'kernel') == ('fc8 weights', 1)
    assert {group(layer, 'kernel') for layer in ('conv2', 'conv6', 'fc7')} == {('weights', 1)}
    assert {group(layer, 'bias') for layer in ('conv2', 'conv6', 'fc8')} == {('biases', 0)}


def torchvision(epoch: int) -> dict[str, float]:
    return {'all': 0.01 / 10 ** (epoch // 30)}


def cifar18(epoch: int) -> dict[str, float]:
    weights = 0.001 if epoch < 120 else 0.0001 if epoch < 130 else 0.00001
    return {'fc10 weights': weights, 'weights': weights, 'biases': 2 * weights}


BY_EPOCH = [
    ('torchvision', 90, 0.01, torchvision),
    ('cifar18', 140, 0.001, cifar18),
    ('constant', 90, 0.03, lambda epoch: {'all': 0.03}),
]


@pytest.mark.parametrize(('name', 'epochs', 'rate', 'expected'), BY_EPOCH, ids=lambda x: str(x)[:9])
@pytest.mark.parametrize('epoch_size', [IMAGENET, 1197])
def test_rates_by_epoch(name, epochs, rate, expected, epoch_size):
    """In the first and the last update that begins within an epoch."""
    clock = schedule.Clock(epochs * epoch_size // 128, 128, epoch_size)
    first = [-(-epoch * epoch_size // 128) for epoch in range(epochs + 1)]
    last = [step - 1 for step in first[1:]]
    for steps in (first[:-1], last):
        for epoch, ours in enumerate(rates(name, steps, clock, learning_rate=rate)):
            assert ours == {
                group: pytest.approx(value, rel=1e-6) for group, value in expected(epoch).items()
            }, epoch


def test_caffe_s_rates_by_step():
    clock = schedule.Clock(450_000, 256, IMAGENET)
    table = [(0, 1e-2), (99_999, 1e-2), (100_000, 1e-3), (199_999, 1e-3), (200_000, 1e-4),
             (300_000, 1e-5), (399_999, 1e-5), (400_000, 1e-6), (449_999, 1e-6)]  # fmt: skip
    ours = rates('caffe', [step for step, _ in table], clock)
    assert ours == [
        {'weights': pytest.approx(rate), 'biases': pytest.approx(2 * rate)} for _, rate in table
    ]


def test_cuda_convnet2_s_rates_by_quarter():
    """Four rates from ε to ε / 250; biases two, from 2 ε to 2 ε / 10."""
    clock = schedule.Clock(1000, 128, IMAGENET)
    quarters = [0.01, 0.01 / 250 ** (1 / 3), 0.01 / 250 ** (2 / 3), 0.01 / 250]
    for step, ours in enumerate(rates('one_weird_trick', range(1000), clock)):
        assert ours['weights'] == pytest.approx(quarters[step // 250]), step
        assert ours['biases'] == pytest.approx(0.02 if step < 500 else 0.002), step


def test_the_linear_schedule_falls_to_nothing_at_the_end_of_the_run():
    """ε (1 − step / steps), whatever the set and the errors are."""
    clock = schedule.Clock(12, 128, 640)
    ours = [row['all'] for row in rates('linear', range(12), clock, learning_rate=0.012)]
    assert ours == pytest.approx([0.012, 0.011, 0.010, 0.009, 0.008, 0.007, 0.006, 0.005, 0.004,
                                  0.003, 0.002, 0.001])  # fmt: skip


def test_large_batches_warm_up_and_fall_as_a_square():
    """5 of 100 epochs of 10 steps; ε grows with the batch."""
    clock = schedule.Clock(1000, 512, 5120)
    full = 0.25 * 512 / 256
    by_step = rates('large_batch', range(1000), clock, learning_rate=0.25)
    for step in (0, 1, 24, 49):
        assert by_step[step]['weights'] == pytest.approx(full * (step + 1) / 50)
    for step in (50, 51, 500, 999):
        assert by_step[step]['weights'] == pytest.approx(
            full * (1 - (step - 50) / 950) ** 2, rel=1e-4
        )
        assert by_step[step]['biases'] == pytest.approx(0.04 * by_step[step]['weights'])
    assert max(rate['weights'] for rate in by_step) == pytest.approx(full)


@pytest.mark.parametrize(('name', 'batch', 'full', 'ramp'), [
    ('alexnet_bn_8k', 8192, 10.0, 600),
    ('alexnet_bn_16k', 16384, 24.0, 400),
    ('alexnet_bn_32k', 32768, 32.0, 400),
])  # fmt: skip
def test_nvcaffe_s_ramp_and_polynomial(name, batch, full, ramp):
    """1 + (ε − 1) · step / ramp, then ε (1 − step / steps)², counted from the first step."""
    settings = PROTOCOLS[name].settings
    assert settings['optimizer.learning_rate'] == full
    assert (settings['data.batch_size'], settings['train.epochs']) == (batch, 100)
    steps = 100 * IMAGENET // batch
    clock = schedule.Clock(steps, batch, IMAGENET)
    expected = {
        **{step: 1 + (full - 1) * step / ramp for step in (0, 1, 100, ramp - 1)},
        **{
            step: full * (1 - step / steps) ** 2 for step in (ramp, ramp + 1, steps // 2, steps - 1)
        },
    }
    ours = [row['all'] for row in rates(name, list(expected), clock, learning_rate=full)]
    assert ours == pytest.approx(list(expected.values()), rel=1e-5)
    assert schedule.changes(PROTOCOLS[name].groups[0].schedule, clock) == [ramp]


def test_factors_on_layers_go_on_top_and_keep_the_schedule():
    protocol = protocols.with_layer_rates(protocols.DIARY, {'conv1': 0.5, 'fc8': 0.0})
    clock = schedule.Clock(100, 1, 1)
    values = schedule.rates(protocol, 0.01, 3, clock, jnp.int32(30), schedule.start())
    ours = {g.name: float(v) for g, v in zip(protocol.groups, values, strict=True)}
    assert protocol.groups[protocol.main_group].name == 'weights'
    # The first group that takes a parameter has it.
    names = [group.name for group in protocol.groups]
    assert names[:4] == ['conv1 weights', 'conv1 biases', 'fc8 weights', 'fc8 biases']
    first = [float(value) for value in values[:4]]
    assert first == pytest.approx([0.0005, 0.01, 0.0, 0.0])
    assert ours['weights'] == pytest.approx(0.001)
    assert protocol.groups[1].decay == 0


@pytest.mark.parametrize(('name', 'expected'), [
    # The first rates: what changes them lies beyond the last step.
    ('diary', [0.01, 0.02, 0.01, 0.02]),
    ('cifar18', [0.01, 0.01, 0.02]),
    ('torchvision', [0.01]),
    # 5 epochs of 2^31 − 1 steps: the warmup is a fifth done at the end.
    ('large_batch', [0.01 / 256 / 5, 0.04 * 0.01 / 256 / 5]),
])  # fmt: skip
def test_rates_that_change_beyond_the_last_step(name, expected):
    last = 2**31 - 1
    clock = schedule.Clock(last, 1, last)
    first, end = rates(name, [0, last - 1], clock)
    assert list(end.values()) == pytest.approx(expected, rel=1e-6)
    if name == 'large_batch':
        expected = [rate / last for rate in expected]
    assert list(first.values()) == pytest.approx(expected, rel=1e-6)
