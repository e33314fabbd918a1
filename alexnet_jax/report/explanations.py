"""Attributions of images by a trained net, as arrays, pictures and JSON."""

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from alexnet_jax.data import class_names
from alexnet_jax.data.images import BadImageError
from alexnet_jax.evaluation import attribution
from alexnet_jax.evaluation.evaluate import log_softmax
from alexnet_jax.experiment.loading import load
from alexnet_jax.experiment.model import Model
from alexnet_jax.network.receptive_fields import ReceptiveField, receptive_fields
from alexnet_jax.network.shapes import activation_shapes, last_convolution
from alexnet_jax.report.figures import attributions
from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import InputError, NotFiniteError, nearest, plain, shown, unwritable

ABOUT = 'explanations.json'
LONGEST = 1000  # characters of a path
MOST_STEPS = 100_000  # of integrated gradients
Parameters = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Method:
    """The name of a method and the parameters that were set."""

    name: str
    given: Parameters


@dataclasses.dataclass(frozen=True)
class Explainer:
    """A method for one model.

    parameters: all parameters of the method, for JSON.
    attribute: (images, labels) -> the attribution, [batch, ...].
    over_pixels: (attribution) -> the drawn values, [batch, size, size].
    facts: (attribution of one image, label) -> additional numbers for JSON.
    """

    parameters: Parameters
    attribute: Callable[..., jax.Array]
    over_pixels: Callable[[np.ndarray], np.ndarray]
    facts: Callable[[np.ndarray, int], dict[str, float]] = lambda values, label: {}


def explain(
    source: Path, paths: Sequence[Path], method: Method, target: str | None, out: Path
) -> bool:
    """Writes attributions of a class of each image to the folder `out`.

    The class is `target`, or the most probable class of each image. Images that cannot be read are
    skipped. Returns whether all images could be read.

    Raises:
      InputError: the model cannot be loaded, has no such class or activation, or a parameter is
        not allowed; `out` belongs to another command. InputError, StorageError: as `unwritable`.
      NotFiniteError: the net returns values that are not finite; nothing is written.
    """
    model = load(source)
    label = None if target is None else label_of(model.classes, target)
    explainer = make(model, method)
    files.require_own_folder(out, ABOUT)
    about = {
        'model': str(source), 'network': model.net.architecture.name, 'step': model.step,
        'method': method.name, 'parameters': explainer.parameters,
    }  # fmt: skip
    about |= {'class': target, 'files': list(map(str, paths))}
    files.require_same_command(out / ABOUT, about)
    try:
        with files.new_folder(out) as made:
            rows = _rows(model, explainer, paths, label, made)
            if all('error' in row for row in rows):
                raise InputError('no image could be read; nothing is written')
            text = json.dumps(about | {'images': rows}, indent=2, allow_nan=False)
            (made / ABOUT).write_text(text + '\n', 'utf-8', 'backslashreplace')
    except OSError as error:
        raise unwritable(out, error) from error
    print(f'-> {out}/{ABOUT}')
    return all('error' not in row for row in rows)


def _rows(
    model: Model, explainer: Explainer, paths: Sequence[Path], label: int | None, folder: Path
) -> list[dict[str, Any]]:
    """Returns a row for each image; the attribution is compiled once."""
    logits_of = jax.jit(lambda images: model(images)[0])
    attribute = jax.jit(explainer.attribute)
    rows = []
    for number, path in enumerate(paths, start=1):
        try:
            images = model.read(path)
        except BadImageError as error:
            print(f'error: {error}', file=sys.stderr)
            rows.append({'image': str(path), 'error': error.reason})
            continue
        logits = np.asarray(logits_of(images), np.float64)[0]
        one = int(logits.argmax()) if label is None else label
        values = np.asarray(attribute(images, np.array([one])))
        if not (np.isfinite(logits).all() and np.isfinite(values).all()):
            raise NotFiniteError(
                f'the net at step {model.step} gives NaN or infinite values for'
                f' {plain(path, LONGEST)}; nothing is written',
                model.step,
            )
        probability = float(np.exp(log_softmax(logits)[one]))
        name = class_names.display_name(model.classes[one])
        rows.append({
            'image': str(path), 'label': one, 'class': model.classes[one], 'name': name,
            'probability': probability, 'logit': float(logits[one]),
            'attribution': f'{number}.npy', 'picture': f'{number}.png',
        } | explainer.facts(values[0], one))  # fmt: skip
        np.save(folder / f'{number}.npy', values[0])
        drawn = explainer.over_pixels(values)[0]
        attributions.draw(
            images[0], drawn, (path.name, f'{name} ({probability:.3f})'), folder / f'{number}.png'
        )
        print(f'{plain(path, LONGEST)}  {probability:.4f}  {plain(name)}', flush=True)
    return rows


def label_of(classes: Sequence[str], text: str) -> int:
    """Returns the number of a class from its name or its number.

    The name may be that of the set, the readable name or the short name.

    Raises:
      InputError: there is no such class.
    """
    readable = [class_names.display_name(name) for name in classes]
    for names in (list(classes), readable, class_names.short_names(classes)):
        if text in names:
            return names.index(text)
    if text.isascii() and text.isdigit() and len(text) < 10 and int(text) < len(classes):
        return int(text)
    close = nearest(text, [*classes, *class_names.short_names(classes)])
    raise InputError(
        f'--class is {shown(text)}; the nearest is {plain(close)}; allowed: the name of one of the'
        f" net's classes, or a number from 0 to {len(classes) - 1}"
    )


def make(model: Model, method: Method) -> Explainer:
    """Returns the method for a model, with the defaults of its parameters.

    Raises:
      InputError: a parameter is not allowed.
    """
    return {
        'gradcam': _grad_cam, 'occlusion': _occlusion, 'gradient': _gradient,
        'integrated': _integrated,
    }[method.name](model, method.given)  # fmt: skip


def _grad_cam(model: Model, given: Mapping[str, Any]) -> Explainer:
    layer = given.get('layer') or last_convolution(model.net.architecture)
    if layer is None:
        raise InputError('the net has no convolution; allowed: another --method')
    shapes = activation_shapes(model.net.architecture, len(model.classes))
    maps = [name for name, shape in shapes.items() if len(shape) == 3]
    if layer not in maps:
        raise InputError(
            f'--layer is {shown(layer)}; allowed: an activation with maps, one of {", ".join(maps)}'
        )
    field = receptive_fields(model.net.architecture)[layer]
    return Explainer(
        {'layer': layer},
        lambda images, labels: attribution.grad_cam(model, images, labels, layer),
        _spread_over(model, field),
    )


def _occlusion(model: Model, given: Mapping[str, Any]) -> Explainer:
    extent = model.net.architecture.input_size
    size = given.get('square', max(1, extent // 4))
    stride = given.get('stride', max(1, size // 4))
    _require_from_1('square', size, extent)
    _require_from_1('stride', stride, size)
    return Explainer(
        {'square': size, 'stride': stride, 'fill': 'mean'},
        lambda images, labels: attribution.occlusion(
            model, images, labels, model.mean, size, stride
        ),
        _spread_over(model, attribution.occlusion_field(extent, size, stride)),
    )


def _gradient(model: Model, given: Mapping[str, Any]) -> Explainer:
    return Explainer(
        {},
        lambda images, labels: attribution.gradient(model, images, labels),
        lambda values: np.abs(values).max(axis=-1),
    )


def _integrated(model: Model, given: Mapping[str, Any]) -> Explainer:
    steps = given.get('steps', 64)
    _require_from_1('steps', steps, MOST_STEPS)
    size = model.net.architecture.input_size
    baseline = np.broadcast_to(model.mean, (1, size, size, 3))
    logits = np.asarray(jax.jit(lambda images: model(images)[0])(baseline))[0]
    return Explainer(
        {'steps': steps, 'baseline': 'mean'},
        lambda images, labels: attribution.integrated_gradients(
            model, images, labels, model.mean, steps
        ),
        lambda values: values.sum(axis=-1),
        # Sum and baseline_logit add up to the logit, except for the error of the steps.
        lambda values, label: {
            'sum': float(values.sum(dtype=np.float64)),
            'baseline_logit': float(logits[label]),
        },
    )


def _spread_over(model: Model, field: ReceptiveField) -> Callable[[np.ndarray], np.ndarray]:
    extent = model.net.architecture.input_size
    return lambda values: attribution.spread(values, field, extent)


def _require_from_1(name: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise InputError(f'--{name} is {value}; allowed: from 1 to {most}')
