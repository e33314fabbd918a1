"""Finds prepared sets by their source, or creates them."""

import hashlib
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from tensorflow_datasets.core import constants

from alexnet_jax.data import image_set
from alexnet_jax.data.images import CENTER_SQUARE
from alexnet_jax.data.own_source import is_own, without_folder
from alexnet_jax.data.prepare import engines, own, sources
from alexnet_jax.data.prepare.digits import open_digits
from alexnet_jax.data.prepare.make import QUALITY, Request, make_set
from alexnet_jax.data.prepare.shards import Encoding
from alexnet_jax.data.set_files import DATASET_INFO, PREPARED, read_about
from alexnet_jax.runtime import python_files, storage
from alexnet_jax.runtime.errors import InputError, plain, shown


def digits(size: int, data_dir: str | None = None) -> image_set.ImageSet:
    """Returns the handwritten digits as size×size records, prepared if they are not yet.

    Raises:
      InputError: `data_dir` cannot be written.
    """
    folder = find('digits', size, data_dir)
    if folder is None:
        request = Request('digits', Encoding(size, 'raw', QUALITY))
        place = usual_place('digits', size, data_dir)
        folder = make_set(request, place, open_digits, engines.one_by_one)
    return image_set.open_set(folder)


def of_source(
    spec: str, size: int, data_dir: str | None, resize: str = CENTER_SQUARE
) -> image_set.ImageSet:
    """Opens the set prepared of a source by a resize, as in `images.read_square`.

    Raises:
      InputError: there is none; the message has the command that prepares it.
    """
    folder = find(spec, size, data_dir, resize)
    if folder is None:
        fraction = sources.HOLD_OUT if sources.lacks_val(spec) else 0.0
        request = Request(
            sources.canonical(spec), Encoding(size, 'jpeg', QUALITY, resize), fraction
        )
        place = usual_place(spec, size, data_dir, resize)
        raise InputError(
            f'data.source {spec} is not prepared at {size} pixels'
            f' in {root(data_dir)} (data.resize {resize}); run:\n'
            + image_set.command(place, **request.options())
        )
    return image_set.open_set(folder)


def prepare_own(
    spec: str, size: int, data_dir: str | None, resize: str, say: Callable[[str], None]
) -> None:
    """Prepares a source of the user's own, FILE.py:NAME, to train on, if it is not yet.

    This process runs the file.

    Raises:
      InputError: as `make.make_set`; the set was made of a file that has changed since; there are
        no training images.
      StopRequestedError: a stop was requested; the same call resumes.
    """
    spec = sources.canonical(spec)
    folder = find(spec, size, data_dir, resize)
    if folder is not None:
        _require_unchanged(folder, spec)
        return
    place = usual_place(spec, size, data_dir, resize)
    request = Request(spec, Encoding(size, 'jpeg', QUALITY, resize))
    source = sources.open_source(spec)
    require_training_images(spec, source.splits)
    say(f'preparing {plain(spec)} -> {plain(place)}')
    try:
        make_set(request, place, lambda: source, engines.stoppable, say=say)
    except sources.NoValidationError as error:
        options: dict[str, Any] = request.options() | {'val_fraction': sources.HOLD_OUT}
        raise InputError(
            f'{error}. To take a share of the training images, run:\n'
            + image_set.command(place, **options)
        ) from error


def require_training_images(spec: str, splits: Collection[str]) -> None:
    """Refuses to train on a source whose splits are none for training.

    Raises:
      InputError: so it is.
    """
    if 'train' not in splits:
        raise InputError(
            f'data.source {plain(spec)} has no training images, only {" and ".join(splits)}: nets are'
            ' evaluated on it (--mode=eval)'
        )


def _require_unchanged(folder: Path, spec: str) -> None:
    path, _ = python_files.split(spec)
    if path.is_file() and not read_about(folder)['version'].startswith(own.file_digest(spec)):
        raise InputError(
            f'data.source {plain(spec)} has changed since {plain(folder)} was prepared of it; remove'
            ' that folder to prepare it again, or take another data.dir'
        )


def usual_place(spec: str, size: int, data_dir: str | None, resize: str = CENTER_SQUARE) -> Path:
    """Returns where the main command looks for a source's prepared set at first."""
    kind, _, rest = sources.canonical(spec).partition(':')
    name = f'{kind}-{Path(rest).name}-{_short_hash(rest)}' if kind == 'folder' else spec
    if is_own(spec):
        spec = sources.canonical(spec)
        name = f'{without_folder(spec)}-{_short_hash(spec)}'
    way = '' if resize == CENTER_SQUARE else f'-{resize}'
    return root(data_dir) / f'{re.sub(r"[^A-Za-z0-9._-]+", "-", name)}-{size}px{way}'


def root(data_dir: str | None) -> Path:
    """Returns the folder of prepared sets: `data_dir`, or one in TFDS's usual place.

    Raises:
      InputError: it begins with ~NAME, and there is no such user; as `storage.fetched`.
    """
    if data_dir and storage.is_url(data_dir):
        return storage.fetched(data_dir, 'data.dir', DATASET_INFO)
    if data_dir:
        try:
            return Path(data_dir).expanduser()
        except RuntimeError as error:
            raise InputError(f'data.dir is {shown(data_dir)}: {error}') from error
    return Path(constants.DATA_DIR).expanduser() / 'alexnet_jax'


def find(spec: str, size: int, data_dir: str | None, resize: str = CENTER_SQUARE) -> Path | None:
    """Finds the folder of the set prepared of a source at a size by a resize.

    It is `data_dir` itself or a folder in it.

    Raises:
      InputError: `data_dir` is a set of something else; several sets fit; there can be
        no such folder.
    """
    try:
        return _find(spec, size, data_dir, resize)
    except OSError as error:
        raise InputError(
            f'data.dir {plain(root(data_dir))} cannot be read: {error.strerror}'
        ) from error


def _find(spec: str, size: int, data_dir: str | None, resize: str) -> Path | None:
    top = root(data_dir)
    if image_set.is_whole(top):
        about = read_about(top)
        if not _is_of(about, spec, size, resize):
            place = usual_place(spec, size, str(top.parent), resize)
            held_out = {'val_fraction': sources.HOLD_OUT} if sources.lacks_val(spec) else {}
            raise InputError(
                f'data.dir {top} (resize {_resize_of(about)}) was prepared of {about["source"]} at'
                f' {about["size"]} pixels; data.source is {spec}, data.record_size {size},'
                f' data.resize {resize}. Such a set is prepared by:\n'
                + image_set.command(
                    place, sources.canonical(spec), size=size, resize=resize, **held_out
                )
            )
        return top
    place = usual_place(spec, size, data_dir, resize)
    if image_set.is_whole(place) and _is_of(read_about(place), spec, size, resize):
        return place
    others = [path.parent for path in sorted(top.glob(f'*/{PREPARED}'))]
    fitting = [folder for folder in others if _fits(folder, spec, size, resize)]
    if len(fitting) > 1:
        raise InputError(
            f'data.dir {top} holds several sets of {spec}: {", ".join(map(str, fitting))};'
            ' give one of them as data.dir'
        )
    return fitting[0] if fitting else None


def _fits(folder: Path, spec: str, size: int, resize: str) -> bool:
    try:
        return image_set.is_whole(folder) and _is_of(read_about(folder), spec, size, resize)
    except InputError:  # a damaged set of another source is skipped
        return False


def _is_of(about: dict[str, Any], spec: str, size: int, resize: str) -> bool:
    known = {about['source'], f'tfds:{about["version"]}'}
    made = (about['size'], _resize_of(about))
    return sources.canonical(spec) in known and made == (size, resize)


def _resize_of(about: dict[str, Any]) -> str:
    return about.get('resize', CENTER_SQUARE)  # older sets lack it: there was only one value


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:8]
