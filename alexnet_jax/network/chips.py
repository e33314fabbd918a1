"""Peak performance of accelerators, from data sheets.

NVIDIA's data sheets of A100, H100 and H200, without sparsity; Google Cloud's documentation of TPU v4,
v5e, v5p and v6e. The clock of a TPU is its peak rate divided by the operations of its matrix units
per cycle.
"""

import dataclasses
from typing import Any

PRECISIONS = ('default', 'high', 'highest')  # of products of float32 numbers, by JAX's names


@dataclasses.dataclass(frozen=True)
class Chip:
    """The data of a chip.

    products: multiplications and additions per second, of bfloat16 numbers ('bfloat16') and of
      float32 numbers by their precision.
    memory: bytes. bandwidth: memory bandwidth, bytes per second. link: bytes per second that a chip
      sends to others of its slice or host, over all links. clock: cycles per second; 0 for GPUs,
      for which the compiler does not estimate cycles.
    """

    products: dict[str, float]
    memory: float
    bandwidth: float
    link: float
    clock: float = 0.0


def _tpu(peak: float, gibibytes: float, bandwidth: float, link: float, clock: float) -> Chip:
    # Products of float32 numbers are one, three or six passes of bfloat16.
    products = {'bfloat16': peak, 'default': peak, 'high': peak / 3, 'highest': peak / 6}
    return Chip(products, gibibytes * 2**30, bandwidth, link, clock)


def _gpu(bfloat16: float, tf32: float, float32: float, memory: float, bandwidth: float,
         link: float) -> Chip:  # fmt: skip
    products = {'bfloat16': bfloat16, 'default': tf32, 'high': tf32, 'highest': float32}
    return Chip(products, memory, bandwidth, link)


CHIPS = {
    'v4': _tpu(275e12, 32, 1.2e12, 300e9, 1.05e9),
    'v5e': _tpu(197e12, 16, 0.82e12, 200e9, 1.5e9),
    'v5p': _tpu(459e12, 95, 2.765e12, 600e9, 1.75e9),
    'v6e': _tpu(918e12, 32, 1.64e12, 448e9, 1.75e9),
    'a100': _gpu(312e12, 156e12, 19.5e12, 80e9, 2.04e12, 300e9),
    'h100': _gpu(989.5e12, 494.5e12, 67e12, 80e9, 3.35e12, 450e9),
    'h200': _gpu(989.5e12, 494.5e12, 67e12, 141e9, 4.8e12, 450e9),
}
# By JAX's name of a device.
DEVICE_KINDS = {
    'TPU v4': 'v4',
    'TPU v5 lite': 'v5e',
    'TPU v5': 'v5p',
    'TPU v5p': 'v5p',
    'TPU v6 lite': 'v6e',
    'NVIDIA A100-SXM4-80GB': 'a100',
    'NVIDIA H100 80GB HBM3': 'h100',
    'NVIDIA H200': 'h200',
}


def of_device(device: Any) -> Chip | None:
    """Returns the data of a JAX device; None if they are not known."""
    name = DEVICE_KINDS.get(device.device_kind)
    return CHIPS[name] if name else None


def product_kind(compute: str, precision: str) -> str:
    """Returns the key of `Chip.products` for these types and precision."""
    return 'bfloat16' if compute == 'bfloat16' else precision
