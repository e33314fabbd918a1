"""What XLA is told when it compiles a step."""

import functools

import jax
from jax.errors import JaxRuntimeError
from jax.sharding import Mesh

Options = dict[str, str | bool]

# On CPU (docs/LOG.md has the measurements):
# - Convolutions are Eigen's in place of YNNPACK's, whose gradients of kernels take two to four
#   times as long.
# - Programs run in the order that keeps least in memory; to run several small ones at a
#   time took a quarter more memory and no less time.
_CPU: Options = {
    'xla_cpu_experimental_ynn_fusion_type': 'LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT',
    'xla_cpu_enable_concurrency_optimized_scheduler': False,
}


def options(mesh: Mesh | None = None) -> Options:
    """Returns the options for `jax.jit(..., compiler_options=...)` that this version of XLA knows.

    Args:
      mesh: of the devices to compile for; None: those of JAX's default backend.
    """
    platform = jax.default_backend() if mesh is None else mesh.devices.flat[0].platform
    return dict(_known()) if platform == 'cpu' else {}


@functools.cache
def _known() -> Options:
    return {name: value for name, value in _CPU.items() if _is_known(name, value)}


def _is_known(name: str, value: str | bool) -> bool:
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except JaxRuntimeError:
        return False
    return True
