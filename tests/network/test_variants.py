import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from alexnet_jax.network.alexnet import AlexNet
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
    AveragePool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    LeakyRelu,
    LocalResponseNorm,
    Maxout,
    MaxPool,
    Output,
    Relu,
    SameMapNorm,
)
from alexnet_jax.network.shapes import smallest_input
from alexnet_jax.runtime.errors import InputError


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
    first = ARCHITECTURES[name].layers[0]
    maps = first.features * width / ARCHITECTURES[name].columns
    if maps < 5 and LocalResponseNorm() in first.then:  # it needs five maps a column
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
    (lambda: net(Conv('c1', 16, 3, then=norm(size=4))), 'normalization over 4 maps; .* odd'),
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


NAN, INF = float('nan'), float('inf')


def one(row=None, *stages, **changes) -> Architecture:
    """A net whose only row, or the stages of it, are these."""
    row = row or Conv('c1', 16, 3, then=stages or (Relu(),))
    return net(dataclasses.replace(row, **changes))


def table(**changes) -> Architecture:
    return dataclasses.replace(net(Conv('c1', 16, 3)), **changes)


# What is given, and the message: the row, the field, the value, what is allowed.
FIELDS = [
    *(({'name': name}, r'name .*; allowed: a letter, then up to 63 letters, digits')
      for name in ('', 'a/b', 'conv1_norm', '1st', '_c', 'a b', 'a\n', 'ä', 'a' * 65, 3, None,
                   'normalization')),
    *(({'features': features}, rf'c1 of network mine has features {features}; allowed: a whole number')
      for features in (16.0, True, None)),
    ({'features': 10**12}, 'features 1000000000000'),
    ({'features': -16}, 'has -16 features; allowed: a multiple of its 2 columns'),
    *(({'kernel': kernel}, rf'kernel {kernel}; allowed: a whole number from 1 to 4096')
      for kernel in (0, -3, 3.0, 10**9, False)),
    *(({'stride': stride}, f'stride {stride}; allowed: a whole number from 1') for stride in (0, -1, NAN)),
    *(({'padding': padding}, 'padding .*; allowed: a pair of whole numbers from 0 to 4096')
      for padding in ((-1, 0), (0, -1), (1,), (1, 1, 1), [1, 1], 1, (1.0, 1), (10**9, 0))),
    *(({'groups': groups}, f'groups {groups}; allowed: a whole number from 1') for groups in (0, -1, 1.0)),
    *(({'std': std}, f'std {std}; allowed: a finite number from 0 on, or None')
      for std in (-0.01, NAN, INF, True)),
    ({'std': 1e300}, 'std 1e[+]300; allowed'),
    ({'std': 10**400}, 'std 1000'),
    ({'std': 'x'}, "std 'x'"),
    *(({'bias': bias}, f'bias {bias}; allowed: a finite number') for bias in (NAN, -INF, None)),
    *(({'reads_all': value}, f'reads_all {value}; allowed: True or False') for value in (1, None)),
    ({'then': [Relu()]}, 'then .*; allowed: a tuple of stages'),
    ({'then': ('relu',)}, "c1 of network mine has 'relu' in the table; allowed: Relu, Tanh"),
    ({'then': (Relu,)}, 'allowed: Relu, Tanh'),
    ({'then': (Relu(), MaxPool(), Relu())}, 'c1 .* has two stages called relu'),
    ({'then': (MaxPool(), AveragePool())}, 'c1 .* has two stages called pool'),
    ({'then': (BatchNorm(), BatchNorm())}, 'c1 .* has two stages called batch_norm'),
]  # fmt: skip


@pytest.mark.parametrize(('changes', 'message'), FIELDS)
def test_a_field_of_a_row_that_cannot_be(changes, message):
    with pytest.raises(InputError, match=message) as raised:
        one(**changes)
    assert len(str(raised.value).splitlines()) == 1


STAGES = [
    *((LeakyRelu(slope), f'in LeakyRelu has slope {slope}; allowed: a finite') for slope in (NAN, INF)),
    *((Maxout(pieces), f'in Maxout has pieces {pieces}; allowed: a whole number from 1')
      for pieces in (0, -2, 2.0)),
    *((norm(k=k)[0], f'in LocalResponseNorm has k {k}; allowed: a finite number above 0')
      for k in (0, -1, NAN, INF, 1e-60)),
    *((norm(alpha=alpha)[0], f'has alpha {alpha}; allowed: a finite number from 0') for alpha in (-1, NAN, INF)),
    *((norm(beta=beta)[0], f'has beta {beta}; allowed: a finite number') for beta in (NAN, INF, None)),
    *((norm(size=size)[0], f'has size {size}; allowed: a whole number from 1') for size in (0, -5, 5.0)),
    *((norm(across_columns=value)[0], f'has across_columns {value}') for value in (1, None)),
    (norm(alpha_divided='yes')[0], "has alpha_divided 'yes'; allowed: True or False"),
    *((SameMapNorm(size=size), f'in SameMapNorm has size {size}') for size in (0, -3, 65)),
    (SameMapNorm(k=0), 'in SameMapNorm has k 0'),
    (SameMapNorm(alpha=NAN), 'has alpha nan'),
    *((BatchNorm(epsilon=epsilon), f'in BatchNorm has epsilon {epsilon}; allowed: a finite number above 0')
      for epsilon in (0, -1e-3, NAN)),
    *((BatchNorm(momentum=momentum), f'has momentum {momentum}; allowed: a number from 0 to below 1')
      for momentum in (-0.1, 1, 1.5, NAN)),
    *((Dropout(rate), f'in Dropout has rate {rate}; allowed: a number from 0 to below 1')
      for rate in (-0.5, 1, 1.0, 2, NAN)),
    *((pool(size, stride), f'{pool.__name__} of stride {stride} over {size}×{size}; allowed: a stride from 1 to {size}')
      for pool in (MaxPool, AveragePool) for size, stride in ((2, 3), (1, 2), (3, 5))),
    *((pool(size, stride), f'in {pool.__name__} has (size|stride) [-0-9.]+; allowed: a whole number from 1 to 64')
      for pool in (MaxPool, AveragePool) for size, stride in ((0, 1), (3, 0), (-2, 1), (2, -1), (2.0, 1), (10**6, 1))),
]  # fmt: skip


@pytest.mark.parametrize(('stage', 'message'), STAGES)
def test_a_stage_that_cannot_be(stage, message):
    with pytest.raises(InputError, match=f'c1 of network mine.*{message}'):
        one(None, stage)


TABLES = [
    ({'columns': 0}, 'network mine has columns 0; allowed: a whole number from 1'),
    ({'columns': -1}, 'has columns -1'),
    ({'columns': 2.0}, 'has columns 2.0'),
    ({'input_size': 0}, 'network mine has input_size 0; allowed: a whole number from 1 to 4096'),
    ({'input_size': -28}, 'has input_size -28'),
    ({'input_size': 28.0}, 'has input_size 28.0'),
    ({'input_size': 10**6}, 'has input_size 1000000'),
    ({'name': None}, 'a network has name None; allowed: a text'),
    ({'name': 'a\nb'}, 'allowed: a text of one line'),
    ({'layers': ()}, 'network mine has layers .*; allowed: a tuple of at least one row'),
    ({'layers': [Conv('c1', 16, 3)]}, 'has layers'),
    ({'layers': (Conv('c1', 16, 3), Conv('c1', 16, 3))}, 'network mine has two rows c1'),
    ({'layers': (Conv('c1', 16, 3), Dense('fc', 16))}, 'network mine has two rows fc'),
    ({'layers': (Relu(),)}, 'a row of network mine has Relu.* in the table; allowed: Conv, Dense'),
    ({'layers': (Output('c1'),)}, 'allowed: Conv, Dense'),
    ({'layers': ('conv1',)}, "has 'conv1' in the table"),
    ({'layers': (None,)}, 'has None in the table'),
    ({'layers': (Dense('f1', 8), Conv('c1', 8, 3))}, 'c1 .* is a Conv row above a Dense row'),
    ({'layers': (Dense('f1', 8, then=(MaxPool(),)),)}, 'f1 .* has the stage MaxPool, but no maps'),
    ({'layers': (Dense('f1', 8, then=(SameMapNorm(),)),)}, 'the stage SameMapNorm, but no maps'),
    ({'layers': (Dense('f1', 7),)}, 'f1 .* has 7 features; .* its 2 columns'),
    ({'output': Dense('fc', 10)}, 'fc of network mine has Dense.* in the table; allowed: Output'),
    ({'output': None}, 'has None in the table; allowed: Output'),
    ({'output': Output('fc', std=NAN)}, 'fc of network mine has std nan'),
    ({'output': Output('fc', bias=INF)}, 'fc of network mine has bias inf'),
    ({'output': Output('fc/8')}, 'fc/8 of network mine has name'),
]  # fmt: skip


@pytest.mark.parametrize(('changes', 'message'), TABLES)
def test_rows_that_cannot_stand_together(changes, message):
    with pytest.raises(InputError, match=message):
        table(**changes)


@pytest.mark.parametrize('name', ['apply', 'classes', 'params', 'parent', 'kernel', 'c-1', 'C_1'])
def test_any_other_name_runs(name):
    """Names of the module's own fields and methods too."""
    module = AlexNet(one(Conv(name, 16, 3, then=(Relu(), BatchNorm()))), 4)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert set(shapes['params']) == {name, f'{name}_norm', 'fc'}


@pytest.mark.parametrize('width', [0, -1, NAN, INF, '1'])
def test_a_width_that_cannot_be(width):
    with pytest.raises(InputError, match=r'network paper has width .*; allowed: a finite number'):
        architecture('paper', width=width)


def test_names_that_are_not_there():
    with pytest.raises(InputError, match="network is 'papr'; allowed: one of paper, "):
        architecture('papr')
    with pytest.raises(InputError, match="activation is 'gelu'; allowed: one of relu, "):
        architecture('paper', activation='gelu')


def test_a_normalization_that_follows_a_fully_connected_layer_runs():
    """Over its units, as over maps."""
    stages = (Relu(), LocalResponseNorm(alpha=0.5), BatchNorm(), Dropout())
    module = AlexNet(net(Dense('f1', 16, then=stages)), 4)
    images = jnp.zeros((2, 32, 32, 3))
    variables = jax.eval_shape(module.init, jax.random.key(0), images)
    assert jax.eval_shape(module.apply, nn.unbox(variables), images)[0].shape == (2, 4)


def test_the_smallest_input_of_a_table_of_great_strides_is_found_at_once():
    """By hand: a kernel of 4000, then a stride of 4000 and pooling that needs two places."""
    net_ = one(Conv('c1', 16, kernel=4000, stride=4000, then=(MaxPool(2, 1),)))
    assert smallest_input(net_) == 8000
