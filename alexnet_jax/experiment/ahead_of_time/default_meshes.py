"""The default mesh of a configuration on any number of devices, by calculation: nothing is compiled."""

import dataclasses
import math

from alexnet_jax.network.chips import Chip
from alexnet_jax.network.communication import FLOAT, best_mesh, parameters_held, step_traffic
from alexnet_jax.network.layers import Architecture
from alexnet_jax.training import throughput

UPDATE = 26  # bytes read and written a parameter: float32, momentum, gradient, a bfloat16 copy
PAYS = 0.5  # of what as many single devices would do


@dataclasses.dataclass(frozen=True)
class Row:
    """A training step on some devices: its mesh, and least seconds of computing and of sending.

    With them comes its rate as a share of that of as many single devices.
    """

    devices: int
    mesh: tuple[int, int]
    computing: float
    sending: float
    efficiency: float


def table(
    net: Architecture, classes: int, batch_size: int, exchange: str, parts: int, chip: Chip, kind: str,
    counts: tuple[int, ...] = (1, 4, 8, 64, 256),
) -> list[Row]:  # fmt: skip
    """Returns a row for each number of devices, the images a step being the same.

    Computing takes its products at the chip's peak for `kind`, and the update at its bandwidth;
    sending follows it, at the rate of all links together. `parts`: as in `best_mesh`.
    """
    activation = 2 if kind == 'bfloat16' else FLOAT
    alone = 0.0
    rows = []
    for count in counts:
        mesh = best_mesh(net, classes, count, batch_size, exchange, parts)
        computing = _computing(net, classes, mesh, batch_size, chip, kind)
        transfers = step_traffic(net, classes, mesh, batch_size, exchange, activation)
        sent = sum(one.sent for one in transfers)
        seconds = computing + sent / chip.link
        alone = alone or seconds
        rows.append(Row(count, mesh, computing, sent / chip.link, alone / seconds / count))
    return rows


def most_useful_devices(rows: list[Row]) -> int:
    """Returns the most devices with an efficiency of a half."""
    return max(row.devices for row in rows if row.efficiency >= PAYS)


def _computing(
    net: Architecture, classes: int, mesh: tuple[int, int], batch_size: int, chip: Chip, kind: str
) -> float:
    flops = throughput.flop_per_image(net, classes) * batch_size / math.prod(mesh)
    update = UPDATE * parameters_held(net, classes, mesh[1])
    return flops / chip.products[kind] + update / chip.bandwidth
