"""Sizes by arithmetic, beside the published ones and beside the running net."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.architectures import ARCHITECTURES, PAPER, architecture
from alexnet_jax.network.layers import ACTIVATIONS
from alexnet_jax.network.shapes import layer_shapes, smallest_input
from alexnet_jax.runtime.errors import InputError

PAPERS = ['paper', 'paper_lrn_across', 'krizhevsky2012', 'no_lrn', 'caffe', 'caffenet']

# Parameters for 1000 classes, moving statistics with them, as published; for 10 classes,
# by hand: 990 classifier rows fewer.
PARAMETERS = {name: (60_965_224, 56_909_194) for name in PAPERS} | {
    'half': (59_798_312, 55_742_282),
    'non_overlapping': (60_965_224, 56_909_194),
    'no_communication': (60_714_408, 56_658_378),
    'six_conv': (61_555_304, 57_499_274),
    'no_conv4': (60_301_288, 56_245_258),
    'no_dropout': (60_965_224, 56_909_194),
    # By hand: conv2, conv4 and conv5 read twice as many maps.
    'one_column': (60_965_224 + 1_413_120, 56_909_194 + 1_413_120),
    'torchvision': (61_100_840, 57_044_810),
    'one_weird_trick': (61_100_840, 57_044_810),
    'batchnorm227': (62_383_848, 58_327_818),
    # By hand: caffe's, and scale, shift, mean and variance of 1,376 maps.
    'alexnet_bn': (60_965_224 + 4 * 1376, 56_909_194 + 4 * 1376),
    'one_tower': (62_071_144, 58_015_114),
    'conv5_192': (51_417_384, 47_361_354),
    'conv5_192_std03': (51_417_384, 47_361_354),
    'cifar18': (1_104_328, 89_578),
    'cifar18_no_norm': (1_104_328, 89_578),
    'four_layer': (1_104_328, 89_578),
    'small': (1_223_848, 715_978),
    # By hand: conv1 7,808; the rest is small's, less half of what conv3, fc6 and fc7 read, or with
    # twice what conv2, conv4 and conv5 read.
    'patterns': (1_229_224, 721_354),
    'patterns_no_communication': (1_229_224 - 306_176, 721_354 - 306_176),
    'patterns_one_column': (1_229_224 + 94_720, 721_354 + 94_720),
}

# The ablations of the paper's net have those of net 145's: normalizations have no parameters.
ABLATIONS = (
    'half', 'no_lrn', 'non_overlapping', 'no_communication', 'six_conv', 'no_conv4', 'no_dropout',
    'one_column',
)  # fmt: skip
PARAMETERS |= {f'paper_{name}': PARAMETERS[name] for name in ABLATIONS}
# By hand: conv1 7,808, conv2 25,664, conv3 55,392, conv4 41,568, conv5 27,712, fc6 590,848,
# fc7 1,049,600, fc8 1,025,000 or 10,250; what an ablation adds or takes.
_PHOTOGRAPHS = {
    '': 0, '_no_lrn': 0, '_non_overlapping': 0, '_no_dropout': 0, '_six_conv': 36_928,
    '_no_conv4': -41_568, '_one_column': 25_600 + 41_472 + 27_648,
    '_half': -3_904 - 12_832 - 41_520 - 20_784, '_no_communication': 6_416 - 20_736 + 1_024,
}  # fmt: skip
PARAMETERS |= {
    f'photographs{name}': (2_823_592 + more, 1_808_842 + more)
    for name, more in _PHOTOGRAPHS.items()
}

# What a layer leaves to the next, all columns together: by hand.
PAPER_LEAVES = [(27, 27, 96), (13, 13, 256), (13, 13, 384), (13, 13, 384), (6, 6, 256),
                (4096,), (4096,), (1000,)]  # fmt: skip
TOWER_LEAVES = [(27, 27, 64), (13, 13, 192), (13, 13, 384), (13, 13, 256), (6, 6, 256),
                (4096,), (4096,), (1000,)]  # fmt: skip
SMALL_LEAVES = [
    (14, 14, 32), (7, 7, 64), (7, 7, 96), (7, 7, 96), (3, 3, 64), (512,), (512,), (1000,),
]  # fmt: skip
CIFAR_LEAVES = [(16, 16, 32), (8, 8, 32), (4, 4, 64), (1000,)]
LEAVES = {name: PAPER_LEAVES for name in (*PAPERS, 'batchnorm227', 'alexnet_bn', 'one_tower')} | {
    'half': [(27, 27, 48), (13, 13, 128), (13, 13, 192), (13, 13, 192), *PAPER_LEAVES[4:]],
    'non_overlapping': [(28, 28, 96), *PAPER_LEAVES[1:]],
    'no_communication': [PAPER_LEAVES[0], (13, 13, 320), *PAPER_LEAVES[2:5], (8192,),
                         *PAPER_LEAVES[6:]],
    'six_conv': [*PAPER_LEAVES[:5], (6, 6, 256), *PAPER_LEAVES[5:]],
    'no_conv4': [*PAPER_LEAVES[:3], *PAPER_LEAVES[4:]],
    'torchvision': TOWER_LEAVES,
    'one_weird_trick': TOWER_LEAVES,
    'conv5_192': [*PAPER_LEAVES[:4], (6, 6, 192), *PAPER_LEAVES[5:]],
    'conv5_192_std03': [*PAPER_LEAVES[:4], (6, 6, 192), *PAPER_LEAVES[5:]],
    'cifar18': CIFAR_LEAVES,
    'cifar18_no_norm': CIFAR_LEAVES,
    'four_layer': CIFAR_LEAVES,
    **dict.fromkeys(('patterns', 'patterns_no_communication', 'patterns_one_column'), SMALL_LEAVES),
    'small': SMALL_LEAVES,
    'no_dropout': PAPER_LEAVES,
    'one_column': PAPER_LEAVES,
}  # fmt: skip
LEAVES |= {f'paper_{name}': LEAVES[name] for name in ABLATIONS}
_LEAVES = [(12, 12, 32), (6, 6, 64), (6, 6, 96), (6, 6, 96), (3, 3, 64), (1024,), (1024,), (1000,)]
LEAVES |= {f'photographs{name}': _LEAVES for name in _PHOTOGRAPHS} | {
    'photographs_half': [(12, 12, 16), (6, 6, 32), (6, 6, 48), (6, 6, 48), *_LEAVES[4:]],
    'photographs_non_overlapping': [(13, 13, 32), *_LEAVES[1:]],
    'photographs_no_communication': [_LEAVES[0], (6, 6, 80), *_LEAVES[2:5], (2048,), *_LEAVES[6:]],
    'photographs_six_conv': [*_LEAVES[:5], (3, 3, 64), *_LEAVES[5:]],
    'photographs_no_conv4': [*_LEAVES[:3], *_LEAVES[4:]],
}  # fmt: skip


@pytest.mark.parametrize('name', ARCHITECTURES)
def test_published_parameters_and_shapes(name):
    for classes, expected in zip((1000, 10), PARAMETERS[name], strict=True):
        rows = layer_shapes(ARCHITECTURES[name], classes)
        assert sum(row.parameters + row.statistics for row in rows) == expected
    shapes = [row.output for row in layer_shapes(ARCHITECTURES[name], 1000)]
    assert shapes == LEAVES[name]


def test_sizes_within_non_overlapping():
    """55 → 28 → 26 → 13 → 13 → 11 → 6, as its file has it."""
    rows = layer_shapes(ARCHITECTURES['non_overlapping'], 1000)
    sides = [shape[0] for row in rows[:5] for shape in row.activations.values()]
    assert list(dict.fromkeys(sides)) == [55, 28, 26, 13, 11, 6]


def test_multiply_adds_by_hand():
    """In millions, for the paper's net; and its parameters, layer by layer."""
    rows = layer_shapes(PAPER, 1000)
    assert [row.parameters for row in rows] == [
        34_944, 307_456, 885_120, 663_936, 442_624, 37_752_832, 16_781_312, 4_097_000,
    ]  # fmt: skip
    adds = [row.multiply_adds for row in rows]
    assert [round(count / 1e6, 1) for count in adds] == [
        105.4, 223.9, 149.5, 112.1, 74.8, 37.7, 16.8, 4.1,
    ]  # fmt: skip
    assert adds[0] == 55 * 55 * 96 * 11 * 11 * 3
    assert sum(adds) == 724_406_816


@pytest.mark.thorough
@pytest.mark.parametrize(
    ('name', 'activation'),
    [(name, '') for name in ARCHITECTURES]
    + [(name, activation) for name in ('paper', 'four_layer') for activation in ACTIVATIONS],
)
def test_the_running_net_has_these_sizes(name, activation):
    """At its own size and at the smallest, where one pixel less is refused."""
    smallest = smallest_input(ARCHITECTURES[name])
    for input_size in (0, smallest):
        net = architecture(name, input_size, activation=activation)
        rows = layer_shapes(net, 7)
        module, images = AlexNet(net, 7), jnp.zeros((2, net.input_size, net.input_size, 3))
        variables = nn.unbox(jax.eval_shape(module.init, jax.random.key(0), images))
        _, activations = jax.eval_shape(module.apply, variables, images)
        expected = {key: (2, *shape) for row in rows for key, shape in row.activations.items()}
        assert {key: x.shape for key, x in activations.items()} == expected
        for row in rows:
            sizes = {
                kind: sum(
                    x.size
                    for layer in (row.name, f'{row.name}_norm')
                    for x in jax.tree.leaves(tree.get(layer, {}))
                )
                for kind, tree in variables.items()
            }
            assert sizes['params'] == row.parameters, row.name
            assert sizes.get('batch_stats', 0) == row.statistics, row.name
    with pytest.raises(InputError, match=rf'leaves nothing of .*; allowed: at least {smallest}'):
        layer_shapes(architecture(name, smallest - 1), 7)
