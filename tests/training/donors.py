"""Nets to start from, made in no time."""

import functools

import jax
import numpy as np
from jax.sharding import Mesh

from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment import config_file
from alexnet_jax.experiment.model import Model
from alexnet_jax.network import device_mesh, inference
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.layers import Architecture, BatchNorm, Conv, Dense, MaxPool, Output, Relu
from alexnet_jax.training import step, warm_start

STAGES = (Relu(), BatchNorm(), MaxPool())
ROWS = (Conv('conv1', 8, 3, then=STAGES), Conv('conv2', 8, 3, reads_all=True), Dense('fc3', 16))
TINY = Architecture('tiny', 12, 2, ROWS, Output('fc4'))
DEEPER = Architecture(
    'deeper', 12, 2,
    (*ROWS[:2], Conv('conv2b', 8, 3, padding=(1, 1), reads_all=True), ROWS[2]), Output('fc4'),
)  # fmt: skip
NAMES = tuple('abcdefghij')
MEAN, ONES = np.float32([120, 110, 100]), np.ones(3, np.float32)


@functools.cache
def variables_of(net: Architecture, classes: int, seed: int):
    """Values from NumPy, which need no compiling; variances are positive."""
    random = np.random.default_rng(seed)
    return jax.tree.map(
        lambda like: np.abs(random.standard_normal(like.shape).astype(np.float32)),
        inference.variable_shapes(AlexNet(net, classes)),
    )


def state_of(net: Architecture, classes: int = 10, seed: int = 0, mesh: Mesh | None = None):
    """A state at step 0 with such values."""
    variables = variables_of(net, classes, seed)
    state = step.start_from(variables['params'], variables['batch_stats'])
    module = AlexNet(net, classes)
    return jax.device_put(state, step.state_shardings(module, mesh or device_mesh.make_mesh()))


def facts(net: Architecture, classes=NAMES, mean=MEAN, scale=ONES) -> warm_start.Facts:
    return warm_start.Facts(net, tuple(classes), mean, scale)


def layers_of(net: Architecture, classes: int = 10) -> warm_start.Layers:
    layers: warm_start.Layers = {}
    for tree in variables_of(net, classes, 1).values():
        for layer, parts in tree.items():
            layers.setdefault(layer, {}).update(parts)
    return layers


def donor(theirs: warm_start.Facts) -> warm_start.Donor:
    return warm_start.Donor('theirs', layers_of(theirs.net, len(theirs.classes)), theirs)


def warm(state, own: warm_start.Facts, other: warm_start.Donor, named=()):
    values, lines = warm_start.choose(own, other, named)
    return warm_start.put(state, values), lines


def model_of(net: str, classes: int, at_step: int = 0, **changes: str) -> Model:
    settings = {'network.name': net, 'data.record_size': '32'}
    settings |= {name.replace('__', '.'): text for name, text in changes.items()}
    config = config_file.load(None, settings)
    table = configuration.network_of(config)
    names = tuple(f'class {label}' for label in range(classes))  # as the synthetic set has them
    scale = np.float32([50, 60, 70]) if changes else ONES
    variables = variables_of(table, classes, 1)
    return Model(
        config,
        AlexNet(table, classes, precision='highest'),
        names,
        True,
        variables,
        MEAN,
        scale,
        at_step,
    )
