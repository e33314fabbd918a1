"""Writes the files that make a prepared set one of TFDS's, too.

They are `dataset_info.json`, `features.json` and the names of the classes.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core import dataset_info, splits

from alexnet_jax.data.own_source import is_own, without_folder
from alexnet_jax.data.prepare.originals import Source
from alexnet_jax.data.prepare.shards import Encoding, Shard


def shard_path(out: Path, source: Source, split: str, number: int, count: int) -> Path:
    """Returns the path of a shard, named as TFDS names it."""
    template = _template(source, out).replace(split=split)
    return Path(template.sharded_filepath(shard_index=number, num_shards=count))


def write(
    work: Path, out: Path, source: Source, encoding: Encoding, made: Mapping[str, list[Shard]]
) -> None:
    """Writes the files.

    Args:
      work: where they go.
      out: where the set is.
      made: the shards of each split.
    """
    size = encoding.size
    shape = (size, size, 3)
    if encoding.form == 'jpeg':
        image = tfds.features.Image(shape=shape, encoding_format='jpeg')
    else:
        image = tfds.features.Tensor(shape=shape, dtype=np.uint8, encoding='bytes')
    features = tfds.features.FeaturesDict({
        'id': tfds.features.Text(),
        'image': image,
        'label': tfds.features.ClassLabel(names=source.classes),
    })  # fmt: skip
    identity = dataset_info.DatasetIdentity(
        name=_dataset_name(source),
        version=tfds.core.Version('1.0.0'),
        data_dir=os.fspath(out),
        module_name='',
    )
    info = tfds.core.DatasetInfo(
        builder=identity,
        features=features,
        description=f'{source.spec} ({source.version}), {size}×{size} pixels, {encoding.form}',
        supervised_keys=('image', 'label'),
    )
    info.set_file_format(tfds.core.FileFormat.ARRAY_RECORD)
    split_infos = [
        tfds.core.SplitInfo(
            name=split,
            shard_lengths=[shard.records for shard in shards],
            num_bytes=sum(shard.bytes for shard in shards),
            filename_template=_template(source, out).replace(split=split),
        )
        for split, shards in made.items()
    ]
    info.set_splits(splits.SplitDict(split_infos))
    info.write_to_directory(work)


def _template(source: Source, out: Path) -> tfds.core.ShardedFileTemplate:
    return tfds.core.ShardedFileTemplate(
        data_dir=epath.Path(out), dataset_name=_dataset_name(source), filetype_suffix='array_record'
    )


def _dataset_name(source: Source) -> str:
    """Returns a name in TFDS's form."""
    if is_own(source.spec):
        name = without_folder(source.spec)
        return re.sub(r'\W+', '_', name, flags=re.ASCII).strip('_').lower() or 'images'
    name = source.spec.partition(':')[2] or source.spec
    if source.spec.startswith('folder:'):
        name = Path(name.rpartition('://')[2].partition(':')[0]).name
    return re.sub(r'\W+', '_', name, flags=re.ASCII).strip('_').lower() or 'images'
