"""Python files of the user, and objects in them."""

import pytest

from alexnet_jax.runtime import python_files
from alexnet_jax.runtime.errors import InputError


def find(text, allows=lambda found: isinstance(found, int)):
    return python_files.find(str(text), 'the option', allows, 'a whole number')


@pytest.mark.parametrize(
    ('text', 'names'),
    [
        ('a.py:X', True), ('a/b.py:_x1', True), ('/a:b.py:X', True), ('a.py:Ä', True),
        ('a.py', False), ('a.py:', False), ('a.py:X:Y', False), ('a.py:X Y', False),
        ('a.py:1', False), (':X', False), ('.py:X', False), ('a/.py:X', False),
        ('a.txt:X', False), ('a\0.py:X', False), ('a\ud800.py:X', False), (3, False),
    ],
)  # fmt: skip
def test_the_form_of_a_name(text, names):
    assert python_files.names_object(text) is names


def test_the_last_colon_counts(tmp_path):
    (tmp_path / 'a:b.py').write_text('X = 5')
    assert find(f'{tmp_path}/a:b.py:X') == 5
    assert python_files.without_folder(f'{tmp_path}/a:b.py:X') == 'a:b.py:X'


def test_a_path_begins_in_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / 'a.py').write_text('X = 5')
    monkeypatch.chdir(tmp_path)
    assert find('a.py:X') == 5
    assert python_files.absolute('a.py:X') == f'{tmp_path}/a.py:X'


def test_a_file_is_run_once_while_it_stays_the_same(tmp_path):
    file, log = tmp_path / 'a.py', tmp_path / 'log'
    text = f'with open({str(log)!r}, "a") as log:\n    log.write("+")\nX = {{}}'
    for number, runs in ((1, '+'), (1, '+'), (2, '++'), (1, '++')):
        file.write_text(text.format(number))
        assert find(f'{file}:X') == number
        assert log.read_text() == runs
    file.write_text('raise SystemExit(3)')
    with pytest.raises(InputError, match='line 1: SystemExit: 3'):
        find(f'{file}:X')


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (None, 'the option .*a.py:NUMBER: no such file'),
        ('x = 1\n\nx / 0', r'a.py:NUMBER does not run: line 3: ZeroDivisionError: division by zero'),
        ('x = (', r'a.py:NUMBER does not run: line 1: SyntaxError'),
        ('def f():\n    return {}["a"]\nf()', 'does not run: line 2: KeyError'),
        ('import json\njson.loads("{")', 'does not run: line 2: JSONDecodeError'),
        ('raise ValueError("a\\nb")', 'does not run: line 1: ValueError: a$'),
        (
            'import os\nNUMBRE = 1\nNET = "a"',
            'defines no NUMBER; the nearest is NUMBRE; it defines: NUMBRE',
        ),
        ('import os\n_x = 1', 'defines no NUMBER; allowed: a whole number'),
        ('NUMBER = "5"', 'NUMBER is of type str; allowed: a whole number'),
    ],
)  # fmt: skip
def test_bad_files_end_in_one_line(tmp_path, text, message):
    if text is not None:
        (tmp_path / 'a.py').write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        find(f'{tmp_path}/a.py:NUMBER')
    assert '\n' not in str(caught.value)


def test_what_is_no_file(tmp_path):
    (tmp_path / 'a.py').mkdir()
    with pytest.raises(InputError, match='cannot be read'):
        find(f'{tmp_path}/a.py:X')
