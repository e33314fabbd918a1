"""The same nets and training step as a first JAX program has them, to be timed beside ours.

Columns are groups of one convolution (`feature_group_count`), pooling and normalization
are `reduce_window`, gradients are JAX's own, the compiler has its own settings. Nothing of
the package but its tables is used, so that none of its faster forms can slip in.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from alexnet_jax.network.layers import (
    Architecture,
    BatchNorm,
    Conv,
    Dropout,
    Layer,
    LocalResponseNorm,
    MaxPool,
    Output,
    Relu,
    Stage,
)
from alexnet_jax.network.shapes import layer_shapes, pooled

Tree = Any  # dictionaries of arrays
MEAN, RATE, MOMENTUM, DECAY = 127.0, 1e-4, 0.9, 5e-4


def start(architecture: Architecture, classes: int, seed: int = 0) -> tuple[Tree, Tree]:
    """(parameters, moving statistics): kernels [height, width, maps read, maps] and
    [units read, units], biases [maps]; of `conv1`'s batch normalization `conv1_norm`."""
    random = np.random.default_rng(seed)
    params, statistics = {}, {}
    rows = (*architecture.layers, architecture.output)
    below = (architecture.input_size, architecture.input_size, 3)
    for row, shape in zip(rows, layer_shapes(architecture, classes), strict=True):
        maps = shape.activations[row.name][-1]
        kernel: tuple[int, ...] = (math.prod(below), maps)
        if isinstance(row, Conv):
            read = below[-1] // _groups(architecture, row)
            kernel = (row.kernel, row.kernel, read, maps)
        std = math.prod(kernel[:-1]) ** -0.5 if row.std is None else row.std
        params[row.name] = {
            'kernel': (std * random.standard_normal(kernel)).astype(np.float32),
            'bias': np.full(maps, row.bias, np.float32),
        }
        if any(isinstance(stage, BatchNorm) for stage in _stages(row)):
            name = f'{row.name}_norm'
            params[name] = {'scale': np.ones(maps, np.float32), 'bias': np.zeros(maps, np.float32)}
            statistics[name] = {
                'mean': np.zeros(maps, np.float32),
                'var': np.ones(maps, np.float32),
            }
        below = shape.output
    return params, statistics


def forward(
    architecture: Architecture, params: Tree, statistics: Tree, images: Any, key: Any = None
) -> tuple[jax.Array, Tree]:
    """Images [batch, size, size, 3], less their mean -> logits, and the statistics moved.
    With a key it is training: units drop out, statistics are the batch's."""
    x, moved = jnp.asarray(images), dict(statistics)
    for number, layer in enumerate(architecture.layers):
        weights = params[layer.name]
        if isinstance(layer, Conv):
            x = lax.conv_general_dilated(
                x,
                weights['kernel'],
                (layer.stride, layer.stride),
                (layer.padding, layer.padding),
                dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
                feature_group_count=_groups(architecture, layer),
            )
        else:
            x = x.reshape(len(x), -1) @ weights['kernel']
        x += weights['bias']
        for stage in layer.then:
            if isinstance(stage, BatchNorm):
                name = f'{layer.name}_norm'
                x, moved[name] = _batch_norm(
                    stage, x, params[name], statistics[name], training=key is not None
                )
            elif isinstance(stage, Dropout):
                if key is not None:
                    kept = jax.random.bernoulli(
                        jax.random.fold_in(key, number), 1 - stage.rate, x.shape
                    )
                    x = jnp.where(kept, x / (1 - stage.rate), 0)
            else:
                x = _stage(architecture, stage, x)
    weights = params[architecture.output.name]
    return x.reshape(len(x), -1) @ weights['kernel'] + weights['bias'], moved


def train_step(architecture: Architecture, dtype: str = 'float32') -> Callable:
    """A compiled step: (state, uint8 images, labels) -> (state, loss)."""

    def loss_of(params, statistics, images, labels, key):
        params, images = _as(dtype, (params, images.astype(np.float32) - MEAN))
        logits, moved = forward(architecture, params, statistics, images, key)
        log_probability = jax.nn.log_softmax(logits.astype(np.float32))
        picked = jnp.take_along_axis(log_probability, labels[:, None], axis=1)
        return -jnp.mean(picked), moved

    def step(state, images, labels):
        params, statistics, velocity, key = state
        key, now = jax.random.split(key)
        gradient = jax.value_and_grad(loss_of, has_aux=True)
        (loss, statistics), slope = gradient(params, statistics, images, labels, now)
        velocity = jax.tree.map(
            lambda v, w, g: MOMENTUM * v - RATE * (DECAY * w + g), velocity, params, slope
        )
        params = jax.tree.map(jnp.add, params, velocity)
        return (params, statistics, velocity, key), loss

    return jax.jit(step, donate_argnums=0)


def inference(architecture: Architecture, dtype: str = 'float32') -> Callable:
    """A compiled function: (parameters, statistics, uint8 images) -> logits."""

    def logits(params, statistics, images):
        params, images = _as(dtype, (params, images.astype(np.float32) - MEAN))
        return forward(architecture, params, statistics, images)[0].astype(np.float32)

    return jax.jit(logits)


def _as(dtype: str, tree: Tree) -> Tree:
    return jax.tree.map(lambda x: x.astype(dtype), tree)


def _stages(row: Layer | Output) -> tuple[Stage, ...]:
    return () if isinstance(row, Output) else row.then


def _groups(architecture: Architecture, layer: Conv) -> int:
    """All columns read the image; above it each has a group if it reads its own only."""
    apart = layer is not architecture.layers[0] and not layer.reads_all
    return layer.groups * (architecture.columns if apart else 1)


def _stage(architecture: Architecture, stage: Stage, x: jax.Array) -> jax.Array:
    match stage:
        case Relu():
            return jnp.maximum(x, 0)
        case MaxPool(size, stride):
            # The last window may overhang: sizes round up.
            over = [
                (pooled(side, size, stride) - 1) * stride + size - side for side in x.shape[1:3]
            ]
            padding = ((0, 0), *((0, max(0, rows)) for rows in over), (0, 0))
            window, strides = (1, size, size, 1), (1, stride, stride, 1)
            return lax.reduce_window(x, -jnp.inf, lax.max, window, strides, padding)
        case LocalResponseNorm(size, alpha, beta, k, alpha_divided, across_columns):
            columns = 1 if across_columns else architecture.columns
            apart = x.reshape(*x.shape[:-1], columns, -1)
            ones, window = (1,) * apart.ndim, (*(1,) * (apart.ndim - 1), size)
            sums = lax.reduce_window(apart * apart, 0.0, lax.add, window, ones, 'SAME')
            normal = apart * (k + (alpha / size if alpha_divided else alpha) * sums) ** -beta
            return normal.reshape(x.shape)
    raise TypeError(f'{stage!r} is not among the stages compared here')


def _batch_norm(stage: BatchNorm, x: jax.Array, params: Tree, kept: Tree, training: bool):
    """In the statistics' own float32."""
    wide, moved = x.astype(np.float32), kept
    if training:
        now = {'mean': wide.mean((0, 1, 2)), 'var': wide.var((0, 1, 2))}
        moved = jax.tree.map(
            lambda old, new: stage.momentum * old + (1 - stage.momentum) * new, kept, now
        )
        kept = now
    normal = (wide - kept['mean']) * lax.rsqrt(kept['var'] + stage.epsilon)
    return (normal * params['scale'] + params['bias']).astype(x.dtype), moved
