from pathlib import Path

import pytest

from alexnet_jax import default_config
from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment import config_file
from alexnet_jax.experiment.settings import SETTINGS
from alexnet_jax.runtime.errors import InputError
from tests import config_files

CONFIGS = [str(path) for path in sorted(Path('configs').glob('*.py'))]


def written(folder: Path, *lines: str) -> str:
    return str(config_files.with_lines(folder / 'my.py', *lines))


@pytest.mark.parametrize('config', CONFIGS, ids=lambda path: Path(path).stem)
def test_every_config_that_comes_with_it_loads(config):
    found = config_file.load(config, {'data.source': 'synthetic'})
    assert configuration.flat(found).keys() == SETTINGS.keys()
    given, usual = config_file.read(config), default_config()
    usual.train.protocol = given.train.protocol
    assert given.to_dict() != usual.to_dict()


def test_command_line_over_file_over_defaults(tmp_path):
    lines = 'config.seed = 3', 'config.data.batch_size = 32', 'config.optimizer.learning_rate = 1'
    config = config_file.load(written(tmp_path, *lines), {'data.batch_size': '16'})
    assert (config.seed, config.data.batch_size, config.train.epochs) == (3, 16, 90)
    assert type(config.optimizer.learning_rate) is float


def test_get_config_may_take_an_argument(tmp_path):
    path = Path(written(tmp_path))
    text = path.read_text().replace('get_config()', "get_config(seed='seed_1')")
    path.write_text(text.replace('return', 'config.seed = int(seed[5:])\n    return'))
    for argument, seed in (('', 1), (':seed_3', 3)):
        assert config_file.load(f'{path}{argument}', {}).seed == seed
    assert config_file.run_name('configs/digits.py') == config_file.run_name('digits') == 'digits'
    assert config_file.run_name('digits:seed_3') == 'digits-seed_3'
    assert config_file.run_name('digits:../a b=1') == 'digits-..-a-b=1'
    with pytest.raises(InputError, match='does not run: line 6: ValueError'):
        config_file.load(f'{path}:seed_x', {})


def test_a_colon_in_the_name_of_a_file(tmp_path):
    own = tmp_path / 'a:b.py'
    Path(written(tmp_path, 'config.seed = 5')).rename(own)
    assert config_file.load(str(own), {}).seed == 5


BAD_TEXTS = [
    (None, 'no such file'),
    ('def get_config(', r'does not run: line 1: SyntaxError'),
    ('x = 1\n\nx / 0', 'does not run: line 3: ZeroDivisionError'),
    ('import json\njson.loads("{")', 'does not run: line 2: JSONDecodeError'),
    ('raise SystemExit(0)', 'does not run: line 1: SystemExit'),
    ('def get_config():\n    return 1 / 0', 'does not run: line 2: ZeroDivisionError'),
    ('config = {"seed": 1}', 'defines no function `get_config`; .*alexnet_jax.default_config'),
    (
        'import alexnet_jax\nconfig = alexnet_jax.default_config()\nconfig.eval.views = 1\n'
        'config.network.width = 10**400',
        r'line 4: config.network.width = 10\*\*400: OverflowError: int too large',
    ),
    ('get_config = 5', 'defines no function `get_config`'),
    (
        'def get_config():\n    return {"seed": 1}',
        r"get_config\(\) returns {'seed': 1}; allowed: a C",
    ),
    ('def get_config():\n    pass', r'get_config\(\) returns None; allowed: a ConfigDict'),
    (
        'def get_config(a):\n    pass',
        r'get_config\(\) takes 1 argument, but has none; .* --config=FILE:ARGUMENT',
    ),
]


@pytest.mark.parametrize(('text', 'message'), BAD_TEXTS)
def test_a_bad_file_is_named(text, message, tmp_path):
    path = tmp_path / 'my.py'
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        config_file.load(str(path), {})
    assert str(path) in str(caught.value) and len(str(caught.value).splitlines()) == 1


BAD_LINES = [
    ('config.sede = 1', r'line 7: unknown setting sede; the nearest is seed'),
    (
        'config.data.batch_sise = 1',
        r'unknown setting data\.batch_sise; the nearest is data\.batch_size$',
    ),
    (
        'config.seed = config.data.batch_sise',
        r'unknown setting data\.batch_sise; the nearest is data\.b',
    ),
    ('config.optimizer.layer_rates.conv9 = 1', r"names layer 'conv9'"),
    ("config.start['form'] = 'x'", r'unknown setting form; the nearest is'),
    ("{}['own']", "line 7: KeyError: 'own'"),
    ('del config.data.mirror', 'line 7: del config.data.mirror: AttributeError: .*is locked'),
    ('config.data = 3', r'unknown setting data; the nearest is'),
    ('config.seed = True', r'^seed is True'),
    ('config.data.batch_size = 64.0', r'^data\.batch_size is 64\.0'),
    ('config.data.source = None', r'^data\.source is None'),
    ("config.data.mirror = 'yes'", r"^data\.mirror is 'yes'; allowed: true or false"),
    ('config.data.mean = 3', r'^data\.mean is 3; allowed: three numbers'),
    ("config.train.protocol = ['paper']", r"^train\.protocol is \['paper'\]"),
    ('config.train.protocol = 10 ** 400', r'^train\.protocol is 1000+\.\.\.'),
    ('config.train.protocol = 10 ** 5000', r'^train\.protocol is a int that cannot be printed'),
    ("config.start.layers = ('conv1', 2)", r"^start\.layers is \('conv1', 2\); allowed: names"),
]


@pytest.mark.parametrize(('line', 'message'), BAD_LINES)
def test_a_bad_line_is_named_without_the_other_fields(line, message, tmp_path):
    with pytest.raises(InputError, match=message) as caught:
        config_file.load(written(tmp_path, 'pass', line), {})
    assert 'patience' not in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_an_argument_where_none_is_taken(tmp_path):
    with pytest.raises(InputError, match=r"get_config\(\) takes no argument, but has 'fast'"):
        config_file.load(f'{written(tmp_path)}:fast', {})
    path = Path(written(tmp_path))
    path.write_text('def get_config(a, b):\n    pass')
    with pytest.raises(InputError, match=r"takes 2 arguments, but has 'x'; allowed: one, as --"):
        config_file.load(f'{path}:x', {})


def test_a_file_is_a_module_of_its_own(tmp_path):
    """As dataclasses need it whose annotations are text."""
    own = 'import dataclasses', '@dataclasses.dataclass', 'class Size:', '    side: int = 40'
    path = Path(written(tmp_path, 'config.data.record_size = Size().side'))
    path.write_text('\n'.join(['from __future__ import annotations', *own, path.read_text()]))
    assert config_file.load(str(path), {'network.name': 'small'}).data.record_size == 40


def test_a_folder_hides_no_packaged_configuration(tmp_path, monkeypatch):
    expected = config_file.load('configs/digits.py', {})
    monkeypatch.chdir(tmp_path)
    Path('digits').mkdir()  # as --workdir digits makes it
    assert config_file.load('digits', {}) == expected
    Path(written(tmp_path, 'config.seed = 5')).rename('digits.py')
    assert config_file.load('digits.py', {}).seed == 5
