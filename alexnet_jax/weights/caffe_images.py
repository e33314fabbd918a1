"""Converts the image preprocessing of a Caffe file to settings, and back.

Caffe subtracts means of channels, in the order BGR, and multiplies by one factor
(TransformationParameter). A mean image is in a separate file.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from alexnet_jax.weights.arrays import ContentError, printable, shortest
from alexnet_jax.weights.caffe import Layer


def settings_of(layers: Sequence[Layer]) -> dict[str, Any]:
    """Returns the settings of preprocessing that a file states.

    They are of `network.input_size`, `data.mean`, `data.std` and `data.normalization`.

    Raises:
      ContentError: no setting can express it, or it states several.
    """
    settings: dict[str, Any] = {}
    if size := _only(_sizes(layers), 'images of'):
        settings['network.input_size'] = size
    transforms = [layer.transform for layer in layers if layer.transform is not None]
    means = {tuple(one['mean_value']) for one in transforms if one.get('mean_value')}
    if mean := _only(means, 'means of'):
        if len(mean) not in (1, 3):
            raise ContentError(f'states {len(mean)} means of channels; allowed: 1 or 3')
        settings['data.mean'] = shortest((mean * 3)[:3][::-1])
    factor = _only({one.get('scale', 1.0) for one in transforms}, 'factors of')
    factor = 1.0 if factor is None else factor
    if not (math.isfinite(factor) and factor > 0):
        raise ContentError(f'multiplies images by {factor}; allowed: a number above 0')
    if factor != 1:
        settings['data.std'] = shortest([float(1 / np.float32(factor))] * 3)
        settings['data.normalization'] = 'standardized'
    return settings


def mean_file(layers: Sequence[Layer]) -> str:
    """Returns the name of the mean image in a file, or ''."""
    names = [layer.transform.get('mean_file', b'') for layer in layers if layer.transform]
    return next((printable(name.decode(errors='backslashreplace')) for name in names if name), '')


def transform_of(mean: np.ndarray, scale: np.ndarray) -> dict[str, Any] | None:
    """Returns how Caffe states a preprocessing, or None if it cannot.

    The preprocessing subtracts `mean` and divides by `scale`; `settings_of` returns the same
    numbers.
    """
    factor = np.float32(1) / scale[0]
    exact = np.float32(1) / factor == scale[0]
    if mean.shape != (3,) or not (scale == scale[0]).all() or not exact:
        return None
    stated = {} if factor == 1 else {'scale': float(factor)}
    return stated | {'mean_value': [float(x) for x in mean[::-1]]}


def _sizes(layers: Sequence[Layer]) -> set[int]:
    def sides() -> Iterator[int]:
        for layer in layers:
            if layer.input_shape:
                _, maps, *sides = layer.input_shape if len(layer.input_shape) == 4 else (0, 0)
                if maps != 3 or len(set(sides)) != 1 or min(sides) < 1:
                    raise ContentError(
                        f'takes images of the shape {printable(str(layer.input_shape))};'
                        ' allowed: batch, 3, side, side'
                    )
                yield sides[0]
            if layer.transform and layer.transform.get('crop_size'):
                yield layer.transform['crop_size']

    return set(sides())


def _only(values: set, what: str) -> Any:
    """Returns the value that is there, or None if there is none."""
    if len(values) > 1:
        raise ContentError(f'states {what} {printable(str(sorted(values)))}; allowed: one of them')
    return next(iter(values), None)
