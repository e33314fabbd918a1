"""What a net's table is made of: rows (layers), and stages that follow a layer.

Feature counts are those of the whole layer, all columns together.
"""

import dataclasses

from alexnet_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Relu:
    """max(0, x): the paper's nonlinearity (§3.1)."""


@dataclasses.dataclass(frozen=True)
class Tanh:
    """tanh(x): what neurons had before (§3.1, Figure 1)."""


@dataclasses.dataclass(frozen=True)
class Sigmoid:
    """1 / (1 + e^−x)."""


@dataclasses.dataclass(frozen=True)
class LeakyRelu:
    """x where x > 0, `slope`·x elsewhere."""

    slope: float = 1 / 3


@dataclasses.dataclass(frozen=True)
class Maxout:
    """The largest of each `pieces` neighbouring sums: of n features n / pieces remain."""

    pieces: int = 2


@dataclasses.dataclass(frozen=True)
class LocalResponseNorm:
    """Local response normalisation (§3.3), see `normalization.py`.

    `alpha_divided` divides alpha by `size`, as Caffe, PyTorch and the
    authors' code do. `across_columns` lets the window reach over the border
    between two columns.
    """

    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 2.0
    alpha_divided: bool = False
    across_columns: bool = False


@dataclasses.dataclass(frozen=True)
class SameMapNorm:
    """The same formula over a `size`×`size` neighbourhood within one map, alpha
    divided by size²: in the authors' code, not in the paper."""

    size: int = 5
    alpha: float = 1e-3
    beta: float = 0.75
    k: float = 1.0


@dataclasses.dataclass(frozen=True)
class BatchNorm:
    """Batch normalisation of each map, with scale and shift. `momentum`: what a
    moving statistic keeps of itself a step."""

    epsilon: float = 1e-3
    momentum: float = 0.99


@dataclasses.dataclass(frozen=True)
class MaxPool:
    """Max pooling over `size`×`size` windows `stride` apart (§3.4); overlapping
    where stride < size. Output sizes round up."""

    size: int = 3
    stride: int = 2


@dataclasses.dataclass(frozen=True)
class AveragePool:
    """The mean of each window, over what of it lies in the map; sizes as for `MaxPool`."""

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

# What a stage's activations are called, after the layer's name and a slash.
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

    `reads_all`: the kernels of a column see all columns of the layer below,
    rather than only their own. The image has no columns; all read it.
    `groups` splits what a column reads, and its kernels, into parts of their own.
    Initial weights are normal with standard deviation `std`; with None, weights
    and biases are uniform within ±1/√(inputs of a unit), as PyTorch has them.
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
    """The classifier: one logit a class, from every unit of every column."""

    name: str
    std: float | None = 0.01
    bias: float = 0.0


Layer = Conv | Dense


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A whole net. `input_size` is the side of the square RGB crop, in pixels.

    Raises:
      InputError: a row that cannot be: features that the columns or groups cannot
        share, a normalisation window that is even or wider than the maps.
    """

    name: str
    input_size: int
    columns: int
    layers: tuple[Layer, ...]
    output: Output

    def __post_init__(self):
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
    """How many of `maps` maps a stage leaves."""
    return maps // stage.pieces if isinstance(stage, Maxout) else maps


def _maps_after(stage: Stage, maps: int, columns: int, where: str) -> int:
    """The same, for a column's maps and after a look whether the stage can be."""
    if isinstance(stage, LocalResponseNorm):
        widest = maps * columns if stage.across_columns else maps
        if stage.size % 2 == 0 or stage.size > widest or stage.size < 1:
            raise InputError(
                f'{where} has a normalisation over {stage.size} maps;'
                f' allowed: an odd number up to its {widest} maps'
            )
    if isinstance(stage, SameMapNorm) and (stage.size % 2 == 0 or stage.size < 1):
        raise InputError(
            f'{where} has a normalisation over {stage.size} pixels; allowed: an odd number'
        )
    if isinstance(stage, Maxout):
        _require_divisible(where, 'features of a column', maps, 'maxout pieces', stage.pieces)
    return maps_after(stage, maps)


def _require_divisible(where: str, what: str, count: int, by_what: str, by: int) -> None:
    if count < 1 or by < 1 or count % by:
        raise InputError(f'{where} has {count} {what}; allowed: a multiple of its {by} {by_what}')
