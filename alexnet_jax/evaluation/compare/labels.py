"""Class names of the images of a folder of features: its own, or from a table."""

import dataclasses
import math
from pathlib import Path

import numpy as np

from alexnet_jax.evaluation.arrays import ImageArrays
from alexnet_jax.evaluation.compare import features, softmax_regression
from alexnet_jax.evaluation.compare.csv_files import read_rows
from alexnet_jax.runtime import memory
from alexnet_jax.runtime.errors import InputError, counted, shown

HEADER = ['id', 'label']


@dataclasses.dataclass(frozen=True)
class LabeledImages:
    """The images of a folder that have a label.

    features: [images, ...]. labels: [images], names of classes. ids: [images].
    unlabeled: number of skipped images of the folder.
    """

    folder: Path
    layer: str
    features: np.ndarray
    labels: list[str]
    ids: list[str]
    unlabeled: int


def read(folder: Path, layer: str | None, table: dict[str, str] | None) -> LabeledImages:
    """Reads the features of a layer, and the labels of their images.

    Args:
      layer, table: as `features.layer` and `of_images` take them.

    Raises:
      InputError: as these; a probe on the features does not fit into the memory.
    """
    images = features.read(folder)
    values, name = features.layer(images, layer)
    places, names = of_images(images, table)
    needed = softmax_regression.memory_needed(len(places), math.prod(values.shape[1:]))
    memory.require(needed, f'a probe on {name} of {counted(len(places), "image")}')
    ids = [images.ids[place] for place in places.tolist()]
    left = len(images.ids) - len(places)
    return LabeledImages(folder, name, values[places], names, ids, left)


def read_table(path: Path) -> dict[str, str]:
    """Returns the label of each id in a .csv file with the header id,label.

    Raises:
      InputError: it cannot be read; a line has not two values; an id occurs twice.
    """
    try:
        rows = read_rows(path)
    except (OSError, ValueError) as error:
        raise InputError(f'--labels {path} cannot be read: {error}') from error
    if not rows or rows[0] != HEADER:
        found = shown(','.join(rows[0])) if rows else 'nothing'
        raise InputError(f'--labels {path} begins with {found}; allowed: {",".join(HEADER)}')
    labels: dict[str, str] = {}
    for row in rows[1:]:
        if len(row) != len(HEADER) or not row[1]:
            line = shown(','.join(row))
            raise InputError(f'--labels {path} has the line {line}; allowed: an id and a label')
        if row[0] in labels:
            raise InputError(f'--labels {path} has the id {shown(row[0])} twice; allowed: once')
        labels[row[0]] = row[1]
    return labels


def of_images(images: ImageArrays, table: dict[str, str] | None) -> tuple[np.ndarray, list[str]]:
    """Returns the places of the images that have a label, [labeled], and their class names.

    Args:
      table: a label by id; None: the folder's labels, of which -1 means none, by the names that
        about.json has for them.

    Raises:
      InputError: no image has a label.
    """
    if table is not None:
        names = [table.get(name) for name in images.ids]
    else:
        classes = images.about.get('classes')
        classes = classes if isinstance(classes, list) else []
        named = dict(enumerate(map(str, classes)))
        names = [named.get(n, str(n)) if n >= 0 else None for n in images.labels.tolist()]
    places = [place for place, name in enumerate(names) if name is not None]
    if not places:
        source = 'the table' if table is not None else 'labels.npy'
        raise InputError(f'{source} has no label for any image of {images.folder}')
    return np.array(places), [name for name in names if name is not None]
