"""AlexNet in JAX and Flax.

`load` opens a trained net, from a workdir or a weight file; `train` trains the net of a
configuration, which begins as `default_config()`.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ml_collections import FrozenConfigDict

    from alexnet_jax.experiment.defaults import Config, default_config
    from alexnet_jax.experiment.loading import load
    from alexnet_jax.experiment.model import Model

__all__ = ['Model', 'default_config', 'load', 'train']
# Short names, `python -m alexnet_jax.figure1`, of the commands in studies/.
__path__ = [*__path__, str(Path(__file__).with_name('studies'))]

_MODULES = {'Model': 'model', 'load': 'loading', 'default_config': 'defaults'}


def __getattr__(name: str):
    """Imports attributes lazily, because the command line sets environment variables before JAX
    starts.
    """
    if name in _MODULES:
        import importlib

        return getattr(importlib.import_module(f'alexnet_jax.experiment.{_MODULES[name]}'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def train(config: 'Config | FrozenConfigDict', workdir: str | Path) -> 'Model':
    """Trains the net of a configuration, or resumes its run, and evaluates it on held-out images.

    Args:
      config: an `ml_collections.ConfigDict`: a changed `default_config()`, or one with only those
        of its fields that differ.
      workdir: the folder of the run, created if necessary, or its URL.

    Returns:
      the trained `Model`; errors are in eval/ of the workdir.

    Raises:
      InputError: a setting is unknown or not allowed, the images are not available, or the folder
        has another run; nothing is written.
      NotFiniteError: the loss became NaN or infinite.
      StorageError: the folder is no longer writable.
    """
    from alexnet_jax.experiment import build, loading, training_run
    from alexnet_jax.experiment import config as configuration
    from alexnet_jax.runtime import storage

    complete = configuration.absolute_source(configuration.complete(config, {}))
    with storage.session():
        folder = storage.place(workdir, 'workdir')
        build.prepare_own_source(complete)
        training_run.train(configuration.settled(complete), folder)
        return loading.load(folder)
