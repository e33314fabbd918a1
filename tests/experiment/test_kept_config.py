"""Configurations of workdirs: they come back, and are compared by what they compute."""

import json
import os

import pytest

from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment import config_file, kept_config
from alexnet_jax.runtime.errors import InputError
from tests.experiment.test_config import load
from tests.faults.fuzz_settings import at_most


def test_a_workdir_s_configuration_comes_back(tmp_path):
    config = load(seed='7', data__source='synthetic', optimizer__learning_rate='0.003')
    path = tmp_path / 'config.json'
    path.write_text(json.dumps(kept_config.to_tree(config)))
    assert json.loads(path.read_text())['optimizer']['learning_rate'] == 0.003
    assert kept_config.read_workdir(path) == config
    for text in ('{', '[]', '{"seed": "x"}'):
        path.write_text(text)
        with pytest.raises(InputError, match=r'config\.json'):
            kept_config.read_workdir(path)
    path.unlink()
    os.mkfifo(path)
    with at_most(10), pytest.raises(InputError, match=r'cannot be read: it is not a regular file$'):
        kept_config.read_workdir(path)


def test_differences_are_those_that_change_what_is_computed():
    one = load(data__source='synthetic')
    other = load(data__source='synthetic', seed='1', mesh__data='2', train__steps='9')
    assert kept_config.differences(other, one) == ['seed was 0, now 1']


def test_the_length_of_a_run_counts_where_rates_depend_on_it():
    for protocol, expected in (
        ('diary', 0),
        ('one_weird_trick', 1),
        ('large_batch', 1),
        ('alexnet_bn_8k', 1),
    ):
        one = load(data__source='synthetic', train__protocol=protocol, train__epochs='90')
        longer = configuration.changed(one, {'train.epochs': 91})
        assert len(kept_config.differences(longer, one)) == expected, protocol


def test_a_workdir_of_caffe_s_protocol_keeps_its_channel_means(tmp_path):
    """Those were the protocol's default once; the config.json of such a run states them."""
    tree = kept_config.to_tree(config_file.load('configs/caffe.py', {}))
    assert tree['data']['normalization'] == 'mean_image'
    tree['data']['normalization'] = 'channel_mean'
    (tmp_path / 'config.json').write_text(json.dumps(tree))
    older = kept_config.of_workdir(tmp_path, {'eval.views': '10'})
    assert (older.train.protocol, older.data.normalization) == ('caffe', 'channel_mean')
    (line,) = kept_config.differences(config_file.load('configs/caffe.py', {}), older)
    assert line == "data.normalization was 'channel_mean', now 'mean_image'"
    flags = {'data.normalization': 'channel_mean'}
    assert kept_config.differences(config_file.load('configs/caffe.py', flags), older) == []


def test_a_relative_source_of_an_older_workdir(tmp_path, monkeypatch):
    """It stays as it is kept, such as the name of a set in a weight file that was pulled, and is
    the same as the absolute one of the same command."""
    monkeypatch.chdir(tmp_path)
    older = configuration.complete({'data.source': 'folder:photos'}, {})
    (tmp_path / 'config.json').write_text(json.dumps(kept_config.to_tree(older)))
    assert kept_config.of_workdir(tmp_path, {'seed': '1'})['data.source'] == 'folder:photos'
    now = kept_config.of_workdir(tmp_path, {'data.source': 'folder:photos'})
    assert now['data.source'] == f'folder:{tmp_path}/photos'
    assert kept_config.differences(now, older) == kept_config.differences(older, now) == []
    other = config_file.load(None, {'data.source': 'folder:others'})
    (line,) = kept_config.differences(other, older)
    assert line == (f"data.source was 'folder:{tmp_path}/photos', now 'folder:{tmp_path}/others'")
