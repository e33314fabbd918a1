import jax
import jax.numpy as jnp
import pytest

from alexnet_jax.training import protocols, schedule
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


def diary(epoch: int) -> dict[str, float]:
    """The authors' diary of net 145, as it reads; biases as their file was left."""
    weights = 0.01 if epoch < 25 else 0.001 if epoch < 51 else 0.0001 if epoch < 79 else 0.00001
    conv1 = weights if epoch < 67 else 0.00001 if epoch < 72 else 0.0
    conv1_biases = 0.02 if epoch < 72 else 0.0
    return {
        'conv1 weights': conv1, 'conv1 biases': conv1_biases, 'weights': weights, 'biases': 0.02,
    }  # fmt: skip


def torchvision(epoch: int) -> dict[str, float]:
    return {'all': 0.01 / 10 ** (epoch // 30)}


def cifar18(epoch: int) -> dict[str, float]:
    weights = 0.001 if epoch < 120 else 0.0001 if epoch < 130 else 0.00001
    return {'fc10 weights': weights, 'weights': weights, 'biases': 2 * weights}


BY_EPOCH = [
    ('diary', 91, 0.01, diary),
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
