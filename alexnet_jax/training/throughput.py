"""Floating-point operations a second that a training achieves, and their share of the devices' peak."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from alexnet_jax.network.layers import Architecture
from alexnet_jax.network.shapes import layer_shapes

# Of a device, 10^12 operations a second without sparsity, by `device_kind`: bfloat16, and float32 at
# JAX's default precision: TF32 on GPUs, one bfloat16 pass on TPUs. Sources: NVIDIA's data sheets of
# A100, H100 and H200 (the two later ones print twice as much, with sparsity); Google Cloud's
# documentation of TPU v4, v5e, v5p and v6e, "peak compute per chip (bf16)".
PEAKS = {
    'NVIDIA A100-SXM4-40GB': (312.0, 156.0),
    'NVIDIA A100-SXM4-80GB': (312.0, 156.0),
    'NVIDIA A100-PCIE-40GB': (312.0, 156.0),
    'NVIDIA A100 80GB PCIe': (312.0, 156.0),
    'NVIDIA H100 80GB HBM3': (989.5, 494.5),
    'NVIDIA H100 PCIe': (756.5, 378.0),
    'NVIDIA H200': (989.5, 494.5),
    'TPU v4': (275.0, 275.0),
    'TPU v5 lite': (197.0, 197.0),  # v5e
    'TPU v5': (459.0, 459.0),  # v5p
    'TPU v5p': (459.0, 459.0),
    'TPU v6 lite': (918.0, 918.0),  # v6e
}
COMPUTE = ('bfloat16', 'float32')  # the order of the peaks


def flop_per_image(architecture: Architecture, classes: int) -> int:
    """Returns the operations that training on an image takes: two for each multiply-add of the
    table's weighted sums, three times: forward, for the weights' gradient and for the input's. The
    first layer has no gradient of its input. Nothing else counts, no recomputation either: 4.136e9
    for the paper's net and 1000 classes."""
    adds = [row.multiply_adds for row in layer_shapes(architecture, classes)]
    return 2 * (3 * sum(adds) - adds[0])


def meter(
    architecture: Architecture, classes: int, compute: str, devices: Sequence[Any]
) -> Callable[[float], dict[str, float]]:
    """Returns a function of the images a second of a training on these devices together: 'tflops',
    10^12 operations a second, and 'mfu' (model FLOPs utilization), their share of all devices'
    peak, if that is known for the type of computation; four digits of each."""
    flop = flop_per_image(architecture, classes)
    peaks = PEAKS.get(devices[0].device_kind)
    peak = peaks[COMPUTE.index(compute)] * len(devices) if peaks else None
    return functools.partial(_achieved, flop, peak)


def _achieved(flop: int, peak: float | None, images_per_second: float) -> dict[str, float]:
    tflops = flop * images_per_second / 1e12
    shares = {} if peak is None else {'mfu': tflops / peak}
    return {name: float(f'{number:.4g}') for name, number in {'tflops': tflops, **shares}.items()}
