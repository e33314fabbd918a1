"""Reads a pickle as data: nothing it names is looked up, imported or called.

A pickle is a program for a stack machine, and Python's own machine calls every function that the
program names. This machine keeps only plain values. An import becomes a `Name`, a call is passed to
the caller's function `made`, and every other object becomes an `Opaque`, because a training
checkpoint also has options, dates and states of optimizers, which are skipped.
"""

import dataclasses
import pickletools
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

from alexnet_jax.weights.arrays import ContentError

# A state dict's pickle has some kilobytes and a hundred steps an array. An empty dict takes
# one byte of a pickle and sixty of memory, hence a limit on the steps too.
LARGEST = 1 << 26
MOST_STEPS = 1 << 20
# Limits for what a few steps can multiply: items copied from a list in the memo, and characters of
# names. A pickle that copies each list once copies fewer than it has steps.
MOST_COPIED = MOST_STEPS
LONGEST_NAME = 1000  # characters of a key, or of what would be imported
_WIDEST_KEY = 60  # bits: hashes of wider whole numbers can all be made equal
_WIDEST = 128  # bits of a whole number; products of wider ones take minutes

_MARK = object()
_CONSTANTS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False, 'EMPTY_TUPLE': ()}
_VALUES = {
    'BINUNICODE', 'SHORT_BINUNICODE', 'BINUNICODE8', 'UNICODE', 'STRING', 'BINSTRING',
    'SHORT_BINSTRING', 'BINBYTES', 'SHORT_BINBYTES', 'BINBYTES8', 'BINFLOAT', 'FLOAT',
}  # fmt: skip
_INTEGERS = {'BININT', 'BININT1', 'BININT2', 'INT', 'LONG', 'LONG1', 'LONG4'}
_NOTHING = {'PROTO', 'FRAME', 'READONLY_BUFFER'}


@dataclasses.dataclass(frozen=True)
class Name:
    """An import of the pickle: MODULE.NAME."""

    text: str


@dataclasses.dataclass(frozen=True)
class Opaque:
    """An object that is not read. `kind`: what it is, as far as the pickle says."""

    kind: str


Made = Callable[[str, tuple[Any, ...]], Any]


def read(file: BinaryIO, made: Made, stored: Callable[[Any], Any]) -> Any:
    """Returns the value of the pickle at the file's place, and leaves the file behind its end.

    Args:
      made: returns what to take for the call of a name with arguments.
      stored: returns what to take for a persistent id.

    Raises:
      ContentError: the pickle is garbled, or has too many steps.
    """
    machine = _Machine(made, stored)
    try:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if opcode.name == 'STOP':
                return machine.stack.pop()
            if number == MOST_STEPS:
                raise ContentError(f'has a pickle of more than {MOST_STEPS} steps')
            machine.step(opcode.name, argument)
    except ContentError:
        raise
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise ContentError('is cut short or garbled: its pickle makes no sense') from error
    raise AssertionError  # genops ends with STOP or raises


class _Machine:
    """The stack and the memo of one pickle."""

    def __init__(self, made: Made, stored: Callable[[Any], Any]):
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._made, self._stored = made, stored
        self._names: dict[tuple[str, str], Name] = {}
        self._copied = 0

    def step(self, opcode: str, argument: Any) -> None:
        stack = self.stack
        match opcode:
            case _ if opcode in _NOTHING:
                pass
            case 'PUT' | 'BINPUT' | 'LONG_BINPUT':
                self._memo[argument] = stack[-1]
            case 'MEMOIZE':
                self._memo[len(self._memo)] = stack[-1]
            case 'MARK':
                stack.append(_MARK)
            case 'POP':
                stack.pop()
            case 'POP_MARK':
                self._down_to_mark()
            case 'APPEND':
                self._extend([stack.pop()])
            case 'APPENDS' | 'ADDITEMS':
                self._extend(self._down_to_mark())
            case 'SETITEM':
                value, key = stack.pop(), stack.pop()
                set_items(stack[-1], [key, value])
            case 'SETITEMS':
                items = self._down_to_mark()
                set_items(stack[-1], items)
            case 'BUILD':
                stack.pop()  # attributes, as a state dict's versions: of no use here
            case _:
                stack.append(self._new(opcode, argument))

    def _new(self, opcode: str, argument: Any) -> Any:
        """Returns what a step puts on the stack."""
        stack = self.stack
        match opcode:
            case _ if opcode in _VALUES:
                return argument
            case _ if opcode in _INTEGERS:
                narrow = argument.bit_length() <= _WIDEST
                return argument if narrow else Opaque('a number of too many bits')
            case _ if opcode in _CONSTANTS:
                return _CONSTANTS[opcode]
            case 'GET' | 'BINGET' | 'LONG_BINGET':
                return self._memo[argument]
            case 'DUP':
                return stack[-1]
            case 'EMPTY_DICT':
                return {}
            case 'DICT':
                return set_items({}, self._down_to_mark())
            case 'EMPTY_LIST':
                return []
            case 'LIST':
                return self._down_to_mark()
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
                arguments, called = stack.pop(), stack.pop()
                return self._call(called, _require(tuple, arguments))
            case 'BINPERSID':
                return self._stored(stack.pop())
        return self._object(opcode, argument)

    def _object(self, opcode: str, argument: Any) -> Opaque:
        """Returns the placeholder of an object that weights do not need."""
        stack = self.stack
        match opcode:
            case 'NEWOBJ' | 'NEWOBJ_EX':
                for _ in range(1 if opcode == 'NEWOBJ' else 2):
                    stack.pop()  # arguments
                return Opaque(_kind(stack.pop()))
            case 'OBJ':
                return Opaque(_kind(self._down_to_mark()[0]))
            case 'INST':
                self._down_to_mark()
                return Opaque('.'.join(argument.split(' ', 1)))
            case 'FROZENSET':
                self._down_to_mark()
        return Opaque(opcode)  # a set, an array of bytes, an extension, a buffer, an odd id

    def _call(self, called: Any, arguments: tuple[Any, ...]) -> Any:
        if isinstance(called, Name):
            made = self._made(called.text, arguments)
            if isinstance(made, dict) and arguments and isinstance(arguments[0], list):
                self._count(2 * len(arguments[0]))
            return made
        return Opaque(_kind(called))

    def _name(self, module: str, name: str) -> Name:
        """Returns one object for equal names."""
        length = len(module) + len(name) + 1
        if length > LONGEST_NAME:
            raise ContentError(
                f'has a pickle with a name of {length} characters; allowed: up to {LONGEST_NAME}'
            )
        if (module, name) not in self._names:
            self._count(length)
            self._names[module, name] = Name(f'{module}.{name}')
        return self._names[module, name]

    def _count(self, copied: int) -> None:
        self._copied += copied
        if self._copied > MOST_COPIED:
            raise ContentError(
                f'has a pickle that copies its lists and names into more than {MOST_COPIED} items'
            )

    def _extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, Opaque):
            _require(list, target).extend(items)

    def _down_to_mark(self) -> list[Any]:
        items = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]


def set_items(target: Any, items: Iterable[Any]) -> Any:
    """Returns `target`, a dict, with the items set: key, value, key, ....

    Keys that are neither text nor whole numbers, or are of absurd length, are left out with their
    values: to hash a tuple of a million tuples in each other ends the process, and long equal
    keys are compared, and later copied, whole.

    Raises:
      TypeError: it is no dict.
    """
    if isinstance(target, Opaque):
        return target
    items = list(items)
    for key, value in zip(items[::2], items[1::2], strict=True):
        if _may_be_key(key):
            _require(dict, target)[key] = value
    return _require(dict, target)


def _may_be_key(key: Any) -> bool:
    if isinstance(key, int):
        return key.bit_length() <= _WIDEST_KEY
    return isinstance(key, str) and len(key) <= LONGEST_NAME


def _kind(value: Any) -> str:
    return value.text if isinstance(value, Name) else type(value).__name__


def _require(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(kind)
    return value
