"""Platform-specific implementations of operations.

The platform is that of JAX's default backend, unless a program is traced for other devices
(`traced_for`). `lax.platform_dependent` selects at lowering, but traces all implementations, which
adds a second or more to the compilation of a training step.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import jax

_TRACED_FOR: contextvars.ContextVar[str] = contextvars.ContextVar('traced_for', default='')


@contextlib.contextmanager
def traced_for(platform: str) -> Iterator[None]:
    """Traces the operations of a `with` block for a platform: 'cpu', 'gpu' or 'tpu'.

    A function that `jax.jit` has traced before is not traced again.
    """
    token = _TRACED_FOR.set(platform)
    try:
        yield
    finally:
        _TRACED_FOR.reset(token)


def form(*, default: Callable[..., Any], **others: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the implementation for the traced platform; `others`: by platform."""
    return others.get(_TRACED_FOR.get() or jax.default_backend(), default)
