"""What a trained net takes images for: as text, as JSON, as CSV and as a picture."""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from alexnet_jax.data import augment, class_names
from alexnet_jax.data.images import BadImageError
from alexnet_jax.evaluation.evaluate import log_mean, log_softmax
from alexnet_jax.experiment import stimuli, trained
from alexnet_jax.experiment.defaults import Config
from alexnet_jax.experiment.model import Model
from alexnet_jax.experiment.results import write_json
from alexnet_jax.report.figures import predictions
from alexnet_jax.report.figures.canvas import write_numbers
from alexnet_jax.report.figures.predictions import Prediction
from alexnet_jax.runtime.errors import NotFiniteError, StorageError, plain

TOP = 5
ENTRY = ('class', 'name', 'probability')  # of a prediction
MOST_DRAWN = 40  # images in the picture
LONGEST = 1000  # characters of a path


def predict(config: Config, workdir: Path, files: Sequence[Path]) -> bool:
    """Prints the five most probable classes of each image, and keeps them.

    They are in WORKDIR/predict/predictions.json and .csv, with a picture beside them. Returns
    whether all images could be read; those that could not are reported, and kept, too.

    Args:
      files: images, and folders and lists of images as in `stimuli.find`.

    Raises:
      InputError: as `trained.open_model`; a folder or list has no images.
      NotFiniteError: the net gives values that are not finite.
      StorageError: the predictions cannot be written; they are printed before.
    """
    model = trained.open_model(config, workdir)
    views = config.eval.views
    run = jax.jit(lambda images: model(images)[0])
    rows, drawn = [], []
    for file in _expanded(files):
        try:
            images = model.read(file, views)
        except BadImageError as error:
            print(f'error: {error}', file=sys.stderr)
            rows.append({'image': str(file), 'error': error.reason})
            continue
        log_probabilities = log_mean(log_softmax(np.asarray(run(images), np.float64)))
        if not np.isfinite(log_probabilities).all():
            raise NotFiniteError(
                f'the net of {workdir} at step {model.step} gives NaN or infinite values for'
                f' {plain(file, LONGEST)}',
                model.step,
            )
        row = {'image': str(file), 'predictions': top(model, log_probabilities)}
        rows.append(row)
        print('\n'.join(told(row)), flush=True)
        if len(drawn) < MOST_DRAWN:
            drawn.append(_drawn(file, images[augment.MIDDLE[views]], row))
    if not drawn:
        return False  # nothing was read: the predictions made before stay
    folder = workdir / 'predict'
    about = {'network': config.network.name, 'step': model.step, 'views': views}
    about['distinct_views'] = views if model.mirrored or views == 1 else views // 2
    write_json(folder / 'predictions.json', about | {'images': rows})
    with _written(folder):
        write_numbers(folder / 'predictions', ('image', 'rank', *ENTRY), _ranked(rows))
        predictions.draw(drawn, folder / 'predictions.png')
    print(f'-> {folder}/predictions.json, predictions.csv, predictions.png')
    return all('error' not in row for row in rows)


def _expanded(files: Sequence[Path]) -> list[Path]:
    """Returns the images that are named, and those in the folders and lists that are."""
    found = []
    for file in files:
        is_one = not os.path.isdir(file) and file.suffix.lower() != stimuli.LIST
        found += [file] if is_one else [one.path for one in stimuli.find([file])]
    return found


def _ranked(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
    """Yields a row an image and rank; an image that cannot be read has none."""
    for row in rows:
        for rank, entry in enumerate(row.get('predictions', ()), start=1):
            yield row['image'], rank, *(entry[name] for name in ENTRY)


@contextlib.contextmanager
def _written(folder: Path) -> Iterator[None]:
    """Turns a file that cannot be written into a `StorageError`."""
    try:
        yield
    except OSError as error:
        place = error.filename or folder
        raise StorageError(f'{place} cannot be written: {error.strerror}') from error


def top_labels(log_probabilities: np.ndarray) -> list[int]:
    """Returns the most probable labels, ties in the order of the classes."""
    return np.argsort(-log_probabilities, kind='stable')[:TOP].tolist()


def top(model: Model, log_probabilities: np.ndarray) -> list[dict[str, Any]]:
    """Returns the most probable classes with their probabilities."""
    return [
        {
            'class': model.classes[label],
            'name': class_names.display_name(model.classes[label]),
            'probability': float(np.exp(log_probabilities[label])),
        }
        for label in top_labels(log_probabilities)
    ]


def told(row: dict[str, Any]) -> list[str]:
    """Formats an image's predictions: its name, then a line a class."""
    lines = [plain(row['image'], LONGEST)]
    for entry in row['predictions']:
        english = entry['class'] in class_names.imagenet_classes()
        known_as = f' ({entry["class"]})' if english else ''
        lines.append(f'  {entry["probability"]:.4f}  {plain(entry["name"])}{known_as}')
    return lines


def _drawn(file: Path, image: np.ndarray, row: dict[str, Any]) -> Prediction:
    classes = [(entry['name'], entry['probability']) for entry in row['predictions']]
    return Prediction(image, plain(file.name), classes)
