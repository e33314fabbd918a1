"""Weight files: safetensors, one array a parameter, named LAYER/PART."""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from alexnet_jax.errors import InputError

Layers = dict[str, dict[str, np.ndarray]]


def read(path: Path) -> Layers:
    """{'conv1': {'kernel': [columns, ...], 'bias': ...}, ...}, as a net's parameters are
    (`network/alexnet.py`); `conv1_norm` holds batch normalisation's numbers too.

    Raises:
      InputError: the file cannot be read, or an array is not named so.
    """
    try:
        arrays = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f'{path} cannot be read as safetensors: {error}') from error
    layers: Layers = {}
    for name, values in arrays.items():
        layer, slash, part = name.partition('/')
        if not (layer and slash and part):
            raise InputError(f'{path} holds {name!r}; allowed: LAYER/PART, as conv1/kernel')
        layers.setdefault(layer, {})[part] = values
    return layers
