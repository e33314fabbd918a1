"""Counts the communication of the compiled step.

XLA merges, splits and renames the collectives of the source, so only the compiled program shows the
bytes sent. "Bytes sent" is defined in `network/communication.py`.
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from alexnet_jax.network import device_mesh
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.communication import (
    FLOAT,
    Transfer,
    activations_held,
    bytes_sent,
    parameters_held,
    step_traffic,
)
from alexnet_jax.network.layers import Architecture
from alexnet_jax.training import step
from alexnet_jax.training.schedule import Clock


@dataclasses.dataclass(frozen=True)
class Counted:
    """One collective of a compiled program, for one device.

    axis: 'column', 'data', 'both' if its groups are the whole mesh, otherwise 'other'.
    times: number of executions per step: more than one in a loop.
    sent: bytes each time.
    """

    collective: str
    axis: str
    times: int
    sent: float
    op_name: str  # where in the source
    place: int = 0  # position of its start among the program's operations

    @property
    def backward(self) -> bool:
        """Whether the collective belongs to the backward pass."""
        return 'transpose(' in self.op_name


def compile_step(
    net: AlexNet,
    mesh: Mesh,
    batch_size: int,
    compiler_options: dict[str, Any] | None = None,
    **options: Any,
) -> jax.stages.Compiled:
    """Compiles the training step from shapes, without creating arrays.

    `net` has `column_axis` None; `options` are other arguments of `make_train_step`.
    """
    size = net.architecture.input_size
    train_step = step.make_train_step(
        net, mesh, np.zeros((size, size, 3), np.float32),
        seed=0, learning_rate=0.01, clock=Clock(90, batch_size, 1_281_167), **options,
    )  # fmt: skip
    lowered = train_step.lower(
        step.abstract_state(net, mesh), step.abstract_batch(net, mesh, batch_size)
    )
    return lowered.compile(compiler_options=compiler_options)


def report(
    architecture: Architecture, classes: int, mesh_shape: tuple[int, int], batch_size: int,
    exchange: str,
) -> list[str]:  # fmt: skip
    """Describes the collectives of the compiled step, the minimum by the table, and the memory."""
    data, column = mesh_shape
    net = AlexNet(architecture, classes, exchange=exchange)
    mesh = device_mesh.make_mesh(data, column)
    compiled = compile_step(net, mesh, batch_size)
    least = step_traffic(architecture, classes, mesh_shape, batch_size, exchange)
    held = parameters_held(architecture, classes, column)
    activations = activations_held(architecture, classes, column, batch_size // data)
    program, memory = compiled.as_text(), compiled.memory_analysis()
    assert program is not None and memory is not None  # some backends report it; CPU does not
    return [
        f'network {architecture.name}, {classes} classes, on {data}×{column} devices (data ×'
        f' column), {batch_size:,} images per step; bytes sent by each device per step',
        '',
        *collectives_table(count(program, mesh_shape), least),
        '',
        'each device holds',
        f'{held:15,} parameters, {2 * FLOAT * held:,} bytes with their momentum',
        f'{activations:15,} activations (table), {FLOAT * activations:,} bytes',
        f'{memory.argument_size_in_bytes:15,} bytes of arguments (compiler): state and batch',
        f'{memory.temp_size_in_bytes:15,} bytes of temporary memory (compiler)',
    ]


def collectives_table(counted: list[Counted], least: list[Transfer]) -> list[str]:
    """Returns one line per axis and collective, and totals per axis: counts and bytes."""
    head = f'{"axis":8}{"collective":20}{"forward":>8}{"back":>6}{"counted":>15}{"minimum":>15}'
    lines = []
    for axis in ('column', 'data', 'both', 'other'):
        runs = [one for one in counted if one.axis == axis]
        table = [one for one in least if one.axis == axis]
        for kind in (*sorted({one.collective for one in (*runs, *table)}), 'total'):
            chosen = [one for one in runs if kind in (one.collective, 'total')]
            sent = sum(one.times * one.sent for one in chosen)
            due = sum(one.sent for one in table if kind in (one.collective, 'total'))
            times = sum(one.times for one in chosen)
            back = sum(one.times for one in chosen if one.backward)
            ratio = _ratio(sent / due) if due else '-'
            if chosen or due:
                lines.append(f'{axis:8}{kind:20}{times - back:8}{back:6}{sent:15,.0f}{due:15,.0f}'
                             f'{ratio:>8}')  # fmt: skip
    return [f'{head}{"ratio":>8}', *lines] if lines else ['no device sends anything']


def _ratio(number: float) -> str:
    return f'{number:.4f}' if number < 100 else f'{number:.0f}'


KINDS = 'all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute'
# name = type kind(operands), attributes; the type of several results is a tuple.
COLLECTIVE = re.compile(rf'= (.*?) ({KINDS})(-start)?\((.*)')
SHAPE = re.compile(r'([a-z]+\d*)\w*\[([\d,]*)\]')
CALLED = re.compile(
    r'(?:to_apply|calls|body|condition|\w+_computations?)=(?:\{([^}]*)\}|%?([\w.-]+))'
)
CHAIN = re.compile(r'chain_id="(\d+)"')
# By the name of the operation in XLA or cuDNN.
BACKWARD_CONVOLUTION = re.compile(
    r'( convolution\(|__cudnn\$conv).*op_name="[^"]*transpose\([^"]*conv_general_dilated"'
)
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


def count(program: str, mesh: tuple[int, int]) -> list[Counted]:
    """Returns the collectives that a step runs, in the program's order.

    Args:
      program: compiled HLO, from `as_text()`.
      mesh: (data, column), of which XLA numbers the devices row by row.

    All branches of a conditional are counted. Groups of one device send nothing and are skipped. An
    asynchronous collective of a TPU appears in several fusions with one `chain_id`, and is counted
    once.

    Raises:
      ValueError: a collective in a loop of unknown length, or groups in no known form.
    """
    bodies, entry = computations(program)
    chains = set()

    def run(lines: Iterable[str], times: int) -> Iterator[Counted]:
        for line in lines:
            match, chain = COLLECTIVE.search(line), CHAIN.search(line)
            if match and chain:
                match = None if chain[1] in chains else match
                chains.add(chain[1])
            found = match and _counted(match, line, mesh, times)
            if found:
                yield found
            trips = TRIPS.search(line)
            for callee in called(line):
                turns = times * int(trips[1]) if trips else times
                inner = list(run(bodies.get(callee, ()), turns))
                if inner and ' while(' in line and not trips:
                    raise ValueError(f'a collective in a loop of unknown length: {line.strip()}')
                yield from inner

    return [
        dataclasses.replace(one, place=place)
        for place, line in enumerate(bodies.get(entry, ()))
        for one in run([line], 1)
    ]


def sent_early(program: str, mesh: tuple[int, int]) -> float | None:
    """Returns the share of gradient bytes whose all-reduce starts early.

    Early is before the last convolution of the backward pass. None: the program has no such
    all-reduce or convolution.

    Args:
      program, mesh: as in `count`.
    """
    gradients = [
        one for one in count(program, mesh)
        if one.axis == 'data' and (one.backward or not one.op_name)  # merged ones have no name
    ]  # fmt: skip
    bodies, entry = computations(program)

    def convolves(line: str) -> bool:
        return bool(BACKWARD_CONVOLUTION.search(line)) or any(
            convolves(inner) for name in called(line) for inner in bodies.get(name, ())
        )

    places = [place for place, line in enumerate(bodies.get(entry, ())) if convolves(line)]
    total = sum(one.sent for one in gradients)
    if not total or not places:
        return None
    return sum(one.sent for one in gradients if one.place < places[-1]) / total


def computations(program: str) -> tuple[dict[str, list[str]], str]:
    """Returns the lines of each computation of compiled HLO, and the name of the one that runs."""
    bodies, entry, lines = {}, '', []
    for line in program.splitlines():
        head = re.match(r'(ENTRY )?%?([\w.-]+) .*\{$', line)
        if head:
            lines = bodies[head[2]] = []
            entry = head[2] if head[1] else entry
        else:
            lines.append(line)
    return bodies, entry


def called(line: str) -> list[str]:
    """Returns the names of the computations that a line calls."""
    found = [name for listed, one in CALLED.findall(line) for name in (listed or one).split(',')]
    return [name.strip(' %') for name in found]


def _counted(match: re.Match, line: str, mesh: tuple[int, int], times: int) -> Counted | None:
    result, kind, start, _ = match.groups()
    op_name = re.search(r'op_name="([^"]*)"', line)
    size = sum(bytes_of(*shape) for shape in SHAPE.findall(result) if shape != ('u32', ''))
    devices = math.prod(mesh)
    if kind == 'collective-permute':
        pairs = _braced(line, 'source_target_pairs')
        put_in = (size / 2 if start else size) * len(pairs) / devices
        axis, n = _axis_of_pairs(pairs, mesh), devices
    else:
        groups = _groups(line, devices)
        axis, n = _axis(groups, mesh), len(groups[0])
        if n == 1 and len(groups) == devices:
            return None
        put_in = size * _put_in(kind, bool(start), n)
    sent = bytes_sent(kind, put_in, n)
    return Counted(kind, axis, times, sent, op_name[1] if op_name else '')


def _put_in(kind: str, start: bool, n: int) -> float:
    """Returns the contribution of one of n devices as a fraction of the type in the program. The
    type is that of the result; for an asynchronous start, except all-reduce, it includes the
    operand.
    """
    result = {'all-gather': n, 'reduce-scatter': 1 / n}.get(kind, 1)  # over operand
    return 1 / (result + (start and kind != 'all-reduce'))


def bytes_of(dtype: str, extents: str) -> float:
    """Returns the bytes of an array, from the two groups of `SHAPE`."""
    bits = 8 if dtype == 'pred' else int(re.sub(r'\D', '', dtype) or 0)
    return bits / 8 * math.prod(int(extent) for extent in extents.split(',') if extent)


def _groups(line: str, devices: int) -> list[list[int]]:
    """Of `replica_groups`: {{0,1},{2,3}}; reshaped and transposed counting,
    [2,4]<=[4,2]T(1,0); axes of a mesh, mesh['a'=4,'b'=2] {'a'}; {} is all devices."""
    counted = re.search(r'replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?', line)
    if counted:
        to, of, turn = ([int(n) for n in (part or '').split(',') if n] for part in counted.groups())
        numbers = np.arange(math.prod(of)).reshape(of)
        return (numbers.transpose(turn) if turn else numbers).reshape(to).tolist()
    named = re.search(r"replica_groups=mesh\[((?:'\w+'=\d+,?)+)\] \{((?:'\w+',?)+)\}", line)
    if named:
        axes, along = dict(re.findall(r"'(\w+)'=(\d+)", named[1])), re.findall(r'\w+', named[2])
        numbers = np.arange(devices).reshape([int(extent) for extent in axes.values()])
        turned = np.moveaxis(numbers, [list(axes).index(axis) for axis in along], range(len(along)))
        return turned.reshape(math.prod(int(axes[axis]) for axis in along), -1).T.tolist()
    return _braced(line, 'replica_groups') or [list(range(devices))]


def _braced(line: str, attribute: str) -> list[list[int]]:
    listed = re.search(attribute + r'=\{((?:\{[\d,]*\},?\s*)*)\}', line)
    if listed is None:
        raise ValueError(f'no {attribute} in a known form: {line.strip()}')
    return [[int(n) for n in group.split(',')] for group in re.findall(r'\{([\d,]+)\}', listed[1])]


def _axis(groups: list[list[int]], mesh: tuple[int, int]) -> str:
    places = np.arange(math.prod(mesh)).reshape(mesh)
    found = {frozenset(group) for group in groups}
    for axis, along in (('column', places), ('data', places.T), ('both', places.reshape(1, -1))):
        if found == {frozenset(group) for group in along.tolist()}:
            return axis
    return 'other'


def _axis_of_pairs(pairs: list[list[int]], mesh: tuple[int, int]) -> str:
    places = np.array([np.unravel_index(pair, mesh) for pair in pairs])  # [pairs, axes, 2]
    data, column = np.any(places[..., 0] != places[..., 1], axis=0)
    return 'both' if data and column else 'column' if column else 'data'
