"""Folders of features for the tests, as the command `features` writes them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from alexnet_jax.evaluation import arrays


def write_features(
    folder: Path,
    layers: Mapping[str, np.ndarray],
    ids: Sequence[str] | None = None,
    labels: Sequence[int] | None = None,
    **about,
) -> Path:
    """Writes layers [images, ...] by name, and returns the folder."""
    count = len(next(iter(layers.values())))
    names = [f'image {n}' for n in range(count)] if ids is None else ids
    about = {'activations': {name: list(x.shape[1:]) for name, x in layers.items()}} | about
    with arrays.writing(folder, about, count) as writer:
        writer.add(
            np.array([name.encode() for name in names], object),
            np.full(count, -1) if labels is None else np.array(labels),
            layers,
        )
    return folder
