"""Random weights of reduced nets, in the shapes torchvision and Caffe give them.

An eighth of the widths, and images small enough that 2×2 places are left for fc6. The
shapes are written out here, not taken from our tables.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alexnet_jax.network.architectures import architecture
from alexnet_jax.network.layers import Architecture
from alexnet_jax.runtime.errors import InputError

CLASSES = 7
CAFFE_LAYERS = ('conv1', 'conv2', 'conv3', 'conv4', 'conv5', 'fc6', 'fc7', 'fc8')
TORCHVISION_MODULES = (
    'features.0', 'features.3', 'features.6', 'features.8', 'features.10',
    'classifier.1', 'classifier.4', 'classifier.6',
)  # fmt: skip
SHAPES = {
    'torchvision': [(8, 3, 11, 11), (24, 8, 5, 5), (48, 24, 3, 3), (32, 48, 3, 3), (32, 32, 3, 3),
                    (512, 32 * 2 * 2), (512, 512), (CLASSES, 512)],
    'one_tower': [(12, 3, 11, 11), (32, 6, 5, 5), (48, 32, 3, 3), (48, 48, 3, 3), (32, 48, 3, 3),
                  (512, 32 * 2 * 2), (512, 512), (CLASSES, 512)],
    'caffe': [(12, 3, 11, 11), (32, 6, 5, 5), (48, 32, 3, 3), (48, 24, 3, 3), (32, 24, 3, 3),
              (512, 32 * 2 * 2), (512, 512), (CLASSES, 512)],
}  # fmt: skip
SHAPES['caffenet'] = SHAPES['caffe']


def reduced(name: str) -> Architecture:
    return architecture(name, 99 if name.startswith('caffe') else 95, 0.125)


def pairs(name: str, random: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights and bias of each layer, from below to above; images of tens give logits of ones."""
    return [
        (
            (random.standard_normal(shape) * (2 / np.prod(shape[1:])) ** 0.5).astype(np.float32)
            / (60 if shape[1] == 3 else 1),
            random.standard_normal(shape[0]).astype(np.float32) / 5,
        )
        for shape in SHAPES[name]
    ]


def torchvision_arrays(name: str, random: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        f'{module}.{part}': values
        for module, pair in zip(TORCHVISION_MODULES, pairs(name, random), strict=True)
        for part, values in zip(('weight', 'bias'), pair, strict=True)
    }


def caffe_blobs(random: np.random.Generator) -> dict[str, list[np.ndarray]]:
    return dict(zip(CAFFE_LAYERS, map(list, pairs('caffe', random)), strict=True))


def refusal(read: Callable[..., Any], path: Path, *more: Any, lines: int = 1) -> str:
    """Returns the message about a file that is refused: short, and with the file's name."""
    with pytest.raises(InputError) as error:
        read(path, *more)
    message = str(error.value)
    assert str(path) in message and len(message.splitlines()) <= lines and len(message) < 400
    return message


def same(one: dict, other: dict) -> bool:
    """Whether arrays of the same names are alike bit by bit."""
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and np.array_equal(one[name], other[name])
        for name in one
    )
