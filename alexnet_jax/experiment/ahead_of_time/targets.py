"""Devices to compile for without having them: TPU slices, GPUs of one host, CPU devices.

A target is written tpu:v5e:2x2, gpu:h100 or gpu:h100:4, cpu:4.
"""

import contextlib
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
from alexnet_jax.runtime import command_line
from alexnet_jax.runtime.errors import InputError, nearest, shown

TPUS = ('v4', 'v5e', 'v5p', 'v6e')
GPUS = tuple(gpu_descriptions.GPUS)
SOLID = ('v4', 'v5p')  # whose slices have three sides
MOST_CHIPS, MOST_GPUS, MOST_CPUS = 256, 8, 64


@dataclasses.dataclass(frozen=True)
class Target:
    """A number of devices of one kind.

    topology: their arrangement, as the compiler names it.
    chip: the data of a device; None for CPUs.
    """

    platform: str
    kind: str
    topology: str
    devices: int
    chip: Chip | None = None

    @property
    def name(self) -> str:
        """The target's name in reports: '4 CPU devices', 'v5e 2x2', '4 H100'."""
        if self.platform == 'cpu':
            return f'{self.devices} CPU device{"s" * (self.devices > 1)}'
        if self.platform == 'tpu':
            return f'{self.kind} {self.topology}'
        return f'{self.devices} {self.kind.upper()}'


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
    found = re.fullmatch(r'[1-9]\d{0,2}(x[1-9]\d{0,2})+', size, re.ASCII)
    sides = [int(side) for side in size.split('x')] if found else []
    count = math.prod(sides)
    if len(sides) != axes or count > MOST_CHIPS:
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
    if not re.fullmatch(r'[1-9]\d{0,2}', size, re.ASCII) or int(size) > most:
        raise InputError(f'--target is {shown(text)}; allowed: from 1 to {most} devices')
    return int(size)


def before_jax(target: Target) -> None:
    """Sets what JAX and the compilers read when they start: JAX itself runs on the CPU."""
    os.environ['JAX_PLATFORMS'] = 'cpu'
    # The cache of compiled programs reads an entry on a device that can run it.
    os.environ['JAX_ENABLE_COMPILATION_CACHE'] = 'false'
    os.environ['JAX_SKIP_CUDA_CONSTRAINTS_CHECK'] = '1'  # there is no driver to ask
    # libtpu would ask the network which TPU this is, take the lock of a TPU's one process, and
    # log what it misses.
    os.environ |= {
        'TPU_SKIP_MDS_QUERY': '1', 'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
        'TPU_WORKER_HOSTNAMES': 'localhost', 'TPU_ACCELERATOR_TYPE': 'v5litepod-1',
    }  # fmt: skip
    command_line.before_jax(cpu_devices=target.devices if target.platform == 'cpu' else 0)


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
        _require_compiler(target, 'cuda12', 'jax-cuda12-plugin', 'jax-cuda13-plugin')
        text = gpu_descriptions.target_config(target.kind)
        return topologies.get_topology_desc(
            platform='cuda', topology=target.topology, target_config=text
        ).devices
    _require_compiler(target, 'tpu', 'libtpu')
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


def _require_compiler(target: Target, extra: str, *packages: str) -> None:
    """Checks that one of the packages is installed, which come with an extra of JAX."""
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            metadata.version(package)
            return
    raise InputError(
        f'--target is {target.name}, whose compiler is not installed; install it with\n'
        f"pip install 'jax[{extra}]=={metadata.version('jax')}'"
    )
