"""The kernels of a program compiled for a GPU, counted in its text: XLA gives no counts there."""

import collections
import dataclasses
import re
from collections.abc import Iterator

from alexnet_jax.training import compiled_collectives as hlo

OPERATION = re.compile(r'%?([\w.-]+) = (.*?) ([a-z][\w-]*)\(([^)]*)\)')
SENDS = re.compile(hlo.KINDS)
# Operations that start no kernel.
FREE = re.compile(
    r'parameter|constant|tuple|get-tuple-element|bitcast|partition-id|replica-id|after-all'
    r'|opt-barrier|optimization-barrier|\S+-done|\S+-update'
)
KINDS = ('convolution', 'product', 'fusion', 'other operation')
CONTAINERS = ('while', 'call', 'conditional', 'async-start')


@dataclasses.dataclass(frozen=True)
class Kernels:
    """The kernels of one run of a program on one device, without collectives.

    counts: by kind, of KINDS. accessed: bytes, each operand and result of each kernel once and whole.
    """

    counts: dict[str, int]
    accessed: int


def count(program: str) -> Kernels:
    """Counts the kernels of compiled HLO, from `as_text()`.

    Of a branch that may not run all is counted.

    Raises:
      ValueError: a loop of unknown length.
    """
    counts, accessed = collections.Counter(), 0
    for kind, size, times in _kernels(*hlo.computations(program)):
        counts[kind] += times
        accessed += size * times
    return Kernels(dict(counts), accessed)


def _kernels(
    computations: dict[str, list[str]], name: str, times: int = 1
) -> Iterator[tuple[str, int, int]]:
    """Yields kind, bytes and number of runs of each kernel of a computation."""
    sizes: dict[str, int] = {}
    for line in computations.get(name, ()):
        match = OPERATION.search(line)
        if not match:
            continue
        result, shape, operation, operands = match.groups()
        sizes[result] = int(sum(hlo.bytes_of(*each) for each in hlo.SHAPE.findall(shape)))
        if operation in CONTAINERS:
            for callee in hlo.called(line):
                yield from _kernels(computations, callee, times * _turns(line, operation))
        elif not FREE.fullmatch(operation) and not SENDS.match(operation):
            read = {
                operand: sizes.get(operand, 0) for operand in re.findall(r'%([\w.-]+)', operands)
            }
            kind = _kind(operation, line, computations)
            yield kind, sizes[result] + sum(read.values()), times


def _turns(line: str, operation: str) -> int:
    if operation != 'while':
        return 1
    trips = hlo.TRIPS.search(line)
    if trips is None:
        raise ValueError(f'a loop of unknown length: {line.strip()}')
    return int(trips[1])


def _kind(operation: str, line: str, computations: dict[str, list[str]]) -> str:
    inner = [each for callee in hlo.called(line) for each in computations.get(callee, ())]
    if '__cudnn$conv' in line or operation == 'convolution':
        return 'convolution'
    if '__cublas' in line or operation == 'dot' or any(' dot(' in each for each in inner):
        return 'product'
    return 'fusion' if operation == 'fusion' else 'other operation'
