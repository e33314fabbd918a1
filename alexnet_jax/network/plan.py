"""Scaling by paper calculation: what a step would take on 8 to 1024 devices.

Nothing here is measured on so many. Computing takes its floor, sending takes its
bytes (`traffic.py`) over the bandwidth and the time of each round of messages.
"""

import dataclasses
import math

from alexnet_jax.errors import InputError
from alexnet_jax.network.layers import Architecture, Dense
from alexnet_jax.network.shapes import layer_shapes
from alexnet_jax.network.traffic import FLOAT, bytes_sent, parameters_held, step_traffic

DEVICES = [2**power for power in range(3, 11)]
UPDATE = 26  # bytes read and written a parameter: float32, momentum, gradient, a bfloat16 copy
PAYS = 0.5  # of what as many single devices would do


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
    held = parameters_held(net, classes, column)
    return Step(way, bytes_of[True], bytes_of[False],
                *_computing(net, classes, mesh, images, held, machine),
                seconds_of[True], seconds_of[False])  # fmt: skip


def _hybrid(net: Architecture, classes: int, devices: int, images: int, machine: Machine) -> Step:
    """ "One weird trick": convolutions split the batch over all devices, fully connected
    layers their units. What those read is gathered for the whole batch, its gradient
    scattered; the logits' shares are summed."""
    rows = layer_shapes(net, classes)
    shared, read = _shared_and_read(net, classes)
    everything = sum(row.parameters for row in rows)
    halves = [FLOAT * images * units for units in read]
    return Step(
        'hybrid',
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
    """The tables, at so many images a device and at so many a step.

    Raises:
      InputError: no number of devices divides the batch.
    """
    if batch_size % DEVICES[0]:
        raise InputError(f'--batch is {batch_size}; allowed: a multiple of {DEVICES[0]}')
    strong = [n for n in DEVICES if batch_size % n == 0]
    return [
        f'network {net.name}, {classes} classes, by paper calculation: {machine.image_rate:,.0f}'
        f' images/s a device and {machine.memory / 1e9:,.0f} GB/s of memory for the update;',
        f'{machine.link / 1e9:g} GB/s to the {machine.host} devices of a host,'
        f' {machine.network / 1e9:g} GB/s a device between hosts,'
        f' {machine.round * 1e6:g} µs a round of messages',
        *_ways_text(net),
        *_tables(net, classes, machine, f'{device_batch:,} images a device', device_batch,
                 [(n, n * device_batch) for n in DEVICES]),
        *_tables(net, classes, machine, f'{batch_size:,} images a step', batch_size,
                 [(n, batch_size) for n in strong]),
        '', *_crossings(net, classes),
    ]  # fmt: skip


def _ways_text(net: Architecture) -> list[str]:
    c = net.columns
    return [
        'data: mesh N×1'
        + (f'; gather, scatter: mesh N/{c}×{c} by how fully connected layers meet' if c > 1 else '')
        + '; hybrid, not built: fully connected layers split over all N'
    ]


def _tables(
    net: Architecture, classes: int, machine: Machine, title: str, images_of_one: int,
    runs: list[tuple[int, int]],
) -> list[str]:  # fmt: skip
    """`runs`: devices and images a step; efficiency is against one device with
    `images_of_one`."""
    alone = ways(net, classes, 1, images_of_one, machine)[0].computing / images_of_one
    names, sizes, times, pays = [], [], [], {False: 0, True: 0}
    for devices, images in runs:
        steps = ways(net, classes, devices, images, machine)
        names = [step.way for step in steps]
        sizes.append(f'{devices:7}{images:9,}' + ''.join(
            f'{step.gradient_bytes / 1e6:9.1f} + {step.activation_bytes / 1e6:<8.1f}'
            for step in steps))  # fmt: skip
        line = f'{devices:7}' + ''.join(f'{1e3 * step.seconds(False):9.3f}' for step in steps)
        for overlapped in pays:
            best = min((step for step in steps if step.way != 'hybrid'),
                       key=lambda step: step.seconds(overlapped))  # fmt: skip
            seconds = best.seconds(overlapped)
            efficiency = alone * images / seconds / devices
            sending = 1e3 * (seconds - best.computing)
            line += (f'  {best.way:8}{1e3 * best.computing:7.3f} +{sending:6.3f}'
                     f'{images / seconds:13,.0f}{efficiency:6.0%}')  # fmt: skip
            if efficiency >= PAYS:
                pays[overlapped] = devices
        times.append(line)
    best_head = f'  {"best":8}{"ms":>7}{"":8}{"images/s":>13}{"eff.":>6}'
    return [
        '', f'{title}: MB a device sends in a step, gradients + activations',
        f'devices{"images":>9}' + ''.join(f'{name:>12}{"":8}' for name in names).rstrip(),
        *(line.rstrip() for line in sizes),
        '', f'{title}: ms a step; the best but the hybrid, computing + sending; the best with'
        ' gradients sent during the backward pass',
        'devices' + ''.join(f'{name:>9}' for name in names) + best_head * 2,
        *times,
        f'pays (efficiency of a half or more) up to {pays[False] or "fewer than 8"} devices,'
        f' {pays[True] or "fewer than 8"} with gradients sent during the backward pass',
    ]  # fmt: skip


def _crossings(net: Architecture, classes: int) -> list[str]:
    """Where one way sends as many bytes as another."""
    lines = []
    total = parameters_held(net, classes, 1)
    c = net.columns
    for exchange in ('gather', 'scatter') if c > 1 else ():
        saved = FLOAT * (bytes_sent('all-reduce', total, c))
        an_image = sum(t.sent for t in step_traffic(net, classes, (1, c), 1, exchange))
        lines.append(
            f'columns ({exchange}) send {an_image:,.0f} bytes an image and less than data'
            f' parallelism below {saved / an_image:,.0f} images a step on {c} devices,'
            f' {saved / an_image / c:,.0f} a device'
        )
    if any(isinstance(layer, Dense) for layer in net.layers):
        shared, read = _shared_and_read(net, classes)
        lines.append(
            f'hybrid: less than data parallelism below {(total - shared) / sum(read):,.0f}'
            ' images a step on any number of devices'
        )
    return lines
