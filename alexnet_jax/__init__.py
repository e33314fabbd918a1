"""AlexNet in JAX and Flax: `load` opens a trained net, from a workdir or a weight file."""

__all__ = ['Model', 'load']


def __getattr__(name: str):
    """Imports what is asked for only then: the command line sets what JAX reads at its
    start before it starts."""
    if name in __all__:
        from alexnet_jax import model

        return getattr(model, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
