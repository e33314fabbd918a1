import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from alexnet_jax.data import image_set
from alexnet_jax.data.images import CENTER_SQUARE, RESIZES, SQUASH, read_square
from alexnet_jax.data.prepare import engines, stored
from alexnet_jax.data.prepare.make import Request, make_set
from alexnet_jax.data.prepare.shards import Encoding
from alexnet_jax.data.prepare.sources import open_source
from alexnet_jax.runtime.errors import InputError, RecordError
from tests.data.photographs import without_shard_digests, write_classes

SIZE = 48


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    top = tmp_path_factory.mktemp('data') / 'images'
    write_classes(top / 'train', 60)
    write_classes(top / 'val', 5)
    return top


@pytest.fixture(scope='module')
def made(folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp('sets') / 'mine'
    request = Request(f'folder:{folder}', Encoding(SIZE, 'jpeg', 95))
    return make_set(request, out, lambda: open_source(f'folder:{folder}'), engines.one_by_one)


def test_a_set_is_found_by_its_source(folder, made, tmp_path):
    spec = f'folder:{folder}'
    assert stored.find(spec, SIZE, str(made)) == made
    assert stored.find(spec, SIZE, str(made.parent)) == made
    assert stored.find(f'folder:{folder}/../{folder.name}', SIZE, str(made.parent)) == made
    assert stored.find(spec, 64, str(made.parent)) is None
    assert stored.find('digits', SIZE, str(made.parent)) is None
    assert stored.find(spec, SIZE, str(tmp_path / 'nowhere')) is None
    (tmp_path / 'broken').mkdir()
    for name in (image_set.PREPARED, image_set.DATASET_INFO):
        (tmp_path / 'broken' / name).write_text('{')
    assert stored.find(spec, SIZE, str(tmp_path)) is None
    with pytest.raises(InputError, match=rf'was prepared of {spec} at 48 pixels; .* is digits'):
        stored.find('digits', SIZE, str(made))
    for name in ('one', 'two'):
        shutil.copytree(made, tmp_path / name)
    with pytest.raises(InputError, match=r'several sets .*/one, .*/two; give one of them'):
        stored.find(spec, SIZE, str(tmp_path))
    place = stored.usual_place(spec, SIZE, str(tmp_path))
    shutil.move(tmp_path / 'two', place)
    assert stored.find(spec, SIZE, str(tmp_path)) == place


def test_what_is_not_prepared_is_named_with_the_command(folder, tmp_path):
    with pytest.raises(InputError) as caught:
        stored.of_source(f'folder:{folder}', 64, str(tmp_path))
    printed, command = str(caught.value).splitlines()
    assert f'folder:{folder} is not prepared at 64 pixels in {tmp_path}' in printed
    assert command.split()[:3] == ['python', '-m', 'alexnet_jax.data.prepare']
    for spec in ('folder:/no/such', 'tfds:imagnet2012'):
        with pytest.raises(InputError, match=r'no such folder|nearest is .imagenet2012'):
            stored.of_source(spec, 64, str(tmp_path))


@pytest.fixture(scope='module')
def of_each_resize(folder, tmp_path_factory) -> dict[str, Path]:
    """Sets of the same images where the main command looks for them, raw."""
    spec, top = f'folder:{folder}', str(tmp_path_factory.mktemp('of each resize'))
    places = {}
    for resize in RESIZES:
        request = Request(spec, Encoding(SIZE, 'raw', 95, resize))
        places[resize] = stored.usual_place(spec, SIZE, top, resize)
        make_set(request, places[resize], lambda: open_source(spec), engines.one_by_one)
    return places


@pytest.mark.parametrize('resize', RESIZES)
def test_a_set_holds_what_its_resize_makes_of_the_files(resize, folder, of_each_resize):
    top = str(of_each_resize[resize].parent)
    images = stored.of_source(f'folder:{folder}', SIZE, top, resize)
    for split, records in images.splits.items():
        for row in range(0, len(records), 7):
            image, _, name = records.read(row)
            expected = read_square(folder / name.decode(), SIZE, resize=resize)
            np.testing.assert_array_equal(image, expected, err_msg=f'{split} {row}')


def test_a_set_of_another_resize_does_not_fit(folder, of_each_resize):
    spec = f'folder:{folder}'
    assert len(set(of_each_resize.values())) == 3
    for resize, place in of_each_resize.items():
        about = json.loads((place / 'prepared.json').read_text())
        assert about['resize'] == resize
        assert stored.find(spec, SIZE, str(place.parent), resize) == place
        for other in set(RESIZES) - {resize}:
            printed = rf'{place} \(resize {resize}\) was .* data\.resize {other}\. Such a set is'
            with pytest.raises(InputError, match=printed) as caught:
                stored.find(spec, SIZE, str(place), other)
            command = str(caught.value).splitlines()[1]
            assert f'--size={SIZE} --resize={other}' in command
            assert str(of_each_resize[other]) in command


def test_an_older_set_does_not_say_its_resize(folder, of_each_resize, tmp_path):
    shutil.copytree(of_each_resize[CENTER_SQUARE], tmp_path / 'set')
    about = json.loads((tmp_path / 'set' / 'prepared.json').read_text())
    del about['resize']
    (tmp_path / 'set' / 'prepared.json').write_text(json.dumps(about))
    assert stored.find(f'folder:{folder}', SIZE, str(tmp_path)) == tmp_path / 'set'
    assert stored.find(f'folder:{folder}', SIZE, str(tmp_path), SQUASH) is None


def spoil_shard(made):
    (made / 'images-train.array_record-00001-of-00002').unlink()


def shorten_shard(made):
    shard = made / 'images-train.array_record-00001-of-00002'
    shard.write_bytes(shard.read_bytes()[:-1])


@pytest.mark.thorough
@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (spoil_shard, r'train\.array_record-00001-of-00002 is missing; prepare it again'),
        (shorten_shard, r'00001-of-00002 has \d+ bytes, not \d+; prepare it again'),
        (lambda made: (made / 'prepared.json').write_text('{'), r'prepared\.json cannot be read'),
        (lambda made: (made / 'prepared.json').write_text('[]'), r'prepared\.json cannot be read'),
        (lambda made: (made / 'statistics.npz').unlink(), 'statistics.npz is missing; prepare it'),
        (
            lambda made: (made / 'statistics.npz').write_bytes(b'PK'),
            'was modified; prepare it again',
        ),
        (
            lambda made: (made / 'dataset_info.json').write_text('{'),
            'dataset_info.json was modified',
        ),
        (lambda made: (made / 'features.json').unlink(), 'features.json is missing'),
        (
            lambda made: (made / 'label.labels.txt').write_text('x\ny\nz\n'),
            'label.labels.txt was modified; prepare it again',
        ),
    ],
)
def test_a_set_that_is_not_whole_is_refused_and_made_again(spoil, message, folder, made, tmp_path):
    spec, copy = f'folder:{folder}', tmp_path / 'copy'
    shutil.copytree(made, copy)
    spoil(copy)
    with pytest.raises(InputError, match=message) as caught:
        image_set.open_set(copy)
    if 'prepare it again' in message:
        command = str(caught.value).splitlines()[1].split()
        done = subprocess.run([sys.executable, *command[1:]], capture_output=True, text=True)
        assert done.returncode == 0 and 'preparing it again' in done.stdout, done.stderr
        assert len(image_set.open_set(stored.find(spec, SIZE, str(copy))).splits['train']) == 180


def test_a_file_with_other_records_is_named(made, tmp_path):
    shutil.copytree(made, tmp_path / 'copy')
    without_shard_digests(tmp_path / 'copy')
    shard = tmp_path / 'copy' / 'images-train.array_record-00000-of-00002'
    shard.write_bytes(bytes(shard.stat().st_size))
    records = image_set.open_set(tmp_path / 'copy').splits['train']
    with pytest.raises(RecordError, match=f'^{shard} holds 0 records; the set needs 128$'):
        records.read(5)
    records.read(150)  # of the other file


def test_records_go_to_another_process(made):
    records = image_set.open_set(made).splits['train']
    again = pickle.loads(pickle.dumps(records))
    assert len(again) == len(records) == 180
    np.testing.assert_array_equal(again.read(150).image, records.read(150).image)
    for row in (-1, 180):
        with pytest.raises(IndexError):
            records.read(row)


def test_what_prepared_json_says_of_the_set(made, folder):
    about = json.loads((made / 'prepared.json').read_text())
    assert about['source'] == f'folder:{folder}' and about['size'] == SIZE
    assert about['counts'] == {'train': 180, 'val': 15}
    assert about['shards'].keys() == {path.name for path in made.glob('*.array_record-*')}
