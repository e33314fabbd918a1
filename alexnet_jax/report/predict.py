"""Predictions for images, as text, JSON, CSV and a picture."""

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
MOST_DRAWN = 40  # images of the picture
LONGEST = 1000  # characters of a path


def predict(config: Config, workdir: Path, files: Sequence[Path]) -> bool:
    """Prints and stores the five most probable classes of each image.

    Writes predictions.json, predictions.csv and a picture to WORKDIR/predict. Images that cannot be
    read are reported and stored with their errors. Returns whether all images could be read.

    Args:
      files: images, and folders and lists of images as in `stimuli.find`.

    Raises:
      InputError: as `trained.open_model`; a folder or list has no images.
      NotFiniteError: the net returns values that are not finite.
      StorageError: the predictions cannot be written; they were printed before.
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
        print('\n'.join(lines_of(row)), flush=True)
        if len(drawn) < MOST_DRAWN:
            drawn.append(_drawn(file, images[augment.MIDDLE[views]], row))
    if not drawn:
        return False  # nothing could be read; earlier predictions stay
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
    """Returns the named images, and those of the named folders and lists."""
    found = []
    for file in files:
        is_one = not os.path.isdir(file) and file.suffix.lower() != stimuli.LIST
        found += [file] if is_one else [one.path for one in stimuli.find([file])]
    return found


def _ranked(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
    """Yields a row for each image and rank, none for an image that could not be read."""
    for row in rows:
        for rank, entry in enumerate(row.get('predictions', ()), start=1):
            yield row['image'], rank, *(entry[name] for name in ENTRY)


@contextlib.contextmanager
def _written(folder: Path) -> Iterator[None]:
    """Raises a `StorageError` if a file cannot be written."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f'{error.filename or folder} cannot be written: {error.strerror}'
        ) from error


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


def lines_of(row: dict[str, Any]) -> list[str]:
    """Returns the predictions of an image as text: its path, then a line for each class."""
    lines = [plain(row['image'], LONGEST)]
    for entry in row['predictions']:
        is_wordnet = entry['class'] in class_names.imagenet_classes()
        identifier = f' ({entry["class"]})' if is_wordnet else ''
        lines.append(f'  {entry["probability"]:.4f}  {plain(entry["name"])}{identifier}')
    return lines


def _drawn(file: Path, image: np.ndarray, row: dict[str, Any]) -> Prediction:
    classes = [(entry['name'], entry['probability']) for entry in row['predictions']]
    return Prediction(image, plain(file.name), classes)
