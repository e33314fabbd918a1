"""Tiny ImageNet as it is distributed: validation labels in a file, boxes beside the images."""

from pathlib import Path

import pytest

from alexnet_jax.data.prepare.sources import lacks_val, open_source
from alexnet_jax.runtime.errors import InputError
from tests.data.prepare.test_layout import IMAGE, write

ANT, BEE = 'n02219486', 'n02206856'
LINES = [f'val_{n}.JPEG\t{name}\t0\t32\t44\t62\n' for n, name in enumerate((ANT, BEE, ANT))]


def write_set(top: Path) -> Path:
    for name in (ANT, BEE):
        write(top, f'train/{name}/images/{name}_0.JPEG', f'train/{name}/images/{name}_1.JPEG')
        (top / 'train' / name / f'{name}_boxes.txt').write_text(f'{name}_0.JPEG\t0\t10\t63\t58\n')
    write(top, *(f'val/images/val_{n}.JPEG' for n in range(3)), 'test/images/test_0.JPEG')
    (top / 'val' / 'val_annotations.txt').write_text(''.join(LINES))
    (top / 'wnids.txt').write_text(f'{ANT}\n{BEE}\n')
    (top / 'words.txt').write_text(f'{ANT}\tant\n{BEE}\tbee\n')
    return top


@pytest.mark.parametrize('within', ['', 'archive/tiny-imagenet-200'])
def test_the_labels_of_validation_images_are_read_from_their_file(within, tmp_path):
    write_set(tmp_path / within)
    spec = f'folder:{tmp_path}'
    (tmp_path / within / 'val' / 'images' / 'Thumbs.db').write_bytes(b'left behind')
    source = open_source(spec)
    assert source.classes == (BEE, ANT) and not lacks_val(spec)
    assert source.splits.keys() == {'train', 'val'}  # images for testing have no labels
    before = f'{within}/' if within else ''
    val = source.splits['val']
    assert [val.id(row) for row in range(3)] == [
        f'{before}val/images/val_{n}.JPEG' for n in (1, 0, 2)
    ]  # by class
    assert val.labels.tolist() == [0, 1, 1]
    assert [source.splits['train'].id(row) for row in (0, 3)] == [
        f'{before}train/{BEE}/images/{BEE}_0.JPEG', f'{before}train/{ANT}/images/{ANT}_1.JPEG',
    ]  # fmt: skip
    assert len(source.splits['train']) == 4


def test_another_label_is_another_source(tmp_path):
    write_set(tmp_path)
    before = open_source(f'folder:{tmp_path}').version
    annotations = tmp_path / 'val' / 'val_annotations.txt'
    annotations.write_text(annotations.read_text().replace(ANT, BEE, 1))
    assert open_source(f'folder:{tmp_path}').version != before


def test_validation_images_moved_to_class_folders_are_class_folders(tmp_path):
    """As scripts for PyTorch leave the set, with or without what was there."""
    write_set(tmp_path)
    for n, name in enumerate((ANT, BEE, ANT)):
        write(tmp_path, f'val/{name}/val_{n}.JPEG')
        (tmp_path / 'val' / 'images' / f'val_{n}.JPEG').unlink()
    (tmp_path / 'val' / 'images').rmdir()
    source = open_source(f'folder:{tmp_path}')
    assert source.splits['val'].labels.tolist() == [0, 1, 1]
    (tmp_path / 'val' / 'val_annotations.txt').unlink()
    assert open_source(f'folder:{tmp_path}').splits.keys() == {'train', 'val'}


def test_a_class_may_be_called_images(tmp_path):
    write(tmp_path, *(f'{split}/images/1.jpg' for split in ('train', 'test')), 'train/text/1.jpg')
    assert open_source(f'folder:{tmp_path}').splits.keys() == {'train', 'test'}


@pytest.mark.parametrize(('number', 'line', 'message'), [
    (1, 'val_1.JPEG\n', r"val_annotations.txt, line 2 is 'val_1.JPEG'; allowed: image, tab, class"),
    (1, '\n', r"line 2 is ''; allowed"),
    (1, 'val_1.JPEG\tn02206857\n', r"line 2 has the class 'n02206857', which is not in train; the nearest is n02206856"),
    (1, f'../../x.JPEG\t{BEE}\n', r"line 2 names '../../x.JPEG', which is not in .*/val/images"),
    (1, LINES[0], r"line 2 names 'val_0.JPEG' again; allowed: once"),
    (2, '', r'val/images/val_2.JPEG is not in .*/val_annotations.txt'),
])  # fmt: skip
def test_annotations_that_cannot_be_are_named(number, line, message, tmp_path):
    write_set(tmp_path)
    lines = [*LINES[:number], line, *LINES[number + 1 :]]
    (tmp_path / 'val' / 'val_annotations.txt').write_text(''.join(lines))
    with pytest.raises(InputError, match=message) as caught:
        open_source(f'folder:{tmp_path}')
    assert len(str(caught.value).splitlines()) == 1


def test_annotations_that_are_no_text_are_named(tmp_path):
    write_set(tmp_path)
    (tmp_path / 'val' / 'val_annotations.txt').write_bytes(IMAGE)
    with pytest.raises(InputError, match=r'val_annotations.txt is no text'):
        open_source(f'folder:{tmp_path}')
