import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alexnet_jax.data import images
from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment import settings
from alexnet_jax.experiment.settings import SETTINGS
from alexnet_jax.runtime import command_line
from alexnet_jax.runtime.errors import InputError

CONFIGS = sorted(Path('configs').glob('*.py'))


def load(**overrides: str):
    return configuration.load(
        None, {name.replace('__', '.'): text for name, text in overrides.items()}
    )


def test_defaults_are_the_paper_s_and_allowed():
    defaults = load(data__source='synthetic')
    assert configuration.validate(defaults) == []
    assert defaults['data.batch_size'] == 128
    assert defaults['optimizer.learning_rate'] == 0.01
    assert defaults['optimizer.momentum'] == 0.9
    assert defaults['optimizer.weight_decay'] == 0.0005
    assert defaults['schedule.drops'] == 3
    assert defaults['train.epochs'] == 90


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_every_config_that_comes_with_it_loads(path):
    config = configuration.load(path, {'data.source': 'synthetic'})
    assert config.keys() == SETTINGS.keys()
    changes = configuration.read_file(path)
    assert changes and all(value != SETTINGS[name].default for name, value in changes.items()), (
        'a config holds only what differs from the defaults'
    )


def test_command_line_over_file_over_defaults(tmp_path):
    path = tmp_path / 'my.py'
    path.write_text("config = {'seed': 3, 'data.batch_size': 32, 'optimizer.learning_rate': 1}")
    config = configuration.load(path, {'data.batch_size': '16'})
    assert (config['seed'], config['data.batch_size'], config['train.epochs']) == (3, 16, 90)
    assert type(config['optimizer.learning_rate']) is float


def test_a_protocol_brings_defaults_that_file_and_command_line_go_before(tmp_path):
    path = tmp_path / 'my.py'
    path.write_text("config = {'train.protocol': 'caffe', 'data.color_std': 0.2}")
    config = configuration.load(path, {})
    assert (config['data.batch_size'], config['train.steps']) == (256, 450_000)
    assert config['data.color_std'] == 0.2
    config = configuration.load(path, {'data.batch_size': '16', 'train.epochs': '3'})
    assert (config['data.batch_size'], config['train.steps']) == (16, 0)
    other = configuration.load(path, {'train.protocol': 'torchvision'})
    assert (other['train.steps'], other['optimizer.weight_decay']) == (0, 1e-4)
    kept = {name: SETTINGS[name].default for name in SETTINGS}
    assert configuration.load(None, {}) == kept


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
    (tmp_path / 'config.json').write_text(json.dumps(configuration.nest(kept)))
    assert configuration.of_workdir(tmp_path, overrides) == config


def test_the_last_of_repeated_flags_counts():
    parser = command_line.Parser()
    _, overrides = parser.parse_with_settings(['--config.seed=1', '--config.seed=2'])
    assert overrides == {'seed': '2'}


START_LAYERS = [
    ('conv1', ['conv1']),
    (' fc8, conv1 ', ['fc8', 'conv1']),
    ('', []),
    ('  ', []),
    ('conv1,conv1', r"start\.layers names layer 'conv1' twice"),
    ('conv1, conv2,conv1 ', r"start\.layers names layer 'conv1' twice"),
    ('conv1,,conv2', r"start\.layers is 'conv1,,conv2'; allowed: something on each side"),
    (',', 'something on each side'),
    ('conv1,', 'something on each side'),
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
    with pytest.raises(InputError, match=r"start\.layers is 'conv1'; .* start\.from is nothing"):
        load(start__layers='conv1')


def test_the_length_of_a_run_counts_where_rates_depend_on_it():
    for protocol, expected in (('diary', 0), ('one_weird_trick', 1), ('large_batch', 1)):
        one = load(data__source='synthetic', train__protocol=protocol, train__epochs='90')
        longer = one | {'train.epochs': 91}
        assert len(configuration.differences(longer, one)) == expected, protocol


BAD = [
    ({'network__activation': 'gelu'}, r"network\.activation is 'gelu'; .*; the nearest is"),
    ({'network__input_size': '35'}, r'network\.input_size is 35: .*; allowed: at least 36'),
    ({'network__width': '0.1'}, r'network\.width is 0\.1: conv1 .* over 5 maps'),
    ({'optimizer__layer_rates': 'conv1=-1'}, r"optimizer\.layer_rates has 'conv1=-1'"),
    ({'data__normalization': 'none'}, r"data\.normalization is 'none'; allowed: one of mean_image"),
    ({'data__resize': 'squish'}, r"data\.resize is 'squish'; .*; the nearest is squash"),
    *(
        (
            {'data__normalization': 'standardized', f'data__{name}': text},
            rf"data\.{name} is '{text}'; allowed: three numbers {numbers}, as R,G,B, or nothing",
        )
        for name, numbers in (('mean', 'from 0 to 255'), ('std', 'above 0, at most 255'))
        for text in ('1', '1,2', '1,2,3,4', '1,,3', 'a,b,c', '-1,2,3', '1,2,256', '1,2,nan', ',')
    ),
    ({'data__normalization': 'standardized', 'data__std': '0,1,2'}, r"data\.std is '0,1,2'"),
    (
        {'data__mean': '123,117,104'},
        r"data\.mean is '123,117,104'; .* is mean_image; it goes with channel_mean or standardized$",
    ),
    (
        {'data__normalization': 'channel_mean', 'data__std': '58,57,57'},
        r"data\.std is '58,57,57'; .* is channel_mean; it goes with standardized$",
    ),
    ({'eval__views': '5'}, r'eval\.views is 5; allowed: 1 or 10$'),
    (
        {'eval__save': 'view'},
        r"eval\.save is 'view'; .* nothing, predictions, views; the nearest is views$",
    ),
    ({'eval__split': 'x'}, r"eval\.split is 'x'; .*; the nearest is (train|val|test)$"),
    ({'network__input_size': '300'}, r'data\.record_size is 256; allowed: at least 300'),
    ({'optimizer__learning_rate': 'nan'}, r'optimizer\.learning_rate is nan; allowed: .* above 0'),
    ({'optimizer__learning_rate': '0'}, r'optimizer\.learning_rate is 0\.0'),
    ({'optimizer__learning_rate': 'inf'}, r'optimizer\.learning_rate is inf'),
    ({'optimizer__learning_rate': 'fast'}, r"optimizer\.learning_rate is 'fast'"),
    ({'optimizer__momentum': '1'}, r'optimizer\.momentum is 1\.0; .* below 1'),
    ({'data__batch_size': '-4'}, r'data\.batch_size is -4; allowed: a whole number of at least 1'),
    ({'data__batch_size': '1.5'}, r"data\.batch_size is '1\.5'"),
    ({'seed': str(2**31)}, r'seed is 2147483648'),
    (
        {'network__name': 'papr'},
        r"network\.name is 'papr'; allowed: one of paper.*; the nearest is paper",
    ),
    (
        {'data__source': 'mnist'},
        r"data\.source is 'mnist'; allowed: digits, patterns, synthetic, folder:PATH",
    ),
    ({'data__source': 'folder:'}, r"data\.source is 'folder:'"),
    ({'data__source': 'tfds:'}, r"data\.source is 'tfds:'"),
    ({'data__threads': '-1'}, r'data\.threads is -1; allowed: a whole number from 0 to 1024'),
    ({'data__mirror': 'yes'}, r"data\.mirror is 'yes'; allowed: one of on, off"),
    ({'data__color_scale': 'root'}, r"data\.color_scale is 'root'; allowed: one of std, variance"),
    (
        {'data__batch_size': '63', 'mesh__data': '2'},
        r'data\.batch_size is 63; .* multiple of mesh\.data',
    ),
    ({'mesh__column': '3'}, r'mesh\.column is 3; .* divisor of the 2 columns'),
    ({'data__record_size': '32'}, r'data\.record_size is 32; allowed: at least 224'),
    (
        {'optimizer__learning_rat': '1'},
        r'unknown setting .*; the nearest is optimizer\.learning_rate',
    ),
]


@pytest.mark.parametrize(('overrides', 'message'), BAD)
def test_a_bad_setting_is_named_with_its_value(overrides, message):
    with pytest.raises(InputError, match=message):
        load(**overrides)


def test_the_numbers_of_the_channels():
    assert settings.channels('') == ()
    assert settings.channels('123.675, 0,255') == (123.675, 0.0, 255.0)
    for kind, names in (('channel_mean', ['mean']), ('standardized', ['mean', 'std'])):
        numbers = {f'data__{name}': '58.395,57.12,57.375' for name in names}
        assert load(data__normalization=kind, **numbers)['data.mean'] == '58.395,57.12,57.375'


def test_the_ways_to_make_a_square_are_those_that_there_are():
    assert settings.RESIZES == images.RESIZES


@pytest.mark.parametrize(
    'source', ['digits', 'folder:/a b/c', 'tfds:imagenet2012', 'tfds:a/b:1.*.*']
)
def test_sources(source):
    assert load(data__source=source)['data.source'] == source


def test_all_bad_settings_are_named():
    with pytest.raises(InputError) as caught:
        load(seed='x', train__steps='-1', data__source='digit')
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (None, 'no such file'),
        ('config = {', r'does not run: line 1: SyntaxError'),
        ('x = 1\n\nconfig = {"a": 1 / 0}', 'does not run: line 3: ZeroDivisionError'),
        ('raise SystemExit(0)', 'does not run: line 1: SystemExit'),
        ('configuration = {}', 'defines no dictionary `config`'),
        ('config = ["seed"]', 'defines no dictionary `config`'),
        ('config = {"sede": 1}', 'unknown setting sede; the nearest is seed'),
        ('config = {"seed": True}', 'seed is True'),
        ('config = {"data.batch_size": 64.0}', r'data\.batch_size is 64\.0'),
        ('config = {"data.source": None}', r'data\.source is None'),
    ],
)
def test_a_bad_file_is_named(text, message, tmp_path):
    path = tmp_path / 'my.py'
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        configuration.load(path, {})
    assert len(str(caught.value).splitlines()) <= 2


@given(
    st.sampled_from(sorted(SETTINGS)),
    st.text(max_size=12) | st.floats().map(str) | st.integers().map(str),
)
def test_any_text_for_any_setting_is_taken_or_refused(name, text):
    try:
        config = configuration.load(None, {name: text})
    except InputError as error:
        assert name in str(error) or 'data.' in str(error)
    else:
        assert configuration.validate(config) == []
        assert not isinstance(config[name], float) or math.isfinite(config[name])


def test_a_workdir_s_configuration_comes_back(tmp_path):
    config = load(seed='7', data__source='synthetic', optimizer__learning_rate='0.003')
    path = tmp_path / 'config.json'
    path.write_text(json.dumps(configuration.nest(config)))
    assert json.loads(path.read_text())['optimizer']['learning_rate'] == 0.003
    assert configuration.read_workdir(path) == config
    for text in ('{', '[]', '{"seed": "x"}'):
        path.write_text(text)
        with pytest.raises(InputError, match=r'config\.json'):
            configuration.read_workdir(path)


def test_differences_are_those_that_change_what_is_computed():
    one = load(data__source='synthetic')
    other = load(data__source='synthetic', seed='1', mesh__data='2', train__steps='9')
    assert configuration.differences(other, one) == ['seed was 0, now 1']


def test_the_folder_of_a_source_is_absolute(tmp_path, monkeypatch):
    """From the working folder, whether it comes from a file or the command line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    (tmp_path / 'link').symlink_to(tmp_path / 'photos')
    own = f'folder:{tmp_path}/photos'
    for text in ('folder:photos', 'folder:./photos/', 'folder:x/../photos', 'folder:link', own):
        assert configuration.load(None, {'data.source': text})['data.source'] == own
        (tmp_path / 'my.py').write_text(f'config = {{"data.source": {text!r}}}')
        assert configuration.load(tmp_path / 'my.py', {})['data.source'] == own
    at_home = configuration.load(None, {'data.source': 'folder:~/photos'})
    assert at_home['data.source'] == f'folder:{tmp_path}/home/photos'
    for text in ('digits', 'tfds:photos', 'folder:~nobody_of_that_name/photos'):
        assert configuration.load(None, {'data.source': text})['data.source'] == text


def test_a_relative_source_of_an_older_workdir(tmp_path, monkeypatch):
    """It stays as it is kept, such as the name of a set in a weight file that was pulled, and is
    the same as the absolute one of the same command."""
    monkeypatch.chdir(tmp_path)
    older = configuration.complete({'data.source': 'folder:photos'}, {})
    (tmp_path / 'config.json').write_text(json.dumps(configuration.nest(older)))
    assert configuration.of_workdir(tmp_path, {'seed': '1'})['data.source'] == 'folder:photos'
    now = configuration.of_workdir(tmp_path, {'data.source': 'folder:photos'})
    assert now['data.source'] == f'folder:{tmp_path}/photos'
    assert configuration.differences(now, older) == configuration.differences(older, now) == []
    other = configuration.load(None, {'data.source': 'folder:others'})
    (line,) = configuration.differences(other, older)
    assert line == (f"data.source was 'folder:{tmp_path}/photos', now 'folder:{tmp_path}/others'")
