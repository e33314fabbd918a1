"""Scaling by paper calculation: what a step would take on 8 to 1024 devices (docs/scaling.md).

    python benchmarks/plan.py paper [--batch 1024 --device_batch 128 --link 450 ...]

Nothing here is measured on so many. Computing takes its floor, sending takes its
bytes (`network/communication.py`) over the bandwidth and the time of each round of messages.

Exit status: 0 done; 2 a bad command.
"""

import argparse
import dataclasses
import math
import sys

from alexnet_jax.experiment.ahead_of_time.default_meshes import PAYS, UPDATE
from alexnet_jax.network.architectures import ARCHITECTURES
from alexnet_jax.network.communication import FLOAT, bytes_sent, parameters_held, step_traffic
from alexnet_jax.network.layers import Architecture, Dense
from alexnet_jax.network.shapes import layer_shapes
from alexnet_jax.runtime import command_line
from alexnet_jax.runtime.command_line import DONE, Parser
from alexnet_jax.runtime.errors import InputError, counted

DEVICES = [2**power for power in range(3, 11)]
HYBRID = 'hybrid'

RATES = {  # option: field of `Machine`, how many of its unit, meaning
    'image_rate': ('image_rate', 1, 'images/s of one device without the update'),
    'memory': ('memory', 1e9, 'memory bandwidth, for the update, GB/s'),
    'link': ('link', 1e9, 'bandwidth to devices of the same host, GB/s'),
    'network': ('network', 1e9, 'bandwidth of a device to other hosts, GB/s'),
    'host_devices': ('host', 1, 'devices of a host, a power of two'),
    'round': ('round', 1e-6, 'time of a round of messages, µs'),
}


@dataclasses.dataclass(frozen=True)
class Machine:
    """The rates; defaults for GPUs of the H200's class.

    image_rate: images a second of one device, the update left out. The paper's net:
      the floors of 112,000 at batch 128, 155,000 at 1024 and 162,000 at 4096 that 790
      TFLOP/s in bfloat16 and 4.3 TB/s, both measured, leave with the update.
    memory: bytes a second, for the update.
    link: bytes a second that a device sends to others of its host: NVLink 4, one way.
    network: the same to other hosts: one adapter of 400 Gbit/s a device.
    host: devices of a host.
    round: seconds that a round of messages takes, however short: assumed.
    """

    image_rate: float = 164e3
    memory: float = 4.3e12
    link: float = 450e9
    network: float = 50e9
    host: int = 8
    round: float = 5e-6


@dataclasses.dataclass(frozen=True)
class Step:
    """One way to run a step, for one device: bytes sent, and seconds.

    gradients: what is reduced over the batch; activations: what a layer waits for.
    """

    way: str
    gradient_bytes: float
    activation_bytes: float
    forward: float
    backward: float
    update: float
    gradients: float
    activations: float

    @property
    def computing(self) -> float:
        """Seconds that the device computes."""
        return self.forward + self.backward + self.update

    def seconds(self, overlapped: bool) -> float:
        """Gradients are sent while the backward pass computes further ones, or after it."""
        hidden = min(self.gradients, self.backward) if overlapped else 0.0
        return self.computing + self.activations + self.gradients - hidden


def ways(
    net: Architecture, classes: int, devices: int, images: int, machine: Machine
) -> list[Step]:
    """The ways to run a step of `images` on so many devices; the last, if the net has
    fully connected layers, is not built: `hybrid`."""
    meshes = [('data', (devices, 1), 'gather')]
    if 1 < net.columns <= machine.host and devices % net.columns == 0:
        mesh = (devices // net.columns, net.columns)
        meshes += [('gather', mesh, 'gather'), ('scatter', mesh, 'scatter')]
    steps = [_on_mesh(net, classes, *row, images, machine) for row in meshes]
    if any(isinstance(layer, Dense) for layer in net.layers):
        steps.append(_hybrid(net, classes, devices, images, machine))
    return steps


def _on_mesh(
    net: Architecture, classes: int, way: str, mesh: tuple[int, int], exchange: str,
    images: int, machine: Machine,
) -> Step:  # fmt: skip
    data, column = mesh
    bytes_of, seconds_of = {True: 0.0, False: 0.0}, {True: 0.0, False: 0.0}
    for transfer in step_traffic(net, classes, mesh, images, exchange):
        reduced = transfer.what in ('gradients', 'scores')
        bytes_of[reduced] += transfer.sent
        if transfer.axis == 'column':
            rounds = 2 if transfer.collective == 'all-reduce' else 1
            seconds = transfer.sent / machine.link + rounds * _rounds(column, machine)
        elif transfer.what == 'scores':
            seconds = 0.0  # they travel with the gradients
        else:
            whole = transfer.sent / bytes_sent('all-reduce', 1, data)
            seconds = 2 * _half(whole, data, machine.host // column, machine)
        seconds_of[reduced] += seconds
    return Step(way, bytes_of[True], bytes_of[False],
                *_computing(net, classes, mesh, images, parameters_held(net, classes, column), machine),
                seconds_of[True], seconds_of[False])  # fmt: skip


def _hybrid(net: Architecture, classes: int, devices: int, images: int, machine: Machine) -> Step:
    """Plans "one weird trick": convolutions split the batch over all devices, fully connected
    layers their units. What those read is gathered for the whole batch, its gradient
    scattered; the logits' shares are summed."""
    rows = layer_shapes(net, classes)
    shared, read = _shared_and_read(net, classes)
    everything = sum(row.parameters for row in rows)
    halves = [FLOAT * images * units for units in read]
    return Step(
        HYBRID,
        bytes_sent('all-reduce', FLOAT * shared, devices),
        sum(bytes_sent('all-reduce', whole, devices) for whole in halves),
        *_computing(net, classes, (devices, 1), images, shared + (everything - shared) / devices,
                    machine),
        2 * _half(FLOAT * shared, devices, machine.host, machine),
        sum(2 * _half(whole, devices, machine.host, machine) for whole in halves),
    )  # fmt: skip


def _shared_and_read(net: Architecture, classes: int) -> tuple[int, list[int]]:
    """Of the hybrid: parameters below the fully connected layers, which all devices
    share, and numbers an image that the layers from there on exchange, each way."""
    rows = layer_shapes(net, classes)
    first = next(i for i, layer in enumerate(net.layers) if isinstance(layer, Dense))
    read = [math.prod(row.output) for row in rows[first - 1 : -2]]
    return sum(row.parameters for row in rows[:first]), [*read, classes]


def _computing(
    net: Architecture, classes: int, mesh: tuple[int, int], images: int, held: float,
    machine: Machine,
) -> tuple[float, float, float]:  # fmt: skip
    """Seconds of the forward and the backward pass and the update. Work splits evenly
    over both axes; the image needs no gradient."""
    rows = layer_shapes(net, classes)
    forward = sum(row.multiply_adds for row in rows)
    backward = 2 * forward - rows[0].multiply_adds
    seconds = images / math.prod(mesh) / machine.image_rate
    share = forward / (forward + backward)
    return seconds * share, seconds * (1 - share), UPDATE * held / machine.memory


def _half(whole: float, devices: int, host: int, machine: Machine) -> float:
    """Seconds to gather or scatter `whole` bytes over devices of which `host` share a
    host: among them by the link; between hosts each sends its part by the network."""
    inside = min(devices, max(host, 1))
    hosts = devices // inside
    return (
        whole * (inside - 1) / inside / machine.link
        + whole * (hosts - 1) / hosts / inside / machine.network
        + _rounds(devices, machine)
    )


def _rounds(devices: int, machine: Machine) -> float:
    return machine.round * math.log2(devices)


def report(
    net: Architecture, classes: int, machine: Machine, batch_size: int, device_batch: int
) -> list[str]:
    """The tables, for a number of images per device and per step.

    Raises:
      InputError: no number of devices divides the batch.
    """
    if batch_size % DEVICES[0]:
        raise InputError(f'--batch is {batch_size}; allowed: a multiple of {DEVICES[0]}')
    c = net.columns
    lines = [
        f'network {net.name}, {classes} classes, by paper calculation:'
        f' {machine.image_rate:,.0f} images/s per device, update at {machine.memory / 1e9:,.0f} GB/s;',
        f'{machine.link / 1e9:g} GB/s among the {machine.host} devices of a host,'
        f' {machine.network / 1e9:g} GB/s per device between hosts,'
        f' {machine.round * 1e6:g} µs per round of messages',
        'data: mesh N×1',
        *([f'gather, scatter: mesh N/{c}×{c}, by how fully connected layers meet'] * (c > 1)),
        'hybrid (not built): convolutions split the batch, fully connected layers their units,'
        ' over all N',
    ]
    weak = [(n, n * device_batch) for n in DEVICES]
    strong = [(n, batch_size) for n in DEVICES if batch_size % n == 0]
    for title, alone, sizes in (
        (f'{device_batch:,} images per device', device_batch, weak),
        (f'{batch_size:,} images per step', batch_size, strong),
    ):
        runs = [Run(n, images, ways(net, classes, n, images, machine)) for n, images in sizes]
        one = ways(net, classes, 1, alone, machine)[0].computing / alone
        lines += ['', *_bytes_table(title, runs), '', *_times_table(title, runs, one)]
    return [*lines, '', *_crossings(net, classes)]


@dataclasses.dataclass(frozen=True)
class Run:
    """`images` a step, in each way."""

    devices: int
    images: int
    steps: list[Step]

    def best(self, overlapped: bool) -> Step:
        """The fastest, the hybrid left out."""
        steps = [step for step in self.steps if step.way != HYBRID]
        return min(steps, key=lambda step: step.seconds(overlapped))

    def efficiency(self, overlapped: bool, alone: float) -> float:
        """`alone`: seconds an image takes one device."""
        return alone * self.images / self.best(overlapped).seconds(overlapped) / self.devices


def _bytes_table(title: str, runs: list[Run]) -> list[str]:
    head = f'devices{"images":>11}' + ''.join(f'{step.way:>14}{"":6}' for step in runs[0].steps)
    lines = [f'{title}: MB sent by each device per step, gradients + activations', head.rstrip()]
    for run in runs:
        line = f'{run.devices:7}{run.images:11,}'
        for step in run.steps:
            line += f'{step.gradient_bytes / 1e6:9.1f} + {step.activation_bytes / 1e6:<8.1f}'
        lines.append(line.rstrip())
    return lines


def _times_table(title: str, runs: list[Run], alone: float) -> list[str]:
    lines = []
    for run in runs:
        line = f'{run.devices:7}' + ''.join(f'{1e3 * s.seconds(False):8.2f}' for s in run.steps)
        for overlapped in (False, True):
            best = run.best(overlapped)
            seconds = best.seconds(overlapped)
            took = f'{1e3 * best.computing:.2f} + {1e3 * (seconds - best.computing):.2f}'
            line += (f'  {best.way:7}{took:>12}{run.images / seconds:12,.0f}'
                     f'{run.efficiency(overlapped, alone):5.0%}')  # fmt: skip
        lines.append(line)
    head = f'  {"best":7}{"ms":>12}{"images/s":>12}{"eff.":>5}'
    return [
        f'{title}: ms per step; the best (without the hybrid), computing + sending;'
        ' again, if gradients',
        'are sent during the backward pass',
        'devices' + ''.join(f'{step.way:>8}' for step in runs[0].steps) + 2 * head,
        *lines,
        *(_verdict(runs, alone, overlapped) for overlapped in (False, True)),
    ]


def _verdict(runs: list[Run], alone: float, overlapped: bool) -> str:
    """How far it pays, and what the hybrid would add."""
    pays = [run.devices for run in runs if run.efficiency(overlapped, alone) >= PAYS]
    fastest = max(runs, key=lambda run: run.images / run.best(overlapped).seconds(overlapped))
    text = (
        f'{"gradients sent during the backward pass" if overlapped else "computing, then sending"}:'
        f' efficiency of a half up to {counted(pays[-1] if pays else 1, "device")}, most images/s on'
        f' {fastest.devices}'
    )
    gains = {
        run.devices: run.best(overlapped).seconds(overlapped) / step.seconds(overlapped)
        for run in runs for step in run.steps if step.way == HYBRID
    }  # fmt: skip
    if not gains:
        return text
    faster = [devices for devices, gain in gains.items() if gain > 1]
    if not faster:
        return f'{text}; hybrid slower everywhere'
    most = max(gains.values())
    return f'{text}; hybrid faster on {faster[0]} to {faster[-1]}, at most {most:.2f} times'


def _crossings(net: Architecture, classes: int) -> list[str]:
    """Where one way sends as many bytes as another."""
    lines, c = [], net.columns
    total = parameters_held(net, classes, 1)
    for exchange in ('gather', 'scatter') if c > 1 else ():
        an_image = sum(one.sent for one in step_traffic(net, classes, (1, c), 1, exchange))
        border = FLOAT * bytes_sent('all-reduce', total, c) / an_image
        lines.append(
            f'{c} columns ({exchange}) send {an_image:,.0f} bytes per image: less than data'
            f' parallelism below {border:,.0f} images on {c} devices, {border / c:,.0f} per device'
        )
    if any(isinstance(layer, Dense) for layer in net.layers):
        shared, read = _shared_and_read(net, classes)
        lines.append(
            'hybrid: less than data parallelism below'
            f' {(total - shared) / sum(read):,.0f} images per step, on any number of devices'
        )
    if c > 1:
        whole = bytes_sent('all-reduce', FLOAT * classes, c)
        there = bytes_sent('reduce-scatter', FLOAT * classes, c)
        back = bytes_sent('all-gather', FLOAT * classes / c, c)
        lines.append(
            f'logits: {whole:,.0f} bytes per image summed on every device; split over the columns'
            f' (distributed softmax) {there:,.0f} forward + {back:,.0f} back'
        )
    return lines


def parse(argv: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = Parser(prog='python benchmarks/plan.py', description=__doc__)
    parser.add_argument('net', choices=ARCHITECTURES, metavar='NET', help='name of a net')
    parser.add_argument('--classes', type=int, default=1000, help='number of classes (1000)')
    parser.add_argument('--batch', type=int, default=1024, help='images per step (1024)')
    parser.add_argument('--device_batch', type=int, default=128, help='images per device (128)')
    for option, (field, unit, meaning) in RATES.items():
        kind = type(getattr(Machine, field))
        default = kind(round(getattr(Machine, field) / unit, 9))
        meaning += f' ({default:g})'
        parser.add_argument(f'--{option}', type=kind, default=default, help=meaning)
    options = parser.parse_args(argv)
    for option in ('classes', 'batch', 'device_batch', *RATES):
        value = getattr(options, option)
        if not 0 < value <= 1e9:
            raise InputError(f'--{option} is {value}; allowed: above 0 to 1000000000')
    if options.host_devices & (options.host_devices - 1):
        raise InputError(f'--host_devices is {options.host_devices}; allowed: a power of two')
    return options


def run(argv: list[str]) -> int:
    """Prints the plan of a net and returns the exit status."""
    options = parse(argv)
    machine = Machine(**{
        field: getattr(options, option) * unit for option, (field, unit, _) in RATES.items()
    })  # fmt: skip
    given = options.classes, machine, options.batch, options.device_batch
    print('\n'.join(report(ARCHITECTURES[options.net], *given)))
    return DONE


if __name__ == '__main__':
    sys.exit(command_line.run(run, None, prints=True))
