"""Layers of a folder of features, and the order that matches the images of two sources by id."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alexnet_jax.evaluation import arrays
from alexnet_jax.evaluation.arrays import ImageArrays
from alexnet_jax.evaluation.inner_products import BLOCK
from alexnet_jax.runtime.errors import InputError, counted, nearest, plain, shown

OTHER_FORMS = ('features.array_record', 'features.safetensors')


def read(folder: Path) -> ImageArrays:
    """Reads a folder of features.

    Raises:
      InputError: as `arrays.read`; it holds records in place of arrays; two images have one id.
    """
    for name in OTHER_FORMS:
        if (folder / name).exists():
            raise InputError(f'{folder} holds {name}; keep the features with --form=npy')
    images = arrays.read(folder)
    twice = repeated(images.ids)
    if twice is not None:
        raise InputError(f'{folder} has the id {shown(twice)} twice; ids must differ')
    return images


def layers(images: ImageArrays) -> list[str]:
    """Returns the names of the arrays of a folder.

    They are in the order of the net where about.json has it.

    Raises:
      InputError: there are none.
    """
    named = images.about.get('activations')
    if isinstance(named, dict) and named:
        return list(named)
    found = sorted(path.stem for path in images.folder.glob('*.npy') if path.name != arrays.LABELS)
    if not found:
        raise InputError(f'{images.folder} holds no features')
    return found


def layer(images: ImageArrays, name: str | None, option: str = '--layer') -> tuple[np.ndarray, str]:
    """Returns the features of a layer, [images, ...], mapped from its file, and its name.

    Args:
      name: None: the only layer of the folder.
      option: the command-line option that a message names.

    Raises:
      InputError: there is no such layer, or several and no name; the file cannot be read, is not
        as it was written, or has numbers that are not finite.
    """
    known = layers(images)
    if name is None and len(known) > 1:
        raise InputError(f'{option} is needed: {images.folder} has {listed(known)}')
    if name is not None and name not in known:
        raise InputError(
            f'{option} is {shown(name)}; the nearest is {plain(nearest(name, known))};'
            f' {images.folder} has: {listed(known)}'
        )
    name = known[0] if name is None else name
    features = images.array(name)
    require_finite(features, images.ids, f'{images.folder}, {name}')
    return features, name


def chosen_layers(text: str | None, known: list[list[str]]) -> list[list[str]]:
    """Returns the layers of each of two folders that are to be compared.

    They are all, or those of the names that it has.

    Raises:
      InputError: neither folder has one of them; a folder has none.
    """
    if text is None:
        return known
    names = [name.strip() for name in text.split(',')]
    either = list(dict.fromkeys(known[0] + known[1]))
    for name in names:
        if name not in either:
            raise InputError(
                f'--layers has {shown(name)}; the nearest is {plain(nearest(name, either))};'
                f' the folders have: {listed(either)}'
            )
    chosen = [[name for name in names if name in layers] for layers in known]
    for layers, own in zip(known, chosen, strict=True):
        if not own:
            raise InputError(f'--layers has no layer of one of the folders: {listed(layers)}')
    return chosen


def listed(names: Sequence[str]) -> str:
    """Returns names as printable text, separated by commas."""
    return ', '.join(map(plain, names))


def require_finite(features: np.ndarray, ids: Sequence[str], place: str) -> None:
    """Checks that all features, [images, ...], are finite.

    Raises:
      InputError: those of an image are not; the message names it.
    """
    flat = features.reshape(len(features), -1)
    size = max(1, BLOCK // flat.shape[1])
    for first in range(0, len(flat), size):
        usable = np.isfinite(flat[first : first + size]).all(axis=1)
        if not usable.all():
            name = ids[first + int(np.argmin(usable))]
            raise InputError(f'{place}: image {shown(name)} has features that are not finite')


def repeated(ids: Sequence[str]) -> str | None:
    """Returns an id that is there twice; None: there is none."""
    name, times = Counter(ids).most_common(1)[0]
    return name if times > 1 else None


def order(first: Sequence[str], second: Sequence[str], names: tuple[str, str]) -> np.ndarray:
    """Returns the places in `second` of the ids of `first`, [images].

    `second[order]` has the images in the order of `first`.

    Args:
      first, second: ids, each once.
      names: what a message calls the two.

    Raises:
      InputError: they are not the same images.
    """
    places = {name: place for place, name in enumerate(second)}
    known = set(first)
    missing = [name for name in first if name not in places]
    more = [name for name in second if name not in known]
    if missing or more:
        raise InputError(
            f'{names[0]} and {names[1]} are not of the same images:'
            f' {_only(missing, names[0])}; {_only(more, names[1])}'
        )
    return np.array([places[name] for name in first])


def _only(ids: Sequence[str], name: str) -> str:
    which = f', such as {shown(ids[0])}' if ids else ''
    return f'{counted(len(ids), "id")} in {name} alone{which}'
