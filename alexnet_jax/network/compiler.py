"""XLA's options for compiling a step."""

import functools
from typing import Any

import jax
from jax.errors import JaxRuntimeError
from jax.sharding import Mesh, SingleDeviceSharding

from alexnet_jax.network import device_mesh

Options = dict[str, str | bool | int]

# On CPU (docs/LOG.md has the measurements):
# - Convolutions use Eigen instead of YNNPACK, whose kernel gradients take two to four times as
#   long.
# - Operations run in the order with the least memory; running several small ones at a time needed a
#   quarter more memory and was not faster.
_CPU: Options = {
    'xla_cpu_experimental_ynn_fusion_type': 'LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT',
    'xla_cpu_enable_concurrency_optimized_scheduler': False,
}


# With several data shards gradients are sent during the backward pass. By default XLA merges the
# all-reduces and starts them at the end of the pass.
_SENT_EARLY: dict[str, Options] = {
    'gpu': {
        'xla_gpu_enable_latency_hiding_scheduler': True,
        'xla_gpu_experimental_parallel_collective_overlap_limit': 8,
        'xla_gpu_all_reduce_combine_threshold_bytes': 8_000_000,
    },
    'tpu': {
        'xla_enable_async_all_reduce': 'true',
        'xla_tpu_enable_async_collective_fusion': 'true',
        'xla_tpu_enable_async_collective_fusion_fuse_all_reduce': 'true',
        'xla_jf_crs_combiner_threshold_in_bytes': '16000000',
    },
}


def options(mesh: Mesh | None = None) -> Options:
    """Returns the options for `jax.jit(..., compiler_options=...)` that this version of XLA knows.

    Args:
      mesh: mesh of the devices to compile for; None: those of JAX's default backend.
    """
    platform = jax.default_backend() if mesh is None else mesh.devices.flat[0].platform
    if platform == 'cpu':
        return dict(_known(platform))
    if mesh is None or mesh.shape[device_mesh.DATA] == 1:
        return {}
    here = [device for device in jax.local_devices() if device.platform == platform]
    return dict(_known(platform, here[0] if here else mesh.devices.flat[0]))


@functools.cache
def _known(platform: str, device: Any = None) -> Options:
    """`device`: to compile for; None: JAX's default."""
    wanted = _CPU if platform == 'cpu' else _SENT_EARLY.get(platform, {})
    return {name: value for name, value in wanted.items() if _is_known({name: value}, device)}


def _is_known(option: Options, device: Any) -> bool:
    place = None if device is None else SingleDeviceSharding(device)
    try:
        jax.jit(lambda: 0, out_shardings=place, compiler_options=option).lower().compile()
    except JaxRuntimeError:
        return False
    return True
