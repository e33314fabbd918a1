"""Warm starts: initial values from another net.

In §6 the net with six convolutions was pretrained on 22,000 classes.

Values of equal shapes may have another meaning. Differences between the two nets are printed.
Differences that make the values meaningless raise an InputError: inputs of another magnitude, or a
classifier of other classes.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from alexnet_jax.data import class_names
from alexnet_jax.network import inference
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.diff import deviations
from alexnet_jax.network.layers import Architecture
from alexnet_jax.runtime.errors import InputError, plain
from alexnet_jax.training.step import TrainState
from alexnet_jax.weights.files import Layers

MOST_SCALE = 2.0  # maximum factor between the scales of inputs
INITIAL = ('std', 'bias', 'features')  # fields of a row that do not affect trained values


@dataclasses.dataclass(frozen=True, eq=False)
class Facts:
    """Facts that give meaning to the values of a net's layers.

    net: its table.
    classes: names of the classes, in the order of the logits.
    mean, scale: as in `inference.normalize`.
    """

    net: Architecture
    classes: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray

    @property
    def head(self) -> str:
        """Name of the output layer."""
        return self.net.output.name

    @property
    def rows(self) -> list[str]:
        """Names of the layers, from the image on."""
        return [*(row.name for row in self.net.layers), self.head]

    def below(self, row: str) -> str:
        """Returns the name of the layer that `row` reads."""
        at = self.rows.index(row)
        return self.rows[at - 1] if at else 'the image'


@dataclasses.dataclass(frozen=True, eq=False)
class Donor:
    """A net with initial values.

    source: its origin, for messages.
    layers: its values.
    facts: None for a file without them.
    """

    source: str
    layers: Layers
    facts: Facts | None = None


def choose(own: Facts, donor: Donor, named: Sequence[str]) -> tuple[Layers, list[str]]:
    """Returns the initial values, and lines about the loaded layers and the differences.

    Args:
      own: facts of the run that starts.
      named: layers to load; empty: all common layers.

    Raises:
      InputError: the donor has none of the layers, or lacks a named one; a layer has other shapes
        in the donor, or values that are not finite; or its values would have another meaning.
    """
    shapes = _shapes(own)
    left = {
        layer: 'not asked for' if named and _row(layer) not in named else 'not there'
        for layer in sorted(shapes)
        if (named and _row(layer) not in named)
        or (layer not in donor.layers and layer not in named)
    }
    taken = [layer for layer in sorted(shapes) if layer not in left]
    if not taken:
        there = ', '.join(map(plain, sorted(donor.layers))) or 'nothing'
        raise InputError(
            f'start.from is {donor.source}, which has no layer of the net; has: {there}'
        )
    misfits = {layer: fault for layer in taken if (fault := _misfit(layer, shapes, donor))}
    rows = [row for row in own.rows if row in map(_row, taken)]
    if misfits:
        fitting = [row for row in rows if row not in map(_row, misfits) and row != own.head]
        raise InputError(f'{next(iter(misfits.values()))}; {_advice("", fitting)}')
    differing = _differing(own, donor, rows)
    values = {layer: _float32(layer, donor) for layer in taken}
    unused = sorted(donor.layers.keys() - shapes.keys())
    lines = [
        f'from {donor.source}: loaded {", ".join(taken)}; not loaded: '
        + (', '.join(f'{layer} ({why})' for layer, why in left.items()) or 'none')
        + (f'; not in the net: {", ".join(map(plain, unused))}' if unused else '')
    ]
    return values, lines + [f'warning: {line}' for line in differing]


def put(state: TrainState, values: Layers) -> TrainState:
    """Returns the state with these values, each with the sharding of the state's own."""
    params, stats = dict(state.params), dict(state.batch_stats)
    for layer in values:
        params[layer] = _placed(params[layer], values[layer])
        if layer in stats:
            stats[layer] = _placed(stats[layer], values[layer])
    return state.replace(params=params, batch_stats=stats)


def digest(values: Layers) -> str:
    """Returns a SHA-256 of names and values."""
    sha256 = hashlib.sha256()
    for layer, parts in sorted(values.items()):
        for part, array in sorted(parts.items()):
            sha256.update(f'{layer}/{part} {array.shape}\n'.encode())
            sha256.update(array.tobytes())
    return sha256.hexdigest()


def _differing(own: Facts, donor: Donor, rows: Sequence[str]) -> list[str]:
    """Returns one line per difference that changes the meaning of these layers' values.

    Raises:
      InputError: a difference makes them meaningless.
    """
    if donor.facts is None:
        return [f'{donor.source} states no table, classes or mean: no comparison is possible']
    lines = []
    if own.head in rows:
        lines += _of_classes(own, donor.facts, donor.source, rows)
    if own.below(rows[0]) == 'the image':
        lines += _of_inputs(own, donor.facts, donor.source, rows)
    return lines + _of_tables(own, donor.facts, donor.source, rows)


def _of_classes(own: Facts, theirs: Facts, source: str, rows: Sequence[str]) -> list[str]:
    if own.head != theirs.head or own.classes == theirs.classes:
        return []  # another output layer is a difference of the tables
    if class_names.same(own.classes, theirs.classes):
        return [f'classes of {source} or of the set have no names: assuming the same classes']
    if sorted(own.classes) == sorted(theirs.classes):
        how = 'the same classes in another order'
    else:
        how = 'other classes'
    label = next(i for i, name in enumerate(own.classes) if name != theirs.classes[i])
    raise InputError(
        f'start.from {source} has {how}: class {label} is {plain(theirs.classes[label])} there and'
        f' {plain(own.classes[label])} in the set; {_advice(own.head, rows)}'
    )


def _of_inputs(own: Facts, theirs: Facts, source: str, rows: Sequence[str]) -> list[str]:
    if np.array_equal(own.mean, theirs.mean) and np.array_equal(own.scale, theirs.scale):
        return []
    there, here = _inputs_text(theirs), _inputs_text(own)
    flag = _flag(own, theirs)
    factor = float(np.max(np.maximum(own.scale / theirs.scale, theirs.scale / own.scale)))
    if factor > MOST_SCALE:
        raise InputError(
            f'start.from {source} was trained on inputs of another scale: {there} there, {here}'
            f' here, a factor of {factor:.3g}; allowed: at most {MOST_SCALE:g}; take {flag}, or'
            f' {_without(rows[0], rows)}'
        )
    return [f'inputs have another normalization than in {source}: {there} there, {here} here;'
            f' {flag} uses that of the source']  # fmt: skip


def _of_tables(own: Facts, theirs: Facts, source: str, rows: Sequence[str]) -> list[str]:
    lines = []
    found = deviations(theirs.net, own.net)
    if own.net.input_size != theirs.net.input_size:
        lines.append(
            f'input_size is {theirs.net.input_size} in {source}, {own.net.input_size} here'
        )
    for row in rows:
        fields = [
            (field, one.one, one.other)
            for one in found
            for name, _, field in [one.field.rpartition('.')]
            if name == row and field not in INITIAL
        ]
        if row in theirs.rows and own.below(row) != theirs.below(row):
            fields.append(('layer below', theirs.below(row), own.below(row)))
        elif own.below(row) not in ('the image', *rows):
            fields.append(('layer below', theirs.below(row), f'{own.below(row)}, untrained'))
        if fields:
            fields_text = '; '.join(
                f'{field} {there} there, {here} here' for field, there, here in fields
            )
            lines.append(f'{row} differs from that of {source}: {fields_text}')
    return lines


def _inputs_text(facts: Facts) -> str:
    kind = 'mean image of' if facts.mean.ndim == 3 else 'mean'
    return f'{kind} {_channels(facts.mean)} and scale {_channels(facts.scale)}'


def _flag(own: Facts, theirs: Facts) -> str:
    """Returns the setting that normalizes inputs as in the donor, as far as the crop size allows."""
    same = theirs.mean.ndim == 1 or own.net.input_size == theirs.net.input_size
    return f'--config.data.normalization={"start" if same else "mean_image"}'


def _channels(numbers: np.ndarray) -> str:
    """Returns R,G,B, each as the shortest decimal of its float32."""
    means = np.asarray(numbers, np.float32).reshape(-1, 3).mean(axis=0)
    return ','.join(np.format_float_positional(number, trim='-') for number in means)


def _advice(row: str, rows: Sequence[str]) -> str:
    return f'allowed: {_without(row, rows)}'


def _without(row: str, rows: Sequence[str]) -> str:
    others = ','.join(other for other in rows if other != row)
    return f'--config.start.layers={others}' if others else 'another net to start from'


def _row(layer: str) -> str:
    """Returns the row of the table that a layer's values belong to."""
    return layer.removesuffix('_norm')


def _shapes(own: Facts) -> dict[str, dict[str, tuple[int, ...]]]:
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for tree in inference.variable_shapes(AlexNet(own.net, len(own.classes))).values():
        for layer, parts in tree.items():
            shapes.setdefault(layer, {}).update({name: x.shape for name, x in parts.items()})
    return shapes


def _misfit(layer: str, shapes: dict[str, dict[str, tuple[int, ...]]], donor: Donor) -> str | None:
    """Returns the part of a layer that has another shape in the donor, or None."""
    own, values = shapes[layer], donor.layers.get(layer, {})
    for part, shape in own.items():
        there = np.shape(values[part]) if part in values else 'not there'
        if there != shape:
            return f'{layer}/{part} is {there} in start.from {donor.source} and {shape} in the net'
    more = sorted(values.keys() - own.keys())
    return (
        f'{layer}/{plain(more[0])} of start.from {donor.source} is not in the net' if more else None
    )


def _float32(layer: str, donor: Donor) -> dict[str, np.ndarray]:
    """Returns the values of a layer.

    Raises:
      InputError: they are not finite real numbers in float32, or a variance is negative.
    """
    parts = {}
    for part, values in donor.layers[layer].items():
        name, kind = f'{layer}/{part} of start.from {donor.source}', np.asarray(values).dtype
        if kind.kind != 'f' and kind.name != 'bfloat16':
            raise InputError(f'{name} is of {kind}; allowed: floating-point numbers')
        with np.errstate(over='ignore'):
            parts[part] = np.asarray(values, np.float32)
        if not np.isfinite(parts[part]).all():
            raise InputError(f'{name} holds values that are not finite; allowed: finite ones')
        if part == 'var' and (parts[part] < 0).any():
            raise InputError(f'{name} holds negative variances; allowed: from 0')
    return parts


def _placed(own: Any, values: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """Returns `values` of the given parts, each with the sharding of the net's own."""
    return {
        part: jax.device_put(np.asarray(values[part], array.dtype), array.sharding)
        for part, array in own.items()
    }
