"""Opens trained nets: a workdir, a weight file or the name of published weights."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from alexnet_jax.data import class_names
from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment import identity, kept_config, settings
from alexnet_jax.experiment.defaults import TABLE, Config
from alexnet_jax.experiment.identity import Identity
from alexnet_jax.experiment.model import Model
from alexnet_jax.network import inference
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.inference import Variables
from alexnet_jax.network.layers import Activation, Architecture, Stage
from alexnet_jax.network.shapes import layer_shapes
from alexnet_jax.runtime import storage
from alexnet_jax.runtime.errors import InputError, plain, shown
from alexnet_jax.training import checkpoint_reader
from alexnet_jax.weights import pretrained, published
from alexnet_jax.weights.arrays import printable
from alexnet_jax.weights.files import Layers

LONGEST = 300  # maximum characters of a fault in a file's settings
MOST_NUMBERS = 10**11  # of a net's; JAX fails for much larger sizes
MOST_NAMED = 3  # maximum number of a net's arrays in a message
# Settings of the preprocessing; changed values have precedence over the file's.
PREPROCESSING = ('data.normalization', 'data.mean', 'data.std')


def load(
    source: str | Path,
    step: int | None = None,
    net: str = '',
    overrides: Mapping[str, str] | None = None,
    asked_as: str = 'step',
) -> Model:
    """Returns a model from a workdir or a weight file.

    A weight file is one of this package, torchvision's `alexnet` (of torch.save, or safetensors),
    Caffe's bvlc_alexnet or caffenet (.caffemodel), recognized by its content. 'torchvision',
    'caffe', 'caffenet' and 'hf:OWNER/NAME' are downloaded once (`weights/published.py`), unless a
    path of that name exists.

    Args:
      step: step of a workdir's checkpoint; None: the last.
      net: torchvision, caffe or caffenet, for a file with only weights.
      overrides: settings that differ from those of the file's authors, as text.
      asked_as: name of `step` in messages.

    Raises:
      InputError: it cannot be read or downloaded, has no such step, or is of another net.
      StorageError: there is no disk space for a download.
    """
    if step is not None and (isinstance(step, bool) or not isinstance(step, int | np.integer)):
        raise InputError(f'{asked_as} is {shown(step)}; allowed: a whole number')
    if isinstance(source, str) and storage.is_url(source):
        with storage.session():
            return load(storage.folder(source, 'source'), step, net, overrides, asked_as)
    source = published.local(source)
    if pretrained.is_weight_file(source):
        if step is not None:
            raise InputError(f'{asked_as} is {step}; allowed: none, as {source} is no workdir')
        return of_file(pretrained.open_file(source, net), source, overrides or {})
    if net or overrides:
        raise InputError(f'{source} is a workdir; its net and settings cannot be changed')
    return _of_workdir(source, step, asked_as)


def _of_workdir(workdir: Path, step: int | None, asked_as: str) -> Model:
    if not os.path.lexists(workdir):
        raise InputError(
            f'{plain(workdir)}: no such workdir or weight file, nor a name of weights'
            f' ({", ".join(published.PUBLISHED)})'
        )
    if not os.path.isdir(workdir / 'checkpoints'):  # unlike Path.is_dir, of any name
        raise InputError(f'{plain(workdir)} holds no checkpoints; train there first')
    kept = identity.read(workdir)
    layers, step, record = checkpoint_reader.read_layers(workdir / 'checkpoints', step, asked_as)
    others = identity.record_differences(record, kept)
    if others:
        place = workdir / 'checkpoints' / str(step)
        raise InputError(f'{place} is not of the run in {workdir}: {"; ".join(others)}')
    return _model(kept, layers, step, workdir)


def of_file(file: pretrained.Pretrained, path: Path, overrides: Mapping[str, str]) -> Model:
    """Returns the model of a weight file; raises as `load`."""
    try:
        stated = file.settings, file.table, file.protocol
        config = kept_config.of_weight_file(*stated, overrides)
    except InputError as error:
        fault, *more = str(error).splitlines()
        raise InputError(f'{path}: {fault[:LONGEST]}{_and_more(len(more))}') from error
    named = configuration.network_of(config)
    architecture = file.architecture(named)
    _require_as_asked(overrides, architecture, named, path)
    layers = file.layers(architecture)
    classes = file.classes or assumed_classes(len(layers[architecture.output.name]['bias']))
    own = None if overrides.keys() & set(PREPROCESSING) else file.normalization
    arrays = own or _normalization_of(config)
    config = configuration.changed(config, {'network.name': architecture.name, TABLE: architecture})
    found = Identity(config, classes, file.mirror, arrays['mean'], arrays['scale'], file.data)
    return _model(found, layers, file.step, path)


def _require_as_asked(
    overrides: Mapping[str, str], found: Architecture, asked: Architecture, path: Path
) -> None:
    """Checks that a file states the widths and activations that were asked for.

    Raises:
      InputError: a file states other widths or activations than were asked for.
    """
    differ = {
        'network.width': _widths(found) != _widths(asked),
        'network.activation': _activations(found) != _activations(asked),
    }
    for name in differ:
        if name in overrides and differ[name]:
            raise InputError(f'{name} is {plain(overrides[name])}, but {path} states another')


def _widths(net: Architecture) -> list[int]:
    return [row.features for row in net.layers]


def _activations(net: Architecture) -> list[Stage]:
    return [stage for row in net.layers for stage in row.then if isinstance(stage, Activation)]


def assumed_classes(count: int) -> tuple[str, ...]:
    """Returns names for the classes of a file that has none.

    A thousand classes get ImageNet's names; other classes have no names.
    """
    names = class_names.imagenet_classes()
    return names if count == len(names) else class_names.unnamed(count)


def _normalization_of(config: Config) -> dict[str, np.ndarray]:
    mean, std = config.data.mean, config.data.std
    divides = config.data.normalization in settings.CHANNEL_KINDS['data.std']
    for name in ('data.mean', 'data.std') if divides else ('data.mean',):
        if not config[name]:
            raise InputError(f'{name} is nothing; imported weights have no training set to ask')
    scale = std if divides else (1.0, 1.0, 1.0)
    return {'mean': np.asarray(mean, np.float32), 'scale': np.asarray(scale, np.float32)}


def _model(kept: Identity, layers: Layers, step: int, source: Path) -> Model:
    architecture = configuration.network_of(kept.config)
    net = AlexNet(architecture, len(kept.classes), precision='highest')
    size = net.architecture.input_size
    for name, shapes in {'mean': ((3,), (size, size, 3)), 'scale': ((3,),)}.items():
        found = getattr(kept, name).shape
        if found not in shapes:
            raise InputError(f'the {name} of {source} has the shape {found}; allowed: {shapes}')
    if not (kept.scale > 0).all():
        raise InputError(f'the scale of {source} is not above 0')
    return Model(
        kept.config,
        net,
        kept.classes,
        kept.mirror,
        _variables(net, layers, source),
        kept.mean,
        kept.scale,
        step,
        kept.data,
    )


def _variables(net: AlexNet, layers: Layers, source: Path) -> Variables:
    """Returns the layers' arrays in the net's own tree.

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
        *(
            f'{printable("/".join(name))} is not of this net'
            for name in found.keys() - shapes.keys()
        ),
        *(
            f'{"/".join(name)} is {found[name]}, not {shape}'
            for name, shape in shapes.items()
            if name in found and found[name] != shape
        ),
    ]
    if faults:
        first = '; '.join(sorted(faults)[:MOST_NAMED]) + _and_more(len(faults) - MOST_NAMED)
        raise InputError(f'{source} is not of network {net.architecture.name}: {first}')
    return {
        collection: {
            layer: {part: layers[layer][part] for part in parts} for layer, parts in tree.items()
        }
        for collection, tree in wanted.items()
    }


def _and_more(count: int) -> str:
    return f' and {count} more' if count > 0 else ''
