"""A weight file of any kind that is known here, and how its net was shown images."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.errors import InputError, nearest
from alexnet_jax.network import table_json
from alexnet_jax.network.layers import Architecture
from alexnet_jax.weights import caffe, files, layouts, torch_file
from alexnet_jax.weights.arrays import told
from alexnet_jax.weights.files import Layers

SUFFIXES = ('.safetensors', '.pth', '.pt', '.caffemodel')
NORMALIZATION = 'normalization'  # in our own files, beside the layers
# In their settings, which take some 2,000 characters.
_LARGEST, _LONGEST = 2**31 - 1, 20_000

# Each with its authors' preprocessing. torchvision: references/classification/presets.py
# and AlexNet_Weights, means and deviations times 255. Caffe: convert_imageset's resize,
# and the means of data.mean's channels, RGB where Caffe has BGR.
_CAFFE = {'data.resize': 'squash', 'data.normalization': 'channel_mean', 'data.mean': '123,117,104'}
SETTINGS: dict[str, dict[str, Any]] = {
    'torchvision': {
        'network.name': 'torchvision',
        'train.protocol': 'torchvision',
        'data.source': 'tfds:imagenet2012',
        'data.resize': 'short_side',
        'data.normalization': 'standardized',
        'data.mean': '123.675,116.28,103.53',
        'data.std': '58.395,57.12,57.375',
    },
    **{
        name: _CAFFE
        | {'network.name': name, 'train.protocol': 'caffe', 'data.source': 'tfds:imagenet2012'}
        for name in ('caffe', 'caffenet')
    },
}


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """What a weight file holds.

    settings: of `settings.SETTINGS`, what differs from the defaults.
    layers: its numbers as layers of the net that the settings describe. Raises
      `InputError` if they are another net's.
    classes: names, if the file has them.
    mirror: whether an image's mirror image is one of its class too.
    step: of training, after which it is like this.
    normalization: 'mean' and 'scale', if it has them.
    architecture: the table of its net, if it has one; goes before the one that the settings name.
    data: the set it was trained on, as `ImageSet.identity`; empty where it is not known.
    """

    settings: dict[str, Any]
    layers: Callable[[Architecture], Layers]
    classes: tuple[str, ...] | None = None
    mirror: bool = True
    step: int = 0
    normalization: dict[str, np.ndarray] | None = None
    architecture: Architecture | None = None
    data: dict[str, str] = dataclasses.field(default_factory=dict)


def open_file(path: Path, net: str = '') -> Pretrained:
    """
    Args:
      net: a name of `SETTINGS`, where the file does not tell whose it is; else ''.

    Raises:
      InputError: no such file, or not one of a kind known here, or of another net.
    """
    if net and net not in SETTINGS:
        raise InputError(
            f'--net is {net!r}; the nearest is {nearest(net, SETTINGS)};'
            f' allowed: {", ".join(SETTINGS)}'
        )
    if not path.is_file():
        raise InputError(f'{path}: no such file')
    if path.suffix == '.caffemodel':
        return _of_caffe(path, net)
    if path.suffix in ('.pth', '.pt'):
        return _of_torchvision(torch_file.read(path), path, net)
    if path.suffix == '.safetensors':
        arrays, metadata = files.read_arrays(path)
        if 'config' in metadata:
            return _of_ours(arrays, metadata, path, net)
        return _of_torchvision(arrays, path, net)
    raise InputError(f'{path} is of no known kind; allowed: {", ".join(SUFFIXES)}')


def _of_torchvision(arrays: dict[str, np.ndarray], path: Path, net: str) -> Pretrained:
    _require_net(path, net, 'torchvision')
    return Pretrained(
        SETTINGS['torchvision'],
        lambda architecture: layouts.from_torchvision(arrays, architecture, path),
    )


def _of_caffe(path: Path, net: str) -> Pretrained:
    model = caffe.read(path)
    found = caffe.net_of(model.order)
    if not found and not net:
        raise InputError(
            f'{path} does not tell which net it is of; import it with --net=caffe or --net=caffenet'
        )
    if found:
        _require_net(path, net, found)
    return Pretrained(
        SETTINGS[found or net],
        lambda architecture: layouts.from_caffe(model.blobs, architecture, path),
    )


def _of_ours(
    arrays: dict[str, np.ndarray], metadata: dict[str, str], path: Path, net: str
) -> Pretrained:
    layers = files.by_layer(arrays, path)
    normalization = layers.pop(NORMALIZATION, {})
    try:
        settings = json.loads(metadata['config'][:_LONGEST])
        about = json.loads(metadata.get('model', ''))
        table = json.loads(metadata.get('network', 'null'))  # older files have none
    except (ValueError, RecursionError) as error:
        raise InputError(f'the metadata of {path} is not JSON: {error}') from error
    match settings, about:
        case (
            {'network.name': str(name)},
            {'classes': [str(), *_] as classes, 'mirror': bool(mirror), 'step': int(step)},
        ) if (
            all(map(_may_be_setting, settings.values()))
            and all(isinstance(label, str) for label in classes)
            and 0 <= step <= _LARGEST
            and normalization.keys() == {'mean', 'scale'}
            and _are_texts(about.get('data', {}))
        ):
            _require_net(path, net, name)
            return Pretrained(
                settings, lambda net: layers, tuple(classes), mirror, step, normalization,
                _table(table, path), about.get('data', {}),
            )  # fmt: skip
    raise InputError(f'the metadata of {path} is not what `export` writes')


def _table(tree: Any, path: Path) -> Architecture | None:
    try:
        return None if tree is None else table_json.from_json(tree)
    except InputError as error:
        raise InputError(f'the metadata of {path}: {error}') from error


def _are_texts(tree: Any) -> bool:
    return isinstance(tree, dict) and all(isinstance(text, str) for text in tree.values())


def _may_be_setting(value: Any) -> bool:
    """Text, or a number that is none of an absurd size."""
    return isinstance(value, str) or (
        isinstance(value, int | float) and -_LARGEST <= value <= _LARGEST
    )


def _require_net(path: Path, asked: str, found: str) -> None:
    if asked and asked != found:
        raise InputError(f'--net is {asked}, but {path} is of {told(found)}')
