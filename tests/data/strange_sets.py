"""Small prepared sets, changed as a stranger may change them."""

import json
from pathlib import Path

import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

from alexnet_jax.data import image_set
from alexnet_jax.data.prepare import engines
from alexnet_jax.data.prepare.make import Request, make_set
from alexnet_jax.data.prepare.shards import Encoding
from alexnet_jax.data.prepare.sources import open_source
from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import InputError
from tests.data.photographs import save

SIZE = 16
VAL = 'images-val.array_record-00000-of-00001'


def prepare(images: Path, out: Path, form: str = 'jpeg') -> Path:
    spec = f'folder:{images}'
    return make_set(
        Request(spec, Encoding(SIZE, form, 90)), out, lambda: open_source(spec), engines.one_by_one
    )


def sealed(folder: Path) -> Path:
    """Writes digests and sizes as they are now: a stranger can do that, too."""
    about = json.loads((folder / 'prepared.json').read_text())
    about['digests'] = {name: files.sha256(folder / name) for name in about['digests']}
    about['shards'] = {name: (folder / name).stat().st_size for name in about['shards']}
    about['shard_digests'] = {name: files.sha256(folder / name) for name in about['shards']}
    (folder / 'prepared.json').write_text(json.dumps(about))
    return folder


def assert_refused(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        image_set.open_set(folder)
    lines = str(caught.value).split('\n')
    assert len(lines) <= 2 and str(folder) in lines[0] and all(map(str.isprintable, lines))
    assert len(lines[0]) < 1000
    return str(caught.value)


GOOD = save(Image.new('RGB', (SIZE, SIZE), 'red'), 'JPEG')


def example(features: dict | bytes) -> bytes:
    if isinstance(features, bytes):
        return features
    message = tf_example_pb2.Example()  # pyright: ignore
    if 'image' not in features and 'id' not in features:
        features = {'image': [GOOD]} | features
    for name, values in ({'label': [0], 'id': [b'x']} | features).items():
        feature = message.features.feature[name]
        for value in values:
            kind = {bytes: 'bytes_list', int: 'int64_list', float: 'float_list'}[type(value)]
            getattr(feature, kind).value.append(value)
    return message.SerializeToString()


def write_val(folder: Path, content: bytes, options: str = 'group_size:1,uncompressed') -> None:
    """Another shard `val` of six records, of which the first is this."""
    writer = ArrayRecordWriter(str(folder / VAL), options)
    for record in (content, *[example({})] * 5):
        writer.write(record)
    writer.close()
