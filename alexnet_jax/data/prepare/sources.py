"""Opens image sources by name.

A source is named by a text, the setting `data.source`: `tfds:NAME[/config][:version]`,
`folder:PATH`, `digits`, `patterns`, `synthetic` or FILE.py:NAME. `open_source` finds the originals behind it
without reading their pixels; `make.py` makes records of them.
"""

import dataclasses
from pathlib import Path

import numpy as np

from alexnet_jax.data.own_source import is_own
from alexnet_jax.data.prepare import layout
from alexnet_jax.data.prepare.digits import open_digits
from alexnet_jax.data.prepare.folder import absolute, open_folder, splits_of
from alexnet_jax.data.prepare.originals import SPLIT_NAMES, Originals, Source
from alexnet_jax.data.prepare.own import open_own
from alexnet_jax.data.prepare.remote_folder import RemoteFolder
from alexnet_jax.data.prepare.tfds import find_builder, open_tfds
from alexnet_jax.runtime import python_files, storage
from alexnet_jax.runtime.errors import InputError, counted

HOLD_OUT = 0.1  # the fraction that messages suggest
MADE_UP = ('patterns', 'synthetic')  # as they are read: nothing is stored


class NoValidationError(InputError):
    """A source has no images for validation, and none are to be held out."""


def open_source(
    spec: str,
    *,
    data_dir: str | None = None,
    manual_dir: str | None = None,
    allow_partial: bool = False,
) -> Source:
    """Opens the originals of a source.

    Args:
      data_dir: where TFDS keeps its sets; its own usual place by default.
      manual_dir: where the user has put what TFDS cannot download.
      allow_partial: accepts an incomplete ImageNet.

    Raises:
      InputError: there is no such source, or its layout is not one.
    """
    kind, _, rest = spec.partition(':')
    if spec == 'digits':
        return open_digits()
    if is_own(spec):
        return open_own(canonical(spec))
    if kind == 'folder':
        return open_folder(spec, _folder(rest))
    if kind == 'tfds':
        return open_tfds(spec, rest, data_dir, manual_dir, allow_partial)
    raise InputError(
        f'--source {spec}: allowed: digits, folder:PATH, tfds:NAME[/config][:version] or FILE.py:NAME'
        + (f' ({spec} images need no preparing)' if spec in MADE_UP else '')
    )


def _folder(place: str) -> layout.Folder:
    return RemoteFolder(place.rstrip('/')) if storage.is_url(place) else Path(place)


def canonical(spec: str) -> str:
    """Returns the same text for the same source: folders and files by their absolute path."""
    if is_own(spec):
        return python_files.absolute(spec)
    kind, _, rest = spec.partition(':')
    if kind != 'folder' or storage.is_url(rest):
        return spec
    return f'folder:{absolute(Path(rest))}'


def lacks_val(spec: str) -> bool:
    """Returns whether a source is known to have images for training and none for validation.

    Its images are not looked at; of TFDS, only its own usual place is. Of a file of the user's,
    which would be run, nothing is known.

    Raises:
      InputError: there is no such source.
    """
    kind, _, rest = spec.partition(':')
    if kind == 'folder':
        splits = splits_of(spec, _folder(rest))
        return 'train' in splits and 'val' not in splits
    if kind == 'tfds':
        found = find_builder(spec, rest, None).info.splits
        return 'train' in found and not any(name in found for name in SPLIT_NAMES['val'])
    return False


def with_val_split(source: Source, fraction: float) -> Source:
    """Returns the source with a `val` split.

    If it has none, that is `fraction` of the training images of each class, evenly spaced among
    them: of two or more, at least one and not all. A source without training images, to evaluate
    on, stays as it is.

    Raises:
      InputError: there is neither a `val` split nor a fraction, or too few images.
    """
    if 'val' in source.splits or 'train' not in source.splits:
        if fraction:
            has = 'a val split' if 'train' in source.splits else 'no training images'
            raise InputError(f'--val_fraction is {fraction}, but {source.spec} has {has}')
        return source
    if not fraction:
        raise NoValidationError(f'{source.spec} has no images for validation')
    train = source.splits['train']
    val = _evenly_spaced(train, fraction)
    rest = np.setdiff1d(np.arange(len(train)), val).tolist()
    if not val or not rest:
        raise InputError(
            f'--val_fraction is {fraction}; of {counted(len(train), "training image")} that leaves'
            f' {len(rest)} to train and {len(val)} for validation'
        )
    splits = {'train': train.take(rest), 'val': train.take(val)}
    return dataclasses.replace(source, splits=dict(source.splits) | splits)


def _evenly_spaced(originals: Originals, fraction: float) -> list[int]:
    """Returns rows of `fraction` of each class, ascending; of one image, none."""
    labels = originals.labels
    chosen = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = min(max(round(len(rows) * fraction), 1), len(rows) - 1)
        chosen.extend(rows[(2 * np.arange(count) + 1) * len(rows) // (2 * count)])
    return sorted(int(row) for row in chosen)
