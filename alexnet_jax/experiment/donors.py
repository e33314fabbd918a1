"""Reads the net with the initial values of a run (`start.from`)."""

import stat
from pathlib import Path

import numpy as np

from alexnet_jax.experiment import loading
from alexnet_jax.experiment.config import network_of
from alexnet_jax.experiment.defaults import Config
from alexnet_jax.experiment.identity import NORMALIZATION, read_normalization
from alexnet_jax.experiment.settings import OF_START
from alexnet_jax.experiment.workdir import last_checkpoint, refuse_other
from alexnet_jax.runtime import storage
from alexnet_jax.runtime.errors import InputError, shown
from alexnet_jax.training import warm_start
from alexnet_jax.weights import files, published


def read_donor(source: str | Path, workdir: Path) -> warm_start.Donor:
    """Reads the net with the initial values of the run in `workdir`.

    It is that of a workdir (its last checkpoint), of one of its checkpoints
    (WORKDIR/checkpoints/STEP), or of a weight file or its name (`published.local`), or the net at a
    URL.

    Raises:
      InputError: it is none of these, cannot be read, or is `workdir` itself.
    """
    setting = f'start.from is {shown(str(source))}'
    if isinstance(source, str) and storage.is_url(source):
        source = storage.folder(source, 'start.from')
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


def normalization(config: Config, workdir: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the mean and scale of the net at `start.from`, or None if not configured.

    A started run stores them in its workdir and does not need that net again.

    Raises:
      InputError: as `read_donor`; `start.from` is empty, or has no mean, or one for another
        crop size.
    """
    if config.data.normalization != OF_START:
        return None
    setting, size = f"data.normalization is '{OF_START}'", network_of(config).input_size
    if last_checkpoint(workdir) is not None:
        refuse_other(workdir, config)
        kept = read_normalization(workdir / NORMALIZATION, size)
        return kept['mean'], kept['scale']
    if not config.start['from']:
        raise InputError(f'{setting}, but start.from is nothing; allowed: with start.from')
    donor = read_donor(config.start['from'], workdir)
    if donor.facts is None:
        raise InputError(
            f'{setting}, but start.from {donor.source} states no mean; allowed: a workdir or a weight file with settings'
        )
    mean, scale = donor.facts.mean, donor.facts.scale
    if mean.shape not in ((3,), (size, size, 3)):
        raise InputError(
            f'{setting}, but the mean image of {donor.source} is for crops of {len(mean)} pixels, and'
            f' the net takes {size}; allowed: another data.normalization, or a net of {len(mean)}'
        )
    return mean, scale


def _donor(source: Path, at_step: int | None) -> warm_start.Donor:
    """Returns the net with the facts of its source; arrays named LAYER/PART may have none."""
    if source.suffix == '.safetensors':
        arrays, metadata = files.read_arrays(source)
        if 'config' not in metadata and all('/' in name for name in arrays):
            return warm_start.Donor(str(source), files.by_layer(arrays, source))
    loaded = loading.load(source, at_step)
    facts = warm_start.Facts(loaded.net.architecture, loaded.classes, loaded.mean, loaded.scale)
    place = f'{source}, step {loaded.step}' if source.is_dir() else str(source)
    return warm_start.Donor(place, loaded.layers, facts)
