"""Prints every net, one net by layer, differences of two, receptive fields, or bytes sent.

    python -m alexnet_jax.network
    python -m alexnet_jax.network caffe [--against torchvision]
    python -m alexnet_jax.network krizhevsky2012 --classes 10 --input_size 96 --width 0.25
    python -m alexnet_jax.network paper --fields
    python -m alexnet_jax.network paper --mesh 4x2 --batch 1024
    python -m alexnet_jax.network mynet.py:NET

`--fields` prints the pixels that the units of each activation depend on (docs/interventions.md).
FILE.py:NAME is your own net; the file is executed (docs/own_parts.md).

`--mesh DATAxCOLUMN` compiles a training step for this mesh of CPU devices and counts its
communication (docs/scaling.md).

Exit status: 0 done; 2 a bad command.
"""

import argparse
import os
import re
import sys

from alexnet_jax.experiment import own_parts
from alexnet_jax.network.architectures import ARCHITECTURES, varied
from alexnet_jax.network.communication import EXCHANGES
from alexnet_jax.network.diff import bias_text, deviations, stages_text, std_text
from alexnet_jax.network.layers import ACTIVATIONS, Architecture, Conv, Output
from alexnet_jax.network.receptive_fields import receptive_fields
from alexnet_jax.network.shapes import LayerShape, layer_shapes, smallest_input
from alexnet_jax.runtime import command_line, python_files
from alexnet_jax.runtime.command_line import DONE, Parser
from alexnet_jax.runtime.errors import InputError, counted, nearest

MOST_DEVICES = 64  # to compile for


def parse(argv: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = Parser(prog='python -m alexnet_jax.network', description=__doc__)
    parser.add_argument(
        'name', nargs='?', help='a net, also FILE.py:NAME; without one, all are listed'
    )
    parser.add_argument('--against', default='paper', help='the table to compare with (paper)')
    parser.add_argument('--classes', type=int, default=1000, help='1000')
    parser.add_argument('--input_size', type=int, default=0, help="pixels; the net's own")
    parser.add_argument(
        '--width', type=float, default=1.0, help='factor of the number of features (1)'
    )
    parser.add_argument('--activation', default='', help=f'one of {", ".join(ACTIVATIONS)}')
    parser.add_argument('--fields', action='store_true', help='print receptive fields')
    parser.add_argument('--mesh', help='DATAxCOLUMN: count the communication of this mesh')
    parser.add_argument(
        '--exchange', choices=EXCHANGES, default=EXCHANGES[0], help='with --mesh; gather'
    )
    parser.add_argument('--batch', type=int, help='images per step; with --mesh')
    options = parser.parse_args(argv)
    for name in filter(None, (options.name, options.against)):
        if not python_files.names_object(name):
            _require_known('network', name, ARCHITECTURES)
    if options.activation:
        _require_known('--activation', options.activation, ACTIVATIONS)
    for option, least in (('classes', 1), ('input_size', 0), ('width', 0.001)):
        value = getattr(options, option)
        if not least <= value <= 1e6:
            raise InputError(f'--{option} is {value}; allowed: from {least} to 1000000')
    _require_whole(options)
    return options


def _require_whole(options: argparse.Namespace) -> None:
    """Validates the options and their combinations."""
    if options.fields and (options.name is None or options.mesh is not None):
        raise InputError('--fields is of one net: give its name, and no --mesh')
    if options.name is None and options.mesh is not None:
        raise InputError('--mesh is of one net; give its name first')
    if options.mesh is not None and options.batch is None:
        raise InputError(f'--mesh is {options.mesh}; give --batch with it')
    if options.mesh is None and options.batch is not None:
        raise InputError(f'--batch is {options.batch}; give --mesh with it')
    if options.mesh is None and options.exchange != EXCHANGES[0]:
        raise InputError(f'--exchange is {options.exchange}; it goes with --mesh')
    if options.batch is not None and not 0 < options.batch <= 1e9:
        raise InputError(f'--batch is {options.batch}; allowed: above 0 to 1000000000')


def _mesh_shape(text: str, net: Architecture, batch_size: int) -> tuple[int, int]:
    """'4x2' -> (4, 2).

    Raises:
      InputError: no such mesh can run the net on such batches.
    """
    match = re.fullmatch(r'([1-9]\d{0,3})x([1-9]\d{0,3})', text)
    if match is None:
        raise InputError(f'--mesh is {text!r}; allowed: DATAxCOLUMN, as in 4x2')
    data, column = int(match[1]), int(match[2])
    if net.columns % column:
        raise InputError(
            f'--mesh is {text}; allowed for its second number: a divisor of the'
            f' {net.columns} column{"s" * (net.columns > 1)} of network {net.name}'
        )
    if data * column > MOST_DEVICES:
        raise InputError(
            f'--mesh is {text}, {counted(data * column, "device")}; allowed: up to {MOST_DEVICES}'
        )
    if batch_size % data:
        raise InputError(
            f'--batch is {batch_size}; allowed: a multiple of the {data} of --mesh {text}'
        )
    return data, column


def count_traffic(
    net: Architecture, classes: int, mesh: tuple[int, int], batch: int, exchange: str
) -> list[str]:
    """Compiles for CPU devices, as many as the mesh has."""
    os.environ.setdefault('JAX_PLATFORMS', 'cpu')
    command_line.before_jax(cpu_devices=mesh[0] * mesh[1])
    from alexnet_jax.training import compiled_collectives  # JAX starts: last

    return compiled_collectives.report(net, classes, mesh, batch, exchange)


def _require_known(what: str, name: str, names) -> None:
    if name not in names:
        raise InputError(
            f'{what} is {name!r}; the nearest is {nearest(name, names)};'
            f' allowed: {", ".join(names)}, or FILE.py:NAME'
        )


def list_nets(nets: list[Architecture], classes: int) -> list[str]:
    """Returns one line per net."""
    lines = [f'{"net":18}{"columns":>8}{"input":>7}{"parameters":>13}{"multiply-adds":>16}']
    for net in nets:
        rows = layer_shapes(net, classes)
        lines.append(
            f'{net.name:18}{net.columns:8}{net.input_size:7}'
            f'{sum(row.parameters + row.statistics for row in rows):13,}'
            f'{sum(row.multiply_adds for row in rows):16,}'
        )
    return [
        *lines, '',
        f'for {classes} classes; multiply-adds of one image, forward. Parameters count the moving'
        ' statistics of batch normalization, which are not trained.',
    ]  # fmt: skip


def describe(net: Architecture, classes: int) -> list[str]:
    """Returns one line per layer: the layer and its stages."""
    shapes = layer_shapes(net, classes)
    lines = [
        f'network {net.name}: {net.columns} column{"s" * (net.columns > 1)}, input'
        f' {net.input_size}×{net.input_size}×3 (at least {smallest_input(net)}), {classes} classes',
        '',
        f'{"layer":7}{"kind":26}{"reads":14}{"computes":>12}{"leaves":>12}{"parameters":>12}'
        f'{"multiply-adds":>15}{"std":>12}{"bias":>12}  then',
    ]
    for number, (row, shape) in enumerate(zip((*net.layers, net.output), shapes, strict=True)):
        first, last = next(iter(shape.activations.values())), shape.output
        then = '' if isinstance(row, Output) else stages_text(row)
        lines.append(
            f'{row.name:7}{_kind(row):26}{_reads(net, number):14}{_size(first):>12}'
            f'{_size(last):>12}{shape.parameters:12,}{shape.multiply_adds:15,}'
            f'{std_text(row):>12}{bias_text(row):>12}  {then}'
        )
    return [*lines, _total(shapes)]


def _total(shapes: list[LayerShape]) -> str:
    parameters, statistics = (
        sum(getattr(row, name) for row in shapes) for name in ('parameters', 'statistics')
    )
    moving = f' and {statistics:,} moving statistics' if statistics else ''
    adds = sum(row.multiply_adds for row in shapes)
    return f'total: {parameters:,} parameters{moving}, {adds:,} multiply-adds per image'


def describe_fields(net: Architecture) -> list[str]:
    """Returns one line per activation: its receptive fields along one axis, in pixels."""
    lines = [
        f'network {net.name}: receptive fields in pixels of its {net.input_size}×{net.input_size}',
        '',
        f'{"activation":22}{"units":>7}{"field":>7}{"stride":>8}{"first":>7}{"center":>8}'
        f'{"first unit":>14}{"last unit":>14}',
    ]
    for name, field in receptive_fields(net).items():
        single = field.units == 1
        ends = [_pixels(field.pixels(unit)) for unit in (0, field.units - 1)]
        lines.append(
            f'{name:22}{field.units:7}{field.size:7}{"–" if single else field.stride:>8}'
            f'{field.start:7}{field.center:8.1f}{ends[0]:>14}{ends[1]:>14}'
        )
    return [
        *lines, '',
        'field: of a unit that no edge cuts. first, center: the first pixel and the middle of the'
        ' first unit\'s field;',
        'those of unit i lie i · stride further. first unit, last unit: the pixels they depend on.',
    ]  # fmt: skip


def _pixels(pixels: range) -> str:
    return f'{pixels[0]}–{pixels[-1]}' if pixels else 'none'


def compare(one: Architecture, other: Architecture) -> list[str]:
    """Returns one line for each field in which two nets differ."""
    found = deviations(one, other)
    if not found:
        return [f'{one.name}: nothing differs from {other.name}']
    wide = max(len('differs in'), *(len(row.field) for row in found)) + 2
    wide_one = max(len(one.name), *(len(row.one) for row in found)) + 2
    return [
        f'{"differs in":{wide}}{one.name:{wide_one}}{other.name}',
        *(f'{row.field:{wide}}{row.one:{wide_one}}{row.other}' for row in found),
    ]


def _kind(row) -> str:
    if not isinstance(row, Conv):
        return 'fully connected'
    padding = f', pad {row.padding[0]}+{row.padding[1]}' if any(row.padding) else ''
    groups = f', {row.groups} groups' if row.groups > 1 else ''
    return f'{row.kernel}×{row.kernel} / {row.stride}{padding}{groups}'


def _reads(net: Architecture, number: int) -> str:
    if number == 0:
        return 'the image'
    if net.columns == 1:
        return 'all'
    row = (*net.layers, net.output)[number]
    return 'all columns' if isinstance(row, Output) or row.reads_all else 'its column'


def _size(shape: tuple[int, ...]) -> str:
    return '×'.join(map(str, shape))


def table(name: str) -> Architecture:
    """Returns the table of a name, or of FILE.py:NAME."""
    if python_files.names_object(name):
        return own_parts.network(name, 'network')
    return ARCHITECTURES[name]


def run(argv: list[str]) -> int:
    """Prints the nets, one net, or how two differ; returns the exit status."""
    options = parse(argv)

    def net(name: str) -> Architecture:
        return varied(table(name), options.input_size, options.width, options.activation)

    if options.name is None:
        lines = list_nets([net(name) for name in ARCHITECTURES], options.classes)
    elif options.mesh is not None:
        one = net(options.name)
        mesh = _mesh_shape(options.mesh, one, options.batch)
        lines = count_traffic(one, options.classes, mesh, options.batch, options.exchange)
    elif options.fields:
        lines = describe_fields(net(options.name))
    else:
        one = net(options.name)
        lines = [*describe(one, options.classes), '']
        lines += compare(one, table(options.against))
    print('\n'.join(lines))
    return DONE


def main(argv: list[str] | None = None) -> int:
    """Runs the command line in this process and returns its exit status."""
    return command_line.run(run, argv, prints=True)


if __name__ == '__main__':
    sys.exit(main())
