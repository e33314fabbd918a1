"""Sums of the gradients over the data shards, and their order."""

from typing import Any

import jax
from jax import lax

from alexnet_jax.network import platforms
from alexnet_jax.network.device_mesh import DATA
from alexnet_jax.network.layers import Architecture, Conv

Params = dict[str, Any]


def for_each_shard(params: Params, net: Architecture) -> Params:
    """Marks parameters as varying over the data shards, within `jax.shard_map`.

    Their gradients are all-reduced over the data axis.
    """
    return platforms.form(tpu=_dense_first, default=lambda params, _: _own(params))(params, net)


def _own(params: Params) -> Params:
    return jax.tree.map(lambda x: lax.pcast(x, DATA, to='varying'), params)


def _dense_first(params: Params, net: Architecture) -> Params:
    """Does the same; the all-reduces of fully connected layers come before the others.

    These layers hold most parameters, and their gradients are computed first. XLA for TPUs starts
    an all-reduce early only if another operation depends on it. Here the gradient of the first
    kernel, which is computed last, depends on them.
    """
    first = net.layers[0].name
    convolutions = {layer.name for layer in net.layers if isinstance(layer, Conv)}
    dense = {
        name: x for name, x in params.items() if name.removesuffix('_norm') not in convolutions
    }
    own = _own({name: x for name, x in params.items() if name not in dense})
    if first not in own:
        return _own(params)
    dense, kernel = _summed_before(dense, own[first]['kernel'])
    return own | {first: own[first] | {'kernel': kernel}} | _own(dense)


@jax.custom_vjp
def _summed_before(params: Params, x: jax.Array) -> tuple[Params, jax.Array]:
    """Returns both arguments. In the backward pass the gradient of x depends on the all-reduced
    gradients of the parameters.
    """
    return params, x


def _in_turn(_: None, cotangents: tuple[Params, jax.Array]) -> tuple[Params, jax.Array]:
    sums, of_x = cotangents
    _, of_x = lax.optimization_barrier((_own(sums), of_x))
    return sums, of_x


_summed_before.defvjp(lambda params, x: ((params, x), None), _in_turn)
