"""Elements of a net's table: rows (layers), and stages that follow a layer.

Feature counts are totals over all columns of the layer.
"""

import dataclasses

from alexnet_jax.network import rules
from alexnet_jax.runtime.errors import InputError, plain, shown


@dataclasses.dataclass(frozen=True)
class Relu:
    """max(0, x): the paper's nonlinearity (§3.1)."""


@dataclasses.dataclass(frozen=True)
class Tanh:
    """tanh(x), the traditional activation function (§3.1, Figure 1)."""


@dataclasses.dataclass(frozen=True)
class Sigmoid:
    """1 / (1 + e^−x)."""


@dataclasses.dataclass(frozen=True)
class LeakyRelu:
    """x where x > 0, `slope`·x elsewhere."""

    slope: float = 1 / 3


@dataclasses.dataclass(frozen=True)
class Maxout:
    """The maximum of every `pieces` neighboring sums: n features become n / pieces."""

    pieces: int = 2


@dataclasses.dataclass(frozen=True)
class LocalResponseNorm:
    """Local response normalization (§3.3), see `normalization.py`.

    `alpha_divided` divides alpha by `size`, as Caffe, PyTorch and the
    authors' code do. With `across_columns` the window may cross the border between two columns.
    """

    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 2.0
    alpha_divided: bool = False
    across_columns: bool = False


@dataclasses.dataclass(frozen=True)
class SameMapNorm:
    """Local response normalization over a `size`×`size` neighborhood within one map.

    The formula is that of `LocalResponseNorm` with alpha divided by size². The authors' code has
    this layer, the paper does not.
    """

    size: int = 5
    alpha: float = 1e-3
    beta: float = 0.75
    k: float = 1.0


@dataclasses.dataclass(frozen=True)
class BatchNorm:
    """Batch normalization of each map, with scale and shift.

    `momentum`: decay of the moving statistics per step.
    """

    epsilon: float = 1e-3
    momentum: float = 0.99


@dataclasses.dataclass(frozen=True)
class MaxPool:
    """Max pooling over `size`×`size` windows `stride` apart (§3.4).

    They overlap where stride < size. Output sizes round up.
    """

    size: int = 3
    stride: int = 2


@dataclasses.dataclass(frozen=True)
class AveragePool:
    """The mean over the part of each window inside the map; sizes as for `MaxPool`."""

    size: int = 3
    stride: int = 2


@dataclasses.dataclass(frozen=True)
class Dropout:
    """Drops a unit with probability `rate` while training (§4.2)."""

    rate: float = 0.5


Activation = Relu | Tanh | Sigmoid | LeakyRelu | Maxout
Norm = LocalResponseNorm | SameMapNorm | BatchNorm
Pool = MaxPool | AveragePool
Stage = Activation | Norm | Pool | Dropout

# Names of a stage's activations, after the layer's name and a slash.
STAGE_NAMES: dict[type, str] = {
    Relu: 'relu', Tanh: 'tanh', Sigmoid: 'sigmoid', LeakyRelu: 'leaky_relu', Maxout: 'maxout',
    LocalResponseNorm: 'norm', SameMapNorm: 'same_map_norm', BatchNorm: 'batch_norm',
    MaxPool: 'pool', AveragePool: 'pool', Dropout: 'dropout',
}  # fmt: skip

ACTIVATIONS: dict[str, Activation] = {
    'relu': Relu(), 'tanh': Tanh(), 'sigmoid': Sigmoid(),
    'leaky_relu': LeakyRelu(), 'maxout': Maxout(),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Conv:
    """A convolution. `padding` is (before, after), the same for both axes.

    `reads_all`: the kernels of a column read all columns of the layer below, otherwise only their
    own. The image has no columns; every column reads it. `groups` splits the inputs of a column,
    and its kernels, into independent groups. Initial weights are normal with standard deviation
    `std`; with None, weights and biases are uniform within ±1/√(inputs of a unit), as PyTorch has
    them.
    """

    name: str
    features: int
    kernel: int
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    reads_all: bool = False
    groups: int = 1
    then: tuple[Stage, ...] = (Relu(),)
    std: float | None = 0.01
    bias: float = 0.0


@dataclasses.dataclass(frozen=True)
class Dense:
    """A fully connected layer; `reads_all`, `std` and `bias` as for `Conv`."""

    name: str
    features: int
    reads_all: bool = True
    then: tuple[Stage, ...] = (Relu(),)
    std: float | None = 0.01
    bias: float = 0.0


@dataclasses.dataclass(frozen=True)
class Output:
    """The classifier: one logit per class, from all units of all columns."""

    name: str
    std: float | None = 0.01
    bias: float = 0.0


Layer = Conv | Dense


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A whole net. `input_size` is the side of the square RGB crop, in pixels.

    Raises:
      InputError: the table is invalid; the message names the row. `shapes.layer_shapes` checks the
        sizes of maps.
    """

    name: str
    input_size: int
    columns: int
    layers: tuple[Layer, ...]
    output: Output

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers in order, the output last."""
        return tuple(row.name for row in (*self.layers, self.output))

    def __post_init__(self):
        _require_rows(self)
        maps = 3  # of what a column reads next, its own
        for number, layer in enumerate(self.layers):
            reads = maps * self.columns if number and layer.reads_all else maps
            where = f'{layer.name} of network {self.name}'
            _require_divisible(where, 'features', layer.features, 'columns', self.columns)
            maps = layer.features // self.columns
            if isinstance(layer, Conv):
                _require_divisible(where, 'maps read', reads, 'groups', layer.groups)
                _require_divisible(where, 'features of a column', maps, 'groups', layer.groups)
            for stage in layer.then:
                maps = _maps_after(stage, maps, self.columns, where)


def maps_after(stage: Stage, maps: int) -> int:
    """Returns how many of `maps` maps a stage leaves."""
    return maps // stage.pieces if isinstance(stage, Maxout) else maps


_OF_ANY_LAYER = {
    'name': rules.LAYER_NAME, 'features': rules.FEATURES, 'reads_all': rules.FLAG,
    'std': rules.STD, 'bias': rules.FINITE,
}  # fmt: skip
_POOL = {'size': rules.WINDOW, 'stride': rules.WINDOW}
# By class and field. The fields `layers` and `then` are checked separately.
ALLOWED: dict[type, dict[str, rules.Allowed]] = {
    Conv: _OF_ANY_LAYER
    | {
        'kernel': rules.PIXELS, 'stride': rules.PIXELS, 'padding': rules.PADDING,
        'groups': rules.COUNT,
    },
    Dense: _OF_ANY_LAYER,
    Output: {'name': rules.LAYER_NAME, 'std': rules.STD, 'bias': rules.FINITE},
    Relu: {},
    Tanh: {},
    Sigmoid: {},
    LeakyRelu: {'slope': rules.FINITE},
    Maxout: {'pieces': rules.COUNT},
    LocalResponseNorm: {
        'size': rules.COUNT, 'alpha': rules.NOT_NEGATIVE, 'beta': rules.FINITE,
        'k': rules.POSITIVE, 'alpha_divided': rules.FLAG, 'across_columns': rules.FLAG,
    },
    SameMapNorm: {
        'size': rules.WINDOW, 'alpha': rules.NOT_NEGATIVE, 'beta': rules.FINITE,
        'k': rules.POSITIVE,
    },
    BatchNorm: {'epsilon': rules.POSITIVE, 'momentum': rules.FRACTION},
    MaxPool: _POOL,
    AveragePool: _POOL,
    Dropout: {'rate': rules.FRACTION},
    Architecture: {'name': rules.TEXT, 'input_size': rules.PIXELS, 'columns': rules.COUNT},
}  # fmt: skip


def _require_rows(net: Architecture) -> None:
    """Checks each row, and that each row fits the one before it."""
    rules.require('a network', 'name', net.name, rules.TEXT)
    table = f'network {net.name}'
    _require_fields(table, net, (Architecture,))
    if not isinstance(net.layers, tuple) or not net.layers:
        raise InputError(
            f'{table} has layers {shown(net.layers)}; allowed: a tuple of at least one row'
        )
    names, flat = set(), False
    for row in (*net.layers, net.output):
        kinds = (Output,) if row is net.output else (Conv, Dense)
        where = f'{plain(getattr(row, "name", "a row"))} of {table}'
        _require_fields(where, row, kinds)
        if row.name in names:
            raise InputError(f'{table} has two rows {row.name}; allowed: a name for each')
        names.add(row.name)
        if isinstance(row, Conv) and flat:
            raise InputError(
                f'{where} is a Conv row above a Dense row, which leaves no maps; allowed: Dense'
            )
        flat = flat or isinstance(row, Dense)
        if not isinstance(row, Output):
            _require_stages(where, row)


def _require_stages(where: str, row: Layer) -> None:
    if not isinstance(row.then, tuple):
        raise InputError(f'{where} has then {shown(row.then)}; allowed: a tuple of stages')
    names = set()
    for stage in row.then:
        _require_fields(where, stage, tuple(STAGE_NAMES))
        kind, name = type(stage).__name__, STAGE_NAMES[type(stage)]
        if name in names:
            raise InputError(f'{where} has two stages called {name}; allowed: one of a name')
        names.add(name)
        if isinstance(row, Dense) and isinstance(stage, SameMapNorm | Pool):
            raise InputError(f'{where} has the stage {kind}, but no maps; allowed: in Conv rows')
        if isinstance(stage, Pool) and stage.stride > stage.size:
            raise InputError(
                f'{where} has a {kind} of stride {stage.stride} over {stage.size}×{stage.size};'
                f' allowed: a stride from 1 to {stage.size}, or a window would lie beyond the map'
            )


def _require_fields(where: str, row: object, kinds: tuple[type, ...]) -> None:
    """Checks the class of a row or stage, and each of its fields."""
    if type(row) not in kinds:
        names = ', '.join(kind.__name__ for kind in kinds)
        raise InputError(f'{where} has {shown(row)} in the table; allowed: {names}')
    within = f' in {type(row).__name__}' if type(row) in STAGE_NAMES else ''
    for field, allowed in ALLOWED[type(row)].items():
        rules.require(f'{where}{within}', field, getattr(row, field), allowed)


def _maps_after(stage: Stage, maps: int, columns: int, where: str) -> int:
    """Checks a stage and returns how many of a column's maps it leaves."""
    if isinstance(stage, LocalResponseNorm):
        widest = maps * columns if stage.across_columns else maps
        if stage.size % 2 == 0 or stage.size > widest or stage.size < 1:
            raise InputError(
                f'{where} has a normalization over {stage.size} maps;'
                f' allowed: an odd number up to its {widest} maps'
            )
    if isinstance(stage, SameMapNorm) and (stage.size % 2 == 0 or stage.size < 1):
        raise InputError(
            f'{where} has a normalization over {stage.size} pixels; allowed: an odd number'
        )
    if isinstance(stage, Maxout):
        _require_divisible(where, 'features of a column', maps, 'maxout pieces', stage.pieces)
    return maps_after(stage, maps)


def _require_divisible(where: str, what: str, count: int, by_what: str, by: int) -> None:
    if count < 1 or by < 1 or count % by:
        raise InputError(f'{where} has {count} {what}; allowed: a multiple of its {by} {by_what}')
