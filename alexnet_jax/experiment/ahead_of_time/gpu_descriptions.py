"""Descriptions of GPUs for XLA's compiler, in place of a GPU to ask: its `GpuTargetConfigProto`.

The numbers are those of NVIDIA's data sheets and of XLA's own descriptions of these boards
(openxla/xla, xla/backends/gpu/target_config/specs).
"""

from typing import NamedTuple


class Gpu(NamedTuple):
    """A board. Sizes in bytes, bandwidth in bytes a second, clock in GHz."""

    name: str
    capability: int  # major; the minor is 0
    extension: str
    cores: int
    fpus_per_core: int
    shared_memory_per_core: int
    shared_memory_per_block_optin: int
    l2_cache: int
    memory: int
    bandwidth: int
    clock: float


GPUS = {
    'a100': Gpu('NVIDIA A100-SXM4-80GB', 8, 'NONE', 108, 64, 167936, 166912, 41943040, 85100068864,
                2039040000000, 1.41),
    'h100': Gpu('NVIDIA H100 80GB HBM3', 9, 'ACCELERATED_FEATURES', 132, 128, 233472, 232448,
                52428800, 84942979072, 3352320000000, 1.98),
}  # fmt: skip


def target_config(kind: str) -> str:
    """Returns the description of a board as a text proto."""
    gpu = GPUS[kind]
    return f"""
gpu_device_info {{
  name: "{gpu.name}"
  cuda_compute_capability {{ major: {gpu.capability} feature_extension: {gpu.extension} }}
  core_count: {gpu.cores}
  fpus_per_core: {gpu.fpus_per_core}
  clock_rate_ghz: {gpu.clock}
  memory_bandwidth: {gpu.bandwidth}
  device_memory_size: {gpu.memory}
  l2_cache_size: {gpu.l2_cache}
  shared_memory_per_core: {gpu.shared_memory_per_core}
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: {gpu.shared_memory_per_block_optin}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  threads_per_core_limit: 2048
  threads_per_block_limit: 1024
  threads_per_warp: 32
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  driver_version: "12.8.0"
  runtime_version: "12.8.0"
  compile_time_toolkit_version: "12.8.0"
  dnn_version: "9.10.0"
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
device_description_str: "{gpu.name}"
"""
