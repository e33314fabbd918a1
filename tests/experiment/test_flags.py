import re

import pytest

from alexnet_jax import main
from alexnet_jax.experiment.flags import GROUPS, SettingsParser, as_flag, describe
from alexnet_jax.experiment.settings import SETTINGS, from_text
from alexnet_jax.runtime.errors import InputError

FLAGS = [
    (['--config.seed=1', '--config.seed=2'], {'seed': '2'}),
    (['--config.data.batch_size', '64'], {'data.batch_size': '64'}),
    (['--config.data.batch_size', '-4'], {'data.batch_size': '-4'}),
    (['--config.data.mirror'], {'data.mirror': 'true'}),
    (['--noconfig.data.mirror', '--config.seed', '3'], {'data.mirror': 'false', 'seed': '3'}),
    (['--config.data.mirror=false'], {'data.mirror': 'false'}),
    (['--config.data.mean=(1,2,3)'], {'data.mean': '(1,2,3)'}),
    (['--config.data.mean', '1,2,3'], {'data.mean': '1,2,3'}),
    (['--config.optimizer.layer_rates.conv1=0'], {'optimizer.layer_rates.conv1': '0'}),
    (['--config.optimizer.layer_rates.conv1=0', '--config.optimizer.layer_rates=fc8=9'],
     {'optimizer.layer_rates': 'fc8=9'}),
    (['--config.train.log_to='], {'train.log_to': ''}),
    (['--config.data.source=folder:a=b\nc'], {'data.source': 'folder:a=b\nc'}),
    (['--config.batch_sise', '64'], {'batch_sise': '64'}),
]  # fmt: skip


@pytest.mark.parametrize(('argv', 'expected'), FLAGS)
def test_settings_are_read(argv, expected):
    parser = SettingsParser()
    parser.add_argument('--workdir')
    options, overrides = parser.parse_with_settings(['--workdir', 'w', *argv])
    assert overrides == expected and options.workdir == 'w'


BAD = [
    (['--config.seed'], r'--config\.seed has no value'),
    (['--config.seed', '--workdir=x'], r'--config\.seed has no value'),
    (
        ['--noconfig.seed'],
        r'--noconfig\.seed: seed is not true or false; data.random_crop, data.mirror, train.report are',
    ),
    (['--noconfig.data.mirror=1'], r"--noconfig\.data\.mirror has a value, '1'; allowed: none"),
    (['--config.data.mirror', 'true'], r"unknown argument 'true'"),
    (['--workdr=a'], r"unknown argument '--workdr=a'; .*; nearest option: --workdir"),
    (['--seed=1'], r"unknown argument '--seed=1'; settings are --config\.NAME=VALUE"),
    (['--help=dta'], r"--help is 'dta'; the nearest is data; allowed: seed, network"),
]


@pytest.mark.parametrize(('argv', 'message'), BAD)
def test_what_is_no_setting_is_refused(argv, message):
    parser = SettingsParser()
    parser.add_argument('--workdir')
    with pytest.raises(InputError, match=message):
        parser.parse_with_settings(argv)


def test_a_flag_is_read_as_the_value_that_it_was_made_of():
    for name, value in {
        'data.mirror': False, 'data.mean': (1.5, 2.0, 3.0), 'optimizer.layer_rates': {'fc8': 2.0},
        'seed': 3, 'train.log_to': (),
    }.items():  # fmt: skip
        _, overrides = SettingsParser().parse_with_settings([as_flag(name, value)])
        assert from_text(name, overrides[name]) == value


@pytest.mark.parametrize('topic', ['', *GROUPS, 'protocols'])
def test_help_is_short_and_complete(topic, capsys):
    """Under 60 lines of at most 100 columns each; every setting stands in its group."""
    with pytest.raises(SystemExit) as ended:
        main.parse([f'--help={topic}' if topic else '--help'])
    printed = capsys.readouterr().out.splitlines()
    assert ended.value.code == 0
    assert len(printed) < 60 and max(map(len, printed)) <= 100
    named = re.findall(r'^--config\.(\S+) ', '\n'.join(printed), re.MULTILINE)
    assert named == [name for name in SETTINGS if name.partition('.')[0] == topic]
    if topic in SETTINGS or topic == 'protocols':
        assert describe(topic) == '\n'.join(printed)
