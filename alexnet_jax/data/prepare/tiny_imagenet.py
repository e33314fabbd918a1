"""Tiny ImageNet as it is distributed: one file has the labels of all validation images.

train/WNID/images/WNID_0.JPEG, train/WNID/WNID_boxes.txt
val/images/val_0.JPEG, val/val_annotations.txt
test/images/test_0.JPEG, without labels
"""

import os

from alexnet_jax.data.prepare import layout
from alexnet_jax.runtime.errors import InputError, nearest, plain, shown

ANNOTATIONS = 'val_annotations.txt'


def has_annotations(top: layout.Folder) -> bool:
    """Returns whether the labels of a split's images are in a file.

    Otherwise they are in the names of folders.
    """
    return (top / ANNOTATIONS).is_file() and (top / layout.IMAGES).is_dir()


def list_annotated(top: layout.Folder, classes: tuple[str, ...]) -> list[tuple[str, int, int]]:
    """Returns (path, label, bytes) of all annotated images of a split, ordered by class and path.

    Raises:
      InputError: a line names no image and class, a class that is not among `classes`, or an image
        that is missing or was named before; an image is in no line.
      OSError: a file cannot be read.
    """
    path, folder = top / ANNOTATIONS, top / layout.IMAGES
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f'{plain(path)} is no text: {error}') from error
    images = {os.path.relpath(image, folder): size for image, size in layout.walk_files(folder)}
    found = {}
    for number, line in enumerate(lines, start=1):
        where = f'{plain(path)}, line {number}'
        name, tab, rest = line.partition('\t')
        label = rest.partition('\t')[0]
        if not tab or not label:
            raise InputError(f'{where} is {shown(line)}; allowed: image, tab, class')
        if label not in classes:
            raise InputError(
                f'{where} has the class {shown(label)}, which is not in train;'
                f' the nearest is {nearest(label, classes)}'
            )
        if name not in images:
            raise InputError(f'{where} names {shown(name)}, which is not in {plain(folder)}')
        if name in found:
            raise InputError(f'{where} names {shown(name)} again; allowed: once')
        found[name] = classes.index(label)
    if missing := sorted(images.keys() - found):
        raise InputError(f'{plain(folder / missing[0])} is not in {plain(path)}')
    rows = [(str(folder / name), label, images[name]) for name, label in found.items()]
    return sorted(rows, key=lambda row: (row[1], row[0]))
