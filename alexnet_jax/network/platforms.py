"""Forms of an operation by platform: the one that a platform's compiler makes a good program of.

The platform is that of JAX's default backend, unless a program is traced for devices that are not
at hand (`traced_for`). `lax.platform_dependent` would choose while a program is lowered, but has all
forms traced, which takes a training step a second and more.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import jax

_TRACED_FOR: contextvars.ContextVar[str] = contextvars.ContextVar('traced_for', default='')


@contextlib.contextmanager
def traced_for(platform: str) -> Iterator[None]:
    """Traces operations within for a platform: 'cpu', 'gpu' or 'tpu'.

    A function that `jax.jit` has traced before is not traced again.
    """
    token = _TRACED_FOR.set(platform)
    try:
        yield
    finally:
        _TRACED_FOR.reset(token)


def form(*, default: Callable[..., Any], **others: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the form for the platform that is traced for; `others`: by platform."""
    return others.get(_TRACED_FOR.get() or jax.default_backend(), default)
