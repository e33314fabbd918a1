"""Saves activations of a trained net for any images: a set, or files without labels."""

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.data.image_set import ImageSet, SomeRecords, is_whole, open_set
from alexnet_jax.evaluation import arrays, evaluate, feature_parts
from alexnet_jax.evaluation.evaluate import Outputs, Reading
from alexnet_jax.evaluation.feature_files import FeatureFiles
from alexnet_jax.evaluation.feature_parts import Part
from alexnet_jax.experiment import build, results, stimuli, trained
from alexnet_jax.experiment.defaults import Config
from alexnet_jax.experiment.model import Model
from alexnet_jax.network import inference
from alexnet_jax.network.shapes import activation_shapes
from alexnet_jax.runtime.errors import (
    InputError,
    StopRequestedError,
    counted,
    nearest,
    plain,
    shown,
)

LONGEST_PATH = 1000  # characters in a message
POOLS = {'mean': np.mean, 'max': np.max}


@dataclasses.dataclass(frozen=True)
class Request:
    """Activations to save for each image.

    layers: names of activations. pool: 'mean' or 'max' over the positions of a map; '' for all
    positions.
    dtype: 'float32' or 'float16'.
    """

    layers: tuple[str, ...]
    pool: str = ''
    dtype: str = 'float32'

    def shapes(self, model: Model, views: int) -> dict[str, tuple[int, ...]]:
        """Returns the shape of an image's row in each array; [views, ...] for several views.

        Raises:
          InputError: the net has no such activation, or one is named twice.
        """
        known = activation_shapes(model.net.architecture, len(model.classes))
        for name in self.layers:
            if name not in known:
                raise InputError(
                    f'--layers has {shown(name)}; the nearest is {nearest(name, known)};'
                    f' the net has: {", ".join(known)}'
                )
            if self.layers.count(name) > 1:
                raise InputError(f'--layers has {name} twice; allowed: each once')
        first = (views,) if views > 1 else ()
        return {
            name: first + (known[name][-1:] if self.pool else known[name]) for name in self.layers
        }

    def rows(self, batch: Outputs) -> dict[str, np.ndarray]:
        """Returns the rows [images, ...] of a batch, by layer."""
        found = {}
        for name in self.layers:
            values = batch.activations[name]  # [images, views, ..., maps]
            places = tuple(range(2, values.ndim - 1))
            if self.pool and places:
                values = POOLS[self.pool](values, axis=places)
            found[name] = values[:, 0] if values.shape[1] == 1 else values
        return found


def outputs(
    model: Model, images: ImageSet, split: str, reading: Reading, layers: Sequence[str],
    numbers: range | None = None,
) -> Generator[Outputs]:  # fmt: skip
    """Runs the net on all images of a split, or on those with the given numbers.

    Raises as `evaluate.run`."""
    forward = inference.make_forward(model.net, reading.mesh, model.mean, model.scale, layers)
    variables = inference.place_variables(model.net, reading.mesh, model.variables)
    if numbers is not None:
        some = SomeRecords(images.splits[split], numbers)
        images = dataclasses.replace(images, splits={split: some})
    batches = evaluate.read(images, split, reading)
    return evaluate.run(forward, variables, batches, split, len(images.splits[split]))


@dataclasses.dataclass(frozen=True)
class Source:
    """Images for feature extraction.

    about: their identity, for about.json and for resuming. skipped: the reasons, by id, of images
    that could not be read so far.
    """

    images: ImageSet
    split: str
    about: Mapping[str, Any]
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)


def open_source(words: Sequence[str], config: Config, skip_bad: bool = False) -> Source:
    """Opens the images that a command names.

    They are files, folders and lists (`stimuli.find`), one prepared set, or, without words, the
    configured set. Their classes need not be the net's.

    Raises:
      InputError: they are not available.
    """
    if words and not (len(words) == 1 and is_whole(Path(words[0]))):
        return _of_files(words, config, skip_bad)
    images = open_set(Path(words[0])) if words else build.open_images(config)
    split = build.held_out_split(config, images)
    if not len(images.splits[split]):
        raise InputError(
            f'the {split} split of {words[0] if words else config.data.source} is empty'
        )
    source = words[0] if words else config.data.source
    about = {'source': source, 'set': words[0] if words else results.set_of(config)}
    return Source(images, split, about | {'split': split, 'data': dict(images.identity)})


def _of_files(words: Sequence[str], config: Config, skip_bad: bool) -> Source:
    found, skipped = stimuli.find(words), {}
    names = hashlib.sha256()
    for one in found:
        size = one.path.stat().st_size if one.path.is_file() else 0
        names.update(f'{one.id!a}\0{size}\n'.encode())

    def skip(row: int, reason: str) -> None:
        skipped[arrays.text_of(found[row].id)] = reason

    records = stimuli.Stimuli(
        found, config.data.record_size, config.data.resize, skip if skip_bad else None
    )
    about = {'source': 'files', 'files': names.hexdigest()[:16]}
    return Source(stimuli.as_set(records), stimuli.SPLIT, about, skipped)


def keep(
    model: Model,
    source: Source,
    config: Config,
    request: Request,
    out: Path,
    form: str,
    stop_requested: Callable[[], bool] = lambda: False,
    part: Part | None = None,
) -> str:
    """Saves features of every image in the folder `out`; resumes when called again after a stop.

    Args:
      config: how images are read: views, batches, threads, mesh.
      form: one of `feature_files.FORMS`.
      part: part of the images; `out` exists when all parts are complete.

    Returns:
      lines about the saved features and about each skipped image.

    Raises:
      InputError: as `Request.shapes`, `FeatureFiles`, `Part.span` and `feature_parts.join`; an
        image file cannot be read.
      RecordError: a record of a set cannot be read.
      StopRequestedError: a stop was requested; finished features are saved.
    """
    reading = trained.reading_of(model, config)
    shapes, views = request.shapes(model, reading.views), reading.views
    mirrored = reading.mirror and source.images.mirror
    about = {
        'network': model.net.architecture.name,
        'step': model.step,
        'run': model.identity.digest,
        'classes': list(source.images.classes or model.classes),
        'views': views,
        'distinct_views': views if mirrored or views == 1 else views // 2,
        'activations': {name: list(shape) for name, shape in shapes.items()},
        **source.about,
    }
    about |= dataclasses.asdict(request) | {'weights': _digest(model)}
    numbers, folder = range(len(source.images.splits[source.split])), out
    if part is not None:
        numbers = part.span(len(numbers), reading.batch_size // len(reading.mesh.devices))
        feature_parts.require_alike(out, part, about)
        folder = part.folder(out)
    if part is None or not any(map(feature_parts.is_whole, (out, folder))):
        which = {} if part is None else {feature_parts.PART: [part.index, part.count]}
        kept = FeatureFiles(folder, about | which, shapes, request.dtype)
        numbers = numbers[kept.state.images :]
        _fill(kept, model, source, reading, request, numbers, stop_requested)
        kept.finish(form) if part is None else kept.finish('npy', least=0)
    if part is None:
        return _described(out, request)
    feature_parts.join(out, part.count, about, shapes, request.dtype, form)
    try:
        return _described(folder, request)
    except InputError:  # it was deleted: all parts are joined
        return _described(out, request)


def _fill(
    kept: FeatureFiles, model: Model, source: Source, reading: Reading, request: Request,
    numbers: range, stop_requested: Callable[[], bool],
) -> None:  # fmt: skip
    """Adds the images with these numbers; finished ones are saved even after an error."""
    try:
        for batch in outputs(
            model, source.images, source.split, reading, request.layers, numbers
        ):  # fmt: skip
            names = arrays.as_text(batch.ids)
            kept.add(names, batch.labels, request.rows(batch), source.skipped)
            if stop_requested():
                raise StopRequestedError
    except BaseException:
        with contextlib.suppress(OSError):  # of a full disk, which caused the first error
            kept.close()
        raise


def _described(folder: Path, request: Request) -> str:
    """Returns lines about a folder of features and about each skipped image."""
    about = arrays.read_about(folder)
    lines = [f'{", ".join(request.layers)} of {counted(about["images"], "image")} -> {folder}']
    lines += [f'skipped: {plain(name, LONGEST_PATH)} {why}' for name, why in about['skipped']]
    return '\n'.join(lines)


def _digest(model: Model) -> str:
    """Returns a digest of the net's variables, because weight files of a net share identity and
    step.
    """
    found = hashlib.sha256()
    for layer, parts in sorted(model.layers.items()):
        for part, array in sorted(parts.items()):
            found.update(f'{layer}/{part}'.encode())
            found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]
