"""The Flax module that runs any table of `architectures.py`.

Between layers a value is a list (`parts`) with one array for each column on the device. Each column
has its own ordinary convolution: a grouped convolution computes the same values several times
slower (docs/LOG.md).
"""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from alexnet_jax.network import checks, collectives, device_mesh
from alexnet_jax.network.batch_normalization import BatchStatistics
from alexnet_jax.network.chips import PRECISIONS
from alexnet_jax.network.communication import EXCHANGES
from alexnet_jax.network.convolution import conv_of_any_batch, grouped_conv
from alexnet_jax.network.interventions import Interventions, arrays_of
from alexnet_jax.network.layers import (
    STAGE_NAMES,
    Architecture,
    AveragePool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Layer,
    LeakyRelu,
    LocalResponseNorm,
    Maxout,
    MaxPool,
    Output,
    Relu,
    SameMapNorm,
    Sigmoid,
    Stage,
    Tanh,
)
from alexnet_jax.network.normalization import local_response_norm, same_map_norm, widened
from alexnet_jax.network.parameters import Weights, type_of_parameters
from alexnet_jax.network.pooling import average_pool, max_pool
from alexnet_jax.network.products import matrix_product, product_in_blocks
from alexnet_jax.network.shapes import activation_shapes, layer_shapes

Parts = list[jax.Array]
COMPUTE = ('float32', 'bfloat16', 'float64')


class AlexNet(nn.Module):
    """A net of one or several columns, a pure function of parameters and images.

    Parameters of a layer: `kernel` [columns, ..., maps read, features of a column] and `bias`
    [columns, features of a column]; of the output layer, `kernel` [columns, units of a column,
    classes] and `bias` [classes]. The leading axis is split over the mesh axis `column_axis` inside
    `jax.shard_map`; with None the device holds all columns, and no mesh is needed. Batch
    normalization of `conv1` adds `conv1_norm`: `scale` and `bias` [maps] and, in the collection
    `batch_stats`, `mean` and `var` [maps], all split likewise.

    `exchange`: the communication in a fully connected layer that reads all columns. With 'gather' a
    device receives all units of the layer below and applies the kernels of its own columns. With
    'scatter' a device holds the rows of all kernels that belong to its own units (the axis of
    inputs is split instead of the leading one), and devices exchange partial sums. These are fewer
    numbers where a column has more inputs than outputs, as in fc6.

    `compute`: the type of activations and products. With 'float32' or 'bfloat16' parameters, the
    intermediate values of normalization, and the output layer are float32; with 'float64', for
    which JAX needs `jax_enable_x64`, everything is float64.

    `precision`: precision of products of float32 numbers, one of JAX's names. 'highest' is float32.
    'default' is one pass of bfloat16 on TPU and TF32 on GPU (Ampere and later); 'high' is three
    passes and TF32. On CPU all three are float32. None uses `jax.default_matmul_precision`.
    """

    architecture: Architecture
    classes: int
    column_axis: str | None = None
    exchange: str = 'gather'
    compute: str = 'float32'
    precision: str | None = None

    @nn.compact
    def __call__(
        self,
        images: jax.Array | np.ndarray,
        *,
        dropout_key: jax.Array | None = None,
        examples: jax.Array | None = None,
        replace: Mapping[str, jax.Array | np.ndarray] | None = None,
        mask: Mapping[str, jax.Array | np.ndarray] | None = None,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Runs the net.

        Args:
          images: float [batch, size, size, 3], RGB on the scale of 0 to 255,
            after subtraction of the training set's mean, as `inference.normalize` returns them; the
            size is the table's `input_size`.
          dropout_key: key for training: units are dropped, and batch normalization uses the
            statistics of the batch (over the mesh axis 'data' too) and updates the moving
            statistics if `batch_stats` is mutable. None, for evaluation: no unit is dropped, and
            the moving statistics are used.
          examples: int32 [batch], index of each image in the global batch. By default images are
            numbered 0, 1, ... across `jax.vmap` and the mesh axis 'data'. The key and this index
            determine the dropped units, which therefore do not depend on the split of the batch
            over devices.
          replace: by name, activations that replace the computed ones; one of shape [1, ...]
            replaces that of all images. The later layers are computed from them.
          mask: by name, factors that are broadcast to the activations: 0 removes a unit, 1 keeps
            it. Replaced activations are masked as well.

        Returns:
          logits [batch, classes], and every activation by name: `conv1` for the weighted sums of
          the layer, `conv1/relu`, `conv1/norm`, `conv1/pool` for the results of its stages
          (`layers.STAGE_NAMES`); [batch, height, width, maps] or [batch, units], the columns of the
          device concatenated.

        Raises:
          ValueError: an argument, or a field of the module, is not allowed; `replace` or `mask`
            names no activation of the net, or has one of another shape.
          InputError: the table's layers do not fit its input.
        """
        self._require(images, dropout_key, examples)
        if examples is None and dropout_key is not None:
            examples = collectives.numbers_of(images, self.column_axis)
        changes = Interventions(arrays_of('replace', replace), arrays_of('mask', mask))
        changes.require_names(activation_shapes(self.architecture, self.classes))
        images = jnp.asarray(images, self.compute)
        if self.precision is None:
            return self._run(images, dropout_key, examples, changes)
        with jax.default_matmul_precision(self.precision):
            return self._run(images, dropout_key, examples, changes)

    def _run(
        self,
        images: jax.Array,
        dropout_key: jax.Array | None,
        examples: jax.Array | None,
        changes: Interventions,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Computes logits and activations, as `__call__` returns them."""
        training = dropout_key is not None
        layers, output = self.architecture.layers, self.architecture.output
        activations = {}
        parts: Parts = []
        seen: jax.Array | Parts = collectives.share(images, self.column_axis)
        for number, layer in enumerate(layers):
            parts = changes.apply(layer.name, self._linear(layer, seen, training))
            activations[layer.name] = jnp.concatenate(parts, axis=-1)
            for stage in layer.then:
                if isinstance(stage, BatchNorm):
                    parts = self._batch_norm(layer, stage, parts, training)
                elif not isinstance(stage, Dropout):
                    parts = self._stage(stage, parts)
                elif dropout_key is not None and examples is not None:
                    key = jax.random.fold_in(dropout_key, number)
                    parts = self._dropout(stage, parts, key, examples)
                name = f'{layer.name}/{STAGE_NAMES[type(stage)]}'
                parts = changes.apply(name, parts)
                activations[name] = jnp.concatenate(parts, axis=-1)
            joined = number + 1 < len(layers) and self._gathers(layers[number + 1])
            seen = collectives.gather(parts, self.column_axis) if joined else parts
        (logits,) = changes.apply(output.name, [self._output(output, parts, training)])
        activations[output.name] = logits
        return logits, activations

    def _require(self, images: Any, dropout_key: Any, examples: Any) -> None:
        """Checks the module's fields and the arguments of a call."""
        checks.require_one_of('exchange', self.exchange, EXCHANGES)
        checks.require_one_of('compute', self.compute, COMPUTE)
        checks.require_available_type('compute', self.compute)
        if self.precision is not None:
            checks.require_one_of('precision', self.precision, PRECISIONS)
        net = self.architecture
        layer_shapes(net, self.classes)
        taken = f'; network {net.name} takes RGB images, channels last'
        checks.require_shape(
            'images', images, 'batch', net.input_size, net.input_size, 3, why=taken
        )
        checks.require_type('images', images, jnp.floating, why='; inference.normalize makes them')
        assert self.scope is not None  # within a call
        if other := self.scope.rngs.keys() - {'params'}:
            raise ValueError(
                f'rngs has {", ".join(sorted(other))}, which the net does not read; expected:'
                ' dropout_key=KEY, for dropout'
            )
        if dropout_key is not None:
            checks.require_key('dropout_key', dropout_key)
        if examples is not None:
            checks.require_shape('examples', examples, len(images))
            checks.require_type('examples', examples, jnp.integer)

    def _linear(self, layer: Layer, seen: jax.Array | Parts, training: bool) -> Parts:
        """The layer's weighted sums. `seen`: all columns in one array, or only the layer's own
        column.
        """
        if isinstance(layer, Dense):
            return self._fully_connected(layer, seen, training)
        maps = (seen[0] if isinstance(seen, list) else seen).shape[-1] // layer.groups
        window = (layer.kernel, layer.kernel)
        features = layer.features // self.architecture.columns
        kernel, bias = Weights(
            (self._held, *window, maps, features), (self._held, features),
            layer.std, layer.bias, math.prod(window) * maps, self.compute, name=layer.name,
        )()  # fmt: skip
        kernel = self._cast_kernel(kernel, training)
        how = (layer.stride, layer.padding, layer.groups)
        convolve = grouped_conv if training else conv_of_any_batch
        if isinstance(seen, list):
            return [convolve(x, kernel[i], bias[i], *how) for i, x in enumerate(seen)]
        if layer.groups > 1 or not training:
            # Evaluation always computes columns separately, so that the bits of a column's sums do
            # not depend on the other columns of the device.
            return [convolve(seen, kernel[i], bias[i], *how) for i in range(self._held)]
        # One convolution with the concatenated kernels of all columns on the device is faster.
        merged = jnp.concatenate(list(kernel), axis=-1)
        sums = grouped_conv(seen, merged, bias.reshape(-1), *how)
        return jnp.split(sums, self._held, axis=-1)

    def _fully_connected(self, layer: Dense, seen: jax.Array | Parts, training: bool) -> Parts:
        columns_here, split_axis = self._held, 0
        scatters = layer.reads_all and isinstance(seen, list)
        if scatters:
            seen = jnp.concatenate(seen, axis=-1)
            columns_here, split_axis = self.architecture.columns, seen.ndim - 1
        inputs = seen if isinstance(seen, list) else [seen] * columns_here
        read, features = inputs[0].shape[1:], layer.features // self.architecture.columns
        kernel, bias = Weights(
            (columns_here, *read, features), (self._held, features),
            layer.std, layer.bias, math.prod(read), self.compute, split_axis, name=layer.name,
        )()  # fmt: skip
        # One product over all columns: separate products would copy slices of the kernel.
        flat = jnp.stack([x.reshape(x.shape[0], -1) for x in inputs])
        kernel = self._cast_kernel(kernel, training).reshape(columns_here, -1, features)
        product = matrix_product if training else product_in_blocks
        sums = list(product(flat, kernel))
        if scatters:
            sums = collectives.scatter(sums, self.column_axis)
        # The gradient of a bias is a sum over the batch; float32 keeps its precision.
        return [(widened(x) + bias[i]).astype(x.dtype) for i, x in enumerate(sums)]

    def _cast_kernel(self, kernel: jax.Array, training: bool) -> jax.Array:
        """Casts a kernel to the type `compute` for an evaluation. In training `products` casts it,
        and sums its gradient in float32."""
        return kernel if training else kernel.astype(self.compute)

    def _gathers(self, layer: Layer) -> bool:
        return layer.reads_all and (isinstance(layer, Conv) or self.exchange == 'gather')

    def _stage(self, stage: Stage, parts: Parts) -> Parts:
        match stage:
            case Relu():
                return [jax.nn.relu(x) for x in parts]
            case Tanh():
                return [jnp.tanh(x) for x in parts]
            case Sigmoid():
                return [jax.nn.sigmoid(x) for x in parts]
            case LeakyRelu(slope):
                return [jax.nn.leaky_relu(x, slope) for x in parts]
            case Maxout(pieces):
                return [x.reshape(*x.shape[:-1], -1, pieces).max(axis=-1) for x in parts]
            case MaxPool(size, stride):
                return [max_pool(x, size, stride) for x in parts]
            case AveragePool(size, stride):
                return [average_pool(x, size, stride) for x in parts]
            case SameMapNorm(size, alpha, beta, k):
                return [same_map_norm(x, size, alpha / size**2, beta, k) for x in parts]
            case LocalResponseNorm(size, alpha, beta, k, alpha_divided, across_columns):
                alpha = alpha / size if alpha_divided else alpha
                if not across_columns:
                    return [local_response_norm(x, size, alpha, beta, k) for x in parts]
                half = size // 2
                joined = jnp.concatenate(parts, axis=-1)
                joined = collectives.with_neighbors(joined, half, self.column_axis)
                normal = local_response_norm(joined, size, alpha, beta, k)
                own = normal[..., half : normal.shape[-1] - half]
                return jnp.split(own, len(parts), axis=-1)
        raise TypeError(f'unknown stage {stage!r}')

    def _batch_norm(self, layer: Layer, stage: BatchNorm, parts: Parts, training: bool) -> Parts:
        """(x − mean) / standard deviation · `scale` + `bias` for each map; mean and variance are
        over the batch and all positions.
        """

        normal = BatchStatistics(
            stage,
            training,
            axis_name=None if self.column_axis is None else device_mesh.DATA,
            dtype=type_of_parameters(self.compute),
            name=f'{layer.name}_norm',
        )(jnp.concatenate(parts, axis=-1))
        return jnp.split(normal, len(parts), axis=-1)

    def _dropout(self, stage: Dropout, parts: Parts, key: jax.Array, examples: jax.Array) -> Parts:
        """Zeroes units at the stage's rate and scales up the others. The paper (§4.2) scales all
        units down at test time instead; the mean is the same.
        """
        keep = 1 - stage.rate

        def kept(column: jax.Array | int, shape: tuple[int, ...]) -> jax.Array:
            column_key = jax.random.fold_in(key, column)
            return jax.vmap(
                # A float32 probability: the same units drop out with x64.
                lambda example: jax.random.bernoulli(
                    jax.random.fold_in(column_key, example), np.float32(keep), shape
                )
            )(examples)

        first = collectives.first_held(self._held, self.column_axis)
        return [
            jnp.where(kept(first + position, x.shape[1:]), x / keep, 0)
            for position, x in enumerate(parts)
        ]

    def _output(self, layer: Output, parts: Parts, training: bool) -> jax.Array:
        """Sums the columns' partial logits. This allows any number of classes and exchanges fewer
        numbers than a gather of the units.
        """
        parts = [x.reshape(x.shape[0], -1) for x in parts]
        kernel, bias = Weights(
            (self._held, parts[0].shape[-1], self.classes), (self.classes,), layer.std,
            layer.bias, parts[0].shape[-1] * self.architecture.columns,
            type_of_parameters(self.compute).name, name=layer.name,
        )()  # fmt: skip
        product = matrix_product if training else product_in_blocks
        shares = list(product(jnp.stack(parts).astype(kernel.dtype), kernel))
        return collectives.add(shares, self.column_axis) + bias

    @property
    def _held(self) -> int:
        return collectives.columns_held(self.architecture.columns, self.column_axis)
