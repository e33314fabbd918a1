"""What differs, beside the authors' files and a comparison of the tables' own fields."""

import dataclasses
import itertools

import pytest

from alexnet_jax.network.architectures import ARCHITECTURES
from alexnet_jax.network.diff import ABSENT, deviations
from alexnet_jax.network.layers import Architecture

# From the authors' files and the descriptions of the others, by hand.
ABLATIONS = {
    'half': {'columns', 'conv1.features', 'conv2.features', 'conv3.features', 'conv4.features'},
    'no_lrn': {'conv1.then', 'conv2.then'},
    'non_overlapping': {
        'conv1.then', 'conv2.then', 'conv5.then', 'conv2.padding', 'conv5.padding',
    },
    'no_communication': {
        'conv2.features', 'conv3.reads_all', 'fc6.features', 'fc6.reads_all', 'fc7.reads_all',
    },
    'six_conv': {'conv6'},
    'no_conv4': {'conv4'},
    'no_dropout': {'fc6.then', 'fc7.then'},
    'one_column': {'columns'},
}  # fmt: skip
KNOWN = {
    **{(name, 'krizhevsky2012'): fields for name, fields in ABLATIONS.items()},
    **{(f'paper_{name}', 'paper'): fields for name, fields in ABLATIONS.items()},
    **{(f'photographs_{name}', 'photographs'): fields for name, fields in ABLATIONS.items()},
    ('photographs_non_overlapping', 'photographs'): {
        'conv1.then', 'conv2.then', 'conv5.then', 'conv2.padding',
    },
    ('krizhevsky2012', 'paper'): {
        'conv1.then', 'conv2.then', 'conv5.then', 'conv3.std', 'conv4.std', 'conv5.std',
    },
    ('paper_lrn_across', 'paper'): {'conv1.then', 'conv2.then'},
    ('cifar18_no_norm', 'cifar18'): {'conv1.then', 'conv2.then'},
    ('conv5_192', 'paper'): {'conv5.features', 'conv5.then'},
    ('conv5_192_std03', 'conv5_192'): {'conv3.std', 'conv4.std', 'conv5.std'},
    ('caffe', 'caffenet'): {
        'conv1.then', 'conv2.then', 'conv2.bias', 'conv4.bias', 'conv5.bias', 'fc6.bias', 'fc7.bias',
    },
    ('alexnet_bn', 'caffe'): {
        *(f'conv{number}.then' for number in range(1, 6)), 'conv2.bias', 'conv4.bias',
    },
    ('caffe', 'paper'): {
        'input_size', 'conv1.padding', 'conv1.then', 'conv2.then', 'conv2.bias', 'conv4.bias',
        'conv5.bias', 'fc6.std', 'fc6.bias', 'fc7.std', 'fc7.bias',
    },
}  # fmt: skip


def fields(one: Architecture, other: Architecture) -> set[str]:
    return {row.field for row in deviations(one, other)}


@pytest.mark.parametrize('pair', KNOWN, ids=' '.join)
def test_known_differences(pair):
    one, other = (ARCHITECTURES[name] for name in pair)
    assert fields(one, other) == KNOWN[pair] == fields(other, one)


@pytest.mark.parametrize('name', ABLATIONS)
def test_an_ablation_changes_the_same_in_either_base(name):
    """A field that is a number, the same number; a chain of stages lacks the same stages. Only
    initial values are the base's own."""
    ours, theirs = ARCHITECTURES[f'paper_{name}'], ARCHITECTURES[name]
    changed = {row.field: row.one for row in deviations(ours, ARCHITECTURES['paper'])}
    others = {row.field: row.one for row in deviations(theirs, ARCHITECTURES['krizhevsky2012'])}
    for field in changed:
        if not field.endswith('.then'):
            assert changed[field] == others[field].replace('std 0.03', 'std 0.01')
        else:
            assert ('LRN' in changed[field]) == ('LRN' in others[field])
            assert ('max-pool 2/2' in changed[field]) == ('max-pool 2/2' in others[field])


def as_dictionary(net: Architecture) -> dict:
    """Every field by name, from the dataclasses alone."""
    rows = [*net.layers, net.output]
    flat = {'input_size': net.input_size, 'columns': net.columns}
    for row in rows:
        flat |= {f'{row.name}.{field.name}': getattr(row, field.name)
                 for field in dataclasses.fields(row)}  # fmt: skip
        flat[f'{row.name}.kind'] = type(row)
    return flat


@pytest.mark.parametrize('pair', itertools.combinations(ARCHITECTURES, 2), ids=' '.join)
def test_any_pair_lists_exactly_the_fields_that_differ(pair):
    one, other = (ARCHITECTURES[name] for name in pair)
    flat, others = as_dictionary(one), as_dictionary(other)
    rows = [{row.name for row in (*net.layers, net.output)} for net in (one, other)]
    expected = {
        field if field.partition('.')[0] in rows[0] & rows[1] or '.' not in field
        else field.partition('.')[0]
        for field in flat.keys() | others.keys()
        if (field in flat, flat.get(field)) != (field in others, others.get(field))
    }  # fmt: skip
    found = deviations(one, other)
    assert sorted(row.field for row in found) == sorted(expected)
    assert all(row.one != row.other for row in found)
    swapped = {(row.field, row.other, row.one) for row in deviations(other, one)}
    assert {(row.field, row.one, row.other) for row in found} == swapped


def test_a_net_does_not_differ_from_itself_and_order_counts():
    net = ARCHITECTURES['paper']
    assert deviations(net, net) == []
    first, second, *rest = net.layers[2:]
    turned = dataclasses.replace(net, layers=(*net.layers[:2], second, first, *rest))
    assert [row.field for row in deviations(net, turned)] == ['order of layers']
    missing = deviations(ARCHITECTURES['six_conv'], ARCHITECTURES['krizhevsky2012'])
    assert [row.other for row in missing] == [ABSENT]


def test_one_field_of_a_stage_is_told():
    net = ARCHITECTURES['paper']
    (first, *rest) = net.layers
    relu, norm, pool = first.then
    for change in ({'size': 7}, {'alpha': 2e-4}, {'beta': 0.5}, {'k': 1.0},
                   {'alpha_divided': True}, {'across_columns': True}):  # fmt: skip
        changed = dataclasses.replace(first, then=(relu, dataclasses.replace(norm, **change), pool))
        (found,) = deviations(net, dataclasses.replace(net, layers=(changed, *rest)))
        assert found.field == 'conv1.then' and found.one != found.other, change
