"""Floating-point operations per second of a training, and their fraction of the devices' peak."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from alexnet_jax.network import chips
from alexnet_jax.network.layers import Architecture
from alexnet_jax.network.shapes import layer_shapes


def flop_per_image(architecture: Architecture, classes: int) -> int:
    """Returns the floating-point operations of training on one image.

    They are two for each multiply-add of the table's weighted sums, three times: in the forward
    pass, for the weights' gradient and for the input's gradient. The first layer has no gradient of
    its input. Other operations and recomputations do not count: 4.136e9 for the paper's net and
    1000 classes.
    """
    adds = [row.multiply_adds for row in layer_shapes(architecture, classes)]
    return 2 * (3 * sum(adds) - adds[0])


def forward_flop(architecture: Architecture, classes: int) -> int:
    """Returns the same for the forward pass alone."""
    return 2 * sum(row.multiply_adds for row in layer_shapes(architecture, classes))


def meter(
    architecture: Architecture, classes: int, products: str, devices: Sequence[Any]
) -> Callable[[float], dict[str, float]]:
    """Returns a function that converts images per second to operations per second.

    The images per second are the total of all these devices. The function returns 'tflops', 10^12
    operations per second, and 'mfu' (model FLOPs utilization), their fraction of the peak of all
    devices, if that is known; both with four digits.

    Args:
      products: their kind, a key of `chips.Chip.products`.
    """
    flop, chip = flop_per_image(architecture, classes), chips.of_device(devices[0])
    peak = chip.products[products] * len(devices) / 1e12 if chip else None
    return functools.partial(_achieved, flop, peak)


def _achieved(flop: int, peak: float | None, images_per_second: float) -> dict[str, float]:
    tflops = flop * images_per_second / 1e12
    shares = {} if peak is None else {'mfu': tflops / peak}
    return {name: float(f'{number:.4g}') for name, number in {'tflops': tflops, **shares}.items()}
