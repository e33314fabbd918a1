"""Minimum communication of a training step, computed from a table.

All numbers are bytes that a device sends in a step; it receives the same number. Gradients and
logits are float32; so are activations unless another size is given.

If each of n devices contributes s bytes, optimal algorithms such as a ring send:

    all-gather          (n − 1)·s       s is the device's own part
    reduce-scatter      (n − 1)/n·s     s is the whole sum
    all-reduce          2(n − 1)/n·s    a reduce-scatter, then an all-gather
    all-to-all          (n − 1)/n·s
    collective-permute  s               only from devices with a receiver

If devices send different amounts (the first and the last column have one neighbor instead of two),
the result is their mean.
"""

import dataclasses
import math

from alexnet_jax.network.layers import Architecture, BatchNorm, Dense, LocalResponseNorm
from alexnet_jax.network.shapes import halo, layer_shapes

FLOAT = 4  # bytes
SCORES = 4  # sums over the batch: the loss, two errors, the count
# Communication in fully connected layers: each column gathers the units below, or uses its own
# units and scatters the sums ("row-parallel").
EXCHANGES = ('gather', 'scatter')


@dataclasses.dataclass(frozen=True)
class Transfer:
    """One collective. `what`: a layer's name, 'gradients' or 'scores'."""

    axis: str  # 'column' or 'data'
    what: str
    collective: str
    backward: bool
    sent: float  # bytes


def bytes_sent(collective: str, put_in: float, devices: int) -> float:
    """Returns the bytes that a device sends if each of `devices` contributes `put_in` bytes."""
    n = devices
    factor = {
        'all-gather': n - 1,
        'reduce-scatter': (n - 1) / n,
        'all-reduce': 2 * (n - 1) / n,
        'all-to-all': (n - 1) / n,
        'collective-permute': 1,
    }[collective]
    return factor * put_in


def step_traffic(
    architecture: Architecture,
    classes: int,
    mesh: tuple[int, int],
    batch_size: int,
    exchange: str = 'gather',
    activation: int = FLOAT,
) -> list[Transfer]:
    """Returns the minimum communication of a step on a mesh of (data, column) devices.

    Args:
      activation: bytes of an activation, 2 in bfloat16.
    """
    data, column = mesh
    transfers = []
    if column > 1:
        images = batch_size // data
        transfers += _between_columns(architecture, classes, column, images, exchange, activation)
    if data > 1:
        transfers += _between_batches(architecture, classes, data, column)
    return transfers


def forward_traffic(
    architecture: Architecture,
    classes: int,
    mesh: tuple[int, int],
    images: int,
    activation: int = FLOAT,
) -> list[Transfer]:
    """Returns the minimum communication of inference.

    Columns exchange maps, and every device receives the logits of all images.

    Args:
      activation: as for `step_traffic`.
    """
    data, column = mesh
    transfers = []
    if column > 1:
        both = _between_columns(architecture, classes, column, images // data, 'gather', activation)
        transfers += [transfer for transfer in both if not transfer.backward]
    if data > 1:
        sent = bytes_sent('all-gather', FLOAT * classes * images // data, data)
        transfers.append(Transfer('data', 'logits', 'all-gather', False, sent))
    return transfers


def _between_columns(
    architecture: Architecture, classes: int, column: int, images: int, exchange: str,
    activation: int,
) -> list[Transfer]:  # fmt: skip
    """`images`: number of images per device."""
    transfers = []

    def add(
        what: str, collective: str, numbers: float, backward: bool, size: int = activation
    ) -> None:
        """`numbers` of one image, of `size` bytes each, contributed by one device."""
        sent = bytes_sent(collective, size * images * numbers, column)
        transfers.append(Transfer('column', what, collective, backward, sent))

    rows = layer_shapes(architecture, classes)
    for number, (layer, row) in enumerate(zip(architecture.layers, rows[:-1], strict=True)):
        if number and layer.reads_all:
            below = math.prod(rows[number - 1].output)
            if exchange == 'scatter' and isinstance(layer, Dense):
                add(layer.name, 'reduce-scatter', layer.features, False)
                add(layer.name, 'all-gather', layer.features / column, True)
            else:
                add(layer.name, 'all-gather', below / column, False)
                add(layer.name, 'reduce-scatter', below, True)
        shapes = list(row.activations.values())  # before each stage, and after the last
        for stage, shape in zip(layer.then, shapes[:-1], strict=True):
            if isinstance(stage, LocalResponseNorm) and stage.across_columns:
                places, own = math.prod(shape[:-1]), shape[-1] // column
                for hop, taken in enumerate(halo(own, stage.size // 2), start=1):
                    sent = places * taken * (column - hop) / column
                    for backward in (False, True):
                        for _ in ('left', 'right'):  # the outermost devices have no neighbor there
                            add(layer.name, 'collective-permute', sent, backward)
    # The gradient of a sum needs no communication: every device has all of it.
    add(architecture.output.name, 'all-reduce', classes, False, FLOAT)
    return transfers


def _between_batches(
    architecture: Architecture, classes: int, data: int, column: int
) -> list[Transfer]:
    transfers = []

    def add(what: str, numbers: float, backward: bool) -> None:
        sent = bytes_sent('all-reduce', FLOAT * numbers, data)
        transfers.append(Transfer('data', what, 'all-reduce', backward, sent))

    for layer, row in zip(architecture.layers, layer_shapes(architecture, classes), strict=False):
        if any(isinstance(stage, BatchNorm) for stage in layer.then):
            # Mean and variance; in the backward pass, their gradients, which are sums.
            add(layer.name, row.statistics / column, False)
            add(layer.name, row.statistics / column, True)
    add('scores', SCORES, False)
    add('gradients', parameters_held(architecture, classes, column), True)
    return transfers


def parameters_held(architecture: Architecture, classes: int, column: int) -> int:
    """Returns how many parameters one of `column` devices holds.

    Each device holds all biases of the output layer.
    """
    trained = sum(row.parameters for row in layer_shapes(architecture, classes))
    return (trained - classes) // column + classes


def activations_held(architecture: Architecture, classes: int, column: int, images: int) -> int:
    """Returns how many activations one device computes for `images` images.

    Weighted sums and the results of the stages count once each. Columns gathered from other devices
    do not count.
    """
    *rows, output = layer_shapes(architecture, classes)
    ours = sum(math.prod(shape) for row in rows for shape in row.activations.values())
    return images * (ours // column + math.prod(output.output))


def best_mesh(
    architecture: Architecture,
    classes: int,
    devices: int,
    batch_size: int,
    exchange: str = 'gather',
    parts: int = 1,
    asked: tuple[int, int] = (0, 0),
) -> tuple[int, int]:
    """Returns (data, column) of the mesh with the least communication per device.

    Of two equal meshes it is the one with fewer columns. If no mesh uses all devices, it uses as
    many as possible. Sizes other than 0 in `asked` are fixed. The images of a device must be
    divisible into `parts`.
    """

    def sent(mesh: tuple[int, int]) -> float:
        return sum(
            transfer.sent
            for transfer in step_traffic(architecture, classes, mesh, batch_size, exchange)
        )

    shared = [n for n in range(1, architecture.columns + 1) if architecture.columns % n == 0]
    for used in range(devices, 0, -1):
        meshes = [
            (used // column, column)
            for column in shared
            if used % column == 0
            and batch_size % (used // column * parts) == 0
            and asked[0] in (0, used // column)
            and asked[1] in (0, column)
        ]
        if meshes:
            return min(meshes, key=lambda mesh: (sent(mesh), mesh[1]))
    return max(1, asked[0]), max(1, asked[1])
