"""A small checkpoint of PyTorch's, and how it is read or refused."""

import functools

import numpy as np

from alexnet_jax.weights import layouts, torch_file
from tests.weights import forms, handmade
from tests.weights.handmade import Tensor

ARRAYS = {
    'features.0.weight': np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    'features.0.bias': np.array([-1, 2.5], np.float32),
    'classifier.6.bias': np.array([7], np.float32),
}


TENSORS = {name: handmade.whole(str(key), x) for key, (name, x) in enumerate(ARRAYS.items())}
STORAGES = {str(key): x.tobytes() for key, x in enumerate(ARRAYS.values())}
MORE = {'9': np.arange(4, dtype=np.float32).tobytes()}  # of an optimizer, averages, ...
MOMENTUM = Tensor('9', 4, (2, 2), (2, 1))


def read(path) -> dict[str, np.ndarray]:
    return torch_file.read(path, layouts.are_torchvision_names)[0]


def notes(path) -> tuple[str, ...]:
    return torch_file.read(path, layouts.are_torchvision_names)[1]


refusal = functools.partial(forms.refusal, read)
