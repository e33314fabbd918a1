"""Accelerators to compile for that are not at hand: TPU slices, GPUs of one host, and CPUs.

A target is written tpu:v5e:2x2, gpu:h100 or gpu:h100:4, cpu:4.
"""

import dataclasses
import math
import os
import re
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from alexnet_jax.experiment.ahead_of_time import gpu_descriptions
from alexnet_jax.experiment.defaults import Config
from alexnet_jax.network.chips import CHIPS, Chip
from alexnet_jax.runtime.errors import InputError, nearest, shown

TPUS = ('v4', 'v5e', 'v5p', 'v6e')
GPUS = tuple(gpu_descriptions.GPUS)
SOLID = ('v4', 'v5p')  # whose slices have three sides
MOST_CHIPS, MOST_GPUS, MOST_CPUS = 256, 8, 64


@dataclasses.dataclass(frozen=True)
class Target:
    """A number of chips of one kind.

    topology: their arrangement, as the compiler names it.
    chip: None for CPUs, of which nothing is known beforehand.
    """

    platform: str
    kind: str
    topology: str
    devices: int
    chip: Chip | None = None

    @property
    def name(self) -> str:
        if self.platform == 'cpu':
            return f'{self.devices} CPU device{"s" * (self.devices > 1)}'
        return f'{self.kind} {self.topology}' if self.platform == 'tpu' else (
            f'{self.devices} {self.kind}'
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Request:
    """The programs of a configuration to compile for a target, on a mesh of (data, column)."""

    config: Config
    classes: int
    target: Target
    mesh: tuple[int, int]
    programs: list[str]


def parse(text: str) -> Target:
    """Returns the target that `text` names.

    Raises:
      InputError: there is no such target.
    """
    platform, _, rest = text.partition(':')
    kind, _, size = rest.partition(':')
    if platform == 'tpu' and kind in TPUS:
        return _slice(text, kind, size)
    if platform == 'gpu' and kind in GPUS:
        count = _count(text, size or '1', MOST_GPUS)
        return Target('gpu', kind, f'1x1x{count}', count, CHIPS[kind])
    if platform == 'cpu' and not size:
        count = _count(text, kind or '1', MOST_CPUS)
        return Target('cpu', 'cpu', str(count), count)
    known = [*map(_example, TPUS), *(f'gpu:{kind}' for kind in GPUS), 'cpu:4']
    raise InputError(
        f'--target is {shown(text)}; the nearest is {nearest(text, known)}; allowed:'
        f' {", ".join(known)}, and other sizes of these'
    )


def _slice(text: str, kind: str, size: str) -> Target:
    axes = 3 if kind in SOLID else 2
    sides = [int(side) for side in size.split('x')] if re.fullmatch(r'\d+(x\d+)+', size) else []
    count = math.prod(sides)
    if len(sides) != axes or not 1 <= count <= MOST_CHIPS:
        raise InputError(
            f'--target is {shown(text)}; allowed for {kind}: {axes} sides, as in'
            f' {_example(kind)}, of up to {MOST_CHIPS} chips'
        )
    if kind == 'v4':  # the compiler's device is one of a chip's two cores
        return Target('tpu', kind, size, 2 * count, _half(CHIPS[kind]))
    return Target('tpu', kind, size, count, CHIPS[kind])


def _half(chip: Chip) -> Chip:
    return Chip(
        {kind: rate / 2 for kind, rate in chip.products.items()}, chip.memory / 2,
        chip.bandwidth / 2, chip.link / 2, chip.clock,
    )  # fmt: skip


def _example(kind: str) -> str:
    return f'tpu:{kind}:2x2x1' if kind in SOLID else f'tpu:{kind}:2x2'


def _count(text: str, size: str, most: int) -> int:
    if not size.isdecimal() or not 1 <= int(size) <= most:
        raise InputError(f'--target is {shown(text)}; allowed: from 1 to {most} devices')
    return int(size)


def before_jax(target: Target) -> None:
    """Sets what the compilers read when JAX starts: JAX itself runs on the CPU."""
    os.environ['JAX_PLATFORMS'] = 'cpu'
    os.environ['JAX_SKIP_CUDA_CONSTRAINTS_CHECK'] = '1'  # there is no driver to ask
    # libtpu asks for a TPU's machine over the network, and for the lock of its one process.
    os.environ['TPU_SKIP_MDS_QUERY'] = os.environ['ALLOW_MULTIPLE_LIBTPU_LOAD'] = '1'
    if target.platform == 'cpu':
        flags = os.environ.get('XLA_FLAGS', '')
        flags += f' --xla_force_host_platform_device_count={target.devices}'
        os.environ['XLA_FLAGS'] = flags.strip()


def devices(target: Target) -> Sequence[Any]:
    """Returns the target's devices, which can be compiled for and not run on.

    Raises:
      InputError: the compiler is not installed, or knows no such slice.
    """
    import jax
    from jax.experimental import topologies

    if target.platform == 'cpu':
        return jax.devices()
    if target.platform == 'gpu':
        _require_compiler('jax-cuda12-plugin', 'gpu-compile')
        text = gpu_descriptions.target_config(target.kind)
        return topologies.get_topology_desc(
            platform='cuda', topology=target.topology, target_config=text
        ).devices
    _require_compiler('libtpu', 'tpu-compile')
    sides = [int(side) for side in target.topology.split('x')]
    host = tuple(min(2, side) for side in (*sides, 1)[:3])  # of 2×2 chips
    name = f'{target.kind}:{target.topology}'
    try:
        return topologies.get_topology_desc(name, 'tpu', chips_per_host_bounds=host).devices
    except Exception as error:  # of any kind: it comes from the compiler's own library
        first = (str(error).splitlines() or [''])[0]
        raise InputError(
            f'--target is tpu:{name}, which the compiler does not know: {first}'
        ) from error


def _require_compiler(package: str, extra: str) -> None:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        raise InputError(
            f'the compiler for this --target is not installed; install it with\n'
            f"pip install 'alexnet_jax[{extra}]'"
        ) from None
