"""A preparation that goes on, is asked for again, of a source that changed, or is refused."""

import json
import re
import shutil
from pathlib import Path

import pytest

from alexnet_jax.data.prepare import __main__ as prepare
from alexnet_jax.data.prepare import engines
from alexnet_jax.data.prepare.shards import Encoding
from alexnet_jax.runtime.errors import InputError
from tests.data.photographs import photograph, save, write_classes
from tests.data.prepare.preparing import assert_same_files, make


def test_a_begun_preparation_without_a_resize_goes_on(begun, folder, tmp_path):
    begun()
    plan = tmp_path / 'set' / '.preparing' / 'plan.json'
    older = json.loads(plan.read_text())
    assert older.pop('resize') == 'center_square'
    plan.write_text(json.dumps(older))  # begun when there was no other
    said, done = [], []
    make(folder, tmp_path / 'set', counting(done), say=said.append)
    assert said[0] == 'going on: 2 of 6 shards are there' and len(done) == 4


def counting(done: list):
    """An engine that appends each task that it does."""
    return lambda tasks: done.extend(tasks) or engines.one_by_one(tasks)


@pytest.mark.parametrize(('changes', 'message'), [
    ({'max_pixels': 10**6}, 'max_pixels was 50000000, now 1000000'),
    ({'encoding': Encoding(48, 'jpeg', 80)}, 'quality was 95, now 80'),
    ({'encoding': Encoding(47, 'jpeg', 95)}, 'size was 48, now 47'),
    ({'encoding': Encoding(48, 'raw', 95)}, 'preparation of another kind: encoding was jpeg, now raw'),
    ({'encoding': Encoding(48, 'jpeg', 95, 'squash')}, 'resize was center_square, now squash'),
])  # fmt: skip
def test_a_begun_preparation_is_not_continued_with_other_options(
    changes, message, begun, folder, tmp_path
):
    kept = begun()
    with pytest.raises(InputError, match=message):
        make(folder, tmp_path / 'set', **changes)
    assert {path.name: path.read_bytes() for path in (tmp_path / 'set').glob('*record*')} == kept


def test_another_share_held_out_is_another_preparation(tmp_path):
    write_classes(tmp_path / 'images', 5)

    def engine(_):
        raise KeyboardInterrupt

    def prepare_with(fraction, engine):
        encoding = Encoding(16, 'raw', 95)
        make(
            tmp_path / 'images', tmp_path / 'set', engine, encoding=encoding, val_fraction=fraction
        )

    with pytest.raises(KeyboardInterrupt):
        prepare_with(0.2, engine)
    with pytest.raises(InputError, match=r"options was .*'val_fraction': 0\.2.*, now .*0\.4"):
        prepare_with(0.4, engines.one_by_one)
    prepare_with(0.2, engines.one_by_one)
    with pytest.raises(InputError, match=r'holds a set prepared with .* now asked for: .*=0\.4'):
        prepare_with(0.4, engines.one_by_one)


def test_a_preparation_begun_by_an_older_version_begins_anew(begun, folder, whole, tmp_path):
    """Its shards have no digests, and were maybe made of other pixels."""
    begun()
    work = tmp_path / 'set' / '.preparing'
    plan = json.loads((work / 'plan.json').read_text())
    for name in ('max_pixels', 'originals', 'classes', 'pixels', 'where'):
        del plan[name]
    (work / 'plan.json').write_text(json.dumps(plan))
    for note in work.glob('*array_record*.json'):
        about = json.loads(note.read_text())
        del about['digest']
        note.write_text(json.dumps(about))
    done = []
    make(folder, tmp_path / 'set', counting(done))
    assert len(done) == 6
    assert_same_files(tmp_path / 'set', whole)


@pytest.mark.thorough
@pytest.mark.parametrize('content', ['[]', '{', 'null', '"x"', ''])
@pytest.mark.parametrize('name', ['plan.json', 'note'])
def test_broken_notes_of_a_begun_preparation(name, content, begun, folder, whole, tmp_path):
    begun()
    work = tmp_path / 'set' / '.preparing'
    if name == 'plan.json':
        (work / name).write_text(content)
        with pytest.raises(InputError, match=r'plan\.json cannot be read: .*; remove '):
            make(folder, tmp_path / 'set')
    else:
        next(work.glob('*array_record*.json')).write_text(content)
        make(folder, tmp_path / 'set')
        assert_same_files(tmp_path / 'set', whole)


def test_a_set_that_leaves_images_out_is_not_one_that_leaves_none(spoilt, tmp_path):
    make(spoilt, tmp_path / 'set', val_fraction=0.2, max_bad=3)
    with pytest.raises(InputError, match='holds a set that leaves out 3 images; --skip_bad is 0'):
        make(spoilt, tmp_path / 'set', val_fraction=0.2)
    make(spoilt, tmp_path / 'set', val_fraction=0.2, max_bad=7)


@pytest.fixture
def small(tmp_path) -> Path:
    """A set of 8 training and 4 other images, beside their folder."""
    write_classes(tmp_path / 'photos' / 'train', 4, ('a', 'b'))
    write_classes(tmp_path / 'photos' / 'val', 2, ('x', 'y', 'a', 'b'))  # other images than those
    for name in 'xy':
        shutil.rmtree(tmp_path / 'photos' / 'val' / name)
    assert again(tmp_path) == 0
    return tmp_path


def again(top: Path, *more: str) -> int:
    words = [f'--source=folder:{top}/photos', f'--out={top}/set', '--size=24', '--workers=1']
    return prepare.main([*words, *more])


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def add_image(train: Path) -> None:
    (train / 'a' / 'new.png').write_bytes(save(photograph(5), 'PNG'))


def grow_image(train: Path) -> None:
    with open(train / 'a' / '000.jpeg', 'ab') as file:
        file.write(b'0')


def add_stray(train: Path) -> None:
    (train / 'stray.png').write_bytes(save(photograph(5), 'PNG'))


@pytest.mark.parametrize(('change', 'reason'), [
    (add_image, 'whose images changed since'),
    (lambda train: (train / 'a' / '000.jpeg').unlink(), 'whose images changed since'),
    (lambda train: (train / 'a' / '000.jpeg').rename(train / 'b' / 'x.jpeg'), 'whose images changed since'),
    (grow_image, 'whose images changed since'),
    (add_stray, 'which cannot be opened any more: .*stray.png lies in no class folder'),
])  # fmt: skip
def test_a_set_whose_source_changed_is_not_taken_for_it(change, reason, small, capsys):
    kept = content_of(small / 'set')
    capsys.readouterr()
    assert again(small) == 0
    assert 'set is prepared already; its source has the same files' in capsys.readouterr().out
    change(small / 'photos' / 'train')
    assert again(small) == 2
    (line,) = capsys.readouterr().err.splitlines()
    named = f'--out {small}/set holds a set of folder:{small}/photos, '
    assert re.search(f'{re.escape(named)}{reason}; take another --out, or remove it and run', line)
    assert content_of(small / 'set') == kept


def test_a_set_whose_source_is_gone_stays(small, capsys):
    kept = content_of(small / 'set')
    (small / 'photos').rename(small / 'elsewhere')
    capsys.readouterr()
    assert again(small) == 0
    said = f'set is prepared already; its source was not looked at: no {small}/photos'
    assert said in capsys.readouterr().out
    # Nor is anything lost of one that is damaged, and could not be made again.
    (small / 'set' / 'statistics.npz').unlink()
    assert again(small) == 2
    output_text = capsys.readouterr().err
    assert 'is damaged (statistics.npz is missing), and folder:' in output_text
    assert output_text.endswith('no such folder\n')
    assert content_of(small / 'set').keys() == kept.keys() - {'statistics.npz'}


def test_a_source_of_tfds_is_not_opened_again(tiny_set, tmp_path, capsys):
    words = ['--source=tfds:tiny_set', f'--out={tmp_path}/set', '--size=24', '--workers=1']
    assert prepare.main([*words, f'--data_dir={tiny_set}']) == 0
    capsys.readouterr()
    assert prepare.main([*words, f'--data_dir={tmp_path}/nowhere']) == 0
    assert 'is prepared already; its source was not looked at\n' in capsys.readouterr().out


def test_relative_folders_of_tfds_are_kept_absolute(tiny_set, tmp_path, monkeypatch):
    monkeypatch.chdir(Path(tiny_set).parent)
    words = ['--source=tfds:tiny_set', f'--out={tmp_path}/set', '--size=24', '--workers=1']
    assert prepare.main([*words, f'--data_dir={Path(tiny_set).name}']) == 0
    about = json.loads((tmp_path / 'set' / 'prepared.json').read_text())
    assert about['where'] == {'data_dir': str(tiny_set)}


@pytest.mark.parametrize('there', ['nothing', 'an empty folder', 'a damaged set'])
@pytest.mark.parametrize('fault', ['no validation', 'a bad image', 'no classes', 'no folder'])
def test_a_refused_preparation_leaves_nothing(fault, there, small):
    shutil.rmtree(small / 'set')
    if there == 'an empty folder':
        (small / 'set').mkdir()
    elif there == 'a damaged set':
        assert again(small) == 0
        (small / 'set' / 'dataset_info.json').unlink()
    photos = small / 'photos'
    if fault == 'no validation':
        shutil.rmtree(photos / 'val')
    elif fault == 'a bad image':
        (photos / 'train' / 'a' / '000.jpeg').write_bytes(b'no image')
        for shard in (small / 'set').glob('*.array_record*'):
            shard.unlink()
    else:
        shutil.rmtree(photos)
        if fault == 'no classes':
            photos.mkdir()
    deep = small / 'deep'
    before = sorted(small.rglob('*'))
    assert again(small) == 2
    assert again(small, f'--out={deep}/er/set') == 2
    assert sorted(small.rglob('*')) == before


def test_a_refused_preparation_keeps_its_shards(tmp_path):
    write_classes(tmp_path / 'photos' / 'train', 100, ('a', 'b'))
    write_classes(tmp_path / 'photos' / 'val', 2, ('a', 'b'))
    (tmp_path / 'photos' / 'train' / 'b' / '099.png').write_bytes(b'no image')
    (tmp_path / 'photos' / 'train' / 'b' / '098.png').unlink(missing_ok=True)
    assert again(tmp_path) == 2
    shards = [path for path in (tmp_path / 'set').iterdir() if 'train' in path.name]
    assert len(shards) == 1 and (tmp_path / 'set' / '.preparing' / 'plan.json').exists()


@pytest.mark.parametrize('sign', ['\n', '\x1b', '\u2028'])
def test_a_folder_whose_set_could_not_be_opened_is_refused(sign, small, capsys):
    name = f'one{sign}two'
    (small / 'photos').rename(small / name)
    before = sorted(small.rglob('*'))
    source = f'--source=folder:{small}/{name}'
    assert prepare.main([source, f'--out={small}/other', '--size=24', '--workers=1']) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert 'the path holds a character that cannot be printed; rename that folder' in line
    (small / 'link').symlink_to(small / name)
    assert prepare.main([f'--source=folder:{small}/link', f'--out={small}/other']) == 2
    (small / 'link').unlink()
    words = ['--source=digits', f'--out={small}/other', '--size=24', '--workers=1']
    assert prepare.main([*words, f'--data_dir={small}/{name}']) == 2
    assert '--data_dir is ' in capsys.readouterr().err
    assert sorted(small.rglob('*')) == before


def test_a_picture_in_two_splits_is_named(small, capsys):
    train, val = small / 'photos' / 'train', small / 'photos' / 'val'
    shutil.copytree(val, small / 'photos' / 'test')
    assert again(small, f'--out={small}/one') == 0
    (line,) = warnings_in(capsys.readouterr().out)
    first = sorted(path.name for path in (val / 'a').iterdir())[0]
    expected = f'4 images of test are also in val: test/a/{first} is val/a/{first}, ...'
    assert line == f'warning: {expected}'
    shutil.rmtree(small / 'photos' / 'test')
    shutil.copy(train / 'b' / '001.jpeg', val / 'a' / 'x.jpeg')  # with another label
    shutil.copy(train / 'b' / '001.jpeg', train / 'a' / 'y.jpeg')  # twice in one split: no matter
    assert again(small, f'--out={small}/two', '--workers=2') == 0
    (line,) = warnings_in(capsys.readouterr().out)
    assert line.startswith('warning: 1 image of val is also in train: val/a/x.jpeg is train/')
    assert not line.endswith('...')


def warnings_in(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if line.startswith('warning: ')]


def test_one_is_no_plural(small, capsys):
    for old in (small / 'photos' / 'train' / 'a').iterdir():
        old.write_bytes(b'no image')
    shutil.rmtree(small / 'photos' / 'train' / 'b')
    (small / 'photos' / 'train' / 'b').mkdir()
    (small / 'photos' / 'train' / 'b' / 'x.png').write_bytes(save(photograph(5), 'PNG'))
    for old in sorted((small / 'photos' / 'train' / 'a').iterdir())[1:]:
        old.unlink()
    shutil.rmtree(small / 'set')
    assert again(small, '--skip_bad=1') == 0
    assert '\n1 image left out\n' in capsys.readouterr().out
    assert again(small) == 2
    assert 'holds a set that leaves out 1 image; --skip_bad is 0' in capsys.readouterr().err
