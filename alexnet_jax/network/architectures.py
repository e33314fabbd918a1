"""The nets, as data: one row a layer, one tuple of rows a net.

A net is read from top to bottom. Each row says what the layer computes and,
in `then`, what follows it, in order. `network/alexnet.py` runs any table.
Feature counts are those of the whole layer, all columns together.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Relu:
    """max(0, x): the paper's nonlinearity (§3.1)."""


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
class MaxPool:
    """Max pooling over `size`×`size` windows `stride` apart (§3.4); overlapping
    where stride < size. Output sizes round up."""

    size: int = 3
    stride: int = 2


@dataclasses.dataclass(frozen=True)
class Dropout:
    """Drops a unit with probability `rate` while training (§4.2)."""

    rate: float = 0.5


Stage = Relu | LocalResponseNorm | MaxPool | Dropout


@dataclasses.dataclass(frozen=True)
class Conv:
    """A convolution. `padding` is (before, after), the same for both axes.

    `reads_all`: the kernels of a column see all columns of the layer below,
    rather than only their own. The image has no columns; all read it.
    """

    name: str
    features: int
    kernel: int
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    reads_all: bool = False
    then: tuple[Stage, ...] = (Relu(),)
    std: float = 0.01
    bias: float = 0.0


@dataclasses.dataclass(frozen=True)
class Dense:
    """A fully connected layer; `reads_all` as for `Conv`."""

    name: str
    features: int
    reads_all: bool = True
    then: tuple[Stage, ...] = (Relu(),)
    std: float = 0.01
    bias: float = 0.0


@dataclasses.dataclass(frozen=True)
class Output:
    """The classifier: one logit a class, from every unit of every column."""

    name: str
    std: float = 0.01
    bias: float = 0.0


Layer = Conv | Dense


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A whole net. `input_size` is the side of the square RGB crop, in pixels."""

    name: str
    input_size: int
    columns: int
    layers: tuple[Layer, ...]
    output: Output


# The paper as printed (§3.5, §5). Two readings of it:
#
# - 224 pixels give 55×55 units only if the last window may overhang: three
#   rows and columns of zeros at the bottom and right, as in the authors' code.
# - §3.3 lets the normalisation run over "the total number of kernels in the
#   layer"; §3.2 and Figure 2 let the GPUs communicate "only in certain layers",
#   of which conv1 and conv2 are none. Here the window stays in its column.
#   `paper_lrn_across` is the other reading.
#
# The standard deviation of 0.01 in every layer is the paper's too (§5). The
# authors' code has 0.03 in conv3-5; from 0.01 the loss may rest at ln(classes)
# for a long while before it falls.
PAPER = Architecture(
    name='paper',
    input_size=224,
    columns=2,
    layers=(
        Conv('conv1', 96, kernel=11, stride=4, padding=(0, 3),
             then=(Relu(), LocalResponseNorm(), MaxPool())),
        Conv('conv2', 256, kernel=5, padding=(2, 2), bias=1.0,
             then=(Relu(), LocalResponseNorm(), MaxPool())),
        Conv('conv3', 384, kernel=3, padding=(1, 1), reads_all=True),
        Conv('conv4', 384, kernel=3, padding=(1, 1), bias=1.0),
        Conv('conv5', 256, kernel=3, padding=(1, 1), bias=1.0,
             then=(Relu(), MaxPool())),
        Dense('fc6', 4096, bias=1.0, then=(Relu(), Dropout())),
        Dense('fc7', 4096, bias=1.0, then=(Relu(), Dropout())),
    ),
    output=Output('fc8'),
)  # fmt: skip


def with_lrn_across_columns(architecture: Architecture, name: str) -> Architecture:
    """The same net, its normalisation windows reaching over both columns."""

    def reach(stage: Stage) -> Stage:
        if isinstance(stage, LocalResponseNorm):
            return dataclasses.replace(stage, across_columns=True)
        return stage

    def widen(layer: Layer) -> Layer:
        return dataclasses.replace(layer, then=tuple(map(reach, layer.then)))

    return dataclasses.replace(
        architecture, name=name, layers=tuple(map(widen, architecture.layers))
    )


PAPER_LRN_ACROSS = with_lrn_across_columns(PAPER, 'paper_lrn_across')

# The paper's net with every part it has, reduced for images of a few dozen
# pixels. Its convolutions begin with the 0.03 that the authors' code has in
# conv3-5: from 0.02 the digits take twenty epochs to leave ln(10) (docs/LOG.md).
SMALL = Architecture(
    name='small',
    input_size=28,
    columns=2,
    layers=(
        Conv('conv1', 32, kernel=5, padding=(2, 2), std=0.03,
             then=(Relu(), LocalResponseNorm(), MaxPool())),
        Conv('conv2', 64, kernel=5, padding=(2, 2), std=0.03, bias=1.0,
             then=(Relu(), LocalResponseNorm(), MaxPool())),
        Conv('conv3', 96, kernel=3, padding=(1, 1), reads_all=True, std=0.03),
        Conv('conv4', 96, kernel=3, padding=(1, 1), std=0.03, bias=1.0),
        Conv('conv5', 64, kernel=3, padding=(1, 1), std=0.03, bias=1.0,
             then=(Relu(), MaxPool())),
        Dense('fc6', 512, bias=1.0, then=(Relu(), Dropout())),
        Dense('fc7', 512, bias=1.0, then=(Relu(), Dropout())),
    ),
    output=Output('fc8'),
)  # fmt: skip

ARCHITECTURES = {net.name: net for net in (PAPER, PAPER_LRN_ACROSS, SMALL)}
