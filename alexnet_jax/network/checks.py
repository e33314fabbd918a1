"""Argument checks of the net's public functions.

They read only shapes and types, while a program is traced, so they do not slow down its execution.
"""

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alexnet_jax.network import rules
from alexnet_jax.runtime.errors import shown

Array = jax.Array | np.ndarray


def require_shape(name: str, array: Any, *extents: int | str, why: str = '') -> None:
    """Checks an array's shape. An extent is a number, or the name of any number from 1 on.

    Raises:
      ValueError: the shape is another.
    """
    shape = np.shape(array)
    fits = len(shape) == len(extents) and all(
        found == wanted if isinstance(wanted, int) else found > 0
        for found, wanted in zip(shape, extents, strict=False)
    )
    if not fits:
        raise ValueError(
            f'{name} has the shape {shape}; expected: ({", ".join(map(str, extents))}'
            f'{"," if len(extents) == 1 else ""}){why}'
        )


def require_one_shape(name: str, array: Any, *shapes: tuple[int, ...]) -> None:
    """Checks that an array has one of some shapes.

    Raises:
      ValueError: the array's shape is none of these.
    """
    if np.shape(array) not in shapes:
        raise ValueError(
            f'{name} has the shape {np.shape(array)}; expected: {" or ".join(map(str, shapes))}'
        )


def require_type(name: str, array: Any, *kinds: type, why: str = '') -> None:
    """Checks that an array's type is one of the kinds: `jnp.floating`, `jnp.integer`, ...

    Raises:
      ValueError: the type is another.
    """
    dtype = getattr(array, 'dtype', None) or np.asarray(array).dtype
    if not any(jnp.issubdtype(dtype, kind) for kind in kinds):
        words = ' or '.join(kind.__name__ for kind in kinds)
        raise ValueError(f'{name} has the type {dtype}; expected: {words}{why}')


def require_one_of(name: str, value: Any, allowed: Collection[str]) -> None:
    """Checks that a value is one of some values.

    Raises:
      ValueError: the value is none of these.
    """
    if value not in allowed:
        raise ValueError(f'{name} is {shown(value)}; expected: one of {", ".join(allowed)}')


def require_available_type(name: str, dtype: str) -> None:
    """Checks that the type is available in JAX's present configuration.

    Raises:
      ValueError: it is float64 without `jax_enable_x64`.
    """
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise ValueError(
            f'{name} is {shown(dtype)}, which JAX lacks in its present configuration;'
            ' expected: another, or'
            f" jax.config.update('jax_enable_x64', True) before"
        )


def require(function: str, **arguments: tuple[Any, rules.Allowed]) -> None:
    """Checks plain numbers, each with its own condition.

    Raises:
      ValueError: a number does not satisfy its condition.
    """
    for name, (value, allowed) in arguments.items():
        if not allowed.holds(value):
            raise ValueError(f'{function}: {name} is {shown(value)}; expected: {allowed.words}')


def require_maps(function: str, x: Any) -> None:
    """Checks that x is floating, [batch, height, width, maps].

    Raises:
      ValueError: it is not.
    """
    require_shape(f'{function}: x', x, 'batch', 'height', 'width', 'maps')
    require_type(f'{function}: x', x, jnp.floating)


def require_key(name: str, key: Any) -> None:
    """Checks that the value is one random key, typed or of the older kind.

    Raises:
      ValueError: it is not.
    """
    dtype, shape = getattr(key, 'dtype', None), np.shape(key)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not ((typed and shape == ()) or (dtype == jnp.uint32 and len(shape) == 1)):
        given = shown(key) if dtype is None else f'{dtype} of the shape {shape}'
        raise ValueError(f'{name} is {given}; expected: one key, as jax.random.key gives')
