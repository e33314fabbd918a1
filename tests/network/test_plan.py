"""Paper calculations, done again by hand."""

import re
from pathlib import Path

import pytest

from alexnet_jax.network.architectures import ARCHITECTURES, PAPER
from alexnet_jax.runtime.errors import InputError
from benchmarks import plan
from benchmarks.plan import Machine, report, ways

PARAMETERS, CONVOLUTIONS = 60_965_224, 2_334_080
FLAT = Machine(image_rate=1000, memory=26e6, link=1e6, network=1e6, host=1024, round=0)


def way(name, devices, images, machine, net=PAPER):
    return next(step for step in ways(net, 1000, devices, images, machine) if step.way == name)


def test_computing():
    """1000 images/s and a million parameters updated a second; on four devices a quarter
    of the images each. Training takes 4.1356 GFLOP an image, its forward pass 1.4488."""
    alone = way('data', 1, 8, FLAT)
    assert alone.forward + alone.backward == pytest.approx(8e-3)
    assert alone.forward == pytest.approx(8e-3 * 1.4488 / 4.1356, rel=1e-4)
    assert alone.update == pytest.approx(PARAMETERS / 1e6)
    assert alone.seconds(True) == alone.seconds(False) == alone.computing
    for name, held in (('data', PARAMETERS), ('gather', 30_483_112), ('scatter', 30_483_112),
                       ('hybrid', CONVOLUTIONS + (PARAMETERS - CONVOLUTIONS) / 4)):  # fmt: skip
        step = way(name, 4, 8, FLAT)
        assert step.forward + step.backward == pytest.approx(2e-3)
        assert step.update == pytest.approx(held / 1e6)


def test_bytes_over_bandwidth():
    """All devices on one host, so seconds are millions of bytes."""
    expected = {
        'data': (2 * 3 / 4 * 4 * PARAMETERS, 0),
        'gather': (2 * 1 / 2 * 4 * 30_483_112, 4 * 230_304),
        'scatter': (2 * 1 / 2 * 4 * 30_483_112, 4 * 209_824),
        'hybrid': (2 * 3 / 4 * 4 * CONVOLUTIONS, 2 * 3 / 4 * 4 * 8 * (9216 + 4096 + 1000)),
    }
    for name, (gradients, activations) in expected.items():
        step = way(name, 4, 8, FLAT)
        assert step.gradient_bytes == pytest.approx(gradients, rel=1e-6)  # and 16 of scores
        assert step.activation_bytes == activations
        assert step.gradients == pytest.approx(gradients / 1e6)
        assert step.activations == pytest.approx(activations / 1e6)


def test_hosts_and_rounds():
    """Two hosts of four: three quarters of the bytes go round the link, each way, and of a
    quarter one half to the other host; a gather among eight takes three rounds."""
    machine = Machine(image_rate=1000, memory=26e6, link=2e6, network=1e6, host=4, round=1)
    step = way('data', 8, 8, machine)
    whole = 4 * PARAMETERS / 1e6
    assert step.gradients == pytest.approx(2 * (whole * 3 / 4 / 2 + whole / 4 / 2 + 3))
    # Of columns two share a host: half of the bytes by link, of a half one half further.
    step = way('gather', 8, 8, machine)
    whole = 4 * 30_483_112 / 1e6
    assert step.gradients == pytest.approx(2 * (whole / 2 / 2 + whole / 2 / 2 + 2))
    # Three gathers, as many scatters, and a sum, which is both.
    assert step.activations == pytest.approx(2 * 230_304 / 2e6 + 3 + 3 + 2)


def test_gradients_hide_behind_the_backward_pass():
    step = way('data', 4, 8, FLAT)
    assert step.seconds(False) == step.computing + step.gradients
    assert step.seconds(True) == pytest.approx(step.seconds(False) - step.backward)
    fast = Machine(image_rate=1000, memory=26e6, link=1e12, network=1e12, host=1024, round=0)
    assert way('data', 4, 8, fast).seconds(True) == way('data', 4, 8, fast).computing


def test_nets_without_columns_or_fully_connected_layers():
    def names(name):
        return [step.way for step in ways(ARCHITECTURES[name], 10, 8, 64, Machine())]

    assert names('paper') == ['data', 'gather', 'scatter', 'hybrid']
    assert names('half') == ['data', 'hybrid']
    assert names('cifar18') == ['data']
    for name in ('half', 'cifar18', 'batchnorm227'):
        assert report(ARCHITECTURES[name], 10, Machine(), 64, 128)


def test_the_verdicts():
    """With nothing to send it always pays; with a wire of 1 kB/s never."""
    free = Machine(link=1e18, network=1e18, round=0)
    text = '\n'.join(report(PAPER, 1000, free, 1024, 128))
    assert text.count('efficiency of a half up to 1024 devices') == 2
    dear = Machine(link=1e3, network=1e3)
    text = '\n'.join(report(PAPER, 1000, dear, 1024, 128))
    assert text.count('efficiency of a half up to 1 device,') == 4


def test_the_page_on_scaling_shows_what_the_command_prints(capsys):
    page = Path('docs/scaling.md').read_text()
    commands = re.findall(r'    \$ python benchmarks/plan.py (.+)\n((?:    .*\n|\n)+)', page)
    assert len(commands) == 2
    for arguments, shown in commands:
        plan.run(arguments.split())
        assert re.sub('^    ', '', shown, flags=re.M).strip() == capsys.readouterr().out.strip()


@pytest.mark.parametrize(('arguments', 'message'), [
    (['papr'], 'papr'),
    (['paper', '--batch', '12'], '--batch is 12; allowed: a multiple of 8'),
    (['paper', '--link', '0'], '--link is 0.0; allowed: above 0'),
    (['paper', '--network', 'nan'], '--network is nan'),
    (['paper', '--host_devices', '6'], '--host_devices is 6; allowed: a power of two'),
])  # fmt: skip
def test_plans_that_cannot_be(arguments, message):
    with pytest.raises(InputError, match=message):
        plan.run(arguments)
