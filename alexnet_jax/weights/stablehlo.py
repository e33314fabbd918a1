"""The inference itself as a StableHLO module, for programs without this one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from alexnet_jax.weights.arrays import write_whole

PLATFORMS = ('cpu', 'cuda', 'tpu')


def write(path: Path, model: Callable[[Any], tuple[jax.Array, Any]], size: int) -> None:
    """Writes what `jax.export.deserialize(content).call(images)` runs: uint8 images
    [any number, size, size, 3] -> logits. Weights and normalisation are in it. JAX reads
    it for six months at least; it is no form to keep a model in.

    Args:
      model: images -> logits and activations.

    Raises:
      InputError: the file cannot be written.
    """
    (batch,) = export.symbolic_shape('batch')
    images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8)
    run = jax.jit(lambda images: model(images)[0])
    write_whole(path, bytes(export.export(run, platforms=PLATFORMS)(images).serialize()))
