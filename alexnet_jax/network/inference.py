"""Inference with a trained net: images to logits and activations."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from alexnet_jax.network import checks, compiler, device_mesh
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.layers import Architecture
from alexnet_jax.network.normalization import widened
from alexnet_jax.network.shapes import activation_shapes

Array = jax.Array | np.ndarray
Variables = dict[str, Any]
Activations = dict[str, jax.Array]


def mirror(images: Array, mirrored: Array) -> jax.Array:
    """Mirrors some of the images [batch, height, width, channels] horizontally.

    `mirrored`, bool [batch], selects them.
    """
    return jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def normalize(
    images: Array, mean: Array, scale: Array | float, color_shift: Array | None = None
) -> jax.Array:
    """Subtracts a mean from images, adds a color shift, and divides by a scale.

    images: uint8 [batch, size, size, 3]. The mean is an image [size, size, 3] (§2) or each
    channel's [3]; a color shift [batch, 3] (§4.1) is added; the scale is one number or one per
    channel [3]. The result is float32, or float64 for float64 images.

    Raises:
      ValueError: a shape or type is not allowed.
    """
    checks.require_shape('images', images, 'batch', 'size', 'size', 3)
    checks.require_type('images', images, jnp.integer, jnp.floating)
    batch, size, width, _ = np.shape(images)
    if size != width:
        raise ValueError(f'images has the shape {np.shape(images)}; expected: squares')
    checks.require_one_shape('mean', mean, (3,), (size, size, 3))
    checks.require_one_shape('scale', scale, (), (3,))
    if color_shift is not None:
        checks.require_shape('color_shift', color_shift, batch, 3)
    centered = widened(jnp.asarray(images)) - mean
    if color_shift is not None:
        centered += color_shift[:, None, None, :]
    return centered / scale


def variable_shapes(net: AlexNet) -> Variables:
    """Returns shape and type of each array: {'params': ..., 'batch_stats': ...}."""
    return nn.unbox(boxed_shapes(net))


def boxed_shapes(net: AlexNet) -> Variables:
    """Returns `variable_shapes`, each boxed with its mesh axes."""
    return _boxed_shapes(net.architecture, net.classes, net.exchange, net.compute)


def variable_specs(net: AlexNet) -> Variables:
    """Returns the axes that each array is split over: a tree of `PartitionSpec`."""
    specs = nn.get_partition_spec(boxed_shapes(net))
    # The statistics of batch normalization have no box; they are split like their maps.
    stats = jax.tree.map(lambda _: P(device_mesh.COLUMN), specs['batch_stats'])
    return {'params': specs['params'], 'batch_stats': stats}


def place_variables(net: AlexNet, mesh: Mesh, variables: Variables) -> Variables:
    """Places the variables for `make_forward`, each array split over the mesh.

    Variables of a training with exchange 'scatter' are moved once, by an all-to-all.
    """
    specs = variable_specs(net.clone(exchange='gather'))
    shardings = jax.tree.map(functools.partial(NamedSharding, mesh), specs)
    return jax.device_put(variables, shardings)


@functools.cache
def _boxed_shapes(
    architecture: Architecture, classes: int, exchange: str, compute: str
) -> Variables:
    size = architecture.input_size
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    net = AlexNet(architecture, classes, exchange=exchange, compute=compute)
    shapes = jax.eval_shape(net.init, jax.random.key(0), images)
    return {'batch_stats': {}} | shapes


def make_forward(
    net: AlexNet, mesh: Mesh, mean: Array, scale: Array | float, names: Sequence[str] = ()
) -> Callable[[Variables, Array], tuple[jax.Array, Activations]]:
    """Compiles the net: (variables, images) -> (logits, activations); no dropout.

    Args:
      net: with `column_axis` None; the function sets it, `exchange` to 'gather' and `precision`
        to 'highest'.
      mesh: axes 'data' and 'column'.
      mean, scale: as in `normalize`.
      names: names of the activations to return, as in `AlexNet`.

    The function takes uint8 images [batch, size, size, 3], split over 'data', and returns logits
    [batch, classes] and activations [batch, ...], replicated on every device. The result for an
    image is bit-identical on every mesh with the same number of images per device, because every
    device runs the same program. 'scatter' is not used, because its sums depend on the mesh.
    """
    net = net.clone(exchange='gather', precision='highest')
    specs = variable_specs(net)
    on_columns = net.clone(column_axis=device_mesh.COLUMN)

    def on_device(variables: Variables, images: Array, mean: Array, scale: Array | float):
        logits, activations = on_columns.apply(variables, normalize(images, mean, scale))
        return logits, {name: activations[name] for name in names}

    over_mesh = jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(specs, P(device_mesh.DATA), P(), P()),
        out_specs=(P(device_mesh.DATA), _activation_specs(net, names)),
    )
    return jax.jit(
        lambda variables, images: over_mesh(variables, images, mean, scale),
        out_shardings=NamedSharding(mesh, P()),
        compiler_options=compiler.options(mesh),
    )


def make_lesioned(
    net: AlexNet, mesh: Mesh, mean: Array, scale: Array | float, layer: str
) -> Callable[[tuple[Variables, Array], Array], tuple[jax.Array, Activations]]:
    """Compiles the whole net and the net with an activation masked; no dropout.

    ((variables, masks), images) -> (logits, {'lesioned': logits}).

    Args:
      net, mesh, mean, scale: as in `make_forward`.
      layer: the activation's name, other than the output's.

    The function takes masks [lesions, maps or units of all columns], and returns lesioned logits
    [batch, lesions, classes]. The layers below the activation are computed once for all masks.
    """
    net = net.clone(exchange='gather', precision='highest')
    on_columns = net.clone(column_axis=device_mesh.COLUMN)

    def on_device(variables: Variables, masks: Array, images: Array, mean: Array, scale: Any):
        normal = normalize(images, mean, scale)
        logits, activations = on_columns.apply(variables, normal)
        # The layers below a replacement are not read, so XLA removes them from the loop.
        replace = {layer: activations[layer]}
        lesioned = jax.lax.map(
            lambda mask: on_columns.apply(variables, normal, replace=replace, mask={layer: mask})[
                0
            ],
            masks,
        )
        return logits, {'lesioned': jnp.moveaxis(lesioned, 0, 1)}

    data, columns = P(device_mesh.DATA), P(None, device_mesh.COLUMN)
    over_mesh = jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(variable_specs(net), columns, data, P(), P()),
        out_specs=(data, {'lesioned': data}),
    )
    return jax.jit(
        lambda given, images: over_mesh(given[0], given[1], images, mean, scale),
        out_shardings=NamedSharding(mesh, P()),
        compiler_options=compiler.options(mesh),
    )


def _activation_specs(net: AlexNet, names: Sequence[str]) -> dict[str, P]:
    """Logits are the same for all columns; the other activations concatenate the columns."""
    shapes = activation_shapes(net.architecture, net.classes)
    return {
        name: P(device_mesh.DATA)
        if name == net.architecture.output.name
        else P(device_mesh.DATA, *[None] * (len(shapes[name]) - 1), device_mesh.COLUMN)
        for name in names
    }
