"""Gradient accumulation: a step that computes its gradient in sequential parts."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from alexnet_jax.network import compiler, device_mesh, inference
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.inference import Array


def takes_copies(mesh: Mesh, parts: int) -> bool:
    """Returns whether each data shard has its own copy of the parameters, and of the gradients.

    With copies, the gradients of several parts are summed before the all-reduce. One shard needs no
    copies: XLA's all-reduce over one device would store all gradients twice.
    """
    return parts > 1 or mesh.shape[device_mesh.DATA] == 1


def copies(params: Any, shards: int) -> Any:
    """Returns a copy of the parameters for each data shard: [shards, ...]."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (shards, *x.shape)), params)


def add_up(gradients: Any) -> Any:
    """Returns the sum of the data shards' gradients."""
    return jax.tree.map(lambda x: jnp.sum(x, axis=0), gradients)


def copy_specs(net: AlexNet) -> Any:
    """Returns the axes that copies of the parameters, [data shards, ...], are split over."""
    return jax.tree.map(
        lambda spec: P(device_mesh.DATA, *spec), inference.variable_specs(net)['params']
    )


@dataclasses.dataclass(frozen=True)
class StepInParts:
    """A step that sums its gradient part by part: (state, batch) -> (state, scores).

    It calls separate programs: convolutions in an XLA loop are orders of magnitude slower on CPU,
    and a program of all parts compiles as long as all of them.

    zeros: () -> sums: the initial (gradients of each data shard, scores), all 0.
    add: (sums, state, batch, number of the part) -> sums.
    update: (state, sums) -> (state, scores); sums the gradients over the data shards, once per
      step.
    """

    parts: int
    placed: NamedSharding  # of the batch
    zeros: Callable
    add: Callable
    update: Callable

    def __call__(self, state, batch: Mapping[str, Array]) -> tuple[Any, dict[str, jax.Array]]:
        """Runs a training step, one part of the batch after the other; returns the state and
        metrics.
        """
        batch = jax.device_put(batch, self.placed)
        sums = self.zeros()
        for part in range(self.parts):
            sums = self.add(sums, state, batch, np.int32(part))
        return self.update(state, sums)


def in_parts(
    net: AlexNet, mesh: Mesh, parts: int, of_state: Any, of_scores: Any,
    gradients_of: Callable, update: Callable,
) -> StepInParts:  # fmt: skip
    """Compiles the step; `of_state` and `of_scores` are the shardings of its results."""
    whole = NamedSharding(mesh, P())
    of_copies = jax.tree.map(functools.partial(NamedSharding, mesh), copy_specs(net))
    of_sums, of_batch = (of_copies, whole), NamedSharding(mesh, P(device_mesh.DATA))
    shards = mesh.shape[device_mesh.DATA]

    def zeros():
        params = inference.variable_shapes(net)['params']
        scores = dict.fromkeys(('loss', 'top1_error', 'top5_error'), jnp.float32(0))
        return jax.tree.map(lambda x: jnp.zeros((shards, *x.shape), x.dtype), params), scores

    def add(sums, state, batch: Mapping[str, Array], part: Array):
        params = copies(state.params, shards)
        gradients, (scores, _) = gradients_of(params, state, batch, part)
        return jax.tree.map(jnp.add, sums, (gradients, scores))

    def add_up_and_update(state, sums):
        return update(state, add_up(sums[0]), sums[1], state.batch_stats)

    return StepInParts(
        parts,
        of_batch,
        jax.jit(zeros, out_shardings=of_sums),
        jax.jit(
            add,
            donate_argnums=0,
            in_shardings=(of_sums, of_state, of_batch, whole),
            out_shardings=of_sums,
            compiler_options=compiler.options(mesh),
        ),
        jax.jit(
            add_up_and_update,
            donate_argnums=0,
            in_shardings=(of_state, of_sums),
            out_shardings=(of_state, of_scores),
            compiler_options=compiler.options(mesh),
        ),
    )
