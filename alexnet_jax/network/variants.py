"""Tables derived from a table: other rows, stages, width or activation; ablations."""

import dataclasses
from collections.abc import Callable
from typing import Any

from alexnet_jax.network import rules
from alexnet_jax.network.layers import (
    Activation,
    Architecture,
    Conv,
    Dropout,
    Layer,
    LocalResponseNorm,
    Maxout,
    MaxPool,
    Output,
    SameMapNorm,
    Stage,
)
from alexnet_jax.runtime.errors import InputError, shown


def with_layers(architecture: Architecture, name: str, **changes: dict[str, Any]) -> Architecture:
    """Returns the net under another name with changed rows: layer=dict(field=value)."""
    unknown = changes.keys() - {row.name for row in architecture.layers}
    assert not unknown, unknown
    rows = tuple(
        dataclasses.replace(row, **changes.get(row.name, {})) for row in architecture.layers
    )
    return dataclasses.replace(architecture, name=name, layers=rows)


def with_stages(
    architecture: Architecture, name: str, change: Callable[[Stage], Stage | None]
) -> Architecture:
    """Returns the net with each stage changed, or removed where `change` returns None."""

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
    """Returns the net with normalization windows that reach across both columns."""

    def reach(stage: Stage) -> Stage:
        if isinstance(stage, LocalResponseNorm):
            return dataclasses.replace(stage, across_columns=True)
        return stage

    return with_stages(architecture, name, reach)


def with_activation(architecture: Architecture, activation: Activation) -> Architecture:
    """Returns the net with the same activation function in all layers.

    With maxout the number of maps stays the same: the layers compute `pieces` times as many sums.
    """
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
    """Returns the net on crops of `input_size` pixels, `width` times as wide.

    Numbers of features are rounded to multiples that columns and groups can divide. After the first
    layer, fixed standard deviations are multiplied by 1/√width, so that sums of fewer inputs keep
    their scale.

    Raises:
      InputError: the width is not above 0, or the result is not a valid table.
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


def ablations(
    base: Architecture, prefix: str, **pooled: dict[str, Any]
) -> tuple[Architecture, ...]:
    """Returns the ablations of `base`, each with one part changed.

    The numbers of features are those of the authors' code. The other parts are equal to `base`.

    Args:
      pooled: changes of rows that keep the sizes of maps where pools are 2×2.
    """
    features = {row.name: row.features for row in base.layers}
    # 145-half: one column with the kernels of one column (but all of conv5) and all of fc6 and fc7
    # (§3.2: about as many weights). Its error is of ILSVRC-2010.
    half = with_layers(
        dataclasses.replace(base, columns=1), f'{prefix}half',
        **{name: {'features': features[name] // 2} for name in ('conv1', 'conv2', 'conv3', 'conv4')},
    )  # fmt: skip
    # 148: no normalization of either kind (§3.3).
    no_lrn = without_stages(base, f'{prefix}no_lrn', LocalResponseNorm | SameMapNorm)
    # 147: pooling over 2×2 (§3.4).
    small_pools = with_stages(
        base, base.name, lambda stage: MaxPool(2, 2) if isinstance(stage, MaxPool) else stage
    )
    non_overlapping = with_layers(small_pools, f'{prefix}non_overlapping', **pooled)
    # 150: columns that are connected only at the classifier. More kernels in conv2 and more units
    # in fc6 compensate for the removed weights.
    no_communication = with_layers(
        base, f'{prefix}no_communication',
        conv2={'features': features['conv2'] * 5 // 4}, conv3={'reads_all': False},
        fc6={'features': features['fc6'] * 2, 'reads_all': False}, fc7={'reads_all': False},
    )  # fmt: skip
    # 146: a sixth convolution above pool5, with the initial values of conv5: the paper's CNN* (§6),
    # which was pretrained on 22,000 classes.
    conv5 = base.layers[4]
    conv6 = Conv('conv6', conv5.features, kernel=3, padding=(1, 1), reads_all=True,
                 std=conv5.std, bias=1.0)  # fmt: skip
    six_conv = dataclasses.replace(
        base, name=f'{prefix}six_conv', layers=(*base.layers[:5], conv6, *base.layers[5:])
    )
    # One middle layer removed (§7): conv4. It is not among the authors' files.
    no_conv4 = dataclasses.replace(
        base, name=f'{prefix}no_conv4',
        layers=tuple(row for row in base.layers if row.name != 'conv4'),
    )  # fmt: skip
    # §4.2 and §3.2; the authors have no such net: no dropout; all kernels in one column, where each
    # reads all maps below.
    no_dropout = without_stages(base, f'{prefix}no_dropout', Dropout)
    one_column = dataclasses.replace(base, name=f'{prefix}one_column', columns=1)
    return (
        half, no_lrn, non_overlapping, no_communication, six_conv, no_conv4, no_dropout, one_column,
    )  # fmt: skip
