"""Reads the net that another run starts from (`start.from`)."""

import stat
from pathlib import Path

from alexnet_jax.experiment import loading
from alexnet_jax.runtime.errors import InputError, shown
from alexnet_jax.training import warm_start
from alexnet_jax.weights import files, published


def read_donor(source: Path, workdir: Path) -> warm_start.Donor:
    """Reads the net of a workdir (its last checkpoint), of one of its checkpoints
    (WORKDIR/checkpoints/STEP) or of a weight file or its name (`published.local`), to start from in
    `workdir`.

    Raises:
      InputError: it is none of these, cannot be read, or is `workdir` itself.
    """
    setting = f'start.from is {shown(str(source))}'
    source = published.local(source)
    try:
        kind = stat.S_IFMT(source.stat().st_mode)
        own = workdir.exists() and source.samefile(workdir)
    except (FileNotFoundError, NotADirectoryError):
        kind, own = 0, False
    except OSError as error:
        raise InputError(f'{setting}: {error.strerror}') from error
    if own:
        raise InputError(f'{setting}, which is --workdir itself; allowed: another run')
    at_step = None
    if source.parent.name == 'checkpoints' and source.name.isdecimal():
        source, at_step = source.parent.parent, int(source.name)
    if kind != stat.S_IFREG and not (kind == stat.S_IFDIR and (source / 'checkpoints').is_dir()):
        raise InputError(
            f'{setting}; allowed: a workdir with checkpoints, one of them'
            ' (WORKDIR/checkpoints/STEP), or a weight file'
        )
    try:
        return _donor(source, at_step)
    except InputError as error:
        raise InputError(f'{setting}: {error}') from error


def _donor(source: Path, at_step: int | None) -> warm_start.Donor:
    """Returns the net with what its source states of it; arrays named LAYER/PART may come
    without a statement."""
    if source.suffix == '.safetensors':
        arrays, metadata = files.read_arrays(source)
        if 'config' not in metadata and all('/' in name for name in arrays):
            return warm_start.Donor(str(source), files.by_layer(arrays, source))
    loaded = loading.load(source, at_step)
    facts = warm_start.Facts(loaded.net.architecture, loaded.classes, loaded.mean, loaded.scale)
    place = f'{source}, step {loaded.step}' if source.is_dir() else str(source)
    return warm_start.Donor(place, loaded.layers, facts)
