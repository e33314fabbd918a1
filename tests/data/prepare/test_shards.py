import json

import pytest

from alexnet_jax.data.prepare import shards
from alexnet_jax.data.prepare.shards import Encoding, Task
from alexnet_jax.data.prepare.sources import open_source
from alexnet_jax.runtime.errors import InputError, StopRequestedError
from tests.data.photographs import write_classes


@pytest.fixture
def task(tmp_path) -> Task:
    write_classes(tmp_path / 'images', 5)
    source = open_source(f'folder:{tmp_path}/images')
    (tmp_path / 'notes').mkdir()
    return Task(
        path=tmp_path / 'out.array_record-00000-of-00001',
        notes=tmp_path / 'notes',
        originals=source.splits['train'],
        classes=3,
        encoding=Encoding(32, 'jpeg', 95),
        split='train',
        max_pixels=10**6,
        max_bad=0,
    )


def test_a_shard_is_done_once_its_note_says_so(task):
    assert not task.is_done()
    shard = shards.write_shard(task)
    assert (shard.records, shard.bytes, shard.bad) == (15, task.path.stat().st_size, [])
    assert task.is_done() and shards.read_note(task) == shard
    assert shards.read_sums(task).count == 15
    with open(task.path, 'ab') as file:
        file.write(b'x')
    assert not task.is_done()


def test_a_stop_is_seen_at_the_next_image_and_leaves_nothing(task):
    asked = iter([False] * 4 + [True])
    with pytest.raises(StopRequestedError):
        shards.write_shard(task, lambda: next(asked))
    assert next(asked, 'all were asked for') == 'all were asked for'
    assert not task.path.exists() and not list(task.notes.iterdir())
    assert [path.name for path in task.path.parent.glob('.*')] == []


def test_one_bad_image_too_many_leaves_nothing(task):
    spoilt = task.originals.root / task.originals.paths[7]
    spoilt.write_bytes(b'spoilt')
    with pytest.raises(InputError, match=f'{spoilt} is no JPEG or PNG'):
        shards.write_shard(task)
    assert not task.path.exists() and not list(task.notes.iterdir())


def test_the_note_is_json_that_outlives_odd_names(task):
    name = 'images/\udce9"\n.jpg'
    shard = shards.Shard(3, 4, [(name, 'why')], 'digest', ['', '01ab'])
    task.note_file('.json').write_text(json.dumps(vars(shard)))
    assert shards.read_note(task) == shard
