"""Weight files of all known formats, with the preprocessing of their nets."""

import base64
import collections
import dataclasses
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.network import table_json
from alexnet_jax.network.diff import deviations
from alexnet_jax.network.layers import Architecture
from alexnet_jax.runtime.errors import InputError, nearest
from alexnet_jax.runtime.files import opened
from alexnet_jax.weights import (
    caffe,
    caffe_images,
    caffe_net,
    files,
    formats,
    layouts,
    state_dicts,
    torch_file,
)
from alexnet_jax.weights.arrays import ContentError, printable
from alexnet_jax.weights.files import Layers

SUFFIXES = ('.safetensors', '.pth', '.pt', '.caffemodel')
NORMALIZATION = 'normalization'  # in this package's files, in addition to the layers
PREPROCESSING = ('data.mean', 'data.std', 'data.resize')  # which others' files do not state
_START = 512  # bytes that identify the kind of a file
# In their settings, which take some 2,000 characters.
_LARGEST, _LONGEST = 2**31 - 1, 20_000
_LONGEST_CLASSES = 1 << 23  # of a hundred thousand names, 2 million

# Each with its authors' preprocessing. torchvision: references/classification/presets.py
# and AlexNet_Weights, means and deviations times 255. Caffe: convert_imageset's resize,
# and the means of data.mean's channels, RGB where Caffe has BGR.
_CAFFE = {
    'data.resize': 'squash',
    'data.normalization': 'channel_mean',
    'data.mean': (123.0, 117.0, 104.0),
}
SETTINGS: dict[str, dict[str, Any]] = {
    'torchvision': {
        'network.name': 'torchvision',
        'train.protocol': 'torchvision',
        'data.source': 'tfds:imagenet2012',
        'data.resize': 'short_side',
        'data.normalization': 'standardized',
        'data.mean': (123.675, 116.28, 103.53),
        'data.std': (58.395, 57.12, 57.375),
    },
    **{
        name: _CAFFE
        | {'network.name': name, 'train.protocol': 'caffe', 'data.source': 'tfds:imagenet2012'}
        for name in ('caffe', 'caffenet')
    },
}


def _as_named(architecture: Architecture) -> Architecture:
    return architecture


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """Content of a weight file.

    settings: of `settings.SETTINGS`, what differs from the defaults.
    layers: its numbers as layers of the net. Raises `InputError` if they are another net's.
    architecture: the net's table, from the one that the settings describe. Raises
      `InputError` if no table can express the file's net.
    classes: names, if the file has them.
    mirror: whether the mirror image of an image has the same class.
    step: number of training steps done.
    normalization: 'mean' and 'scale', if it has them.
    table: of its net, if the file has the whole table; has precedence over the net of the settings.
    protocol: JSON of the training protocol if it is not one of this package; else None.
    data: the set it was trained on, as `ImageSet.identity`; empty where it is not known.
    assumed: settings missing in the file, with the values of its authors.
    notes: whole sentences for the importing user, without the file's name.
    """

    settings: dict[str, Any]
    layers: Callable[[Architecture], Layers]
    architecture: Callable[[Architecture], Architecture] = _as_named
    classes: tuple[str, ...] | None = None
    mirror: bool = True
    step: int = 0
    normalization: dict[str, np.ndarray] | None = None
    table: Architecture | None = None
    protocol: Any = None
    data: dict[str, str] = dataclasses.field(default_factory=dict)
    assumed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def is_weight_file(path: Path) -> bool:
    """Returns whether a path is of a weight file, there or not, rather than of a folder."""
    there = os.path.exists(path)
    return not os.path.isdir(path) and (there or path.suffix in SUFFIXES)


def open_file(path: Path, net: str = '') -> Pretrained:
    """Opens a weight file. Its first bytes, not its name, determine its kind.

    Args:
      net: a name of `SETTINGS` if the file does not state its net; else ''.

    Raises:
      InputError: no such file, or not one of a kind known here, or of another net.
    """
    if net and net not in SETTINGS:
        raise InputError(
            f'--net is {net!r}; the nearest is {nearest(net, SETTINGS)};'
            f' allowed: {", ".join(SETTINGS)}'
        )
    if not os.path.lexists(path):
        raise InputError(f'{path}: no such file')
    try:
        with opened(path) as file:
            start, size = file.read(_START), os.fstat(file.fileno()).st_size
    except OSError as error:
        raise InputError(f'{path} cannot be read: {error.strerror}') from error
    kind = formats.kind_of(path, start, size)
    try:
        match kind:
            case 'torch':
                arrays, notes = torch_file.read(path, layouts.are_torchvision_names)
                return _of_torchvision(arrays, path, net, notes)
            case 'safetensors':
                return _of_safetensors(path, net)
            case 'caffe':
                return _of_caffe(path, net)
    except ContentError as error:
        raise InputError(f'{path} {error}') from error
    raise InputError(f'{path} is {kind or "of no known kind"}; allowed: {", ".join(SUFFIXES)}')


def _of_safetensors(path: Path, net: str) -> Pretrained:
    arrays, metadata = files.read_arrays(path)
    if metadata.get('format') == 'alexnet_jax' or {'config', 'model'} <= metadata.keys():
        return _of_ours(arrays, metadata, path, net)
    return _of_torchvision(state_dicts.plain_names(arrays), path, net)


def _of_torchvision(
    arrays: dict[str, np.ndarray], path: Path, net: str, notes: tuple[str, ...] = ()
) -> Pretrained:
    _require_net(path, net, 'torchvision')
    return Pretrained(
        SETTINGS['torchvision'],
        lambda architecture: layouts.from_torchvision(arrays, architecture, path),
        assumed=PREPROCESSING,
        notes=notes,
    )


def _of_caffe(path: Path, net: str) -> Pretrained:
    layers = caffe.read(path)
    rows = caffe_net.rows(layers)
    found = caffe_net.net_of(rows)
    if (
        not net
        and not found
        and not (caffe_net.has_stages(rows) and caffe_net.has_parameters(rows))
    ):
        raise InputError(
            f'{path} does not state which net it is of; import it with --net=caffe or --net=caffenet'
        )
    if found:
        _require_net(path, net, found)
    stated = caffe_images.settings_of(layers)

    def architecture(base: Architecture) -> Architecture:
        try:
            table = caffe_net.architecture(rows, base)
        except ContentError as error:
            raise InputError(f'{path} {error}') from error
        if net and table != base:
            raise InputError(
                f'--net is {net}, but {path} states another net: {difference(table, base)}'
            )
        return table

    blobs = caffe_net.blobs(rows)
    return Pretrained(
        SETTINGS[found or net or 'caffe'] | stated,
        lambda table: layouts.from_caffe(blobs, table, path),
        architecture,
        assumed=tuple(name for name in PREPROCESSING if name not in stated),
        notes=_mean_image(layers),
    )


def difference(found: Architecture, asked: Architecture) -> str:
    """Returns the first field in which two tables differ, with both values."""
    first = deviations(found, asked)[0]
    return f'{first.field} is {first.one}, not {first.other}'


def _mean_image(layers: Sequence[caffe.Layer]) -> tuple[str, ...]:
    name = caffe_images.mean_file(layers)
    return (f'the mean image that it speaks of, {name}, is not in it',) if name else ()


def packed(mean: np.ndarray, scale: np.ndarray) -> dict[str, str]:
    """Returns metadata of a file under torchvision's names, where arrays have no place."""
    arrays = {'mean': mean, 'scale': scale}
    return {
        f'{NORMALIZATION}.{name}': base64.b64encode(np.asarray(x, '<f4').tobytes()).decode()
        for name, x in arrays.items()
    }


def _unpacked(metadata: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Returns the arrays of `packed`: of three channels, or of a square image of them.

    Raises:
      ContentError: they are not such arrays.
    """
    arrays = {}
    for name in ('mean', 'scale'):
        try:
            content = base64.b64decode(metadata.get(f'{NORMALIZATION}.{name}', ''), validate=True)
            values = np.frombuffer(content, '<f4').astype(np.float32)
            side = math.isqrt(values.size // 3)
            shape = (3,) if values.size == 3 else (side, side, 3)
            arrays[name] = values.reshape(shape)
        except ValueError as error:
            raise ContentError(f'has metadata that `export` does not write: {name}') from error
        if not (values.size and np.isfinite(values).all()):
            raise ContentError(f'has a {name} in its metadata that is not of finite numbers')
    return arrays


def _of_ours(
    arrays: dict[str, np.ndarray], metadata: dict[str, str], path: Path, net: str
) -> Pretrained:
    named_by_torchvision = layouts.are_torchvision_names(arrays)
    layers = {} if named_by_torchvision else files.by_layer(arrays, path)
    normalization = _unpacked(metadata) if named_by_torchvision else layers.pop(NORMALIZATION, {})
    try:
        settings = _json(metadata.get('config', '')[:_LONGEST])
        about = _json(metadata.get('model', '')[:_LONGEST_CLASSES])
        table = _json(metadata.get('network', 'null'))  # older files have none
        protocol = _json(metadata.get('protocol', 'null'))
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
            _require_different(classes, path)
            return Pretrained(
                settings,
                (lambda table: layouts.from_torchvision(arrays, table, path))
                if named_by_torchvision
                else lambda _: layers,
                classes=tuple(classes),
                mirror=mirror,
                step=step,
                normalization=normalization,
                table=_table(table, path),
                protocol=protocol,
                data=about.get('data', {}),
            )
    raise InputError(f'the metadata of {path} is not what `export` writes')


def _table(tree: Any, path: Path) -> Architecture | None:
    try:
        return None if tree is None else table_json.from_json(tree)
    except InputError as error:
        raise InputError(f'the metadata of {path}: {error}') from error


def _are_texts(tree: Any) -> bool:
    return isinstance(tree, dict) and all(isinstance(text, str) for text in tree.values())


def _json(text: str) -> Any:
    def refuse(name: str) -> None:
        raise ValueError(f'it holds {name}')

    return json.loads(text, parse_constant=refuse)


def _require_different(classes: Sequence[str], path: Path) -> None:
    counts = collections.Counter(classes)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise InputError(f'{path} names the class {printable(twice[0])} {counts[twice[0]]} times')


def _may_be_setting(value: Any) -> bool:
    """Returns whether a value is a text, a number that is not of an absurd size, or a few of them."""
    match value:
        case list():
            values = value
        case dict():
            values = list(value.values())
        case _:
            values = [value]
    return all(
        isinstance(x, str) or (isinstance(x, int | float) and -_LARGEST <= x <= _LARGEST)
        for x in values
    )


def _require_net(path: Path, asked: str, found: str) -> None:
    if asked and asked != found:
        raise InputError(f'--net is {asked}, but {path} is of {printable(found)}')
