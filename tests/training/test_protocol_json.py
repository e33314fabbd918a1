"""Protocols as JSON, and checks of those that do not come from this package."""

import dataclasses
import json

import pytest

from alexnet_jax.runtime.errors import InputError
from alexnet_jax.training import protocol_json
from alexnet_jax.training.protocols import (
    PROTOCOLS,
    ExponentialSteps,
    Group,
    Plateau,
    Protocol,
    RampPolynomial,
    Steps,
    WarmupPolynomial,
)

ALL = Group('all', Steps(((1, 0.5),)))
GOOD = Protocol('mine', 'here', (ALL,))


@pytest.mark.parametrize('name', PROTOCOLS)
def test_json_and_back(name):
    """All but the defaults of settings, which the settings of a run hold."""
    protocol = PROTOCOLS[name]
    protocol_json.require(protocol)
    tree = json.loads(json.dumps(protocol_json.to_json(protocol)))
    assert protocol_json.from_json(tree) == dataclasses.replace(protocol, settings={})
    assert protocol_json.differences(protocol_json.from_json(tree), protocol) == []


def with_group(**fields) -> Protocol:
    return dataclasses.replace(GOOD, groups=(dataclasses.replace(ALL, **fields),))


BAD = [
    (dataclasses.replace(GOOD, name=''), "name ''; allowed: 1 to 100 printable"),
    (dataclasses.replace(GOOD, name=3), 'name 3'),
    (dataclasses.replace(GOOD, loss='hinge'), "loss 'hinge'; allowed: one of softmax, logistic"),
    (dataclasses.replace(GOOD, reference_batch=0), 'reference_batch 0'),
    (dataclasses.replace(GOOD, rate_in_velocity='no'), "rate_in_velocity 'no'"),
    (dataclasses.replace(GOOD, groups=()), r'groups \(\)'),
    (dataclasses.replace(GOOD, groups=[ALL]), 'allowed: a tuple of Group'),
    (dataclasses.replace(GOOD, groups=('all',)), "the group 'all'; allowed: Group"),
    (with_group(rate=-1), r'group all of protocol mine has rate -1; allowed: a finite number from'),
    (with_group(rate=float('nan')), 'has rate nan'),
    (with_group(decay='1'), "has decay '1'"),
    (with_group(trust=0.0), 'has trust 0.0'),
    (with_group(part='all'), "has part 'all'; allowed: one of weights, biases, both"),
    (with_group(layers='fc8'), "has layers 'fc8'; allowed: a tuple of names"),
    (with_group(schedule='constant'), 'has the schedule \'constant\'; allowed: Plateau, Steps, Exp'),
    (with_group(schedule=Steps(((2, 0.5), (1, 0.1)))), r'in Steps has drops .* ascending'),
    (with_group(schedule=Steps(((1, 0.5), (1, 0.1)))), r'in Steps has drops'),
    (with_group(schedule=Steps([[1, 0.5]])), r'in Steps has drops'),
    (with_group(schedule=Steps(((1, float('inf')),))), r'in Steps has drops'),
    (with_group(schedule=Steps((), 'batches')), "has unit 'batches'; allowed: one of epochs, steps"),
    (with_group(schedule=ExponentialSteps(0, 2.0)), 'has count 0'),
    (with_group(schedule=WarmupPolynomial(-1, 2.0)), 'has warmup_epochs -1'),
    (with_group(schedule=RampPolynomial(1.5, 1.0, 2.0)), 'has ramp_steps 1.5'),
    (with_group(layers=('fc8',)), 'no group that takes the weights of all layers'),
    (with_group(part='weights'), "no group that takes the biases of all layers; .*'biases'"),
]  # fmt: skip


@pytest.mark.parametrize(('protocol', 'message'), BAD)
def test_what_no_protocol_can_be(protocol, message):
    with pytest.raises(InputError, match=message):
        protocol_json.require(protocol)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda tree: 3, 'Protocol of the table of the protocol is 3; allowed: an object'),
        (lambda tree: tree | {'groups': 3}, 'groups of the table of the protocol is 3'),
        (lambda tree: tree | {'code': 'x'}, "a field of Protocol of the table .* 'code'"),
        (lambda tree: tree | {'settings': {}}, 'a field of Protocol'),
        (lambda tree: {**tree, 'groups': [{'name': 'a'}]}, 'schedule of the table .* is None'),
        (
            lambda tree: tree | {'groups': [{'name': 'a', 'schedule': {'kind': 'Exec'}}]},
            'allowed: one of Plateau',
        ),
        (
            lambda tree: tree | {'groups': [{'schedule': {'kind': 'Plateau'}}]},
            'Group of the table of the protocol has no name',
        ),
        (lambda tree: {'name': 'mine', 'groups': []}, 'has no source'),
        (lambda tree: tree | {'loss': ['softmax']}, "has loss"),
    ],
)  # fmt: skip
def test_json_that_is_no_protocol(change, message):
    with pytest.raises(InputError, match=message):
        protocol_json.from_json(change(protocol_json.to_json(GOOD)))


def test_differences_name_the_field():
    other = Protocol(
        'mine', 'elsewhere', (with_group(rate=2.0, schedule=Plateau()).groups[0], ALL),
        loss='logistic', settings={'data.batch_size': 3},
    )  # fmt: skip
    assert protocol_json.differences(GOOD, other) == [
        "groups[0].schedule.kind of the protocol was 'Steps', now 'Plateau'",
        'groups[0].schedule.drops of the protocol was [[1, 0.5]], now None',
        "groups[0].schedule.unit of the protocol was 'epochs', now None",
        'groups[0].rate of the protocol was 1.0, now 2.0',
        "loss of the protocol was 'softmax', now 'logistic'",
        "groups[1].name of the protocol was None, now 'all'",
        "groups[1].schedule.kind of the protocol was None, now 'Steps'",
        'groups[1].schedule.drops of the protocol was None, now [[1, 0.5]]',
        "groups[1].schedule.unit of the protocol was None, now 'epochs'",
        "groups[1].part of the protocol was None, now 'both'",
        'groups[1].layers of the protocol was None, now []',
        'groups[1].rate of the protocol was None, now 1.0',
        'groups[1].decay of the protocol was None, now 1.0',
    ]
