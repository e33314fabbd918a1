"""Nets and protocols from a file of the user's: in configurations, workdirs and weight files."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import alexnet_jax
from alexnet_jax import __main__ as commands
from alexnet_jax import default_config, main
from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment import config_file, identity, kept_config, own_parts
from alexnet_jax.network.architectures import ARCHITECTURES
from alexnet_jax.network.layers import Tanh
from alexnet_jax.network.shapes import layer_shapes
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE
from alexnet_jax.runtime.errors import InputError
from alexnet_jax.studies import study
from alexnet_jax.weights.files import read_arrays, write_arrays
from tests import config_files
from tests.experiment import own_files

pytestmark = pytest.mark.usefixtures('quickly')
NET, PROTOCOL = {'network.name': 'mynet.py:NET'}, {'train.protocol': 'myrecipe.py:PROTOCOL'}


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch) -> Path:
    """The files of docs/own_parts.md, in the working folder."""
    own_files.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def arguments(data_dir):
    def arguments(*more: str, net='mynet.py:NET', protocol='myrecipe.py:PROTOCOL') -> list[str]:
        return [
            '--config', 'digits', '--workdir', 'run', f'--config.network.name={net}',
            f'--config.train.protocol={protocol}', f'--config.data.dir={data_dir}',
            '--config.train.log_to=', '--noconfig.train.report', *more,
        ]  # fmt: skip

    return arguments


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob('*') if path.is_file() and path.name != '.lock']
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_settings_change_an_own_net_as_any_other():
    config = config_file.load('digits', NET)
    net = configuration.network_of(config)
    # 5·5·3·16 + 16, 3·3·16·32 + 32, 6·6·32·64 + 64, 64·10 + 10
    assert [row.parameters for row in layer_shapes(net, 10)] == [1216, 4640, 73_792, 650]
    wide = {'network.width': '2', 'network.input_size': '24', 'network.activation': 'tanh'}
    net = configuration.network_of(config_file.load('digits', NET | wide))
    assert [row.features for row in net.layers] == [32, 64, 128]
    assert net.input_size == 24 and all(row.then[0] == Tanh() for row in net.layers)


def test_a_study_varies_an_own_net():
    base = config_file.load('digits', NET)
    tanh = study.changed(base, {'network.activation': 'tanh'}, 'tanh')
    assert configuration.network_of(tanh).layers[2].then[0] == Tanh()
    assert study.result_settings(base)['network.name'] == 'mynet'
    assert configuration.settled(tanh).network.table == configuration.network_of(tanh)


def test_a_config_file_names_an_own_net(files):
    text = "config.network.name = 'mynet.py:NET'", "config.data.source = 'digits'"
    path = config_files.with_lines(files / 'my.py', *text, 'config.data.record_size = 32')
    assert configuration.network_of(config_file.load(str(path), {})).name == 'mynet'


def test_defaults_of_an_own_protocol_lie_under_the_file_and_the_flags():
    config = config_file.load('digits', PROTOCOL)
    rate, batch, epochs = (
        config.optimizer.learning_rate, config.data.batch_size, config.train.epochs,
    )  # fmt: skip
    assert (rate, batch, epochs) == (0.02, 64, 48)  # the file has its own batch size and epochs
    given = config_file.load('digits', PROTOCOL | {'optimizer.learning_rate': '0.5'})
    assert given.optimizer.learning_rate == 0.5
    config = default_config()
    config.train.protocol = 'myrecipe.py:PROTOCOL'
    assert (config.optimizer.learning_rate, config.train.epochs) == (0.02, 15)


@pytest.mark.thorough
def test_a_run_goes_on_without_its_files(arguments, files, capsys):
    """To the same numbers as one that was not interrupted, and in a weight file elsewhere."""
    assert main.main(arguments('--config.train.steps=4')) == DONE
    whole = alexnet_jax.load('run')
    (files / 'run').rename(files / 'whole')
    assert main.main(arguments('--config.train.steps=2')) == DONE
    for name in own_files.examples():
        (files / name).unlink()
    assert main.main(arguments('--config.train.steps=4')) == BAD_INPUT
    assert 'no such file; a run that has begun does not need it' in capsys.readouterr().err
    assert main.main(['--workdir', 'run', '--config.train.steps=4']) == DONE
    found = alexnet_jax.load('run')
    assert found.step == 4
    for layer, parts in whole.layers.items():
        for part, array in parts.items():
            np.testing.assert_array_equal(found.layers[layer][part], array)

    kept = json.loads((files / 'run' / 'config.json').read_text())
    assert kept['network']['name'] == 'mynet' and kept['train']['protocol'] == 'myrecipe'
    assert '.py' not in json.dumps([kept['network'], kept['train']])
    assert main.main(['--workdir', 'run', '--mode=eval']) == DONE
    assert commands.main(['weights', 'export', 'run', '--out', 'own.safetensors']) == DONE
    loaded = alexnet_jax.load('own.safetensors')
    assert loaded.net.architecture == whole.net.architecture
    assert loaded.config.train.table == whole.config.train.table
    assert commands.main(['weights', 'import', 'own.safetensors', '--workdir', 'imported']) == DONE
    images = np.arange(28 * 28 * 3, dtype=np.uint8).reshape(1, 28, 28, 3)
    one, other = (alexnet_jax.load(name)(images)[0] for name in ('run', 'imported'))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ('name', 'old', 'new', 'message'),
    [
        ('mynet.py', "'fc3', 64", "'fc3', 32", 'fc3.features of the net was 64, now 32'),
        ('mynet.py', "'mynet'", "'yours'", "network.name was 'mynet', now 'yours'"),
        ('myrecipe.py', 'rate=2.0', 'rate=1.5', r'groups\[1\].rate of the protocol was 2.0, now 1.5'),
        (
            'myrecipe.py', '(5, 0.5)', '(4, 0.5)',
            r'groups\[0\].schedule.drops of the protocol was \[\[5, 0.5\], .*, now \[\[4, 0.5\]',
        ),
        (
            'myrecipe.py', "'optimizer.learning_rate': 0.02", "'optimizer.learning_rate': 0.03",
            'optimizer.learning_rate was 0.02, now 0.03',
        ),
    ],
)  # fmt: skip
def test_a_changed_file_is_refused(arguments, files, one_step, capsys, name, old, new, message):
    before = contents(files / 'run')
    own_files.change(files / name, old, new)
    assert main.main(arguments('--config.train.steps=3')) == BAD_INPUT
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert contents(files / 'run') == before
    own_files.change(files / name, new, old)
    own_files.change(files / 'myrecipe.py', 'lesson 3', 'lesson 4')  # trains alike
    config = config_file.load('digits', NET | PROTOCOL)
    assert kept_config.differences(config, kept_config.read_workdir(Path('run/config.json'))) == []


@pytest.fixture(scope='module')
def trained(data_dir, tmp_path_factory) -> Path:
    """A run of one step with the own net and protocol."""
    folder = tmp_path_factory.mktemp('own')
    own_files.write(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main.main([
            '--config', 'digits', '--workdir', 'run', '--config.network.name=mynet.py:NET',
            '--config.train.protocol=myrecipe.py:PROTOCOL', f'--config.data.dir={data_dir}',
            '--config.train.log_to=', '--noconfig.train.report', '--config.train.steps=1',
        ]) == DONE  # fmt: skip
    return folder / 'run'


@pytest.fixture
def one_step(trained, files) -> None:
    shutil.copytree(trained, files / 'run')


def test_the_settings_of_a_kept_own_net_are_its_own(one_step, capsys):
    """Nothing can make another net of it: its file may be gone."""
    assert main.main(['--workdir', 'run', '--mode=eval', '--config.network.width=2']) == BAD_INPUT
    error = capsys.readouterr().err
    assert "network.width is '2'; allowed: none, as network.table is a net of its own" in error
    kept_config.of_workdir(Path('run'), {'network.width': '1'})


def test_the_digest_of_a_run_has_its_own_protocol(one_step):
    kept = identity.read(Path('run'))
    other = configuration.changed(
        kept.config, {'train.table': own_parts.PROTOCOLS['caffe'], 'train.protocol': 'myrecipe'}
    )
    assert kept.digest != dataclasses.replace(kept, config=other).digest


EVIL = 'raise SystemExit("it was run")\nNET = PROTOCOL = SOURCE = 1'


@pytest.mark.parametrize('setting', ['network.name', 'train.protocol', 'data.source'])
@pytest.mark.parametrize('mode', ['train', 'eval'])
def test_a_workdir_cannot_name_a_file_to_be_run(one_step, files, capsys, setting, mode):
    (files / 'evil.py').write_text(EVIL)
    place = files / 'run' / 'config.json'
    tree = json.loads(place.read_text())
    group, name = setting.split('.')
    tree[group][name] = f'{files}/evil.py:NET'
    tree[group].pop('table', None)
    place.write_text(json.dumps(tree))
    assert main.main(['--workdir', 'run', f'--mode={mode}', '--config.train.steps=2']) == BAD_INPUT
    error = capsys.readouterr().err
    assert 'it was run' not in error
    assert ('allowed: a name without a file' in error) == (setting != 'data.source')


def test_a_weight_file_cannot_name_a_file_to_be_run(one_step, files):
    (files / 'evil.py').write_text(EVIL)
    evil = Path('evil.safetensors')
    commands.main(['weights', 'export', 'run', '--out', 'own.safetensors'])
    arrays, metadata = read_arrays(Path('own.safetensors'))
    metadata = {name: text for name, text in metadata.items() if 'sha256' not in name}
    for name in ('network.name', 'train.protocol'):
        config = json.loads(metadata['config']) | {name: f'{files}/evil.py:NET'}
        write_arrays(evil, arrays, metadata | {'config': json.dumps(config)})
        with pytest.raises(InputError, match='allowed: a name without a file'):
            alexnet_jax.load(evil)
    write_arrays(evil, arrays, metadata | {'protocol': '{"name": "x", "source": "y"}'})
    with pytest.raises(InputError, match='groups of the table of the protocol is None'):
        alexnet_jax.load(evil)


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ("'mynet'", "'paper'", "its name is 'paper'; allowed: another name than those of this"),
        ("'mynet'", "'a.py:X'", "its name is 'a.py:X'; allowed: another name"),
        ("'mynet'", "'m' * 101", 'allowed: 1 to 100 printable characters'),
        ("'conv1', 16", "'conv1', 15", 'does not run: line 9: conv1 of network mynet has 15 features'),
        ('kernel=3', 'kernel=65', r'conv2 .*allowed'),
        ('NET =', 'NETS =', 'the file defines no NET; the nearest is NETS'),
        ('NET = Arch', 'NET = 3\nOTHER = Arch', 'NET is of type int; allowed: an Architecture'),
    ],
)  # fmt: skip
def test_nets_that_cannot_be(files, old, new, message):
    own_files.change(files / 'mynet.py', old, new)
    with pytest.raises(InputError, match=message):
        config_file.load('digits', NET)


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ("'myrecipe'", "'paper'", "its name is 'paper'; allowed: another name"),
        ('rate=2.0', 'rate=-2.0', 'group biases of protocol myrecipe has rate -2.0; allowed'),
        ("'optimizer.learning_rate'", "'optimizer.rate'", 'has a default of .* the nearest is opti'),
        ("'optimizer.learning_rate'", "'network.width'", "has a default of 'network.width'"),
        ("'train.epochs': 15", "'train.epochs': 0", 'train.epochs is 0; allowed: a whole number'),
        ('PROTOCOL =', 'RECIPE =', 'the file defines no PROTOCOL; the nearest is RECIPE'),
        ("settings={", "settings={1, ", 'settings|does not run'),
    ],
)  # fmt: skip
def test_protocols_that_cannot_be(files, old, new, message):
    own_files.change(files / 'myrecipe.py', old, new)
    with pytest.raises(InputError, match=message):
        config_file.load('digits', PROTOCOL)


@pytest.mark.parametrize('text', ['mynet.py', 'mynet.py:', 'mynet.py:NET:X', 'mynet.py:a b'])
def test_a_name_of_another_form(text):
    with pytest.raises(InputError, match=r'allowed: FILE\.py:NAME of an Architecture of your own'):
        config_file.load('digits', {'network.name': text})


def test_a_net_of_the_package_may_be_given_as_it_is(files):
    """Its name stands for the same table."""
    (files / 'mynet.py').write_text('from alexnet_jax.network.architectures import SMALL as NET')
    config = configuration.settled(config_file.load('digits', NET))
    usual = config_file.load('digits', {})
    assert kept_config.differences(config, usual) == []
    assert configuration.network_of(config) == ARCHITECTURES['small']


def test_a_traceback_is_shown_with_debug_alone(files, capsys):
    (files / 'mynet.py').write_text('1 / 0')
    words = ['--config', 'digits', '--workdir', 'run', '--config.network.name=mynet.py:NET']
    assert main.main(words) == BAD_INPUT
    error = capsys.readouterr().err
    assert error == (
        'error: network.name mynet.py:NET does not run: line 1: ZeroDivisionError: division by zero\n'
    )
    assert main.main([*words, '--debug']) == BAD_INPUT
    assert 'Traceback' in capsys.readouterr().err


def test_the_command_that_prints_nets_takes_an_own_one(capsys):
    assert commands.main(['nets', 'mynet.py:NET', '--classes=10', '--against=small']) == DONE
    printed = capsys.readouterr().out
    assert 'network mynet: 2 columns' in printed and 'total: 80,298 parameters' in printed
    assert commands.main(['nets', 'mynet.py:TEN']) == BAD_INPUT
    assert 'error: network mynet.py:TEN: the file defines no TEN' in capsys.readouterr().err
