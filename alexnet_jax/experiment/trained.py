"""Runs a trained net on the configured images: evaluation, averages with other nets, predictions."""

import dataclasses
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from alexnet_jax.data.image_set import ImageSet
from alexnet_jax.evaluation import arrays, ensemble, evaluate
from alexnet_jax.evaluation.ensemble import LOG_PROBABILITIES, Member
from alexnet_jax.evaluation.evaluate import Outputs
from alexnet_jax.evaluation.tally import Tally
from alexnet_jax.experiment import build, kept_config, results
from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment import workdir as workdirs
from alexnet_jax.experiment.defaults import TABLE, Config
from alexnet_jax.experiment.identity import WEIGHTS
from alexnet_jax.experiment.loading import load
from alexnet_jax.experiment.model import Model
from alexnet_jax.experiment.settings import IMAGES
from alexnet_jax.experiment.shared_classes import (
    SharedClasses,
    require_same_classes,
    shared_classes,
)
from alexnet_jax.network import device_mesh, inference
from alexnet_jax.network.inference import Variables
from alexnet_jax.runtime import multihost
from alexnet_jax.runtime.errors import InputError
from alexnet_jax.weights import pretrained, published


@dataclasses.dataclass(frozen=True)
class Showing:
    """A model, and the split of a set to evaluate it on.

    compute: the type of activations and products.
    shared: the positions of the set's classes among the model's; None if all classes are the same.
      The outputs are then restricted to the set's classes, in its order.
    """

    config: Config
    model: Model
    images: ImageSet
    split: str
    stop_requested: Callable[[], bool] = lambda: False
    compute: str = 'float32'
    shared: SharedClasses | None = None

    @property
    def count(self) -> int:
        """Number of images of the split."""
        return len(self.images.splits[self.split])

    @property
    def about(self) -> dict[str, Any]:
        """As `results.about`, and the classes."""
        return self._about | {'classes': list(self.classes)}

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the outputs."""
        return self.images.classes if self.shared else self.model.classes

    @property
    def _about(self) -> dict[str, Any]:
        mirror, data = self.model.mirror and self.images.mirror, self.images.identity
        run = self.model.identity
        about = results.about(self.config, self.split, self.model.step, mirror, data, run)
        if self.compute != 'float32':
            about |= {'compute': self.compute}
        if self.shared:
            about |= {'class_rule': self.shared.rule, 'net_labels': list(self.shared.columns)}
        return about

    @property
    def is_of_own_set(self) -> bool:
        """Whether the images are of the set that the net was trained on, in any location.

        If the set is not known (imported weights), the settings are compared.
        """
        # But for the source, in a weight file.
        known = {name: text for name, text in self.model.data.items() if name != WEIGHTS}
        if known:
            return all(self.images.identity.get(name) == text for name, text in known.items())
        config, own = map(configuration.absolute_source, (self.config, self.model.config))
        return all(config[name] == own[name] for name in IMAGES)

    def which(self, workdir: Path) -> str:
        """Returns the end of a result's file name, as `results.which`, of a model of the workdir."""
        config, step = self.config, self.model.step
        is_last = not config.eval.step or step == workdirs.last_checkpoint(workdir)
        other_set = None if self.is_of_own_set else self.images.identity
        step = None if is_last else step
        return results.which(step, config.data.source, other_set, self.compute)

    def keep(self, workdir: Path, tally: Tally) -> str:
        """Keeps the result in the workdir, as `results.keep`, and returns it as text.

        If it is of another type than float32, the text also has the result in float32.
        """
        about, which = self._about, self.which(workdir)
        text = results.keep(workdir, about, tally, self.classes, which, self.config.eval.top_k)
        if self.compute == 'float32':
            return text
        which = dataclasses.replace(self, compute='float32').which(workdir)
        return f'{text}\n{results.float32_result(workdir, about, which)}'

    def outputs(self, names: Sequence[str] = ()) -> Generator[Outputs]:
        """Yields the model's outputs for every image; `names`: the activations wanted."""
        return self.runner(names)(self.model.variables)

    def runner(self, names: Sequence[str] = ()) -> Callable[..., Generator[Outputs]]:
        """Returns a function (variables, images, split) -> outputs, compiled once.

        It accepts any variables of the net and any images, by default these.
        """
        model, mesh = self.model, mesh_of(self.config)
        net = model.net.clone(compute=self.compute)
        forward = inference.make_forward(net, mesh, model.mean, model.scale, names)

        def run(
            variables: Variables, images: ImageSet = self.images, split: str = self.split
        ) -> Generator[Outputs]:
            placed = inference.place_variables(model.net, mesh, variables)
            outputs = self._over(forward, placed, images, split)
            return evaluate.restricted(outputs, self.shared.columns) if self.shared else outputs

        return run

    def lesioned(self, layer: str) -> Callable[[np.ndarray, ImageSet], Generator[Outputs]]:
        """Returns a function (masks, images) -> the outputs of the split of these images.

        Their activations are 'lesioned', [images, views, lesions, classes], as
        `inference.make_lesioned` computes them; compiled once for as many masks.
        """
        model, mesh = self.model, mesh_of(self.config)
        net = model.net.clone(compute=self.compute)
        forward = inference.make_lesioned(net, mesh, model.mean, model.scale, layer)
        placed = inference.place_variables(model.net, mesh, model.variables)
        return lambda masks, images: self._over(forward, (placed, masks), images, self.split)

    def _over(
        self, forward: evaluate.Forward, given: Any, images: ImageSet, split: str
    ) -> Generator[Outputs]:
        """Runs `forward` on each batch of the images."""
        batches = evaluate.read(images, split, reading_of(self.model, self.config))
        outputs = evaluate.run(forward, given, batches, split, len(images.splits[split]))
        return multihost.until_stopped(outputs, self.stop_requested)

    def tally(
        self, keep: Callable[[Outputs, np.ndarray], None] = lambda outputs, log_probabilities: None
    ) -> Tally:
        """Returns the errors over all images; `keep`: as in `evaluate.evaluate`."""
        return evaluate.evaluate(self.outputs(), len(self.classes), keep)


def reading_of(model: Model, config: Config) -> evaluate.Reading:
    """Returns how images are read for a model; the model's settings decide about mirrored views."""
    size = model.net.architecture.input_size
    reading = build.reading_of(config, size, mesh_of(config), config.eval.views)
    return dataclasses.replace(reading, mirror=model.mirrored)


def mesh_of(config: Config) -> Mesh:
    """Returns the configured mesh, by default a data-parallel one without communication."""
    data, column = config.mesh.data, config.mesh.column or 1
    return device_mesh.make_mesh(data or max(1, device_mesh.devices_to_use() // column), column)


def open_model(config: Config, workdir: Path) -> Model:
    """Opens the model of a workdir, at the configured step.

    Raises:
      InputError: as `loading.load`; the workdir was trained by another configuration.
    """
    if workdirs.last_checkpoint(workdir) is None:
        raise InputError(f'--workdir {workdir} holds no checkpoints; train there first')
    # The net is the workdir's own, even if its name now has another table.
    workdirs.refuse_other(workdir, config, but=(*IMAGES, TABLE))
    return load(workdir, config.eval.step or None, asked_as='eval.step')


def open_any(source: Path, overrides: Mapping[str, str]) -> tuple[Model, Config]:
    """Returns a model, and the configuration to use it with.

    The model is of a workdir, a weight file or a name of `weights/published.py`.

    Args:
      overrides: settings, as text.

    Raises:
      InputError: as `kept_config.of_workdir`, `open_model` and `loading.load`.
    """
    path = published.local(source)
    if not pretrained.is_weight_file(path):
        if not (path / 'config.json').exists():
            load(path)  # which raises the error
        config = kept_config.of_workdir(path, overrides)
        return open_model(config, path), config
    model = load(path, overrides=overrides)
    return model, configuration.absolute_source(model.config)


def show(
    config: Config,
    workdir: Path,
    stop_requested: Callable[[], bool] = lambda: False,
    allow_some_classes: bool = False,
) -> Showing:
    """Opens the model of a workdir and the configured images, as `show_to`.

    Raises:
      InputError: as `open_model` and `show_to`.
    """
    model = open_model(config, workdir)
    return show_to(model, config, stop_requested, allow_some_classes)


def show_to(
    model: Model,
    config: Config,
    stop_requested: Callable[[], bool] = lambda: False,
    allow_some_classes: bool = False,
) -> Showing:
    """Opens the configured images for a model.

    Args:
      allow_some_classes: whether the set may have a subset of the model's classes, or another
        order.

    Raises:
      InputError: the images are not available, or have other classes.
    """
    images = build.open_images(config)
    split = build.held_out_split(config, images)
    source, shared = config.data.source, None
    if allow_some_classes:
        shared = shared_classes(model.classes, images.classes, source)
    else:
        require_same_classes(model.classes, images.classes, source)
    if not len(images.splits[split]):
        raise InputError(f'the {split} split of data.source {source} has no images')
    return Showing(config, model, images, split, stop_requested, shared=shared)


def evaluate_workdir(
    config: Config, workdir: Path, stop_requested: Callable[[], bool] = lambda: False
) -> str:
    """Evaluates a checkpoint of the workdir, keeps the result and returns it as text.

    It keeps the predictions if configured.

    Raises:
      InputError: as `show`.
      StopRequestedError: a stop was requested.
    """
    with multihost.together():
        showing = show(config, workdir, multihost.agreed(stop_requested), allow_some_classes=True)
        showing = dataclasses.replace(showing, compute=config.eval.compute)
    multihost.require_alike(showing.images.identity)
    if not multihost.is_first():  # it takes part; only the first process saves results
        showing.tally()
        return ''
    tally = _keeping(showing, workdir) if config.eval.save else showing.tally()
    return showing.keep(workdir, tally)


def _keeping(showing: Showing, workdir: Path) -> Tally:
    """Saves probabilities in float32, and their logarithms, which do not underflow; if configured,
    also those of the single views, which allow other averages.
    """
    about, every_view = showing.about, showing.config.eval.save == 'views'
    result = results.place(workdir, about['split'], about['views'], showing.which(workdir))
    folder = result.with_name(f'{result.stem}-predictions')
    with arrays.writing(folder, about, showing.count) as writer:

        def keep(batch: Outputs, log_probabilities: np.ndarray) -> None:
            rows = {
                'probabilities': np.exp(log_probabilities).astype(np.float32),
                LOG_PROBABILITIES: ensemble.kept(log_probabilities),
            }
            if every_view:
                of_views = evaluate.log_softmax(batch.logits.astype(np.float64))
                rows['views'] = np.exp(of_views).astype(np.float32)
            writer.add(batch.ids, batch.labels, rows)

        return showing.tally(keep)


def average(
    members: Sequence[tuple[Path, Config | None]], weights: Sequence[float], out: Path
) -> str:
    """Averages the probabilities of several nets, and evaluates the average and each net.

    The errors are written to `out` like evaluations, and as ensemble.md and ensemble.json, and
    returned as text.

    Args:
      members: workdirs with their configurations, or saved predictions with None.

    Raises:
      InputError: as `show`; the members are not of the same images, views and classes;
        `out` cannot be written.
    """
    result = ensemble.average((_member(*member) for member in members), weights)
    page = ensemble.markdown(result)
    results.write_text(out / 'ensemble.md', page)
    results.write_json(out / 'ensemble.json', result.about | ensemble.tree(result))
    about = dict(result.about)
    classes = tuple(about.pop('classes'))
    which = results.which(None, about['source'], None, about.get('compute', 'float32'))
    top_k = next((config.eval.top_k for _, config in members if config), 5)
    return f'{page}\n{results.keep(out, about, result.together, classes, which, top_k)}'


def _member(path: Path, config: Config | None) -> Member:
    if config is None:
        return ensemble.saved_member(arrays.read(path))
    showing = show(config, path, allow_some_classes=True)
    ids, labels, kept = [], [], []

    def keep(batch: Outputs, log_probabilities: np.ndarray) -> None:
        ids.extend(arrays.as_text(batch.ids))
        labels.append(batch.labels)
        kept.append(ensemble.kept(log_probabilities))

    showing.tally(keep)
    return Member(str(path), showing.about, ids, np.concatenate(labels), np.concatenate(kept))
