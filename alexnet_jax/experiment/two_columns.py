"""Measures of the columns of a trained net, separately and together (docs/columns.md).

The paper discusses them with its Figure 3.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.data import augment
from alexnet_jax.data.image_set import sample
from alexnet_jax.evaluation import evaluate, lesions, selectivity, similarity
from alexnet_jax.evaluation.kernels import first_kernels
from alexnet_jax.evaluation.selectivity import Separation
from alexnet_jax.evaluation.tally import Tally
from alexnet_jax.experiment.model import Model
from alexnet_jax.experiment.trained import Showing
from alexnet_jax.network.layers import Architecture, Conv
from alexnet_jax.network.shapes import layer_shapes
from alexnet_jax.training import kernel_history

INDICES = {'color': selectivity.color_index, 'orientation': selectivity.orientation_index}
MOST_CUT = 5000  # images for ablated nets
MOST_COMPARED = 256  # images for comparisons of columns
HALVINGS = 20  # number of random halvings of a layer's maps


@dataclasses.dataclass(frozen=True)
class Similarity:
    """CKA of a layer's output between the first two columns, and between halves of all its maps.

    The halves are random, [HALVINGS]: their CKA is that of an arbitrary assignment of maps to
    columns.
    """

    layer: str
    columns: float
    halves: np.ndarray


def indices(kernel: np.ndarray) -> dict[str, np.ndarray]:
    """Returns {'color', 'orientation'} of conv1's parameter: [columns, kernels of a column]."""
    kernels = first_kernels(kernel)
    return {name: index(kernels) for name, index in INDICES.items()}


def separations(kernel: np.ndarray) -> dict[str, Separation]:
    """Compares the kernels of conv1's first two columns, by index.

    For comparison, one column's kernels are divided in two halves, which should not differ.
    """
    found = {
        name: np.array_split(values[0], 2) if len(values) == 1 else values[:2]
        for name, values in indices(kernel).items()
    }
    return {name: selectivity.separation(first, second) for name, (first, second) in found.items()}


def has_first_kernels(architecture: Architecture) -> bool:
    """Returns whether the first layer is a convolution, whose kernels can be drawn."""
    return isinstance(architecture.layers[0], Conv)


def kernel_of(model: Model) -> np.ndarray:
    """Returns conv1's parameter."""
    return np.asarray(model.variables['params'][model.net.architecture.layers[0].name]['kernel'])


def over_training(workdir: Path, model: Model) -> dict[int, np.ndarray]:
    """Returns conv1's parameter by step, for the saved steps."""
    kept = kernel_history.read(workdir / 'kernels', model.step)
    shape = kernel_of(model).shape
    return {step: kernel for step, kernel in kept.items() if kernel.shape == shape}


def cut(showing: Showing, runner: Any = None) -> dict[str, Tally]:
    """Returns errors of ablated nets, on the split or `MOST_CUT` of its images.

    These are the errors of the whole net, of each column alone, and without each crossing.

    Args:
      runner: runner of the showing, if it exists already.
    """
    net, whole = showing.model.net.architecture, showing.model.variables
    if net.columns == 1:
        return {}
    runner = runner or showing.runner()
    nets = {'whole net': whole}
    for column in range(net.columns):
        nets[f'column {column + 1} alone'] = lesions.column_alone(net, whole, column)
    for layer in lesions.crossings(net):
        nets[f'no crossing at {layer}'] = lesions.without_crossing(net, whole, layer)
    some = sample(showing.images.splits[showing.split], MOST_CUT)
    images = dataclasses.replace(showing.images, splits={showing.split: some})
    classes = len(showing.model.classes)
    return {
        name: evaluate.evaluate(runner(variables, images), classes)
        for name, variables in nets.items()
    }


def similarity_by_layer(showing: Showing) -> list[Similarity]:
    """Returns one row per layer, on at most `MOST_COMPARED` images of the split."""
    net = showing.model.net.architecture
    some = sample(showing.images.splits[showing.split], MOST_COMPARED)
    if net.columns == 1 or len(some) < 4:
        return []
    outputs = [
        list(row.activations)[-1] for row in layer_shapes(net, len(showing.model.classes))[:-1]
    ]
    images = dataclasses.replace(showing.images, splits={showing.split: some})
    kept: dict[str, list[np.ndarray]] = {name: [] for name in outputs}
    for batch in showing.runner(outputs)(showing.model.variables, images):
        for name in outputs:
            values = batch.activations[name]
            kept[name].append(values[:, augment.MIDDLE[values.shape[1]]])
    return [
        _alikeness(name.split('/')[0], np.concatenate(rows), net.columns)
        for name, rows in kept.items()
    ]


def _alikeness(layer: str, outputs: np.ndarray, columns: int) -> Similarity:
    """outputs: [images, ..., maps], with concatenated columns."""
    own = outputs.shape[-1] // columns
    both = outputs[..., : 2 * own]
    total = similarity.gram(both)

    def between(maps: np.ndarray) -> float:
        one = similarity.gram(both[..., maps])
        return similarity.cka(one, total - one)

    random = np.random.default_rng(0)
    halves = [between(random.permutation(2 * own)[:own]) for _ in range(HALVINGS)]
    return Similarity(layer, between(np.arange(own)), np.array(halves))
