"""conv1's kernels at every validation, for figures of their development."""

import io
import re
from pathlib import Path

import numpy as np

from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import StorageError


def keep(folder: Path, step: int, kernel: np.ndarray) -> None:
    """Writes folder/STEP.npy, [columns, side, side, 3, features].

    Raises:
      StorageError: it cannot be written.
    """
    path, content = folder / f'{step:08}.npy', io.BytesIO()
    np.save(content, kernel, allow_pickle=False)
    try:
        folder.mkdir(exist_ok=True)  # but not for a removed workdir
        files.write_bytes(path, content.getvalue())
    except OSError as error:
        raise StorageError(
            f'{path}: {kernel.nbytes} bytes cannot be written: {error.strerror}\n'
            'Saved files are intact; after a repair the same command resumes'
        ) from error


def read(folder: Path, last_step: int) -> dict[int, np.ndarray]:
    """Returns the kernels by step, in order, up to `last_step`.

    A run may have resumed from an earlier step. Truncated files and files with other content are
    skipped.
    """
    kept = {}
    for path in sorted(folder.glob('*.npy')):
        if re.fullmatch(r'\d+', path.stem) and int(path.stem) <= last_step:
            try:
                kernel = files.map_array(path)
            except (OSError, ValueError):
                continue
            if kernel.ndim == 5 and kernel.dtype.kind == 'f' and np.isfinite(kernel).all():
                kept[int(path.stem)] = np.array(kernel)
    return kept
