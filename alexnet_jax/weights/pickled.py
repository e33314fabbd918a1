"""A pickle read as data: nothing it names is looked up, imported or called.

A pickle is a program for a stack machine, and Python's own runs whatever function it
names. This one knows the few steps that data needs. What a pickle would import becomes
a `Name`, and what it would call is asked of `made`, which the caller gives.
"""

import dataclasses
import pickletools
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

from alexnet_jax.weights.arrays import told

# An empty dict costs a byte of a pickle and sixty of memory; a state dict's pickle is
# of some kilobytes.
LARGEST = 1 << 20

_MARK = object()
_CONSTANTS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False, 'EMPTY_TUPLE': ()}
_VALUES = {
    'BININT', 'BININT1', 'BININT2', 'LONG1', 'BINFLOAT',
    'BINUNICODE', 'SHORT_BINUNICODE', 'BINSTRING', 'SHORT_BINSTRING',
}  # fmt: skip


class PickleError(ValueError):
    """A pickle that is garbled, or holds more than data."""


@dataclasses.dataclass(frozen=True)
class Name:
    """What a pickle would import: MODULE.NAME."""

    text: str


Made = Callable[[str, tuple[Any, ...]], Any]


def read(file: BinaryIO, made: Made, stored: Callable[[Any], Any], known: Iterable[str]) -> Any:
    """The value of the pickle at the file's place; the file is left behind its end.

    Args:
      made: what to take for the call of a name with arguments.
      stored: what to take for a persistent id.
      known: the names that may be imported.

    Raises:
      PickleError: the pickle is garbled, or holds anything else.
    """
    machine = _Machine(made, stored, frozenset(known))
    try:
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == 'STOP':
                return machine.stack.pop()
            machine.step(opcode.name, argument)
    except PickleError:
        raise
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise PickleError('is cut short or garbled: its pickle makes no sense') from error
    raise AssertionError  # genops ends with STOP or raises


class _Machine:
    """The stack and the memo of one pickle."""

    def __init__(self, made: Made, stored: Callable[[Any], Any], known: frozenset[str]):
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._made, self._stored, self._known = made, stored, known

    def step(self, opcode: str, argument: Any) -> None:
        stack = self.stack
        match opcode:
            case 'PROTO' | 'FRAME':
                pass
            case 'BINPUT' | 'LONG_BINPUT':
                self._memo[argument] = stack[-1]
            case 'MEMOIZE':
                self._memo[len(self._memo)] = stack[-1]
            case 'BINGET' | 'LONG_BINGET':
                stack.append(self._memo[argument])
            case 'MARK':
                stack.append(_MARK)
            case 'APPEND':
                item = stack.pop()
                _require(list, stack[-1]).append(item)
            case 'APPENDS':
                items = self._down_to_mark()
                _require(list, stack[-1]).extend(items)
            case 'SETITEM':
                value, key = stack.pop(), stack.pop()
                set_items(stack[-1], [(key, value)])
            case 'SETITEMS':
                items = self._down_to_mark()
                set_items(stack[-1], zip(items[::2], items[1::2], strict=True))
            case 'BUILD':
                stack.pop()  # attributes, as a state dict's versions: of no use here
            case _:
                stack.append(self._new(opcode, argument))

    def _new(self, opcode: str, argument: Any) -> Any:
        """What a step puts on the stack."""
        stack = self.stack
        match opcode:
            case _ if opcode in _VALUES:
                return argument
            case _ if opcode in _CONSTANTS:
                return _CONSTANTS[opcode]
            case 'EMPTY_DICT':
                return {}
            case 'EMPTY_LIST':
                return []
            case 'TUPLE':
                return tuple(self._down_to_mark())
            case 'TUPLE1' | 'TUPLE2' | 'TUPLE3':
                return tuple([stack.pop() for _ in range(int(opcode[-1]))][::-1])
            case 'GLOBAL':
                return self._name(*argument.split(' ', 1))
            case 'STACK_GLOBAL':
                name, module = stack.pop(), stack.pop()
                return self._name(_require(str, module), _require(str, name))
            case 'REDUCE':
                arguments, name = stack.pop(), stack.pop()
                return self._made(_require(Name, name).text, _require(tuple, arguments))
            case 'BINPERSID':
                return self._stored(stack.pop())
        raise PickleError(
            f'holds more than weights ({told(f"{opcode} {argument}")}); nothing was run'
        )

    def _name(self, module: str, name: str) -> Name:
        full = f'{module}.{name}'
        if full not in self._known:
            raise PickleError(f'holds {told(full)}, which is no part of weights; nothing was run')
        return Name(full)

    def _down_to_mark(self) -> list[Any]:
        items = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]


def set_items(target: Any, items: Iterable[tuple[Any, Any]]) -> dict:
    """`target`, a dict, with the items set.

    Raises:
      TypeError: it is none; a key is neither text nor a whole number. (To hash a tuple of
        a million tuples in each other ends the process.)
    """
    for key, value in items:
        if not isinstance(key, str | int):
            raise TypeError(key)
        _require(dict, target)[key] = value
    return target


def _require(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(kind)
    return value
