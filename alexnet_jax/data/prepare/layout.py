"""Which folders of a folder of images are splits, and which are classes."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alexnet_jax.data.prepare.remote_folder import RemoteFolder
from alexnet_jax.runtime.errors import InputError, plain

Folder = Path | RemoteFolder
SUFFIXES = ('.jpg', '.jpeg', '.png')
# Words in the name of a folder that make it a split.
WORDS = {
    'train': ('train', 'training', 'trainset'),
    'val': ('val', 'valid', 'validation', 'valset', 'dev'),
    'test': ('test', 'testing', 'testset'),
}
# Words beside those that mean nothing, and folders of images without labels.
FILLERS = ('set', 'data', 'dataset', 'images', 'image', 'imgs', 'img', 'split')
UNLABELED = ('pred', 'predict', 'prediction', 'unlabeled', 'unlabeled')
# What operating systems and archives leave behind.
LEFT_BEHIND = ('__macosx', '@eadir', 'thumbs.db', 'desktop.ini', '$recycle.bin')
# Of Tiny ImageNet: the only folder of images without classes, and files of bounding boxes.
IMAGES, BOXES = 'images', '_boxes.txt'
MOST_NAMED = 5


def splits_below(root: Folder) -> dict[str, Folder]:
    """Finds the folder of class folders of each split; without split folders, `train` alone.

    A set to evaluate on needs no `train`.

    A folder whose name says train, val or test, in any case and common spelling, is a split if
    it holds folders. A folder that holds nothing but one folder of folders stands for that one.

    Raises:
      InputError: it is unclear which folders are splits.
      OSError: a folder cannot be read.
    """
    top = _innermost(root)
    folders = folders_in(top)
    words = {path: word for path in folders if (word := _word(path))}
    found = {path: word for path, word in words.items() if folders_in(path)}
    if not found:
        if words and words.keys() == set(folders):
            raise InputError(f'{_named(words)} hold images in no class folder')
        return {'train': top}
    _refuse_unclear(top, found, [path for path in folders if path not in found])
    splits = {split: _innermost(path, split) for path, (split, _) in found.items()}
    if 'test' in splits and _lacks_labels(splits['test'], splits.get('train')):
        del splits['test']
    if not splits:
        raise InputError(f'{plain(top)} has images of no known class alone: in {_named(found)}')
    return {split: splits[split] for split in WORDS if split in splits}


def folders_in(top: Folder) -> list[Folder]:
    """Returns its folders in the order of their names, without what is left behind or hidden."""
    with _scanned(top) as entries:
        return sorted(
            top / entry.name for entry in entries if entry.is_dir() and not is_hidden(entry.name)
        )


def images_in(top: Folder) -> list[str]:
    """Returns the names of the images that lie directly in a folder, sorted."""
    with _scanned(top) as entries:
        return sorted(
            entry.name
            for entry in entries
            if not entry.is_dir() and not is_hidden(entry.name) and is_image(entry.name)
        )


def is_hidden(name: str) -> bool:
    """Returns whether a file is hidden, or one that operating systems leave behind."""
    return name.startswith('.') or name.lower() in LEFT_BEHIND


def is_image(name: str) -> bool:
    """Returns whether a name ends as those of images do."""
    return name.lower().endswith(SUFFIXES)


def _lacks_labels(top: Folder, train: Folder | None) -> bool:
    """Whether all images of a split are in one folder `images`, which is no class of train, as
    Tiny ImageNet's for testing."""
    if [path.name for path in folders_in(top)] != [IMAGES]:
        return False
    return not train or not (train / IMAGES).is_dir()


def _innermost(top: Folder, split: str = '') -> Folder:
    """Goes down as long as a folder holds nothing but one folder that holds folders, and is of no
    other split."""
    while not images_in(top):
        folders = folders_in(top)
        if len(folders) != 1 or images_in(folders[0]) or not folders_in(folders[0]):
            break
        word = _word(folders[0])
        if word and word[0] != split:
            break
        top = folders[0]
    return top


def _word(path: Folder) -> tuple[str, tuple[str, ...]] | None:
    """Returns the split that a folder's name speaks of, and the other words in it."""
    # A change of case or from letters to digits begins a word: TrainImages, val2017.
    text = re.sub(r'(?<=[a-z])(?=[A-Z])|(?<=[a-zA-Z])(?=\d)', ' ', path.name)
    words = [word for word in re.split(r'[\W_]+', text.lower()) if word and word not in FILLERS]
    found = [split for word in words for split, known in WORDS.items() if word in known]
    every = {word for known in WORDS.values() for word in known}
    others = tuple(word for word in words if word not in every)
    return (found[0], others) if len(found) == 1 else None


def _refuse_unclear(
    top: Folder, found: dict[Folder, tuple[str, tuple[str, ...]]], rest: list[Folder]
) -> None:
    """Checks that the folders of splits are clear.

    Raises:
      InputError: two folders are the same split; their names differ in more than the split;
        others beside them hold images.
    """
    advice = 'name the folders of classes train, val and test'
    splits = [split for split, _ in found.values()]
    if len(set(splits)) < len(splits):
        raise InputError(f'{_named(found)} in {plain(top)} are one split several times; {advice}')
    if len({others for _, others in found.values()}) > 1:
        raise InputError(
            f'{_named(found)} in {plain(top)} look like splits, but their names differ in more'
            f' than that; {advice}'
        )
    rest = [path for path in rest if not _is_unlabeled(path) and _holds_images(path)]
    if rest:
        raise InputError(
            f'{plain(top)} holds {_named(found)}, which look like splits, beside {_named(rest)};'
            f' {advice}, and move what is none of them'
        )


def _is_unlabeled(path: Folder) -> bool:
    return any(word in UNLABELED for word in re.split(r'[\W_]+', path.name.lower()))


def _holds_images(top: Folder) -> bool:
    if isinstance(top, RemoteFolder):
        found = top.files_below()
    else:
        found = (name for _, _, names in os.walk(top) for name in names)
    return any(is_image(name) and not is_hidden(name) for name in found)


def _named(paths: dict | list) -> str:
    names = [plain(path.name, 60) for path in paths]
    more = f' and {len(names) - MOST_NAMED} more' if len(names) > MOST_NAMED else ''
    return ', '.join(names[:MOST_NAMED]) + more


def _scanned(top: Folder) -> Any:
    """Returns what `os.scandir` returns."""
    return top.scandir() if isinstance(top, RemoteFolder) else os.scandir(top)


def walk_files(folder: Folder) -> Iterator[tuple[str, int]]:
    """Yields path and bytes of all files in a folder, however deep.

    Raises:
      InputError: something is neither a folder nor a regular file.
    """
    with _scanned(folder) as entries:
        for entry in entries:
            if is_hidden(entry.name) or entry.name.endswith(BOXES):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from walk_files(folder / entry.name)
            elif not entry.is_file():  # reading a pipe would block for ever
                raise InputError(f'{plain(entry.path)} is no file')
            else:
                yield entry.path, entry.stat().st_size
