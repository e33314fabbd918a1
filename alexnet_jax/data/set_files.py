"""Reads the small files of a prepared set as data.

Nothing in them is imported, and no path in them leaves the set's folder.

TFDS opens these sets as well (`tfds.builder_from_directory`), but imports the modules named in
`features.json`. This module therefore parses the files itself and accepts what this package writes.
"""

import hashlib
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from alexnet_jax.data.images import FORMS, RESIZES
from alexnet_jax.data.own_source import without_folder
from alexnet_jax.data.statistics import Statistics
from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import InputError, counted, plain, shown

PREPARED, STATISTICS, DATASET_INFO = 'prepared.json', 'statistics.npz', 'dataset_info.json'
FEATURES, LABELS = 'features.json', 'label.labels.txt'
BESIDE = (STATISTICS, DATASET_INFO, FEATURES, LABELS)  # the files that prepared.json has digests of
SPLITS = ('train', 'val', 'test')
# Required keys of prepared.json, and their types.
ABOUT = {
    'source': str, 'version': str, 'size': int, 'encoding': str, 'mirror': bool,
    'options': dict, 'shards': dict, 'digests': dict, 'shard_digests': dict, 'counts': dict,
    'skipped': list, 'where': dict,
}  # fmt: skip
OLDER = {'digests': {}, 'shard_digests': {}, 'counts': {}, 'skipped': [], 'where': {}}
# Options of the preparation that prepared.json may hold, and their types.
WHERE = {'data_dir': str, 'manual_dir': str, 'allow_partial': bool}
OPTIONS = {
    'source': str, 'size': int, 'encoding': str, 'quality': int, 'resize': str,
    'val_fraction': float, 'max_pixels': int,
}  # fmt: skip
MOST_SIZE = 4096  # pixels a side
MOST_JSON = 2**24  # bytes; parsed JSON needs up to twenty times its size
TEMPLATE = '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}'
FEATURE = 'tensorflow_datasets.core.features'
# Maximum total bytes of shards that are hashed each time a set is opened: takes 0.1 s.
VERIFIED = 2**26
SHORT = 16  # hexadecimal digits of a digest in an identity


class Contents(NamedTuple):
    """splits: by name, the shards' file names in order, with their numbers of records."""

    splits: dict[str, dict[str, int]]
    classes: tuple[str, ...]
    statistics: Statistics


def read_about(folder: Path) -> dict[str, Any]:
    """Reads prepared.json.

    Raises:
      InputError: it cannot be read, or was not written by this package.
    """
    try:
        about = files.read_json(folder / PREPARED, MOST_JSON)
        if not isinstance(about, dict):
            raise ValueError('it does not say what the set was made of')
        about = OLDER | about
        _require_types(about, ABOUT)
        _require_values(about)
        return about
    except (OSError, ValueError) as error:
        raise InputError(f'{plain(folder / PREPARED)} cannot be read: {plain(error)}') from error


def _require_types(values: Mapping[str, Any], types: Mapping[str, type]) -> None:
    for name, kind in types.items():
        if type(values.get(name)) is not kind:
            raise ValueError(f'{name} is {shown(values.get(name))}')


def _require_values(about: Mapping[str, Any]) -> None:
    if not 1 <= about['size'] <= MOST_SIZE:
        raise ValueError(f'size is {shown(about["size"])}; allowed: 1 to {MOST_SIZE}')
    if about['encoding'] not in FORMS:
        raise ValueError(f'encoding is {shown(about["encoding"])}; allowed: {" or ".join(FORMS)}')
    if about.get('resize', RESIZES[0]) not in RESIZES:
        raise ValueError(f'resize is {shown(about["resize"])}; allowed: {", ".join(RESIZES)}')
    for kind, types in (('options', OPTIONS), ('where', WHERE)):
        if not about[kind].keys() <= types.keys():
            raise ValueError(f'{kind} is {shown(about[kind])}; allowed: {", ".join(types)}')
        _require_types(about[kind], {name: types[name] for name in about[kind]})
        for name, value in about[kind].items():
            if not is_one_line(value):
                raise ValueError(
                    f'{name} of {kind} is {shown(value)}; allowed: printable characters'
                )
    if 'source' not in about['options']:
        raise ValueError('options name no source')
    for name, size in about['shards'].items():
        if type(size) is not int or size < 0:
            raise ValueError(f'shards: {plain(name)} has the size {shown(size)}')
    for entry in about['skipped']:
        if not isinstance(entry, list) or [str, str] != list(map(type, entry)):
            raise ValueError(f'skipped holds {shown(entry)}')
    for kind, names in (('digests', BESIDE), ('shard_digests', about['shards'])):
        for name, digest in about[kind].items():
            if name not in names or not isinstance(digest, str):
                raise ValueError(f'{kind} holds {shown(name)}: {shown(digest)}')


def is_one_line(value: Any) -> bool:
    """Returns whether a message can contain a value unchanged.

    A value with several lines could look like a command. Bytes of a path that are not UTF-8 are
    escaped when they are printed.
    """
    text = value if isinstance(value, str) else ''
    return all(sign.isprintable() or '\udc80' <= sign <= '\udcff' for sign in text)


def read_contents(folder: Path, about: Mapping[str, Any]) -> Contents:
    """Reads the other small files of a set, and checks their consistency.

    Raises:
      OSError: one cannot be opened, or is not a regular file.
      ValueError: one has another form than this package writes.
    """
    size = about['size']
    classes = read_classes(folder)
    features = _read_json(folder / FEATURES)
    if features != features_json(size, about['encoding'], len(classes)):
        raise ValueError(
            f'{FEATURES} is not what this package writes for {len(classes)} classes at {size}'
            ' pixels, and TFDS imports the modules that it names'
        )
    splits = _splits(_read_json(folder / DATASET_INFO))
    named = {name for shards in splits.values() for name in shards}
    if named != about['shards'].keys():
        other = min(named ^ about['shards'].keys())
        raise ValueError(f'{DATASET_INFO} and {PREPARED} do not agree about {shown(other)}')
    for name, records in ((n, r) for shards in splits.values() for n, r in shards.items()):
        if records > about['shards'][name]:  # each needs more than a byte
            raise ValueError(
                f'{name} has {about["shards"][name]} bytes for {counted(records, "record")}'
            )
    return Contents(splits, classes, _read_statistics(folder / STATISTICS, size))


def _read_json(path: Path) -> Any:
    try:
        return files.read_json(path, MOST_JSON)
    except ValueError as error:
        raise ValueError(f'{path.name} is not what this package writes: {error}') from error


def read_classes(folder: Path) -> tuple[str, ...]:
    """Reads the names of the classes in order.

    Raises:
      OSError: as `files.opened`.
      ValueError: there are none, or one occurs twice.
    """
    text = files.read_bytes(folder / LABELS, MOST_JSON).decode()
    names = tuple(filter(None, map(str.strip, text.split('\n'))))  # as TFDS reads them
    if not names or len(set(names)) < len(names):
        raise ValueError(f'{LABELS} names no classes, or one twice')
    return names


def features_json(size: int, encoding: str, classes: int) -> dict[str, Any]:
    """Returns what TFDS writes to features.json for the sets of this package."""
    image: dict[str, Any] = {
        'dtype': 'uint8',
        'shape': {'dimensions': [str(size), str(size), '3']},
    }
    if encoding == 'jpeg':
        pixels = {
            'pythonClassName': f'{FEATURE}.image_feature.Image',
            'image': image | {'encodingFormat': 'jpeg'},
        }
    else:
        pixels = {
            'pythonClassName': f'{FEATURE}.tensor_feature.Tensor',
            'tensor': image | {'encoding': 'bytes'},
        }
    label = {
        'pythonClassName': f'{FEATURE}.class_label_feature.ClassLabel',
        'classLabel': {'numClasses': str(classes)},
    }
    text = {'pythonClassName': f'{FEATURE}.text_feature.Text', 'text': {}}
    return {
        'pythonClassName': f'{FEATURE}.features_dict.FeaturesDict',
        'featuresDict': {'features': {'id': text, 'image': pixels, 'label': label}},
    }


def _splits(info: Any) -> dict[str, dict[str, int]]:
    """Names the shards of each split; the names are computed, not read from the file."""
    if not isinstance(info, dict) or not isinstance(info.get('splits'), list):
        raise ValueError(f'{DATASET_INFO} has no splits')
    dataset = info.get('name')
    if info.get('fileFormat') != 'array_record' or not _is_word(dataset):
        raise ValueError(
            f'{DATASET_INFO} has the name {shown(dataset)}'
            f' and the format {shown(info.get("fileFormat"))}; allowed: a word, array_record'
        )
    splits = {}
    for split in info['splits']:
        if not isinstance(split, dict) or split.get('name') not in SPLITS:
            raise ValueError(f'{DATASET_INFO} has a split other than {", ".join(SPLITS)}')
        if split['name'] in splits or split.get('filepathTemplate') != TEMPLATE:
            raise ValueError(f'{DATASET_INFO}: {split["name"]} is there twice, or has other files')
        lengths = _lengths(split['name'], split.get('shardLengths'))
        splits[split['name']] = {
            f'{dataset}-{split["name"]}.array_record-{shard:05d}-of-{len(lengths):05d}': length
            for shard, length in enumerate(lengths)
        }
    if not splits:
        raise ValueError(f'{DATASET_INFO} has no splits')
    return splits


def _is_word(name: Any) -> bool:
    return isinstance(name, str) and re.fullmatch(r'\w{1,200}', name) is not None


def _lengths(split: str, found: Any) -> list[int]:
    texts = found if isinstance(found, list) else []
    if not all(isinstance(text, str) and re.fullmatch(r'[0-9]{1,12}', text) for text in texts):
        raise ValueError(f'{DATASET_INFO}: {split} has a number of records that is none')
    lengths = list(map(int, texts))
    if not sum(lengths):
        raise ValueError(f'{DATASET_INFO}: {split} has no records')
    return lengths


def _read_statistics(path: Path, size: int) -> Statistics:
    shapes = {'mean_image': (size, size, 3), 'color_variances': (3,), 'color_components': (3, 3)}
    arrays = files.read_arrays(path, {name: (shape,) for name, shape in shapes.items()})
    for name, values in arrays.items():
        if values.dtype != np.float64:
            raise ValueError(f'{name} of {path.name} is {values.dtype}; allowed: float64')
    if (arrays['color_variances'] < 0).any():
        raise ValueError(f'color_variances of {path.name} has numbers below 0')
    return Statistics(**arrays)


def damage_of(folder: Path, about: Mapping[str, Any], thorough: bool = False) -> str:
    """Describes missing or changed files of a set; '' if there are none.

    If shards have more than VERIFIED bytes in total, only their sizes are compared, unless
    `thorough`.
    """
    for name, size in about['shards'].items():
        found = _size_of(folder / name)
        if found != size:
            state = 'is missing' if found is None else f'has {counted(found, "byte")}, not {size}'
            return f'{plain(name)} {state}'
    digests = about['digests']
    if thorough or _is_small(about):
        digests = digests | about['shard_digests']
    for name, digest in digests.items():
        if _size_of(folder / name) is None:
            return f'{plain(name)} is missing'
        if files.sha256(folder / name) != digest:
            return f'{plain(name)} was modified'
    return ''


def _size_of(path: Path) -> int | None:
    """Returns the size of a regular file; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def identity(folder: Path, about: Mapping[str, Any], contents: Contents) -> dict[str, str]:
    """Returns the text that identifies a set, see `ImageSet.identity`.

    Raises:
      OSError: a file cannot be read.
    """
    lengths = {split: sum(shards.values()) for split, shards in contents.splits.items()}
    shards = [
        (split, records, _content_of(folder / name, about))
        for split, names in contents.splits.items()
        for name, records in names.items()
    ]
    made = [about[name] for name in ('size', 'encoding', 'mirror')]
    if not about['shard_digests'] and isinstance(shards[0][-1], int):
        made.append(files.sha256(folder / STATISTICS))
    return make_identity(
        without_folder(about['source']),
        about['version'],
        contents.classes,
        lengths,
        [*made, *shards],
    )


def _content_of(shard: Path, about: Mapping[str, Any]) -> str | int:
    """Returns a shard's SHA-256, or its size in a large set that is older than these digests."""
    if shard.name in about['shard_digests']:
        return about['shard_digests'][shard.name]
    return files.sha256(shard) if _is_small(about) else about['shards'][shard.name]


def _is_small(about: Mapping[str, Any]) -> bool:
    return sum(about['shards'].values()) <= VERIFIED


def make_identity(
    source: str, version: str, classes: tuple[str, ...], lengths: Mapping[str, int], content: Any
) -> dict[str, str]:
    """Returns an identity. content: value that determines the images, with a unique `repr`."""
    return {
        'source': source,
        'version': version,
        'classes': short_digest(classes),
        'splits': ', '.join(f'{split} {count}' for split, count in lengths.items()),
        'content': short_digest(content),
    }


def short_digest(content: Any) -> str:
    """Returns the first hexadecimal digits of the SHA-256 of a value's `repr`."""
    text = repr(content).encode('utf-8', 'surrogateescape')
    return hashlib.sha256(text).hexdigest()[:SHORT]
