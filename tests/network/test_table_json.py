"""Tables that travel as JSON are the tables that were written."""

import dataclasses
import json

import pytest

from alexnet_jax.network.architectures import ARCHITECTURES, CAFFE, FOUR_LAYER, PAPER, architecture
from alexnet_jax.network.layers import ACTIVATIONS, AveragePool, Conv, Output
from alexnet_jax.network.table_json import from_json, to_json
from alexnet_jax.runtime.errors import InputError


def through_text(net):
    return from_json(json.loads(json.dumps(to_json(net), allow_nan=False)))


@pytest.mark.parametrize('name', ARCHITECTURES)
def test_every_net_comes_back_equal(name):
    assert through_text(ARCHITECTURES[name]) == ARCHITECTURES[name]
    narrow = architecture(name, width=1 / 3)  # standard deviations of many digits
    assert through_text(narrow) == narrow


@pytest.mark.parametrize('activation', ACTIVATIONS)
def test_every_activation_comes_back(activation):
    net = architecture('four_layer', activation=activation)
    assert through_text(net) == net


def test_every_field_is_written():
    """A field of one value in all nets would be lost in the test above if it had a default."""
    row = Conv('c', 6, 3, stride=2, padding=(1, 0), reads_all=True, groups=3,
               then=(AveragePool(2, 1),), std=None, bias=0.5)  # fmt: skip
    output = Output('o', std=0.25, bias=-7.0)
    net = dataclasses.replace(FOUR_LAYER, name='own', layers=(row,), output=output, columns=2)
    tree = to_json(net)
    assert tree['layers'][0] == {
        'kind': 'Conv', 'name': 'c', 'features': 6, 'kernel': 3, 'stride': 2, 'padding': [1, 0],
        'reads_all': True, 'groups': 3, 'std': None, 'bias': 0.5,
        'then': [{'kind': 'AveragePool', 'size': 2, 'stride': 1}],
    }  # fmt: skip
    assert tree['output'] == {'name': 'o', 'std': 0.25, 'bias': -7.0}
    assert through_text(net) == net


def changed(tree, path, value):
    """A copy with the value at the path; ... removes it."""
    tree = json.loads(json.dumps(tree))
    branch = tree
    for key in path[:-1]:
        branch = branch[key]
    if value is ...:
        del branch[path[-1]]
    else:
        branch[path[-1]] = value
    return tree


@pytest.mark.parametrize(('path', 'value', 'message'), [
    (('layers',), 'conv', 'layers of the table of the net is'),
    (('layers',), ..., 'layers of the table of the net is None'),
    (('layers', 0), 'conv1', 'kind of a row'),
    (('layers', 0, 'kind'), 'MaxPool', 'allowed: one of Conv, Dense'),
    (('layers', 0, 'kind'), '__import__', 'allowed: one of Conv, Dense'),
    (('layers', 0, 'kind'), ['Conv'], 'kind of a row'),
    (('layers', 0, 'then'), None, 'then of the table'),
    (('layers', 0, 'then', 0), {'kind': 'Relu', 'slope': 1}, 'a field of Relu'),
    (('layers', 0, 'then', 0), {'kind': 'Softmax'}, 'kind of a stage'),
    (('layers', 0, 'then', 0), {}, 'kind of a stage'),
    (('layers', 0, 'then', 0), 'Relu', "kind of a stage of the table of the net is 'Relu'"),
    (('layers', 0), 'Conv', "kind of a row of the table of the net is 'Conv'"),
    (('layers', 0, 'features'), 96.0, 'features of the table of the net is 96.0'),
    (('layers', 0, 'features'), True, 'features of the table of the net is True'),
    (('layers', 0, 'features'), 10**30, 'allowed: at most 2147483647'),
    (('layers', 0, 'features'), ..., 'Conv of the table of the net has no features'),
    (('layers', 0, 'padding'), [1], 'allowed: 2 numbers'),
    (('layers', 0, 'padding'), [1, '1'], "is '1'"),
    (('layers', 0, 'std'), '0.01', "std of the table of the net is '0.01'"),
    (('layers', 0, 'std'), float('nan'), 'allowed: a finite number'),
    (('layers', 0, 'std'), 1e300, 'allowed: a finite number'),
    (('layers', 0, 'reads_all'), 1, 'allowed: of type bool'),
    (('layers', 0, 'dilation'), 2, 'a field of Conv'),
    (('layers', 0, 'name'), '', 'allowed: 1 to 100 printable characters'),
    (('layers', 0, 'name'), 'a\nb', 'allowed: 1 to 100 printable characters'),
    (('name',), 'x' * 101, 'allowed: 1 to 100 printable characters'),
    (('columns',), None, 'columns of the table of the net is None'),
    (('columns',), 7, 'features'),  # as Architecture refuses it
    (('output',), [], 'output of the table of the net is []'),
    (('output', 'std'), [0.1], 'std of the table of the net is [0.1]'),
    (('output', 'features'), 3, 'a field of Output'),
    (('input_size',), '224', "input_size of the table of the net is '224'"),
    (('version',), 2, 'a field of Architecture'),
])  # fmt: skip
def test_other_tables_are_refused(path, value, message):
    with pytest.raises(InputError) as error:
        from_json(changed(to_json(CAFFE), path, value))
    assert message in str(error.value)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('tree', [None, [], 'paper', 3, {'layers': [{}] * 1001}])
def test_what_is_no_table_is_refused(tree):
    with pytest.raises(InputError, match='table of the net'):
        from_json(tree)


def test_a_missing_field_with_a_default_has_it():
    """A field that is added to the rows later leaves older workdirs readable."""
    assert from_json(changed(to_json(PAPER), ('layers', 0, 'groups'), ...)) == PAPER
