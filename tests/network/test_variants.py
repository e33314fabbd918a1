import dataclasses

import pytest

from alexnet_jax.errors import InputError
from alexnet_jax.network.architectures import (
    ARCHITECTURES,
    KRIZHEVSKY2012,
    PAPER,
    TORCHVISION,
    architecture,
)
from alexnet_jax.network.layers import (
    ACTIVATIONS,
    Architecture,
    Conv,
    LocalResponseNorm,
    Maxout,
    Output,
    Relu,
    SameMapNorm,
)


def test_width_scales_features_and_keeps_the_scale_of_sums():
    half = architecture('krizhevsky2012', width=0.5)
    assert [row.features for row in half.layers] == [48, 128, 192, 192, 128, 2048, 2048]
    assert [row.features for row in KRIZHEVSKY2012.layers] == [96, 256, 384, 384, 256, 4096, 4096]
    # Half as many inputs: √2 times the standard deviation, but for conv1, which reads the image.
    stds = [row.std for row in (*half.layers, half.output)]
    assert stds[0] == 0.01
    assert stds[1:3] == pytest.approx([0.01 * 2**0.5, 0.03 * 2**0.5])
    assert stds[-1] == pytest.approx(0.01 * 2**0.5)
    assert all(row.std is None for row in architecture('torchvision', width=0.5).layers)


@pytest.mark.parametrize('name', ARCHITECTURES)
@pytest.mark.parametrize('width', [0.25, 0.37, 1.5, 2])
def test_every_net_can_be_had_in_other_widths(name, width):
    two_small_columns = ('small', 'patterns', 'patterns_no_communication')
    if name in two_small_columns and width < 0.3:  # normalisation needs five maps a column
        with pytest.raises(InputError, match=rf'conv1 of network {name} .* up to its 4 maps'):
            architecture(name, width=width)
        return
    net = architecture(name, width=width)
    for row, own in zip(net.layers, ARCHITECTURES[name].layers, strict=True):
        assert row.features == pytest.approx(own.features * width, abs=4)
        assert row.features % net.columns == 0


@pytest.mark.parametrize('name', ACTIVATIONS)
def test_an_activation_replaces_all_others(name):
    net = architecture('paper', activation=name)
    stages = [stage for row in net.layers for stage in row.then]
    assert stages.count(ACTIVATIONS[name]) == 7
    assert Relu() not in stages or name == 'relu'
    pieces = 2 if name == 'maxout' else 1
    own = [row.features for row in PAPER.layers]
    assert [row.features for row in net.layers] == [pieces * features for features in own]
    # Back again: the same table.
    assert architecture('paper') == PAPER


def net(*layers, columns=2) -> Architecture:
    return Architecture('mine', 32, columns, layers, Output('fc'))


def norm(**changes) -> tuple:
    return (dataclasses.replace(LocalResponseNorm(), **changes),)


BAD = [
    (lambda: net(Conv('c1', 7, 3)), 'c1 of network mine has 7 features; .* its 2 columns'),
    (lambda: net(Conv('c1', 96, 3), columns=5), 'c1 .* has 96 features; .* its 5 columns'),
    (lambda: net(Conv('c1', 8, 3, groups=2)), 'c1 .* has 3 maps read; .* its 2 groups'),
    (lambda: net(Conv('c1', 6, 3), Conv('c2', 6, 3, groups=3), columns=1), None),
    (lambda: net(Conv('c1', 6, 3), Conv('c2', 8, 3, groups=3), columns=1), 'c2 .* 3 groups'),
    (lambda: net(Conv('c1', 16, 3, then=norm(size=4))), 'normalisation over 4 maps; .* odd'),
    (lambda: net(Conv('c1', 8, 3, then=norm(size=5))), 'over 5 maps; .* up to its 4 maps'),
    (lambda: net(Conv('c1', 8, 3, then=norm(size=5, across_columns=True))), None),
    (lambda: net(Conv('c1', 8, 3, then=(SameMapNorm(size=2),))), 'over 2 pixels; .* odd'),
    (lambda: net(Conv('c1', 6, 3, then=(Maxout(2),))), 'has 3 features of a column; .* 2 maxout'),
    (lambda: net(Conv('c1', 0, 3)), 'c1 .* has 0 features'),
    (lambda: dataclasses.replace(TORCHVISION, columns=7), 'conv1 .* its 7 columns'),
]


@pytest.mark.parametrize(('make', 'message'), BAD)
def test_a_table_that_cannot_be_is_refused(make, message):
    if message is None:
        assert make().layers
        return
    with pytest.raises(InputError, match=message):
        make()
