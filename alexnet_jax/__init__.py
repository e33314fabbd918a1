"""AlexNet in JAX and Flax: `load` opens a trained net, from a workdir or a weight file."""

from pathlib import Path

__all__ = ['Model', 'load']
# `python -m alexnet_jax.figure1` and its like: the commands of studies/ have no room in their names.
__path__ = [*__path__, str(Path(__file__).with_name('studies'))]


def __getattr__(name: str):
    """Imports what is asked for only then: the command line sets what JAX reads at its
    start before it starts."""
    if name in __all__:
        from alexnet_jax.experiment import model

        return getattr(model, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
