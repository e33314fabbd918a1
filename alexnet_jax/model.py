"""A trained net with all it takes to use it, from a workdir or a weight file."""

import dataclasses
import io
import json
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from alexnet_jax import config as configuration
from alexnet_jax import settings
from alexnet_jax.config import Config
from alexnet_jax.data import augment, class_names, images
from alexnet_jax.errors import InputError
from alexnet_jax.network import checks, inference
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.inference import Activations, Array, Variables
from alexnet_jax.network.shapes import layer_shapes
from alexnet_jax.results import write_json
from alexnet_jax.training import checkpoint
from alexnet_jax.weights import pretrained
from alexnet_jax.weights.arrays import told
from alexnet_jax.weights.files import Layers

# What a workdir holds for this, beside config.json and checkpoints/.
ABOUT, NORMALIZATION = 'model.json', 'normalization.npz'
LONGEST = 300  # characters of a fault in a file's settings
MOST_NUMBERS = 10**11  # of a net's; JAX stumbles over sizes far beyond
MOST_TOLD = 3  # of a net's arrays, in a message
# Settings of the preprocessing; changed for a file, they go before what the file says.
PREPROCESSING = ('data.normalization', 'data.mean', 'data.std')


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A trained net: a pure function from images to logits and activations.

    config: the settings it was trained, or imported, with.
    net: the Flax module; `net.apply(variables, ...)` runs it on normalised images.
    classes: their names, in the order of the logits.
    mirror: whether an image's mirror image is one of its class too.
    variables: {'params': ..., 'batch_stats': ...}, NumPy arrays.
    mean, scale: as in `inference.normalize`.
    step: of training, after which it is like this.
    """

    config: Config
    net: AlexNet
    classes: tuple[str, ...]
    mirror: bool
    variables: Variables
    mean: np.ndarray
    scale: np.ndarray
    step: int

    @property
    def layers(self) -> Layers:
        """The variables by layer, as weight files have them."""
        layers: Layers = {}
        for tree in self.variables.values():
            for layer, parts in tree.items():
                layers.setdefault(layer, {}).update(parts)
        return layers

    def __call__(self, images: Array) -> tuple[jax.Array, Activations]:
        """Logits [batch, classes] and every activation by name, as `AlexNet` gives them, of
        RGB images [batch, size, size, 3] on the scale of 0 to 255, whole or real numbers.
        Pure: `jax.jit`, `jax.grad` and `jax.vmap` take it.

        Raises:
          ValueError: images of another shape or type.
        """
        size = self.net.architecture.input_size
        checks.require_shape(
            'images', images, 'batch', size, size, 3, why=', RGB; Model.read makes them of a file'
        )
        return self.net.apply(self.variables, inference.normalize(images, self.mean, self.scale))  # pyright: ignore[reportReturnType]

    def read(self, file: str | Path | bytes, views: int = 1) -> np.ndarray:
        """A JPEG or PNG as the net takes it: uint8 [views, size, size, 3], made a square as
        the training images were; the middle of it, or its ten views (§4.1).

        Raises:
          BadImageError: it cannot be read.
        """
        square = images.read_square(
            file if isinstance(file, bytes) else Path(file),
            self.config['data.record_size'],
            resize=self.config['data.resize'],
        )
        return augment.views(square, self.net.architecture.input_size, views, self.mirror)


def load(
    source: str | Path,
    step: int | None = None,
    net: str = '',
    overrides: Mapping[str, str] | None = None,
    asked_as: str = 'step',
) -> Model:
    """A model from a workdir, or from a weight file: one of ours, torchvision's `alexnet`
    (.pth, .safetensors), Caffe's bvlc_alexnet or caffenet (.caffemodel).

    Args:
      step: which checkpoint of a workdir; None: the last.
      net: torchvision, caffe or caffenet, where a file does not tell.
      overrides: settings that differ from those of the file's authors, as text.
      asked_as: what a message calls `step`.

    Raises:
      InputError: it cannot be read, has no such step, or is of another net.
    """
    source = Path(source)
    if source.is_file() or source.suffix in pretrained.SUFFIXES:
        if step is not None:
            raise InputError(f'{asked_as} is {step}; allowed: none, as {source} is no workdir')
        return _of_file(source, net, overrides or {})
    if net or overrides:
        raise InputError(f'{source} is a workdir: its net and settings are as they are')
    return _of_workdir(source, step, asked_as)


def describe(
    workdir: Path, classes: tuple[str, ...], mirror: bool, mean: Array, scale: Array
) -> None:
    """Writes what `load` needs of a workdir beside the configuration and checkpoints."""
    write_json(workdir / ABOUT, {'classes': classes, 'mirror': mirror})
    content = io.BytesIO()
    np.savez(content, mean=np.asarray(mean), scale=np.asarray(scale))
    (workdir / NORMALIZATION).write_bytes(content.getvalue())


def _of_workdir(workdir: Path, step: int | None, asked_as: str) -> Model:
    if not (workdir / 'checkpoints').is_dir():
        raise InputError(f'{workdir} holds no checkpoints; train there first')
    config = configuration.read_workdir(workdir / 'config.json')
    try:
        about = json.loads((workdir / ABOUT).read_text())
        classes, mirror = tuple(map(str, about['classes'])), bool(about['mirror'])
        with np.load(workdir / NORMALIZATION, allow_pickle=False) as arrays:
            normalization = dict(arrays)
    except Exception as error:  # Whatever a broken file makes its reader raise.
        raise InputError(
            f'{workdir} does not tell what its net was shown: {error}; its training command'
            ' writes that anew'
        ) from error
    layers, step = checkpoint.read_layers(workdir / 'checkpoints', step, asked_as)
    return _model(config, classes, mirror, layers, normalization, step, workdir)


def _of_file(path: Path, net: str, overrides: Mapping[str, str]) -> Model:
    file = pretrained.open_file(path, net)
    try:
        config = configuration.complete(file.settings, overrides)
    except InputError as error:
        fault, *more = str(error).splitlines()
        raise InputError(f'{path}: {fault[:LONGEST]}{_and_more(len(more))}') from error
    layers = file.layers(configuration.network_of(config))
    classes = file.classes or _classes_of(layers, config)
    own = None if overrides.keys() & set(PREPROCESSING) else file.normalization
    normalization = own or _normalization_of(config)
    return _model(config, classes, file.mirror, layers, normalization, file.step, path)


def _classes_of(layers: Layers, config: Config) -> tuple[str, ...]:
    """A thousand are taken for ImageNet's; others have no names."""
    count = len(layers[configuration.network_of(config).output.name]['bias'])
    names = class_names.imagenet_classes()
    return names if count == len(names) else class_names.unnamed(count)


def _normalization_of(config: Config) -> dict[str, np.ndarray]:
    mean, std = (settings.channels(config[name]) for name in ('data.mean', 'data.std'))
    divides = config['data.normalization'] in settings.CHANNEL_KINDS['data.std']
    for name in ('data.mean', 'data.std') if divides else ('data.mean',):
        if not config[name]:
            raise InputError(f'{name} is nothing; imported weights have no training set to ask')
    scale = std if divides else (1.0, 1.0, 1.0)
    return {'mean': np.asarray(mean, np.float32), 'scale': np.asarray(scale, np.float32)}


def _model(
    config: Config,
    classes: tuple[str, ...],
    mirror: bool,
    layers: Layers,
    normalization: dict[str, np.ndarray],
    step: int,
    source: Path,
) -> Model:
    net = AlexNet(configuration.network_of(config), len(classes))
    size = net.architecture.input_size
    for name, shapes in {'mean': ((3,), (size, size, 3)), 'scale': ((3,),)}.items():
        found = normalization[name].shape if name in normalization else None
        if found not in shapes:
            raise InputError(f'the {name} of {source} has the shape {found}; allowed: {shapes}')
    if not (normalization['scale'] > 0).all():
        raise InputError(f'the scale of {source} is not above 0')
    return Model(
        config,
        net,
        classes,
        mirror,
        _variables(net, layers, source),
        normalization['mean'],
        normalization['scale'],
        step,
    )


def _variables(net: AlexNet, layers: Layers, source: Path) -> Variables:
    """The layers' arrays in the net's own tree.

    Raises:
      InputError: they are not those of the net.
    """
    rows = layer_shapes(net.architecture, net.classes)
    numbers = sum(row.parameters + row.statistics for row in rows)
    if numbers > MOST_NUMBERS:
        raise InputError(
            f'{source} is of a net of {numbers:,} numbers; allowed: at most {MOST_NUMBERS:,}'
        )
    wanted = inference.variable_shapes(net)
    shapes: dict[tuple[str, str], tuple[int, ...]] = {
        (layer, part): array.shape
        for tree in wanted.values()
        for layer, parts in tree.items()
        for part, array in parts.items()
    }
    found = {(layer, part): np.shape(array) for layer, parts in layers.items()
             for part, array in parts.items()}  # fmt: skip
    faults = [
        *(f'{"/".join(name)} is missing' for name in shapes.keys() - found.keys()),
        *(f'{told("/".join(name))} is not of this net' for name in found.keys() - shapes.keys()),
        *(
            f'{"/".join(name)} is {found[name]}, not {shape}'
            for name, shape in shapes.items()
            if name in found and found[name] != shape
        ),
    ]
    if faults:
        first = '; '.join(sorted(faults)[:MOST_TOLD]) + _and_more(len(faults) - MOST_TOLD)
        raise InputError(f'{source} is not of network {net.architecture.name}: {first}')
    return {
        collection: {
            layer: {part: layers[layer][part] for part in parts} for layer, parts in tree.items()
        }
        for collection, tree in wanted.items()
    }


def _and_more(count: int) -> str:
    return f' and {count} more' if count > 0 else ''
