"""Configurations that a program makes, and what it may give in their place."""

import contextlib
import json
import math
import pickle
import re

import numpy as np
import pytest
from ml_collections import ConfigDict, FrozenConfigDict
from ml_collections.config_dict import required_placeholder

from alexnet_jax import default_config
from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment import defaults, kept_config
from alexnet_jax.experiment.settings import SETTINGS
from alexnet_jax.network.architectures import architecture
from alexnet_jax.runtime.errors import InputError


@pytest.mark.parametrize('kind', [ConfigDict, FrozenConfigDict, dict])
def test_a_program_s_own_configuration_is_completed(kind):
    """One that does not begin as `default_config()`, and holds only what differs."""
    given = {'data.source': 'digits', 'train.protocol': 'torchvision', 'data.mean': [1, 2, 3]}
    if kind is not dict:
        given = kind(
            {'data': {'source': 'digits', 'mean': [1, 2, 3]}, 'train': {'protocol': 'torchvision'}}
        )
    found = configuration.complete(given, {'seed': '3'})
    assert (found.data.source, found.data.batch_size, found.seed) == ('digits', 256, 3)
    assert found.data.mean == (1.0, 2.0, 3.0)


def test_unknown_fields_of_a_program_s_own_configuration_are_all_named():
    given = ConfigDict({'data': {'batch_sise': 64}, 'sede': 1, 'trian': {'steps': 3}})
    with pytest.raises(InputError) as caught:
        configuration.complete(given, {})
    assert str(caught.value).splitlines() == [
        'unknown setting data.batch_sise; the nearest is data.batch_size',
        'unknown setting sede; the nearest is seed',
        'unknown setting trian.steps; the nearest is train.steps',
    ]


def test_a_net_of_one_s_own():
    own = architecture('small', width=0.5)
    config = default_config()
    config.data.source, config.data.record_size = 'digits', 32
    config.network.name, config.network.table = own.name, own
    found = configuration.complete(config, {})
    assert configuration.network_of(found) == own
    assert kept_config.of_tree(json.loads(json.dumps(kept_config.to_tree(found)))) == found
    for name, text in {'width': '1.5', 'activation': 'tanh', 'name': 'paper'}.items():
        message = (
            rf"network\.{name} is '{text}'; allowed: none, as network\.table is a net of its own"
        )
        with pytest.raises(InputError, match=message):
            configuration.complete(config, {f'network.{name}': text})
    config.network.width = 0.5  # which makes this very table
    other = configuration.complete(config, {'network.width': '1.5'})
    assert other.network.table is None
    config.network.table = 'small'
    with pytest.raises(InputError, match=r"network\.table is 'small'; allowed: an Architecture"):
        configuration.complete(config, {})


def odd_values():
    """What a program, or a config.json, may give for a setting."""
    nested = last = {}
    for _ in range(50):
        last['a'] = last = {}
    return {
        'a module': math, 'an array': np.arange(3), 'text': np.array(['a', 'b']), 'a set': {1},
        'a name with a dot': {'a.b': 1}, 'no names': {1: 2, None: 3}, 'nested': nested,
        'a generator': (x for x in ()), 'a configuration': ConfigDict({'a': {'b': 1}}),
    }  # fmt: skip


@pytest.mark.parametrize('kind', odd_values())
@pytest.mark.parametrize('name', sorted(SETTINGS))
def test_an_odd_value_is_refused_by_its_name(name, kind):
    value = odd_values()[kind]
    forms, own = [{'data.mean': [1, 2, 3], name: value}], default_config()
    with contextlib.suppress(ValueError, TypeError):  # of a ConfigDict: it holds no such names
        defaults.assign(own, name, value)
        forms.append(own)
    for form in forms:
        with pytest.raises(InputError, match=rf'^(unknown setting )?{re.escape(name)}\b'):
            configuration.complete(form, {})


def test_references_of_a_program():
    """They follow flags; one without a value is named, and with a bad flag the flag alone."""
    config = default_config()
    config.eval.batch_size = config.data.get_ref('batch_size') // 2
    assert configuration.complete(config, {'data.batch_size': '32'}).eval.batch_size == 16
    with pytest.raises(InputError, match=r"^data\.batch_size is 'abc'; allowed: [^\n]*$"):
        configuration.complete(config, {'data.batch_size': 'abc'})
    config.eval.batch_size = 7 // config.get_ref('seed')
    for form in (config, ConfigDict({'eval': {'batch_size': required_placeholder(int)}})):
        with pytest.raises(InputError, match=r'^eval\.batch_size has no value: '):
            configuration.complete(form, {})
    config.seed = 6
    config.eval.batch_size = 7 // (config.get_ref('seed') - 5)
    with pytest.raises(InputError, match=r'^a reference .* has no value: ZeroDivisionError'):
        configuration.complete(config, {'seed': '5'})


def test_faults_of_a_program_and_of_flags_are_named_together():
    config = default_config()
    config.data.threads = -1
    with pytest.raises(InputError, match=r"^seed is 'x'.*\ndata\.threads is -1; [^\n]*$"):
        configuration.complete(config, {'seed': 'x'})


def test_what_is_no_configuration_is_refused():
    for form in ('digits', None, 7):
        with pytest.raises(InputError, match=r'^the configuration is .*; allowed: a ConfigDict'):
            configuration.complete(form, {})
    with pytest.raises(InputError, match=r'^the configuration cannot be read: TypeError'):
        configuration.complete(ConfigDict({1: 2, 'seed': 3}), {})


def test_a_configuration_can_be_pickled():
    config = default_config()
    config.train.protocol = 'caffe'
    assert configuration.flat(pickle.loads(pickle.dumps(config))) == configuration.flat(config)
