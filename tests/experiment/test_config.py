import copy
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict

from alexnet_jax import default_config
from alexnet_jax.data import images
from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment import config_file, kept_config, settings
from alexnet_jax.experiment.settings import SETTINGS
from alexnet_jax.runtime.errors import InputError


def load(**overrides: str):
    return config_file.load(
        None, {name.replace('__', '.'): text for name, text in overrides.items()}
    )


def test_defaults_are_the_paper_s_and_allowed():
    defaults = load(data__source='synthetic')
    assert configuration.validate(defaults) == []
    own = {name: setting.default for name, setting in SETTINGS.items()}
    assert configuration.flat(load()) == own
    assert defaults['data.batch_size'] == 128
    assert defaults['optimizer.learning_rate'] == 0.01
    assert defaults['optimizer.momentum'] == 0.9
    assert defaults['optimizer.weight_decay'] == 0.0005
    assert defaults['schedule.drops'] == 3
    assert defaults['train.epochs'] == 90


def test_fields_follow_the_protocol_until_they_are_changed():
    config = default_config()
    config.data.color_std = 0.2
    assert (config.data.batch_size, config.train.steps) == (128, 0)
    config.train.protocol = 'caffe'
    assert (config.data.batch_size, config.train.steps, config.data.color_std) == (
        256,
        450_000,
        0.2,
    )
    config.data.batch_size = 128  # the default of `paper`, and given
    found = configuration.complete(config, {'train.protocol': 'large_batch'})
    assert (found.data.batch_size, found.train.epochs, found.train.steps) == (128, 100, 0)
    assert found.optimizer.learning_rate == 0.25
    caffe = default_config('caffe').data
    assert (caffe.batch_size, caffe.normalization) == (256, 'mean_image')


def test_a_default_config_takes_no_new_fields_and_shares_nothing():
    one, other = default_config(), default_config()
    with pytest.raises(AttributeError, match='batch_sise'):
        one.data.batch_sise = 64
    one.optimizer.layer_rates.conv1 = 0
    copied = copy.deepcopy(one)
    copied.train.protocol = 'caffe'
    assert other.optimizer.layer_rates == ConfigDict(type_safe=False)
    assert (one.data.batch_size, copied.data.batch_size) == (128, 256)


LENGTHS = [  # file, command line -> train.steps, train.epochs
    ({'train.steps': 500}, {}, (500, 90)),
    ({'train.steps': 500}, {'train.epochs': '3'}, (0, 3)),
    ({'train.steps': 500, 'train.epochs': 7}, {'train.epochs': '3'}, (0, 3)),
    ({'train.epochs': 7}, {'train.steps': '5'}, (5, 7)),
    ({'train.steps': 500}, {'train.steps': '0', 'train.epochs': '3'}, (0, 3)),
    ({'train.steps': 500}, {'train.epochs': '3', 'train.steps': '5'}, (5, 3)),
    ({'train.steps': 500, 'train.epochs': 7}, {'train.steps': '0'}, (0, 7)),
    ({'train.protocol': 'caffe'}, {}, (450_000, 90)),
    ({'train.protocol': 'caffe'}, {'train.epochs': '3'}, (0, 3)),
    ({'train.protocol': 'caffe', 'train.epochs': 7}, {}, (0, 7)),
    ({'train.protocol': 'caffe', 'train.epochs': 90}, {}, (0, 90)),
    ({'train.protocol': 'caffe', 'train.epochs': 7}, {'train.steps': '5'}, (5, 7)),
    ({'train.protocol': 'caffe', 'train.steps': 9, 'train.epochs': 7}, {}, (9, 7)),
    ({'train.protocol': 'diary'}, {'train.steps': '5'}, (5, 91)),
]


@pytest.mark.parametrize(('changes', 'overrides', 'expected'), LENGTHS)
def test_a_length_on_the_command_line_goes_before_any_other(changes, overrides, expected, tmp_path):
    """It counts alike over a config file, a workdir and a configuration in memory."""
    config = configuration.complete(changes, overrides)
    assert (config['train.steps'], config['train.epochs']) == expected
    kept = configuration.complete(changes, {})
    assert configuration.override(kept, overrides) == config
    (tmp_path / 'config.json').write_text(json.dumps(kept_config.to_tree(kept)))
    assert kept_config.of_workdir(tmp_path, overrides) == config


START_LAYERS = [
    ('conv1', ('conv1',)),
    (' fc8, conv1 ', ('fc8', 'conv1')),
    ("('conv1',)", ('conv1',)),
    ("['conv1', 'conv2']", ('conv1', 'conv2')),
    ('', ()),
    ('  ', ()),
    ('()', ()),
    ('conv1,conv1', r"start\.layers names layer 'conv1' twice"),
    ('conv1, conv2,conv1 ', r"start\.layers names layer 'conv1' twice"),
    ('conv1,,conv2', r"start\.layers is \('conv1', '', 'conv2'\); allowed: names of layers"),
    (',', 'allowed: names of layers'),
    ('conv1,', 'allowed: names of layers'),
    ('conv１', 'names layer .*; the nearest is conv'),
    ('Conv1', 'the nearest is conv'),
    ('conv1;conv2', 'the nearest is conv'),
]


@pytest.mark.parametrize(('text', 'expected'), START_LAYERS)
def test_the_layers_to_start_with(text, expected):
    changes = {'start__from': 'runs/other', 'start__layers': text}
    if isinstance(expected, str):
        with pytest.raises(InputError, match=expected):
            load(**changes)
    else:
        config = load(**changes)
        assert configuration.start_layers(config, configuration.network_of(config)) == expected


def test_layers_to_start_with_need_a_source():
    with pytest.raises(
        InputError, match=r"start\.layers is \('conv1',\); .* start\.from is nothing"
    ):
        load(start__layers='conv1')


BAD = [
    ({'network__activation': 'gelu'}, r"network\.activation is 'gelu'; the nearest is relu; allowed: one of"),
    ({'network__input_size': '35'}, r'network\.input_size is 35: .*; allowed: at least 36'),
    ({'network__width': '0.1'}, r'network\.width is 0\.1: conv1 .* over 5 maps'),
    ({'optimizer__layer_rates': 'conv1=-1'},
     r"optimizer\.layer_rates is {'conv1': -1.0}; .* from 0 to 1e.30"),
    ({'data__normalization': 'none'}, r"data\.normalization is 'none'; the nearest is \w+; allowed: one of mean_image"),
    ({'data__resize': 'squish'}, r"data\.resize is 'squish'; the nearest is squash; allowed: "),
    *(
        (
            {'data__normalization': 'standardized', f'data__{name}': text},
            rf'data\.{name} is .*; allowed: three numbers {numbers}, for red, green and blue, or',
        )
        for name, numbers in (('mean', 'from 0 to 255'), ('std', 'above 0, at most 255'))
        for text in ('1', '1,2', '1,2,3,4', '1,,3', 'a,b,c', '-1,2,3', '1,2,256', '1,2,nan', ',')
    ),
    ({'data__normalization': 'standardized', 'data__std': '0,1,2'},
     r'data\.std is \(0\.0, 1\.0, 2\.0\)'),
    ({'data__mean': '123,117,104'},
     r'data\.mean is \(123\.0, 117\.0, 104\.0\); .* is mean_image; it goes with channel_mean or standardized$'),
    ({'data__normalization': 'channel_mean', 'data__std': '58,57,57'},
     r'data\.std is \(58\.0, 57\.0, 57\.0\); .* is channel_mean; it goes with standardized$'),
    ({'eval__views': '5'}, r'eval\.views is 5; allowed: 1 or 10$'),
    ({'eval__save': 'view'},
     r"eval\.save is 'view'; the nearest is views; allowed: .*nothing, predictions, views$"),
    ({'eval__split': 'x'}, r"eval\.split is 'x'; the nearest is (train|val|test); allowed: "),
    ({'network__input_size': '300'}, r'data\.record_size is 256; allowed: at least 300'),
    ({'optimizer__learning_rate': 'nan'}, r'optimizer\.learning_rate is nan; allowed: .* above 0'),
    ({'optimizer__learning_rate': '0'}, r'optimizer\.learning_rate is 0\.0'),
    ({'optimizer__learning_rate': 'inf'}, r'optimizer\.learning_rate is inf'),
    ({'optimizer__learning_rate': 'fast'}, r"optimizer\.learning_rate is 'fast'"),
    ({'optimizer__momentum': '1'}, r'optimizer\.momentum is 1\.0; .* below 1'),
    ({'data__batch_size': '-4'}, r'data\.batch_size is -4; allowed: a whole number of at least 1'),
    ({'data__batch_size': '1.5'}, r"data\.batch_size is '1\.5'"),
    ({'seed': str(2**31)}, r'seed is 2147483648'),
    ({'network__name': 'papr'},
     r"network\.name is 'papr'; the nearest is paper; allowed: one of paper"),
    ({'data__source': 'mnist'},
     r"data\.source is 'mnist'; allowed: digits, patterns, synthetic, folder:PATH"),
    ({'data__source': 'folder:'}, r"data\.source is 'folder:'"),
    ({'data__source': 'tfds:'}, r"data\.source is 'tfds:'"),
    ({'data__threads': '-1'}, r'data\.threads is -1; allowed: a whole number from 0 to 1024'),
    ({'data__mirror': 'yes'}, r"data\.mirror is 'yes'; allowed: true or false"),
    ({'data__color_scale': 'root'}, r"data\.color_scale is 'root'; the nearest is std; allowed: one of std, variance"),
    ({'data__batch_size': '63', 'mesh__data': '2'},
     r'data\.batch_size is 63; .* multiple of mesh\.data'),
    *(
        ({'data__mean': text}, r'data\.mean is .*; allowed: three numbers')
        for text in ('(', '(1', '((1,2,3),)', '({[]:1},)', f'({"-" * 100_000}1,)', '(' * 10_000)
    ),
    ({'optimizer__layer_rates__conv1': '1e300'}, r"layer_rates is {'conv1': 1e\+300}; .* 1e\+30"),
    *(({f'optimizer__layer_rates__{name}': '1'}, 'layer_rates is .*; allowed: a number from 0')
      for name in ('__class__', 'items')),
    ({'optimizer__layer_rates': 'a.b=1'}, r"layer_rates is {'a\.b': 1\.0}; allowed: a number from 0"),
    *(
        ({f'optimizer__layer_rates__{layer}': '1'}, 'unknown setting .*layer_rates')
        for layer in ('', 'a.b', 'conv1.')
    ),
    ({'optimizer__layer_rates__conv1': 'x'}, r"layer_rates is {'conv1': 'x'}; allowed: a number from 0"),
    ({'optimizer__layer_rates__conv9': '1'},
     r"layer_rates names layer 'conv9'; the nearest is conv"),
    ({'train__log_to': 'tensorboard,tensorboard'}, r'train\.log_to is .*; allowed: any of'),
    ({'mesh__column': '3'}, r'mesh\.column is 3; .* divisor of the 2 columns'),
    ({'data__record_size': '32'}, r'data\.record_size is 32; allowed: at least 224'),
    ({'optimizer__learning_rat': '1'},
     r'unknown setting .*; the nearest is optimizer\.learning_rate'),
]  # fmt: skip


@pytest.mark.parametrize(('overrides', 'message'), BAD)
def test_a_bad_setting_is_named_with_its_value(overrides, message):
    with pytest.raises(InputError, match=message):
        load(**overrides)


VALUES = [  # text, as the command line or version 0.1 has it -> the value
    ('data.mean', '123.675, 0,255', (123.675, 0.0, 255.0)),
    ('data.mean', '(1, 2.5, 3)', (1.0, 2.5, 3.0)),
    ('train.log_to', """[ 'wandb', ]""", ('wandb',)),
    ('data.mean', '', ()),
    ('data.mirror', 'on', True),
    ('data.mirror', 'off', False),
    ('data.mirror', 'False', False),
    ('train.report', '1', True),
    ('train.log_to', 'tensorboard,wandb', ('tensorboard', 'wandb')),
    ('optimizer.layer_rates', 'conv1=0, fc8=10', {'conv1': 0.0, 'fc8': 10.0}),
    ('optimizer.layer_rates', '', {}),
]


@pytest.mark.parametrize(('name', 'text', 'value'), VALUES)
def test_text_is_read_as_a_value(name, text, value):
    """And an older config.json, which holds such texts, likewise."""
    assert settings.from_text(name, text) == settings.normalized(name, text) == value
    assert type(settings.from_text(name, text)) is type(SETTINGS[name].default)
    assert settings.from_text(name, settings.as_text(name, value)) == value


def test_the_factor_of_one_layer_keeps_those_of_others():
    config = default_config()
    config.optimizer.layer_rates.conv1 = 0
    found = configuration.complete(config, {'optimizer.layer_rates.fc8': '10'})
    assert configuration.flat(found)['optimizer.layer_rates'] == {'conv1': 0.0, 'fc8': 10.0}
    found = configuration.complete(config, {'optimizer.layer_rates': 'fc8=10'})
    assert configuration.flat(found)['optimizer.layer_rates'] == {'fc8': 10.0}


def test_later_overrides_take_the_place_of_earlier_ones():
    """As an ablation's do of the command line's."""
    earlier = {'train.steps': '5', 'seed': '1', 'optimizer.layer_rates.conv1': '0'}
    later = {'train.epochs': '3', 'optimizer.layer_rates': 'fc8=10'}
    assert configuration.followed(earlier, later) == {'seed': '1'} | later
    assert configuration.followed(later, {'seed': '2'}) == later | {'seed': '2'}


def test_the_ways_to_make_a_square_are_those_that_there_are():
    assert settings.RESIZES == images.RESIZES


@pytest.mark.parametrize(
    'source', ['digits', 'folder:/a b/c', 'tfds:imagenet2012', 'tfds:a/b:1.*.*']
)
def test_sources(source):
    assert load(data__source=source)['data.source'] == source


@pytest.mark.parametrize('overrides', [
    {'seed': 'x', 'train__steps': '-1', 'data__source': 'digit'},
    {'seed': 'x', 'data__batch_sise': '3', 'train__protocol': 'cafe'},
    {'mesh__data': '7', 'optimizer__layer_rates__conv9': '1', 'start__layers': 'conv1'},
])  # fmt: skip
def test_all_bad_settings_are_named(overrides):
    with pytest.raises(InputError) as caught:
        load(**overrides)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    for name in overrides:
        assert any(name.replace('__', '.').removesuffix('.conv9') in line for line in lines)


@given(
    st.sampled_from(sorted(SETTINGS)),
    st.text(max_size=12) | st.floats().map(str) | st.integers().map(str),
)
def test_any_text_for_any_setting_is_taken_or_refused(name, text):
    try:
        config = config_file.load(None, {name: text})
    except InputError as error:
        assert name in str(error) or 'data.' in str(error)
    else:
        assert configuration.validate(config) == []
        assert not isinstance(config[name], float) or math.isfinite(config[name])


def test_the_folder_of_a_source_is_absolute(tmp_path, monkeypatch):
    """From the working folder, whether it comes from a file or the command line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    (tmp_path / 'link').symlink_to(tmp_path / 'photos')
    own = f'folder:{tmp_path}/photos'
    for text in ('folder:photos', 'folder:./photos/', 'folder:x/../photos', 'folder:link', own):
        assert config_file.load(None, {'data.source': text})['data.source'] == own
        config = default_config()
        config.data.source = text
        monkeypatch.setattr(config_file, 'read', lambda _, config=config: config)
        assert config_file.load('my.py', {}).data.source == own
    at_home = config_file.load(None, {'data.source': 'folder:~/photos'})
    assert at_home['data.source'] == f'folder:{tmp_path}/home/photos'
    for text in ('digits', 'tfds:photos', 'folder:~nobody_of_that_name/photos'):
        assert config_file.load(None, {'data.source': text})['data.source'] == text
