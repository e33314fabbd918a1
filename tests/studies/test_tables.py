"""What the commands that print tables print, and configs/README.md."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from alexnet_jax.experiment import config_file
from alexnet_jax.network import __main__ as network
from alexnet_jax.network.architectures import ABLATED, ARCHITECTURES
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE
from alexnet_jax.runtime.command_line import run as run_command
from alexnet_jax.studies import published, specialization
from alexnet_jax.training import __main__ as training
from alexnet_jax.training.protocols import PROTOCOLS

CONFIGS = sorted(Path('configs').glob('*.py'))


def printed(command, arguments, capsys) -> str:
    assert run_command(command, arguments) == DONE
    return capsys.readouterr().out


def refused(command, arguments, capsys) -> str:
    assert run_command(command, arguments) == BAD_INPUT
    error = capsys.readouterr().err
    assert len(error.splitlines()) <= 2 and 'Traceback' not in error
    return error


def test_the_list_of_nets(capsys):
    lines = printed(network.run, [], capsys).splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines[1 : 1 + len(ARCHITECTURES)]}
    assert rows.keys() == ARCHITECTURES.keys()
    assert rows['paper'] == ['2', '224', '60,965,224', '724,406,816']
    assert rows['batchnorm227'] == ['1', '227', '62,383,848', '1,135,256,096']
    ten = printed(network.run, ['--classes', '10'], capsys)
    assert re.search(r'^paper +2 +224 +56,909,194 ', ten, re.MULTILINE)


def test_a_net_layer_by_layer_and_what_differs(capsys):
    text = printed(network.run, ['krizhevsky2012'], capsys)
    conv2 = next(line for line in text.splitlines() if line.startswith('conv2 '))
    assert conv2.split()[:2] == ['conv2', '5×5']
    for part in ('its column', '27×27×256', '13×13×256', '307,456', '223,948,800', '0.01'):
        assert part in conv2
    assert 'ReLU → LRN (n 5, α 0.0001/n, β 0.75, k 2) → same-map norm' in conv2
    assert 'conv3.std   0.03' in text
    text = printed(network.run, ['caffe', '--against', 'caffenet'], capsys)
    assert re.search(r'^fc7\.bias +0\.1 +1$', text, re.MULTILINE)
    text = printed(network.run, ['paper'], capsys)
    assert text.endswith('paper: nothing differs from paper\n')
    scaled = printed(network.run, ['paper', '--input_size', '96', '--width', '0.5'], capsys)
    assert re.search(r'^input_size +96 +224$', scaled, re.MULTILINE)
    assert re.search(r'^conv1\.features +48 +96$', scaled, re.MULTILINE)
    activation = printed(network.run, ['four_layer', '--activation', 'maxout'], capsys)
    assert 'maxout of 2 → max-pool 3/2' in activation


@pytest.mark.parametrize(('arguments', 'message'), [
    (['papr'], "network is 'papr'; the nearest is paper"),
    (['paper', '--against', 'cafe'], "network is 'cafe'; the nearest is caffe"),
    (['paper', '--input_size', '35'], 'leaves nothing of conv5 of network paper; allowed: at least 36'),
    (['paper', '--input_size', '-1'], '--input_size is -1'),
    (['paper', '--width', 'nan'], '--width is nan'),
    (['paper', '--width', '0.05'], 'normalization over 5 maps'),
    (['paper', '--activation', 'gelu'], "--activation is 'gelu'"),
    (['paper', '--classes', '0'], '--classes is 0'),
    (['paper', '--mesh', '4', '--batch', '8'], "--mesh is '4'; allowed: DATAxCOLUMN"),
    (['paper', '--mesh', '0x2', '--batch', '8'], "--mesh is '0x2'; allowed: DATAxCOLUMN"),
    (['paper', '--mesh', '1x3', '--batch', '8'], '--mesh is 1x3; allowed for its second number: a divisor of the 2'),
    (['half', '--mesh', '1x2', '--batch', '8'], 'the 1 column of network half'),
    (['paper', '--mesh', '64x2', '--batch', '64'], '--mesh is 64x2, 128 devices; allowed: up to 64'),
    (['paper', '--mesh', '4x2', '--batch', '10'], '--batch is 10; allowed: a multiple of the 4'),
    (['paper', '--mesh', '4x2', '--batch', '0'], '--batch is 0; allowed: above 0'),
    (['paper', '--mesh', '4x2'], '--mesh is 4x2; give --batch'),
    (['paper', '--exchange', 'scatter'], '--exchange is scatter; it goes with --mesh'),
    (['paper', '--mesh', '8x1', '--batch', '8'], 'allowed: as many as there are devices, 4'),
    (['paper', '--batch', '8'], '--batch is 8; give --mesh'),
    (['--mesh', '1x2', '--batch', '8'], 'give its name first'),
])  # fmt: skip
def test_nets_that_cannot_be(arguments, message, capsys):
    assert message in refused(network.run, arguments, capsys)


def shown(path: str) -> dict[str, list[str]]:
    """Of a page, the lines shown below each command of this part, by its arguments."""
    blocks, lines = {}, []
    for line in Path(path).read_text().splitlines():
        if line.startswith('    $ python -m alexnet_jax.network '):
            lines = blocks[line.split('alexnet_jax.network ')[1]] = []
        elif line.startswith('    ') or not line:
            lines.append(line[4:])
        else:
            lines = []
    return blocks


@pytest.mark.thorough
def test_the_page_on_scaling_shows_what_the_commands_print(capsys, monkeypatch):
    """After a change, paste what they print now. The last two lines of a count are the
    compiler's, other numbers with each version."""
    blocks = shown('docs/scaling.md')
    counts = [arguments for arguments in blocks if '--mesh 4x2' in arguments]
    assert len(counts) == 2
    for arguments, lines in blocks.items():
        if arguments not in counts:
            expected = printed(network.run, arguments.split(), capsys).splitlines()
            assert lines[: len(expected)] == expected and not any(lines[len(expected) :])
    monkeypatch.delenv('XLA_FLAGS')  # eight devices
    for count in counts:
        command = [sys.executable, '-m', 'alexnet_jax.network', *count.split()]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        expected = done.stdout.splitlines()
        assert len(expected) > 9 and blocks[count][: len(expected) - 2] == expected[:-2]


def rates(name: str, capsys, *more: str) -> dict[str, dict[str, float]]:
    """The printed table: by epoch, by group."""
    text = printed(training.run, ['--config', f'configs/{name}.py', *more], capsys)
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.split()[:2] == ['epoch', 'step'])
    groups = re.split(r' {2,}', lines[start].strip())[2:]
    table = {}
    for line in lines[start + 1 :]:
        epoch, _, *values = line.split()
        table[epoch] = dict(zip(groups, map(float, values), strict=True))
    return table


def test_caffe_s_rates_as_printed(capsys):
    """A rate that changes within an epoch has a row of its own."""
    table = rates('caffe', capsys)
    assert table['19.98'] == {'weights': 1e-3, 'biases': 2e-3} != table['19']
    assert table['19'] == {'weights': 1e-2, 'biases': 2e-2}
    assert {row['weights'] for row in table.values()} == {1e-2, 1e-3, 1e-4, 1e-5, 1e-6}


def test_rates_of_a_set_of_any_size_and_of_layers(capsys):
    more = [
        '--examples', '1000', '--config.optimizer.layer_rates=conv1=0', '--config.train.epochs=31',
    ]  # fmt: skip
    table = rates('torchvision', capsys, *more)
    assert table['29']['conv1 weights'] == 0 and table['29']['all'] == 0.01
    assert table['30']['all'] == 0.001 and len(table) == 31


def test_the_plateau_rule_as_printed(capsys):
    text = printed(training.run, ['--config', 'configs/imagenet.py'], capsys)
    assert 'after 5 validations' in text
    assert [line.split() for line in text.splitlines()[-4:]] == [
        ['0', '0.01'], ['1', '0.001'], ['2', '0.0001'], ['3', '1e-05'],
    ]  # fmt: skip


@pytest.mark.parametrize(('setting', 'message'), [
    ('optimizer.learning_rate=-0.1', 'optimizer.learning_rate is -0.1'),
    ('optimizer.layer_rates=conv9=1', "names layer 'conv9'; the nearest is conv1"),
    ('start.layers=conv1,fc9', "start.layers names layer 'fc9'; the nearest is fc6"),
    ('network.input_size=20', r'network\.input_size is 20: .* leaves nothing of conv5'),
    ('network.width=0.02', r'network\.width is 0\.02: .*normalization over 5 maps'),
])  # fmt: skip
def test_runs_that_cannot_be(setting, message, capsys):
    command = ['--config', 'configs/imagenet.py', f'--config.{setting}']
    assert re.search(message, refused(training.run, command, capsys))


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--config.train.epochs=2000000000'], 'train.epochs is 2000000000, which is 2'),
    (['--config.train.steps=2000000000', '--examples=1'], 'train.steps is 2000000000, which with'),
    (['--examples=0'], '--examples is 0; allowed: from 1 to 2147483647'),
    (['--examples=-5'], '--examples is -5'),
    (['--examples=99999999999'], '--examples is 99999999999'),
])  # fmt: skip
def test_lengths_that_cannot_be_counted(arguments, message, capsys):
    command = ['--config', 'configs/imagenet.py', *arguments]
    assert message in refused(training.run, command, capsys)


def test_thousands_of_epochs_are_printed_by_the_thousand(capsys):
    command = [
        '--config', 'configs/torchvision.py', '--examples', '1', '--config.data.batch_size=1',
        '--config.train.epochs=2147483647',
    ]  # fmt: skip
    rows = [line.split() for line in printed(training.run, command, capsys).splitlines()]
    table = rows[rows.index(['epoch', 'step', 'all']) + 1 :]
    assert 1000 <= len(table) <= 1002
    assert table[:3] == [['0', '0', '0.01'], ['30', '30', '0.001'], ['60', '60', '0.0001']]


def test_every_net_and_protocol_has_a_config():
    configs = [config_file.load(str(path), {'data.source': 'synthetic'}) for path in CONFIGS]
    trained = {config['network.name'] for config in configs} | {*specialization.NETS}
    trained |= {'cifar18_no_norm'}  # an ablation that configs/cifar10_18pct.py names
    trained |= {row.net for base in ABLATED for row in published.published(base) if row.net}
    assert trained == ARCHITECTURES.keys()
    # configs/alexnet_bn.py names two more, configs/tiny_imagenet.py one for its ablations;
    # adamw is for lessons, with any of them.
    protocols = {config['train.protocol'] for config in configs} | {
        'alexnet_bn_16k',
        'alexnet_bn_32k',
        'linear',
        'adamw',
    }
    assert protocols == PROTOCOLS.keys()


def test_the_table_of_configs_names_each_with_its_net_and_protocol():
    text = Path('configs/README.md').read_text()
    rows = {
        re.sub(r'\[(.*?)\].*', r'\1', cells[0]): cells[1:]
        for cells in (
            [cell.strip() for cell in line.strip('|').split('|')]
            for line in text.splitlines() if line.startswith('| [')
        )
    }  # fmt: skip
    assert rows.keys() == {path.name for path in CONFIGS}
    for path in CONFIGS:
        config = config_file.load(str(path), {'data.source': 'synthetic'})
        assert rows[path.name][:2] == [config['network.name'], config['train.protocol']]
        assert f'configs/{path.name}' in path.read_text()  # its own command
