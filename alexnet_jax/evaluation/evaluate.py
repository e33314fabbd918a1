"""Evaluates a net on every image of a split: outputs and errors."""

import dataclasses
import functools
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from alexnet_jax.data import pipeline
from alexnet_jax.data.image_set import ImageSet
from alexnet_jax.evaluation.tally import Tally
from alexnet_jax.network import checks, device_mesh
from alexnet_jax.runtime import heartbeat
from alexnet_jax.runtime.errors import counted

Forward = Callable[[Any, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]


@dataclasses.dataclass(frozen=True)
class Outputs:
    """Outputs of the net for a batch of images.

    ids, labels: [images]. logits: float32 [images, views, classes]. activations: by
    name, float32 [images, views, ...].
    """

    ids: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    activations: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Reading:
    """How a split is read.

    It has the side of the crops, the views per image, whether mirror images are among them (if the
    set allows it), the mesh, and the crops per device and batch. The views of an image are in the
    same batch.
    """

    size: int
    mesh: Mesh
    views: int = 1
    mirror: bool = True
    crops_a_device: int = 64
    threads: int = 2

    @property
    def batch_size(self) -> int:
        """Images per step; the number per device, and so the result, is the same on any mesh."""
        return max(1, self.crops_a_device // self.views) * len(self.mesh.devices)


def read(images: ImageSet, split: str, reading: Reading) -> Generator[dict[str, Any]]:
    """Returns the batches of a split in order, their images on the devices.

    Raises:
      RecordError: a stored image is damaged.
    """
    mesh = reading.mesh
    batches = pipeline.eval_batches(
        images,
        split,
        size=reading.size,
        batch_size=reading.batch_size,
        views=reading.views,
        mirror=reading.mirror,
        rows=device_mesh.rows_here(mesh, reading.batch_size),
        threads=reading.threads,
    )
    return pipeline.ahead(batches, functools.partial(_place, mesh))


def run(
    forward: Forward, variables: Any, batches: Iterable[dict[str, Any]], split: str, count: int
) -> Generator[Outputs]:
    """Returns the outputs of `inference.make_forward` for the batches of `read`, in order.

    Args:
      split: its name, for the heartbeat.
      count: number of its images.

    Raises:
      RecordError: as `read`.
      RuntimeError: the batches and the split have different numbers of images.
    """
    seen, late = 0, None  # read one batch later, so that the device does not wait for the host
    for batch in batches:
        if late is not None:
            yield _outputs(*late)
            heartbeat.beat(f'{split} image {seen}')
        late = batch, forward(variables, batch['image'])
        seen += int(batch['mask'].sum())
    if late is not None:
        yield _outputs(*late)
    heartbeat.slow(f'after the last {split} image')  # the next work is not a batch
    if seen != count:
        raise RuntimeError(f'evaluated {counted(seen, "image")} where there are {count}')


def restricted(outputs: Generator[Outputs], columns: Sequence[int]) -> Generator[Outputs]:
    """Returns the outputs with only the logits of these classes, in this order."""
    for batch in outputs:
        yield dataclasses.replace(batch, logits=batch.logits[..., list(columns)])


def _place(mesh: Mesh, batch: pipeline.Batch) -> dict[str, Any]:
    """Places the images on the devices; the other arrays stay on the host, gathered from all
    processes.
    """
    images = {'image': batch.pop('image')}
    return device_mesh.place_batch(mesh, images) | device_mesh.gather_rows(mesh, batch)


def _outputs(batch: dict[str, Any], made: tuple[jax.Array, dict[str, jax.Array]]) -> Outputs:
    mask = batch['mask']
    logits, activations = jax.tree.map(
        lambda x: np.asarray(x).reshape(len(mask), -1, *x.shape[1:])[mask], made
    )
    return Outputs(batch['id'][mask], batch['label'][mask], logits, activations)


def evaluate(
    outputs: Generator[Outputs],
    classes: int,
    keep: Callable[[Outputs, np.ndarray], None] = lambda outputs, log_probabilities: None,
) -> Tally:
    """Counts the errors of all outputs.

    For several views, these are the errors of the mean probabilities (§4.1).

    Args:
      keep: called with each batch's outputs and the logarithms of its mean probabilities,
        float64 [images, classes].

    Raises:
      ValueError: the outputs have other classes, or different numbers of images.
    """
    tally = Tally.zero(classes)
    for batch in outputs:
        keep(batch, add(tally, batch))
    return tally


def add(tally: Tally, batch: Outputs) -> np.ndarray:
    """Adds a batch to the tally and returns the logarithms of its mean probabilities.

    They are float64 [images, classes]; raises as `evaluate`.
    """
    classes = len(tally.examples)
    checks.require_shape('logits', batch.logits, len(batch.labels), 'views', classes)
    _require_labels(batch.labels, classes)
    of_views = log_softmax(batch.logits.astype(np.float64))
    log_probabilities = log_mean(of_views)
    tally.add(log_probabilities, batch.labels, _losses(of_views, batch.labels))
    return log_probabilities


@np.errstate(invalid='ignore')
def _losses(log_probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the losses of the mean probabilities: [images, views, classes], [images] -> [images]."""
    of_label = log_probabilities[np.arange(len(labels)), :, labels]
    return np.log(of_label.shape[1]) - np.logaddexp.reduce(of_label, axis=1)


@np.errstate(invalid='ignore')
def log_mean(log_probabilities: np.ndarray) -> np.ndarray:
    """Averages the probabilities over the views.

    Logarithms [..., views, classes] -> [..., classes].
    """
    largest = log_probabilities.max(axis=-2, keepdims=True)
    means = np.exp(log_probabilities - largest).mean(axis=-2)
    return largest[..., 0, :] + np.log(means)


def _require_labels(labels: np.ndarray, classes: int) -> None:
    checks.require_type('labels', labels, np.integer)
    outside = labels[(labels < 0) | (labels >= classes)]
    if outside.size:
        raise ValueError(f'a label is {outside[0]}; expected: from 0 to {classes - 1}')


@np.errstate(invalid='ignore')
def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Returns log-probabilities over the last axis.

    All are NaN where a logit is infinite or NaN.
    """
    from scipy import special  # takes as long to import as the rest of this package

    return special.log_softmax(np.where(np.isposinf(logits), np.nan, logits), axis=-1)
