"""A trained net put to use as a configuration says: evaluated, its predictions kept."""

from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import numpy as np

from alexnet_jax import experiment, results
from alexnet_jax.config import IMAGES, Config
from alexnet_jax.data import class_names
from alexnet_jax.data.prepared import ImageSet
from alexnet_jax.errors import InputError
from alexnet_jax.evaluation import arrays, evaluate
from alexnet_jax.evaluation.evaluate import Outputs
from alexnet_jax.evaluation.tally import Tally
from alexnet_jax.model import Model, load
from alexnet_jax.network import columns, inference


def evaluate_workdir(config: Config, workdir: Path) -> None:
    """Evaluates a checkpoint of the workdir, prints the result and keeps it, and the
    predictions if the configuration says so.

    Raises:
      InputError: no such checkpoint, or it was trained by another configuration; the
        images cannot be had, or are of other classes.
    """
    model = open_model(config, workdir)
    tally, split = measure(model, config, workdir / 'eval' if config['eval.save'] else None)
    about = results.about(config, split, model.step)
    print(results.keep(workdir, about, tally, model.classes))


def open_model(config: Config, workdir: Path) -> Model:
    """The model of a workdir, at the configured step.

    Raises:
      InputError: as `model.load`; the workdir was trained by another configuration.
    """
    if workdir.is_dir():
        experiment.refuse_other(workdir, config, but=IMAGES)
    return load(workdir, config['eval.step'] or None)


def measure(model: Model, config: Config, save_in: Path | None = None) -> tuple[Tally, str]:
    """The model's errors on the configured images, and which split those are of. With
    `save_in`, its predictions go there, as SPLIT-VIEWS-predictions.

    Raises:
      InputError: the images cannot be had, or are of other classes.
    """
    images = experiment.open_images(config)
    split = experiment.held_out_split(config, images)
    require_same_classes(model, images, config['data.source'])
    outputs = run(model, config, images, split)
    if save_in is None:
        return evaluate.evaluate(outputs, len(model.classes)), split
    folder = predictions_folder(save_in, split, config['eval.views'])
    about = results.about(config, split, model.step) | {'classes': list(model.classes)}
    with arrays.writing(folder, len(images.splits[split]), about) as writer:
        keep = _keeper(writer, every_view=config['eval.save'] == 'views')
        return evaluate.evaluate(outputs, len(model.classes), keep), split


def predictions_folder(folder: Path, split: str, views: int) -> Path:
    return folder / f'{split}-{views}-predictions'


def _keeper(writer: arrays.Writer, every_view: bool) -> Callable[[Outputs, np.ndarray], None]:
    """Keeps probabilities in float16; those of the single views, from which an average is
    made again, in float32."""

    def keep(batch: Outputs, probabilities: np.ndarray) -> None:
        rows = {'probabilities': probabilities.mean(axis=1).astype(np.float16)}
        if every_view:
            rows['views'] = probabilities.astype(np.float32)
        writer.add(batch.ids, batch.labels, rows)

    return keep


def run(
    model: Model, config: Config, images: ImageSet, split: str, names: Sequence[str] = ()
) -> Generator[Outputs]:
    """What the model makes of every image of the split; `names`: the activations wanted."""
    mesh = columns.make_mesh(config['mesh.data'], config['mesh.column'])
    forward = inference.make_forward(model.net, mesh, model.mean, model.scale, names)
    variables = inference.place_variables(model.net, mesh, model.variables)
    size = model.net.architecture.input_size
    reading = experiment.reading_of(config, size, mesh, config['eval.views'])
    return evaluate.run(forward, variables, images, split, reading)


def require_same_classes(model: Model, images: ImageSet, source: str) -> None:
    """
    Raises:
      InputError: the set has other classes than the net.
    """
    if class_names.same(model.classes, images.classes):
        return
    if len(model.classes) != len(images.classes):
        raise InputError(
            f'data.source {source} has {len(images.classes)} classes; the net has'
            f' {len(model.classes)}'
        )
    pairs = zip(model.classes, images.classes, strict=True)
    label, (ours, theirs) = next(
        (label, pair) for label, pair in enumerate(pairs) if pair[0] != pair[1]
    )
    raise InputError(
        f'data.source {source} has other classes than the net: class {label} is {theirs!r} there'
        f' and {ours!r} in the net'
    )
