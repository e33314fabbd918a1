"""Replaces or masks activations of a net by name."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alexnet_jax.network import checks
from alexnet_jax.runtime.errors import nearest, shown

Array = jax.Array | np.ndarray
Parts = list[jax.Array]


@dataclasses.dataclass(frozen=True)
class Interventions:
    """Holds the arguments `replace` and `mask` of `AlexNet.__call__`."""

    replace: Mapping[str, Array]
    mask: Mapping[str, Array]

    def require_names(self, known: Collection[str]) -> None:
        """Checks that the net has these activations.

        Raises:
          ValueError: it lacks one.
        """
        for argument, arrays in {'replace': self.replace, 'mask': self.mask}.items():
            for name in arrays:
                if name not in known:
                    raise ValueError(
                        f'{argument} has {shown(name)}; the nearest is {nearest(str(name), known)};'
                        f' the net has: {", ".join(known)}'
                    )

    def apply(self, name: str, parts: Parts) -> Parts:
        """Returns the activation of this name, replaced and masked.

        Args:
          parts: an array [batch, ..., maps] for each column of the device.

        Raises:
          ValueError: the replacement has another shape, or the mask cannot be broadcast to it.
        """
        if name in self.replace:
            parts = _split(_replacement(name, self.replace[name], parts), parts)
        if name in self.mask:
            factors = _split(_factors(name, self.mask[name], parts), parts)
            parts = [x * factor for x, factor in zip(parts, factors, strict=True)]
        return parts


def arrays_of(argument: str, given: Mapping[str, Any] | None) -> dict[str, Array]:
    """Returns the arrays that are given for `replace` or `mask`, by name.

    Lists of numbers become arrays.

    Raises:
      ValueError: it is not a mapping, or has values other than numbers.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ValueError(f'{argument} is {shown(given)}; expected: arrays by name')
    arrays = {}
    for name, value in given.items():
        arrays[name] = value if isinstance(value, Array) else np.asarray(value)
        checks.require_type(f'{argument}[{name!r}]', arrays[name], jnp.number, jnp.bool_)
    return arrays


def _whole_shape(parts: Parts) -> tuple[int, ...]:
    return (*parts[0].shape[:-1], sum(x.shape[-1] for x in parts))


def _replacement(name: str, array: Array, parts: Parts) -> jax.Array:
    shape = _whole_shape(parts)
    checks.require_type(f'replace[{name!r}]', array, jnp.floating, jnp.integer)
    checks.require_one_shape(f'replace[{name!r}]', array, shape, (1, *shape[1:]))
    return jnp.broadcast_to(jnp.asarray(array, parts[0].dtype), shape)


def _factors(name: str, array: Array, parts: Parts) -> jax.Array:
    shape, given = _whole_shape(parts), np.shape(array)
    checks.require_type(f'mask[{name!r}]', array, jnp.floating, jnp.integer, jnp.bool_)
    if len(given) > len(shape) or any(
        own not in (1, extent)
        for own, extent in zip(reversed(given), reversed(shape), strict=False)
    ):
        raise ValueError(
            f'mask[{name!r}] has the shape {given}; expected: one that broadcasts to {shape}'
        )
    return jnp.broadcast_to(jnp.asarray(array, parts[0].dtype), shape)


def _split(array: jax.Array, parts: Parts) -> Parts:
    """Splits an array of all maps into one array per column."""
    ends = np.cumsum([x.shape[-1] for x in parts])[:-1]
    return jnp.split(array, ends, axis=-1)
