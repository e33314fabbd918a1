"""A trained net with everything that its use needs."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from alexnet_jax.data import augment, class_names, images
from alexnet_jax.data.images import BadImageError
from alexnet_jax.experiment.defaults import Config
from alexnet_jax.experiment.identity import Identity
from alexnet_jax.network import checks, compiler, inference
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.inference import Activations, Array, Variables
from alexnet_jax.network.interventions import arrays_of
from alexnet_jax.network.shapes import activation_shapes, layer_shapes
from alexnet_jax.runtime.errors import InputError, counted, nearest, plain, shown
from alexnet_jax.weights.files import Layers

LONGEST_PATH = 1000  # characters in a message
Picture = str | images.Picture
ARRAYS = ('variables', 'mean', 'scale')  # of a `Model`; its leaves


@dataclasses.dataclass(frozen=True, repr=False)
class _Rest:
    """Holds the fields of a model that are not arrays; `jax.jit` compiles again where they differ."""

    config: Config = dataclasses.field(hash=False)
    net: AlexNet
    classes: tuple[str, ...]
    mirror: bool
    step: int
    data: Mapping[str, str] = dataclasses.field(hash=False)

    def __repr__(self) -> str:  # in JAX's messages
        return f'step {self.step} of {plain(self.net.architecture.name)}'


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A trained net: a pure function from images to logits and activations.

    It is a pytree whose leaves are the arrays, so that `jax.jit` and `jax.grad` accept it as an
    argument and `jax.tree.map` returns a model.

    config: the settings it was trained, or imported, with.
    net: the Flax module; `net.apply(variables, ...)` runs it on normalized images.
    classes: their names, in the order of the logits.
    mirror: whether an image's mirror image is one of its class too.
    variables: {'params': ..., 'batch_stats': ...}, NumPy arrays.
    mean, scale: as in `inference.normalize`.
    step: number of training steps done.
    data: the set it was trained on, as `ImageSet.identity`; empty if unknown.
    """

    config: Config
    net: AlexNet
    classes: tuple[str, ...]
    mirror: bool
    variables: Variables
    mean: np.ndarray
    scale: np.ndarray
    step: int
    data: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def identity(self) -> Identity:
        """Identity of the model, without its variables and step."""
        return Identity(self.config, self.classes, self.mirror, self.mean, self.scale, self.data)

    @property
    def names(self) -> tuple[str, ...]:
        """Readable names of the classes; English for ImageNet."""
        return tuple(map(class_names.display_name, self.classes))

    @property
    def mirrored(self) -> bool:
        """Whether mirror images are among the ten views.

        They are if the net was trained with them, and if they belong to the same class.
        """
        return self.mirror and self.config.data.mirror

    @property
    def layers(self) -> Layers:
        """The variables by layer, as weight files have them."""
        layers: Layers = {}
        for tree in self.variables.values():
            for layer, parts in tree.items():
                layers.setdefault(layer, {}).update(parts)
        return layers

    def __call__(
        self,
        images: Array,
        *,
        replace: Mapping[str, Array] | None = None,
        mask: Mapping[str, Array] | None = None,
    ) -> tuple[jax.Array, Activations]:
        """Returns logits [batch, classes] and every activation by name, as `AlexNet` does.
        A pure function: `jax.jit`, `jax.grad` and `jax.vmap` accept it. Other calls are compiled
        once per number of images; on CPU their results are bit-identical to evaluations.

        Args:
          images: RGB, [batch, size, size, 3], on the scale of 0 to 255, whole or real numbers.
          replace, mask: activations to replace or to mask by name, as in `AlexNet.__call__`.

        Raises:
          ValueError: images of another shape or type; a replacement or mask that does not fit.
        """
        size = self.net.architecture.input_size
        checks.require_shape(
            'images', images, 'batch', size, size, 3, why=', RGB; Model.read makes them of a file'
        )
        changes = arrays_of('replace', replace), arrays_of('mask', mask)
        arguments = (self, images, *changes)
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(arguments)):
            return _apply(*arguments)
        with jax.ensure_compile_time_eval():  # options are only for separate programs
            return _compiled()(*arguments)

    def __repr__(self) -> str:
        table = self.net.architecture
        count = sum(row.parameters for row in layer_shapes(table, self.net.classes))
        classes = counted(len(self.classes), 'class', 'classes')
        return f'Model({plain(table.name)}: {classes}, {count:,} parameters, step {self.step})'

    def read(self, picture: Picture | list[Any] | tuple[Any, ...], views: int = 1) -> np.ndarray:
        """Returns one image or a list of images in the net's input format.

        Images are resized to squares as the training images were; of each the middle, or its ten views (§4.1), without `mirrored` the five crops
        among them twice.

        Args:
          picture: a path; the bytes of a JPEG or PNG; a Pillow image; pixels, uint8 [height,
            width, 3] or gray [height, width]; or a list of these.
          views: 1 or 10.

        Returns:
          uint8 [images · views, size, size, 3].

        Raises:
          BadImageError: one cannot be read; the message names it.
          InputError: another number of views; no images; an unknown type.
        """
        if views not in tuple(augment.MIDDLE):
            raise InputError(f'views is {shown(views)}; allowed: 1 or 10')
        if not isinstance(picture, list | tuple):
            return self._views_of(picture, 'the image', views)
        if not picture:
            raise InputError('the list of images is empty; allowed: at least 1')
        names = [f'image {number} of {len(picture)}' for number in range(1, len(picture) + 1)]
        pairs = zip(picture, names, strict=True)
        return np.concatenate([self._views_of(one, name, views) for one, name in pairs])

    def features(
        self, pictures: Sequence[Picture] | np.ndarray, layers: Sequence[str], batch: int = 64
    ) -> dict[str, np.ndarray]:
        """Returns activations of images by name, float32 [images, ...].

        Args:
          pictures: a list, as `read` takes it; or what `read` returns, uint8 [images, size, size, 3].
          layers: a list of names of activations.
          batch: images at a time.

        Raises:
          BadImageError, InputError: as `read`; the net has no such activation.
        """
        found = list(self.feature_batches(pictures, layers, batch))
        return {name: np.concatenate([rows[name] for rows in found]) for name in layers}

    def feature_batches(
        self, pictures: Sequence[Picture] | np.ndarray, layers: Sequence[str], batch: int = 64
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yields what `features` returns, `batch` images at a time."""
        if isinstance(layers, str):
            raise InputError(f'layers is {shown(layers)}; allowed: a list of names')
        if isinstance(pictures, str | bytes | os.PathLike):
            raise InputError(f'pictures is {shown(pictures)}; allowed: a list of images')
        known = activation_shapes(self.net.architecture, self.net.classes)
        for name in layers:
            if name not in known:
                raise InputError(
                    f'layers has {shown(name)}; the nearest is {nearest(str(name), known)};'
                    f' the net has: {", ".join(known)}'
                )
        if batch < 1:
            raise InputError(f'batch is {batch}; allowed: from 1')
        if not len(pictures):
            raise InputError('the list of images is empty; allowed: at least 1')
        model = jax.device_put(self)
        for first in range(0, len(pictures), batch):
            crops = pictures[first : first + batch]
            if not isinstance(crops, np.ndarray):
                crops = self.read(list(crops))
            count, missing = len(crops), min(batch, len(pictures)) - len(crops)
            # A smaller last batch would be compiled separately.
            padded = np.concatenate([crops, np.zeros((missing, *crops.shape[1:]), np.uint8)])
            _, activations = model(padded)
            yield {name: np.asarray(activations[name])[:count] for name in layers}

    def _views_of(self, picture: Picture, name: str, views: int) -> np.ndarray:
        """Returns the views of one image; `name`: its name in messages if it is not a path."""
        if isinstance(picture, str | os.PathLike):
            picture, name = Path(picture), plain(picture, LONGEST_PATH)
        if isinstance(picture, jax.Array):
            picture = np.asarray(picture)
        if not isinstance(picture, images.Picture):
            raise InputError(
                f'{name} is {shown(picture)}; allowed: a path, the bytes of a JPEG or PNG, a Pillow'
                ' image, an array of pixels, or a list of these'
            )
        size, resize = self.config.data.record_size, self.config.data.resize
        try:
            square = images.read_square(picture, size, resize=resize)
        except BadImageError as error:
            raise BadImageError(error.reason, name) from error
        return augment.views(square, self.net.architecture.input_size, views, self.mirrored)

    def tree_flatten_with_keys(self) -> tuple[list[tuple[Any, Any]], _Rest]:
        """Returns the arrays by the name of their field, and the rest."""
        leaves = [(jax.tree_util.GetAttrKey(name), getattr(self, name)) for name in ARRAYS]
        rest = {field.name: getattr(self, field.name) for field in dataclasses.fields(_Rest)}
        return leaves, _Rest(**rest)

    @classmethod
    def tree_unflatten(cls, rest: _Rest, leaves: Iterable[Any]) -> 'Model':
        """Returns the model of arbitrary leaves and the rest."""
        return cls(**vars(rest), **dict(zip(ARRAYS, leaves, strict=True)))


def _apply(
    model: Model, images: Array, replace: Mapping[str, Array], mask: Mapping[str, Array]
) -> tuple[jax.Array, Activations]:
    normal = inference.normalize(images, model.mean, model.scale)
    return model.net.apply(model.variables, normal, replace=replace, mask=mask)  # pyright: ignore[reportReturnType]


@functools.cache
def _compiled() -> Callable[..., tuple[jax.Array, Activations]]:
    """Returns `_apply`, compiled with the options of evaluations, and so with the same bits."""
    return jax.jit(_apply, compiler_options=compiler.options())
