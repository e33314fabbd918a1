"""What ruff's rules of docstrings leave out: first lines, verbs, and names of arguments."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path('alexnet_jax')
# Rewritten elsewhere at the moment; each line goes when its file is done.
# Words that end as verbs of the third person do, and are none.
NOUNS = {
    'Args', 'Arrays', 'As', 'Axes', 'Bytes', 'Classes', 'Errors', 'Features', 'Images', 'Its',
    'Kernels', 'Less', 'Lines', 'Numbers', 'Parameters', 'Pixels', 'Rows', 'Seconds', 'Settings',
    'Steps', 'Stages', 'This', 'Units', 'Values', 'Variables', 'Weights', 'Words',
}  # fmt: skip
SECTION = re.compile(r'^(Args|Returns|Yields|Raises):$', re.MULTILINE)


class Documented(NamedTuple):
    """A definition that has a docstring, by its name within its module."""

    name: str
    node: ast.FunctionDef | ast.ClassDef | ast.Module
    text: str

    @property
    def is_public(self) -> bool:
        return not re.search(r'(^|\.)_', self.name)

    @property
    def is_called(self) -> bool:
        """Whether it is a function or method, and no property, which is read."""
        read = ('property', 'cached_property')
        return isinstance(self.node, ast.FunctionDef) and not any(
            ast.unparse(decorator).split('.')[-1] in read for decorator in self.node.decorator_list
        )


def documented(source: str) -> list[Documented]:
    """Returns the module, classes and functions of a source, but for functions in functions."""

    def below(node: ast.AST, prefix: str) -> Iterator[Documented]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                if text := ast.get_docstring(child):
                    yield Documented(prefix + child.name, child, text)
                if isinstance(child, ast.ClassDef):
                    yield from below(child, f'{prefix}{child.name}.')
            elif not isinstance(child, ast.expr):
                yield from below(child, prefix)

    tree = ast.parse(source)
    text = ast.get_docstring(tree)
    return [*([Documented('module', tree, text)] if text else []), *below(tree, '')]


def faults_of(found: Documented) -> list[str]:
    """Returns the rules that a docstring breaks."""
    first, *_ = found.text.splitlines()
    if SECTION.match(first):
        return [f'{first} stands alone; the first line says what the function does']
    faults = []
    if found.is_public and not first.endswith(('.', ':')):
        faults.append('the first line is no whole sentence')
    word = first.split()[0].strip('.,;:')
    if found.is_public and found.is_called and (
        not re.fullmatch('[A-Z][a-z]+s', word) or word in NOUNS
    ):  # fmt: skip
        faults.append(f'opens with {word!r}, which is no verb of the third person')
    return faults + [f'has no argument {name!r}' for name in unknown_arguments(found)]


def unknown_arguments(found: Documented) -> list[str]:
    """Returns the names of the section Args ("mean, std: ...") that the function does not take."""
    section = re.search(r'^Args:\n((?: .*\n?|\n)+)', found.text, re.MULTILINE)
    if not section or isinstance(found.node, ast.Module):
        return []
    node = found.node
    if isinstance(node, ast.ClassDef):
        members = [child for child in node.body if isinstance(child, ast.FunctionDef)]
        node = next((child for child in members if child.name == '__init__'), None)
    if node is None:
        return []
    given = node.args
    taken = {one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)}
    taken |= {one.arg for one in (given.vararg, given.kwarg) if one}
    named = re.findall(r'^  ([a-z]\w*(?:, \w+)*):', section[1], re.MULTILINE)
    return [name for names in named for name in names.split(', ') if name not in taken]


def test_docstrings():
    faults = {
        str(path): [
            f'{path}: {found.name}: {fault}'
            for found in documented(path.read_text())
            for fault in faults_of(found)
        ]
        for path in sorted(PACKAGE.rglob('*.py'))
    }
    assert not [fault for every in faults.values() for fault in every]


@pytest.mark.parametrize(('source', 'fault'), [
    ('def f():\n    """Returns one."""', None),
    ('def f():\n    """\n    Raises:\n      InputError: it is bad.\n    """', 'stands alone'),
    ('def _f():\n    """Raises:\n      InputError: it is bad.\n    """', 'stands alone'),
    ('def _f():\n    """The sum."""', None),
    ('def f():\n    """The sum."""', "'The'"),
    ('def f():\n    """Return the sum."""', "'Return'"),
    ('def f():\n    """Rows of the table."""', "'Rows'"),
    ('def f():\n    """Returns one of the\n    numbers."""', 'whole sentence'),
    ('class C:\n    """A pair."""\n    @property\n    def f(self):\n        """The sum."""', None),
    ('class C:\n    """A pair."""\n    def f(self):\n        """The sum."""', "'The'"),
    ('def f(a, *, b):\n    """Adds.\n\n    Args:\n      a, b: numbers.\n    """', None),
    ('def f(a, *, b):\n    """Adds.\n\n    Args:\n      a, c: numbers.\n    """', "'c'"),
    ('if True:\n    def f():\n        """The sum."""', "'The'"),
])  # fmt: skip
def test_faults_are_found(source, fault):
    faults = [fault for found in documented(source) for fault in faults_of(found)]
    assert len(faults) == (fault is not None) and all(fault in one for one in faults)
