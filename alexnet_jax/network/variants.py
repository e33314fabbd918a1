"""A table from a table: rows changed, stages changed, another width or activation."""

import dataclasses
from collections.abc import Callable
from typing import Any

from alexnet_jax.network import rules
from alexnet_jax.network.layers import (
    Activation,
    Architecture,
    Layer,
    LocalResponseNorm,
    Maxout,
    Output,
    Stage,
)
from alexnet_jax.runtime.errors import InputError, shown


def with_layers(architecture: Architecture, name: str, **changes: dict[str, Any]) -> Architecture:
    """The same net under another name, some rows changed: layer=dict(field=value)."""
    unknown = changes.keys() - {row.name for row in architecture.layers}
    assert not unknown, unknown
    rows = tuple(
        dataclasses.replace(row, **changes.get(row.name, {})) for row in architecture.layers
    )
    return dataclasses.replace(architecture, name=name, layers=rows)


def with_stages(
    architecture: Architecture, name: str, change: Callable[[Stage], Stage | None]
) -> Architecture:
    """The same net, each stage changed, or left out where `change` gives None."""

    def then(layer: Layer) -> tuple[Stage, ...]:
        return tuple(new for stage in layer.then if (new := change(stage)) is not None)

    return with_layers(
        architecture, name, **{row.name: {'then': then(row)} for row in architecture.layers}
    )


def without_stages(architecture: Architecture, name: str, kinds: Any) -> Architecture:
    """Returns the same net without stages of some kinds.

    Args:
      kinds: a class, or a union of classes.
    """
    return with_stages(
        architecture, name, lambda stage: None if isinstance(stage, kinds) else stage
    )


def with_lrn_across_columns(architecture: Architecture, name: str) -> Architecture:
    """The same net, its normalisation windows reaching over both columns."""

    def reach(stage: Stage) -> Stage:
        if isinstance(stage, LocalResponseNorm):
            return dataclasses.replace(stage, across_columns=True)
        return stage

    return with_stages(architecture, name, reach)


def with_activation(architecture: Architecture, activation: Activation) -> Architecture:
    """The same net with that activation everywhere. Maxout leaves as many maps as
    there were: its layers compute `pieces` times as many sums."""
    pieces = activation.pieces if isinstance(activation, Maxout) else 1

    def change(row: Layer) -> Layer:
        before = [stage for stage in row.then if isinstance(stage, Activation)]
        if not before:
            return row
        leaves = row.features // (before[0].pieces if isinstance(before[0], Maxout) else 1)
        then = tuple(activation if isinstance(stage, Activation) else stage for stage in row.then)
        return dataclasses.replace(row, features=leaves * pieces, then=then)

    return dataclasses.replace(architecture, layers=tuple(map(change, architecture.layers)))


def resized(architecture: Architecture, input_size: int, width: float = 1.0) -> Architecture:
    """The same net on crops of `input_size` pixels, `width` times as wide.

    Features are rounded to what columns and groups can share. Below the first
    layer's, fixed standard deviations grow by 1/√width, so that sums of fewer
    inputs keep their scale.

    Raises:
      InputError: the width is not above 0; what comes out cannot be.
    """
    if not rules.POSITIVE.holds(width):
        raise InputError(
            f'network {architecture.name} has width {shown(width)}; allowed: {rules.POSITIVE.words}'
        )

    def features(row: Layer) -> int:
        pieces = max([stage.pieces for stage in row.then if isinstance(stage, Maxout)], default=1)
        unit = 2 * architecture.columns * pieces
        return max(1, round(row.features * width / unit)) * unit

    def std(row: Layer | Output) -> float | None:
        if row.std is None or row is architecture.layers[0]:
            return row.std
        return row.std / width**0.5

    if width == 1:
        return dataclasses.replace(architecture, input_size=input_size)
    return dataclasses.replace(
        architecture,
        input_size=input_size,
        layers=tuple(
            dataclasses.replace(row, features=features(row), std=std(row))
            for row in architecture.layers
        ),
        output=dataclasses.replace(architecture.output, std=std(architecture.output)),
    )
