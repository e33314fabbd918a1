"""Receptive fields by arithmetic, beside published ones and beside the pixels that reach a unit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.network import __main__ as command
from alexnet_jax.network import inference
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.architectures import ARCHITECTURES, architecture
from alexnet_jax.network.layers import Architecture, Conv, Dense, MaxPool, Output, Relu
from alexnet_jax.network.receptive_fields import receptive_fields
from alexnet_jax.runtime.command_line import BAD_INPUT
from tests.network import parity

# Kernels that padding alone feeds, pixels that nothing reads, and a pool that overhangs by 2.
ODD = Architecture('odd', 23, 1, (
    Conv('conv1', 4, kernel=4, stride=3, padding=(1, 0), then=(Relu(), MaxPool(5, 3))),
    Conv('conv2', 4, kernel=2, padding=(3, 2)),
    Dense('fc3', 8),
), Output('fc4'))  # fmt: skip


def assert_fields_are_what_reaches_units(table: Architecture) -> None:
    """One image a place on the diagonal, NaN there: what depends on the pixel is NaN. Unlike a
    gradient, NaN passes units at rest and pools that take another unit."""
    net, size = AlexNet(table, 2), table.input_size
    variables = jax.tree.map(
        lambda like: np.full(like.shape, 0.01, np.float32), inference.variable_shapes(net)
    )
    places = np.arange(size)
    images = np.zeros((size, size, size, 3), np.float32)
    images[places, places, places] = np.nan

    @lambda run: jax.jit(run, compiler_options=parity.QUICK)
    def reached(images):
        """[pixel, units, units], or [pixel] of fully connected layers."""
        activations = net.apply(variables, images)[1]
        return {name: jnp.isnan(x).any(-1) for name, x in activations.items()}

    found = reached(images)
    fields = receptive_fields(table)
    assert found.keys() == fields.keys()
    for name, field in fields.items():
        reach = np.zeros((size, field.units), bool)
        for unit in range(field.units):
            reach[field.pixels(unit), unit] = True
        expected = reach[:, :, None] & reach[:, None, :]
        shape = np.shape(found[name])
        np.testing.assert_array_equal(found[name], expected.reshape(shape), err_msg=name)


@pytest.mark.parametrize(
    'table', [ODD, architecture('cifar18', width=0.25)], ids=['odd', 'cifar18']
)
def test_fields_are_the_pixels_that_reach_a_unit(table):
    assert_fields_are_what_reaches_units(table)


@pytest.mark.thorough
@pytest.mark.parametrize('name', ARCHITECTURES)
def test_fields_of_every_net_are_the_pixels_that_reach_a_unit(name):
    small = ARCHITECTURES[name].input_size < 100
    width = 0.5 if small else 0.125
    assert_fields_are_what_reaches_units(architecture(name, 0 if small else 99, width))


@pytest.mark.slow
@pytest.mark.parametrize('name', ['paper', 'krizhevsky2012', 'caffe', 'torchvision'])
def test_at_their_own_size(name):
    assert_fields_are_what_reaches_units(architecture(name, width=0.125))


def test_published_fields():
    """Of the last pool, Araujo, Norris and Sim (2019), Table 1, AlexNet: 195 pixels, 32 apart. They
    pad by 64: conv1 has no padding, the others 2, 1, 1 and 1."""
    field = receptive_fields(ARCHITECTURES['caffe'])['conv5/pool']
    assert (field.size, field.stride, field.start) == (195, 32, -64)
    assert field.center == -64 + 97


def test_a_unit_that_is_not_there():
    field = receptive_fields(ODD)['conv1']
    assert field.pixels(0) == range(0, 3)  # the padding before cuts its first
    for unit in (-1, field.units):
        with pytest.raises(ValueError, match=f'unit is {unit}; expected: from 0 to 6'):
            field.pixels(unit)


def test_they_are_printed(capsys):
    """As worked out by hand: 27 units of 3 · 4 − 4 + 11 = 19 pixels, 8 apart."""
    assert command.main(['paper', '--fields']) == 0
    rows = {
        line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line
    }
    assert rows['conv1/pool'] == ['27', '19', '8', '0', '9.0', '0–18', '208–223']
    assert rows['fc6'] == ['1', '355', '–', '-64', '113.0', '0–223', '0–223']


@pytest.mark.parametrize('words', [['--fields'], ['paper', '--fields', '--mesh=1x2', '--batch=2']])
def test_they_are_of_one_net(words, capsys):
    assert command.main(words) == BAD_INPUT
    assert '--fields is of one net' in capsys.readouterr().err
