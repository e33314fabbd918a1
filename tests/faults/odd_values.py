"""Odd values of settings, options and paths, and odd contents of configuration files."""

import math

from tests.config_files import HEAD

# Of a setting on the command line.
TEXTS = (
    '', ' ', '\t7\n', 'nan', 'NaN', 'inf', '-inf', '-1', '-0', '0', '1', '2', '10', '1e400',
    '1e-400', '1e29', '1.5', '9' * 30, '9' * 5000, '2147483647', '2147483648', '\uff11\uff12', '1_000',
    '0x10', 'True', 'None', 'paper', 'papr', 'ON', '\x1b[31mred\x1b[0m', 'a\nb', 'a\x85b\u2028c',
    'é', '😀' * 50, '\udcff', '\ud800', 'x' * 100_000, 'paper' * 10_000, '../..', '~nobody/x',
    '~', '/dev/null', 'n' * 300 + '/x', 'folder:/dev/null', 'folder:~nobody', 'folder:' + 'n' * 300,
    'folder:a\nb', 'folder:.', 'tfds:..', 'tfds:a/b/c/d', 'tfds:mnist:9.9.9', 'tfds:mnst',
    'tfds:mnist', 'tfds:mnist/no', 'tfds:\udcff', 'tfds:x y', 'digits', 'patterns', 'synthetic', '1,2,3',
    '255,255,256', '1,nan,3', ',,', 'conv1', 'conv1=0', 'conv1=nan', 'conv1=1e999', 'conv9=1',
    'conv1=1,' * 2000, 'fc8,conv1', '%s%n', '{seed}', '[]', '\0', 'a\0b', '"', "'", '$(id)',
)  # fmt: skip
# Python that a config file may have for a value.
LITERALS = (
    'None', 'True', '[]', '{}', '()', '["paper"]', '{"paper": 1}', 'b"paper"', '3', '0', '-1',
    '2.5', '1e300', 'float("nan")', 'float("inf")', '-float("inf")', '10**30', '10**400', '-10**400',
    '10**5000', '[10**5000]', '1j', 'object', 'lambda: 0', 'range(3)', '...', '"\\0"', '"\\ud800"',
    '"x" * 10**6', '[0] * 10**5', '__import__("numpy").zeros((40, 40))', '"on"', '"paper"',
    '__import__("numpy").float32(0.5)', '__import__("numpy").int64(3)', '__import__("pathlib").Path(".")',
    '"\\n" * 50', '[[[[]]]] * 2000', '{"a": {"b": 1}}', 'type("Odd", (), {"__repr__": lambda s: 1 / 0})()',
)  # fmt: skip
# Contents of a configuration file.
FILES = (
    b'', b'\0' * 100, b'config', b'config = ', b'config = {', b'def', b'\xff\xfe\0c', b'\x80abc',
    b'# coding: nonsense\nget_config = 1', b'get_config = None', b'config = {"seed": 1}',
    b'class get_config: seed = 1', b'raise ValueError("a\nb\nc")', b'raise ValueError("\n")',
    b'raise ValueError("x" * 10**6)', b'raise ValueError("\x1b[31m\x85")', b'1 / 0', b'yield 1',
    b'import no_such_module', b'raise SystemExit(3)', b'raise MemoryError', b'def f(): f()\nf()',
    b'assert False', b'open("/no/such/file")', b'get_config = {"seed": 1', b'(' * 1000, b'\r\n\t',
    b'x = ' + b'-' * 100_000 + b'1', b'PK\x03\x04', b'\x7fELF', b'exec("raise KeyError(1)")',
    b'raise Exception(b"\xff")',
    *(b'def get_config(' + body for body in (
        b'):\n    return {"seed": 1}', b'):\n    pass', b'):\n    1 / 0', b'a):\n    return a',
        b'):\n    return get_config()', b'):\n    yield 1', b'*a):\n    return a', b'**a):\n    return a',
        b'):\n    from ml_collections import ConfigDict\n    return ConfigDict({"sede": 1})',
        b'):\n    from ml_collections import ConfigDict\n    return ConfigDict({1: 2})',
        b'):\n    from ml_collections import ConfigDict\n    return ConfigDict({"data": 3, "a\\nb": 1})',
        b'):\n    from ml_collections import ConfigDict\n    return ConfigDict({"seed": {"seed": 1}})',
        b'):\n    from ml_collections import ConfigDict\n    a = ConfigDict()\n    a.a = a\n    return a',
    )),
    *(HEAD.encode() + b'    ' + line + b'\n    return config' for line in (
        b'config.seed = 5', b'config.sede = 5', b'config.seed = __import__("zipfile")', b'del config.seed',
        b'config.data = config', b'config.data = None', b'config.update({"seed": "x"})', b'config.unlock()',
        b'config["x" * 10**5] = 1', b'config.seed = config.get_ref("train")', b'config.lock = 1',
        b'config.unlock().x = 1', b'config.network.table = config', b'config.start.form = 1',
    )),
)  # fmt: skip
# Of a setting in config.json.
JSON_VALUES = (
    True, False, -1, 0, 1, 2.5, 1e300, math.nan, math.inf, -math.inf, 10**30, 10**400, '', 'x', 'paper',
    'on', [], {}, [1], {'a': 1}, 'a\nb', '\ud800', '\0', 'x' * 10**5, [[]] * 10_000, '\x1b[31m',
)  # fmt: skip
# Options, and the name in the message that refuses each.
OPTIONS = (
    ('--mode=fly', '--mode'), ('--mode=' + 'x' * 10_000, '--mode'), ('--mode=', '--mode'),
    ('--mode=train\n', '--mode'), ('--mode', '--mode'), ('word', 'word'), ('a\nb', 'argument'),
    ('-x', '-x'), ('--sede=1', '--sede'), ('--config.=1', '--config.='), ('--config.seed', 'seed'),
    ('--config.seed 1', 'seed'), ('--Config.seed=1', '--Config'), ('--config.SEED=1', 'SEED'),
    ('--config.\n=1', 'unknown setting'), ('--' + 'x' * 100_000, 'unknown argument'), ('-', '-'),
    ('--processes=0', '--processes'), ('--processes=-1', '--processes'), ('--processes=x', '--processes'),
    ('--processes=' + '9' * 5000, '--processes'), ('--processes=2', '--process'), ('--process=1', '--process'),
    ('--process=' + '9' * 5000, '--process'), ('--process=nan', '--process'), ('--coordinator=', '--process'),
    ('--coordinator=a:b', '--process'), ('--heartbeat=0', '--heartbeat'), ('--heartbeat=x', '--heartbeat'),
    ('--join_timeout=' + '9' * 30, '--join_timeout'), ('--debug=1', '--debug'), ('\x1b[2J', 'argument'),
    ('--config.' + 's' * 10_000 + '=1', 'unknown setting'), ('\udcff', 'argument'), ('😀', '😀'),
)  # fmt: skip
PATHS = (
    '', '.', '/', '/dev/null', '/dev/null/x', '/no/such', 'no such', 'n' * 300, 'n/' * 3000, 'a\nb', '\udcff',
    '\0', '~nobody', '/proc/self/mem', '/proc/1/root/x', '\x1b[31m', 'x' * 100_000,
)  # fmt: skip
