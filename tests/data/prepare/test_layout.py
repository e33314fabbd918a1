"""Folders as people have them: splits of any spelling, nested, with what systems leave behind."""

from pathlib import Path

import pytest

from alexnet_jax.data import image_set
from alexnet_jax.data.prepare import __main__ as prepare
from alexnet_jax.data.prepare.sources import open_source, with_val_split
from alexnet_jax.runtime.errors import InputError
from tests.data.photographs import photograph, save

IMAGE = save(photograph(0).resize((20, 20)), 'JPEG')


def write(top: Path, *paths: str) -> None:
    """Images; a path that ends with / is an empty folder."""
    for path in paths:
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        if path.endswith('/'):
            (top / path).mkdir(exist_ok=True)
        else:
            (top / path).write_bytes(IMAGE)


def write_splits(top: Path, *splits: str, classes: tuple[str, ...] = ('ant', 'bee')) -> None:
    write(top, *(f'{split}/{name}/{n}.jpg' for split in splits for name in classes for n in '12'))


def counts(top: Path) -> tuple[tuple[str, ...], dict[str, int]]:
    source = open_source(f'folder:{top}')
    return source.classes, {split: len(files) for split, files in source.splits.items()}


ALL = {'train': 4, 'val': 4, 'test': 4}


@pytest.mark.parametrize('names', [
    ('train', 'val', 'test'), ('Train', 'Val', 'Test'), ('TRAIN', 'VALID', 'TEST'),
    ('Training', 'Validation', 'Testing'), ('training', 'valid', 'testing'), ('train', 'dev', 'test'),
    ('seg_train', 'seg_val', 'seg_test'), ('train_set', 'val_set', 'test_set'),
    ('training-data', 'validation-data', 'test-data'), ('trainset', 'valset', 'testset'),
    ('TrainImages', 'ValImages', 'TestImages'), ('images train', 'images val', 'images test'),
    ('ILSVRC2012_img_train', 'ILSVRC2012_img_val', 'ILSVRC2012_img_test'),
    ('train2017', 'val2017', 'test2017'), ('my pets train', 'my pets val', 'my pets test'),
    ('1_train', '1_val', '1_test'), (' train', 'val ', 'test'), ('Train_Split', 'val', 'TEST'),
])  # fmt: skip
def test_spellings_of_splits(names, tmp_path):
    write_splits(tmp_path, *names)
    assert counts(tmp_path) == (('ant', 'bee'), ALL)


@pytest.mark.parametrize('names', [('Train', 'Test'), ('Training', 'Testing'), ('seg_train', 'seg_test')])  # fmt: skip
def test_without_a_split_for_validation_there_are_still_no_classes_test_and_train(names, tmp_path):
    write_splits(tmp_path, *names)
    assert counts(tmp_path) == (('ant', 'bee'), {'train': 4, 'test': 4})


def test_folders_in_folders(tmp_path):
    write_splits(tmp_path / 'deep', 'archive/dataset/train', 'archive/dataset/test')
    assert counts(tmp_path / 'deep') == (('ant', 'bee'), {'train': 4, 'test': 4})
    source = open_source(f'folder:{tmp_path / "deep"}')
    assert source.splits['train'].id(0) == 'archive/dataset/train/ant/1.jpg'
    write_splits(tmp_path / 'classes', 'PHOTOS/pets')
    assert counts(tmp_path / 'classes') == (('ant', 'bee'), {'train': 4})
    # As Kaggle's archives are; what seg_pred holds has no labels.
    write_splits(tmp_path / 'intel', 'seg_train/seg_train', 'seg_test/seg_test')
    write(tmp_path / 'intel', 'seg_pred/seg_pred/1.jpg')
    assert counts(tmp_path / 'intel') == (('ant', 'bee'), {'train': 4, 'test': 4})
    write_splits(tmp_path / 'one', 'train')
    assert counts(tmp_path / 'one') == (('ant', 'bee'), {'train': 4})


def test_what_systems_leave_behind_is_not_seen(tmp_path):
    write_splits(tmp_path, 'data/Train', 'data/Test')
    write(tmp_path, '__MACOSX/data/Train/ant/._1.jpg', 'data/.git/x/1.jpg', 'data/@eaDir/a/1.jpg')
    for name in ('.DS_Store', 'Thumbs.db', 'desktop.ini', '._1.jpg'):
        for folder in ('', 'data', 'data/Train', 'data/Train/ant'):
            (tmp_path / folder / name).write_bytes(b'left behind')
    write(tmp_path, 'data/notes/', 'data/annotations/')
    (tmp_path / 'data' / 'annotations' / '1.xml').write_text('<xml/>')
    (tmp_path / 'data' / 'README.txt').write_text('read me')
    assert counts(tmp_path) == (('ant', 'bee'), {'train': 4, 'test': 4})


def test_classes_may_be_called_like_splits(tmp_path):
    """Vehicles: train is a class beside bus, as its folder holds images."""
    write(tmp_path, 'bus/1.jpg', 'car/1.jpg', 'train/1.jpg', 'train/2.jpg')
    assert counts(tmp_path) == (('bus', 'car', 'train'), {'train': 4})
    write_splits(tmp_path / 'split', 'train', 'val', classes=('bus', 'train', 'test tube'))
    assert counts(tmp_path / 'split') == (('bus', 'test tube', 'train'), {'train': 6, 'val': 6})


def test_folders_in_a_class_are_its_own(tmp_path):
    write(tmp_path, 'ant/red/1.jpg', 'ant/black/deep/1.jpg', 'bee/1.jpg')
    assert counts(tmp_path) == (('ant', 'bee'), {'train': 3})


@pytest.mark.parametrize(('paths', 'message'), [
    (('train/1.jpg', 'test/1.jpg'), 'test, train hold images in no class folder'),
    (('train/1.jpg',), 'train hold images in no class folder'),
    (('Train/a/1.jpg', 'Train/b/1.jpg', 'train/a/1.jpg', 'train/b/1.jpg'), 'are one split several times'),
    (('val/a/1.jpg', 'valid/b/1.jpg', 'train/a/1.jpg', 'train/b/1.jpg'), 'train, val, valid in .* are one split'),
    (('trainA/a/1.jpg', 'trainB/a/1.jpg'), 'trainA, trainB in .* are one split several times'),
    (('cats_train/a/1.jpg', 'dogs_test/a/1.jpg'), 'cats_train, dogs_test in .* look like splits, but'),
    (('test/a/1.jpg', 'val/a/1.jpg'), 'val holds 1 class folder; allowed: at least 2'),
    (('val/a/1.jpg', 'val/b/1.jpg', 'test/c/1.jpg'), 'test/c is a class that is not in val; the nearest'),
    (('test/images/1.jpg', 'test/images/2/1.jpg'), 'has images of no known class alone: in test'),
    (('train/a/1.jpg', 'test/a/1.jpg', 'extra/1.jpg'), 'holds test, train, which look like splits, beside extra;'),
    (('train/a/1.jpg', 'train/b/1.jpg', 'bus/1.jpg'), 'beside bus;'),
    (('train/a/1.jpg', 'train/b/1.jpg', 'trainval/a/1.jpg'), 'beside trainval;'),
    (('train/a/1.jpg', 'train/b/', 'test/a/1.jpg'), 'class folder .*/train/b is empty'),
    (('train/a/1.jpg', 'train/b/x/y/', 'test/a/1.jpg'), 'class folder .*/train/b is empty'),
    (('train/a/1.jpg', 'train/b/1.jpg', 'test/A/1.jpg'), 'test/A is a class that is not in train; the nearest is a'),
    (('train/a/1.jpg', 'train/b/1.jpg', 'test/c/1.jpg'), 'test/c is a class that is not in train'),
    (('train/a/1.jpg', 'train/b/1.jpg', 'test/1.jpg', 'test/a/1.jpg'), r'test/1\.jpg lies in no class folder'),
    (('train/a/1.jpg', 'train/A/1.jpg'), "folders 'A' and 'a' have the same name"),
    (('a/1.jpg', '  /1.jpg'), "class folder '  ' has a name that cannot be printed"),
    (('a/1.jpg', 'b/1.jpg', '1.jpg'), r'1\.jpg lies in no class folder'),
    (('a/1.jpg',), 'holds 1 class folder; allowed: at least 2'),
    (('deep/a/1.jpg',), 'holds 1 class folder; allowed: at least 2'),
    (('.hidden/1.jpg', '__MACOSX/1.jpg'), 'holds 0 class folders'),
])  # fmt: skip
def test_folders_that_are_not_understood_are_named(paths, message, tmp_path):
    write(tmp_path, *paths)
    with pytest.raises(InputError, match=message) as caught:
        open_source(f'folder:{tmp_path}')
    assert (len(str(caught.value).splitlines()) == 1 and str(tmp_path) in str(caught.value)) or 'hold images' in message  # fmt: skip


@pytest.mark.parametrize(('sizes', 'fraction', 'held'), [
    ((1, 2, 3, 10), 0.1, (0, 1, 1, 1)),
    ((1, 2, 3, 10), 0.9, (0, 1, 2, 9)),
    ((2, 2), 0.001, (1, 1)),
    ((2, 2), 0.999, (1, 1)),
    ((100, 5), 0.2, (20, 1)),
    ((100, 5), 0.04, (4, 1)),
])  # fmt: skip
def test_of_each_class_some_are_held_out_and_some_left(sizes, fraction, held, tmp_path):
    for label, size in enumerate(sizes):
        write(tmp_path, *(f'{label}/{number:03d}.jpg' for number in range(size)))
    splits = with_val_split(open_source(f'folder:{tmp_path}'), fraction).splits
    for label, (size, expected) in enumerate(zip(sizes, held, strict=True)):
        assert (splits['val'].labels == label).sum() == expected
        assert (splits['train'].labels == label).sum() == size - expected
    assert not set(splits['val'].paths) & set(splits['train'].paths)
    again = with_val_split(open_source(f'folder:{tmp_path}'), fraction).splits
    assert again['val'].paths == splits['val'].paths
    with pytest.raises(InputError, match='has no images for validation'):
        with_val_split(open_source(f'folder:{tmp_path}'), 0.0)


def test_of_classes_of_one_image_none_can_be_held_out(tmp_path):
    write(tmp_path, 'a/1.jpg', 'b/1.jpg')
    with pytest.raises(InputError, match=r'leaves 2 to train and 0 for validation'):
        with_val_split(open_source(f'folder:{tmp_path}'), 0.5)


def test_the_summary_names_the_classes_and_what_is_held_out(tmp_path, capsys):
    write_splits(tmp_path / 'images', 'Train', 'Test')
    words = [
        f'--source=folder:{tmp_path}/images', f'--out={tmp_path}/set', '--size=16', '--workers=1',
    ]  # fmt: skip
    assert prepare.main([*words, '--val_fraction=0.1']) == 0
    printed = capsys.readouterr().out
    assert '2 classes: ant, bee\n' in printed and '2 train, 4 test, 2 val' in printed
    assert '--val_fraction=0.1 holds out 2 of 4 training images' in printed
    assert image_set.open_set(tmp_path / 'set').classes == ('ant', 'bee')
    names = tuple(f'class {n:02d}' for n in range(12))
    write_splits(tmp_path / 'more', 'train', 'val', classes=names)
    words = [
        f'--source=folder:{tmp_path}/more', f'--out={tmp_path}/set2', '--size=16', '--workers=1',
    ]  # fmt: skip
    assert prepare.main(words) == 0
    assert f'12 classes: {", ".join(names[:10])}, ...\n' in capsys.readouterr().out
