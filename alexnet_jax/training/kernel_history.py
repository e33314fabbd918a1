"""conv1's kernels at every validation, for pictures of how they came about."""

import re
from pathlib import Path

import numpy as np

from alexnet_jax.errors import StorageError


def keep(folder: Path, step: int, kernel: np.ndarray) -> None:
    """Writes folder/STEP.npy, [columns, side, side, 3, features].

    Raises:
      StorageError: it cannot be written.
    """
    path = folder / f'{step:08}.npy'
    try:
        folder.mkdir(exist_ok=True)
        np.save(path, kernel)
    except OSError as error:
        raise StorageError(
            f'{path}: {kernel.nbytes} bytes cannot be written: {error.strerror}\n'
            'What was saved is whole; once that is mended, the same command goes on'
        ) from error


def read(folder: Path, last_step: int) -> dict[int, np.ndarray]:
    """By step, in order, up to `last_step`: a run may have gone on from an earlier one. Files
    that are cut short, or hold something else, are left out."""
    kept = {}
    for path in sorted(folder.glob('*.npy')):
        if re.fullmatch(r'\d+', path.stem) and int(path.stem) <= last_step:
            try:
                kernel = np.load(path, allow_pickle=False)
            except (OSError, ValueError, EOFError):
                continue
            if kernel.ndim == 5 and kernel.dtype.kind == 'f' and np.isfinite(kernel).all():
                kept[int(path.stem)] = kernel
    return kept
