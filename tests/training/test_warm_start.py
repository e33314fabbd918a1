"""Warm starts: which layers are taken, what is printed of their differences, and what is
refused."""

import dataclasses
import re

import chex
import numpy as np
import pytest

from alexnet_jax.network.architectures import architecture
from alexnet_jax.network.layers import (
    Architecture,
    AveragePool,
    BatchNorm,
    Dropout,
    MaxPool,
    Output,
    Relu,
    Tanh,
)
from alexnet_jax.runtime.errors import InputError
from alexnet_jax.training import warm_start
from tests.training.donors import (
    DEEPER,
    MEAN,
    NAMES,
    ONES,
    ROWS,
    TINY,
    donor,
    facts,
    layers_of,
    state_of,
    warm,
)


def changed(row: int = 1, **fields) -> Architecture:
    rows = list(ROWS)
    rows[row] = dataclasses.replace(rows[row], **fields)
    return Architecture('changed', 12, 2, tuple(rows), Output('fc4'))


def test_shapes_that_differ_are_refused_with_both():
    twenty = donor(facts(TINY, tuple('abcdefghijklmnopqrst')))
    with pytest.raises(InputError) as caught:
        warm_start.choose(facts(TINY), twenty, [])
    assert str(caught.value) == (
        'fc4/bias is (20,) in start.from theirs and (10,) in the net; allowed:'
        ' --config.start.layers=conv1,conv2,fc3'
    )
    warm_start.choose(facts(TINY), twenty, ['conv1', 'conv2', 'fc3'])
    with pytest.raises(InputError, match=r'conv2b/bias is not there .*another net to start from'):
        warm_start.choose(facts(DEEPER), twenty, ['conv2b'])


# Normalization of the donor, of the run, and what comes of it.
IMAGE = np.full((12, 12, 3), MEAN)
STANDARD = (np.float32([123.675, 116.28, 103.53]), np.float32([58.395, 57.12, 57.375]))
START = '--config.data.normalization=start'
INPUTS = [
    ((MEAN, ONES), (MEAN, ONES), []),
    (STANDARD, STANDARD, []),
    ((IMAGE, ONES), (IMAGE, ONES), []),
    ((IMAGE, ONES), (IMAGE + 3, ONES), [f'mean image of 120,110,100 .* 123,113,103 .*{START}']),
    ((IMAGE, ONES), (IMAGE[:8, :8], ONES), ['mean image of']),
    ((MEAN, ONES), (IMAGE, ONES), [rf'mean 120,110,100 and .*{START} uses that of the source']),
    ((IMAGE, ONES), (MEAN, ONES), [f'{START} uses that of the source']),
    ((MEAN, ONES), (MEAN + 1, ONES), [START]),
    (STANDARD, (MEAN, STANDARD[1]), [START]),
    (STANDARD, (STANDARD[0], STANDARD[1] * 1.9), [START]),
    (STANDARD, (STANDARD[0], STANDARD[1] / 1.9), [START]),
    (STANDARD, (STANDARD[0], STANDARD[1] * 2.1), f'a factor of 2.1; .* take {START}, or'),
    (STANDARD, (STANDARD[0], STANDARD[1] / 2.1), 'a factor of 2.1'),
    (STANDARD, (STANDARD[0], STANDARD[1] * np.float32([1, 1, 3])), 'a factor of 3'),
    ((IMAGE, ONES), STANDARD, r'58\.395,57\.12,57\.375 here, a factor of 58\.4; .*=start, or'),
    ((MEAN, ONES), STANDARD, f'a factor of 58.4; allowed: at most 2; take {START}, or'),
    (STANDARD, (IMAGE, ONES), f'a factor of 58.4; .* take {START}, or'),
    ((MEAN, ONES * 255), (MEAN, ONES), 'a factor of 255'),
]  # fmt: skip


@pytest.mark.parametrize(('theirs', 'own', 'expected'), INPUTS, ids=map(str, range(len(INPUTS))))
def test_inputs_are_compared(theirs, own, expected):
    other = donor(facts(TINY, NAMES, *theirs))
    if isinstance(expected, str):
        with pytest.raises(InputError, match=expected) as caught:
            warm_start.choose(facts(TINY, NAMES, *own), other, [])
        assert '--config.start.layers=conv2,fc3,fc4' in str(caught.value)
    else:
        _, lines = warm_start.choose(facts(TINY, NAMES, *own), other, [])
        assert len(lines) == 1 + len(expected)
        for line, words in zip(lines[1:], expected, strict=True):
            assert line.startswith('warning: inputs have another normalization than in theirs: ')
            assert re.search(words, line), line
    # Layers above the first do not read the image.
    _, lines = warm_start.choose(facts(TINY, NAMES, *own), other, ['conv2'])
    assert not any('normalized' in line for line in lines)


def test_a_mean_image_of_other_crops_is_not_advised():
    other = dataclasses.replace(TINY, input_size=16)
    mean = np.zeros((16, 16, 3), np.float32)
    _, lines = warm_start.choose(facts(TINY), donor(facts(other, NAMES, mean, ONES)), ['conv1'])
    assert lines[1].endswith('--config.data.normalization=mean_image uses that of the source')


CLASSES = [
    (NAMES, NAMES, ''),
    (NAMES, NAMES[::-1], 'has the same classes in another order: class 0 is a there and j in'),
    (NAMES, (*NAMES[:2], 'd', 'c', *NAMES[4:]), 'another order: class 2 is c there and d in'),
    (NAMES, (*NAMES[:9], 'z'), 'has other classes: class 9 is j there and z in the set'),
    (NAMES, [name.upper() for name in NAMES], 'has other classes: class 0 is a there and A'),
    (NAMES, [f'{name} ' for name in NAMES], 'has other classes'),
    (NAMES, [*NAMES[:9], 'j\n'], r'class 9 is j there and j\\n in'),
]


@pytest.mark.parametrize(('theirs', 'own', 'fault'), CLASSES)
def test_a_classifier_keeps_its_classes(theirs, own, fault):
    other = donor(facts(TINY, theirs))
    if not fault:
        assert len(warm_start.choose(facts(TINY, own), other, [])[1]) == 1
        return
    with pytest.raises(InputError) as caught:
        warm_start.choose(facts(TINY, own), other, [])
    message = str(caught.value)
    assert fault.replace('\\\\', '\\') in message and '\n' not in message
    assert message.endswith('; allowed: --config.start.layers=conv1,conv2,fc3')
    with pytest.raises(InputError, match='another net to start from'):
        warm_start.choose(facts(TINY, own), other, ['fc4'])
    warm_start.choose(facts(TINY, own), other, ['conv1', 'conv2', 'fc3'])


@pytest.mark.parametrize('unnamed', ['theirs', 'own'])
def test_classes_without_names_are_taken_to_be_the_same(unnamed):
    nameless = [f'class {label}' for label in range(10)]
    theirs, own = (nameless, NAMES) if unnamed == 'theirs' else (NAMES, nameless)
    _, lines = warm_start.choose(facts(TINY, own), donor(facts(TINY, theirs)), [])
    assert lines[1:] == [
        'warning: classes of theirs or of the set have no names: assuming the same classes'
    ]


ORDER = (MaxPool(), Relu(), BatchNorm())
AVERAGED = (Relu(), BatchNorm(), AveragePool())
TABLES = [
    (TINY, []),
    (changed(std=0.5, bias=1.0), []),
    (dataclasses.replace(TINY, name='other'), []),
    (changed(0, then=ORDER), ['conv1 differs .*: then ReLU → batch norm .* there, max-pool 3/2 →']),
    (changed(0, then=AVERAGED), ['conv1 .* max-pool 3/2 there, .*average-pool 3/2 here$']),
    (changed(then=(Tanh(),)), ['conv2 differs .*: then ReLU there, tanh here$']),
    (changed(then=()), ['conv2 differs .*: then ReLU there, nothing here$']),
    (changed(2, then=(Relu(), Dropout())), ['fc3 differs .*: then ReLU there, ReLU → dropout 0.5']),
    (changed(0, stride=1, padding=(1, 0)), [r'conv1 differs .*: padding \(0, 0\) there, \(1, 0\)']),
    (dataclasses.replace(TINY, input_size=13), ['input_size is 12 in theirs, 13 here$']),
]  # fmt: skip


@pytest.mark.parametrize(('own', 'expected'), TABLES)
def test_tables_are_compared(own, expected):
    _, lines = warm_start.choose(facts(own), donor(facts(TINY)), ['conv1', 'conv2', 'fc3', 'fc4'])
    assert len(lines) == 1 + len(expected)
    for line, words in zip(lines[1:], expected, strict=True):
        assert re.search(rf'^warning: {words}', line), line


def test_batch_normalization_that_only_one_has():
    plain = changed(0, then=(Relu(), MaxPool()))
    _, lines = warm_start.choose(facts(plain), donor(facts(TINY)), [])
    assert lines[0].endswith('not loaded: none; not in the net: conv1_norm')
    assert 'batch norm' in lines[1]
    _, lines = warm_start.choose(facts(TINY), donor(facts(plain)), [])
    assert 'not loaded: conv1_norm (not there)' in lines[0]
    assert 'batch norm' in lines[1]


def test_a_layer_that_only_the_net_has_keeps_its_own_values():
    """The six-convolution net may begin so (§6): what reads the new layer is named."""
    own = state_of(DEEPER)
    state, lines = warm(own, facts(DEEPER), donor(facts(TINY)))
    chex.assert_trees_all_equal(state.params['conv2b'], own.params['conv2b'])
    with pytest.raises(AssertionError, match='bias'):
        chex.assert_trees_all_equal(state.params['fc4'], own.params['fc4'])
    assert lines == [
        'from theirs: loaded conv1, conv1_norm, conv2, fc3, fc4; not loaded: conv2b (not there)',
        'warning: fc3 differs from that of theirs: layer below conv2 there, conv2b here',
    ]
    _, lines = warm_start.choose(facts(TINY), donor(facts(DEEPER)), [])
    assert lines[0].endswith('not in the net: conv2b')
    assert lines[1].endswith(
        'fc3 differs from that of theirs: layer below conv2b there, conv2 here'
    )


PAPERS = [  # donor, run, layers with a warning; of equal shapes all
    ('krizhevsky2012', 'paper', ['conv1', 'conv2', 'conv5']),
    ('paper', 'paper_lrn_across', ['conv1', 'conv2']),
    ('torchvision', 'torchvision', []),
    ('krizhevsky2012', 'six_conv', ['fc6']),
    ('krizhevsky2012', 'no_lrn', ['conv1', 'conv2']),
    ('caffe', 'caffenet', ['conv1', 'conv2']),
]


@pytest.mark.parametrize(('theirs', 'own', 'warned'), PAPERS)
def test_transfer_between_published_nets_stays_possible(theirs, own, warned):
    """New classes, the classifier left out, a quarter of the width."""
    nets = [architecture(name, width=0.25) for name in (theirs, own)]
    layers = [row.name for row in nets[1].layers if row.name != 'conv6']
    _, lines = warm_start.choose(facts(nets[1], 'xyz'), donor(facts(nets[0])), layers)
    found = [line.split()[1] for line in lines[1:]]
    assert found == warned


def spoiled(layer: str, part: str, values) -> warm_start.Donor:
    layers = {name: dict(parts) for name, parts in layers_of(TINY).items()}
    layers[layer][part] = values(layers[layer].get(part))
    return warm_start.Donor('theirs', layers, facts(TINY))


def first(value: float):
    def change(array):
        array = array.astype(np.float64)
        array.flat[0] = value
        return array

    return change


VALUES = [
    ('conv1', 'kernel', first(np.nan), 'conv1/kernel of start.from theirs holds values that are'),
    ('fc3', 'bias', first(np.inf), 'fc3/bias .* not finite'),
    ('fc4', 'kernel', first(-np.inf), 'fc4/kernel .* not finite'),
    ('conv2', 'kernel', first(1e39), 'conv2/kernel .* not finite'),  # not in float32
    ('conv1_norm', 'var', first(-1.0), 'conv1_norm/var .* negative variances; allowed: from 0'),
    ('conv1_norm', 'var', first(np.nan), 'conv1_norm/var .* not finite'),
    ('conv1_norm', 'mean', first(np.nan), 'conv1_norm/mean .* not finite'),
    ('conv1', 'kernel', lambda x: x.astype(np.int32), 'is of int32; allowed: floating-point'),
    ('conv1', 'kernel', lambda x: x > 1, 'is of bool; allowed'),
    ('conv1', 'kernel', lambda x: x.astype(np.complex64), 'is of complex64; allowed'),
    ('conv1', 'bias', lambda x: x.astype(str), 'is of <U.*; allowed'),
    ('conv1', 'gamma', lambda _: np.ones(3), 'conv1/gamma of start.from theirs is not in the net'),
    ('conv1', 'bias', lambda x: x[..., None], r'conv1/bias is \(2, 4, 1\) in .* and \(2, 4\) in'),
]  # fmt: skip


@pytest.mark.parametrize(('layer', 'part', 'values', 'message'), VALUES)
def test_values_that_are_no_weights_are_refused(layer, part, values, message):
    with pytest.raises(InputError, match=message):
        warm_start.choose(facts(TINY), spoiled(layer, part, values), [])


@pytest.mark.parametrize('kind', [np.float16, np.float64])
def test_other_precisions_become_float32(kind):
    other = spoiled('conv1', 'kernel', lambda x: x.astype(kind))
    values, _ = warm_start.choose(facts(TINY), other, [])
    expected = layers_of(TINY)['conv1']['kernel'].astype(kind).astype(np.float32)
    assert values['conv1']['kernel'].dtype == np.float32
    chex.assert_trees_all_equal(values['conv1']['kernel'], expected)


def test_digests_tell_values_apart():
    """Several processes compare what they have read."""
    layers = layers_of(TINY)
    other = spoiled('fc3', 'bias', first(0.5)).layers
    without = {name: parts for name, parts in layers.items() if name != 'fc3'}
    assert warm_start.digest(layers) == warm_start.digest(dict(reversed(layers.items())))
    assert len({*map(warm_start.digest, (layers, other, without, {}))}) == 4
