"""A workdir of a net that nobody has trained, made in no time."""

from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from alexnet_jax.data import pipeline
from alexnet_jax.experiment import build, config_file, exchange
from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment.model import Model
from alexnet_jax.network import inference
from alexnet_jax.network.alexnet import AlexNet

STEP = 60


def make(workdir: Path, overrides: Mapping[str, str], seed: int) -> Path:
    """A run of configs/digits.py whose weights are random numbers, large enough that the
    logits of different images lie apart."""
    config = config_file.load('configs/digits.py', dict(overrides))
    images = build.open_images(config)
    net = AlexNet(configuration.network_of(config), len(images.classes), precision='highest')
    random = np.random.default_rng(seed)

    def numbers(path, shape: jax.ShapeDtypeStruct) -> np.ndarray:
        layer, part = path[-2].key, path[-1].key
        spread = np.sqrt(2 / np.prod(shape.shape[1:-1])) if part == 'kernel' else 0.1
        if layer == 'conv1':
            spread /= 64  # pixels go to 255
        return random.normal(0, spread, shape.shape).astype(np.float32)

    variables = jax.tree_util.tree_map_with_path(numbers, inference.variable_shapes(net))
    size = net.architecture.input_size
    mean, scale = pipeline.normalization(images, size, config['data.normalization'])
    about = images.classes, images.mirror, variables, mean, scale, STEP, images.identity
    model = Model(config, net, *about)
    exchange.write_workdir(workdir, model)
    return workdir
