"""Tables of the nets: one row per layer, one tuple of rows per net.

A table is read from top to bottom. A row describes a layer; its field `then` lists the stages that
follow the layer, in order. `network/alexnet.py` runs any table. `python -m alexnet_jax.network NAME
--against OTHER` prints the differences of two tables.
"""

import dataclasses
from collections.abc import Collection

from alexnet_jax.network.layers import (
    ACTIVATIONS,
    Architecture,
    AveragePool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    LocalResponseNorm,
    MaxPool,
    Output,
    Relu,
    SameMapNorm,
)
from alexnet_jax.network.variants import (
    ablations,
    resized,
    with_activation,
    with_layers,
    with_lrn_across_columns,
    without_stages,
)
from alexnet_jax.runtime.errors import InputError, shown

# The paper as printed (§3.5, §5). Two points need an interpretation:
#
# - 224 pixels give 55×55 units only if the last window may overhang the image: three rows and
#   columns of zeros at the bottom and right, as in the authors' code.
# - §3.3 lets the normalization run over "the total number of kernels in the
#   layer"; §3.2 and Figure 2 let the GPUs communicate "only in certain layers", and conv1 and
#   conv2 are not among them. Here the window stays in its column. In `paper_lrn_across` it
#   crosses the border.
#
# The standard deviation of 0.01 in every layer is the paper's too (§5). The
# authors' code has 0.03 in conv3-5; with 0.01 the loss may stay at ln(classes) for a long time
# before it decreases.
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
PAPER_LRN_ACROSS = with_lrn_across_columns(PAPER, 'paper_lrn_across')

# Net 145 of the authors' code of 2012 (github.com/computerhistory/AlexNet-Source-Code),
# the net of the paper's tables. Differences from the paper: conv1's normalization and pooling come
# before its ReLU, α is divided by n, a normalization within each map follows that of conv2, and the
# initial standard deviation in conv3-5 is 0.03.
_SOURCE_LRN = LocalResponseNorm(alpha_divided=True)
KRIZHEVSKY2012 = Architecture(
    name='krizhevsky2012',
    input_size=224,
    columns=2,
    layers=(
        Conv('conv1', 96, kernel=11, stride=4, padding=(0, 3),
             then=(_SOURCE_LRN, MaxPool(), Relu())),
        Conv('conv2', 256, kernel=5, padding=(2, 2), bias=1.0,
             then=(Relu(), _SOURCE_LRN, SameMapNorm(), MaxPool())),
        Conv('conv3', 384, kernel=3, padding=(1, 1), reads_all=True, std=0.03),
        Conv('conv4', 384, kernel=3, padding=(1, 1), std=0.03, bias=1.0),
        Conv('conv5', 256, kernel=3, padding=(1, 1), std=0.03, bias=1.0,
             then=(MaxPool(), Relu())),
        Dense('fc6', 4096, bias=1.0, then=(Relu(), Dropout())),
        Dense('fc7', 4096, bias=1.0, then=(Relu(), Dropout())),
    ),
    output=Output('fc8'),
)  # fmt: skip


# Less padding in conv2 and conv5 keeps the sizes of maps where pools are 2×2.
_POOLED = {'conv2': {'padding': (1, 1)}, 'conv5': {'padding': (0, 0)}}


# Caffe's bvlc_alexnet: the two columns of the paper are two groups on one device, and normalization
# windows reach across both; 227 pixels without padding.
_CAFFE_LRN = LocalResponseNorm(k=1.0, alpha_divided=True, across_columns=True)
CAFFE = Architecture(
    name='caffe',
    input_size=227,
    columns=2,
    layers=(
        Conv('conv1', 96, kernel=11, stride=4, then=(Relu(), _CAFFE_LRN, MaxPool())),
        Conv('conv2', 256, kernel=5, padding=(2, 2), bias=0.1,
             then=(Relu(), _CAFFE_LRN, MaxPool())),
        Conv('conv3', 384, kernel=3, padding=(1, 1), reads_all=True),
        Conv('conv4', 384, kernel=3, padding=(1, 1), bias=0.1),
        Conv('conv5', 256, kernel=3, padding=(1, 1), bias=0.1, then=(Relu(), MaxPool())),
        Dense('fc6', 4096, std=0.005, bias=0.1, then=(Relu(), Dropout())),
        Dense('fc7', 4096, std=0.005, bias=0.1, then=(Relu(), Dropout())),
    ),
    output=Output('fc8'),
)  # fmt: skip
# Caffe's bvlc_reference_caffenet: pooling before normalization, biases of 1.
CAFFENET = with_layers(
    CAFFE, 'caffenet',
    conv1={'then': (Relu(), MaxPool(), _CAFFE_LRN)},
    conv2={'then': (Relu(), MaxPool(), _CAFFE_LRN), 'bias': 1.0},
    conv4={'bias': 1.0}, conv5={'bias': 1.0}, fc6={'bias': 1.0}, fc7={'bias': 1.0},
)  # fmt: skip

# torchvision's `alexnet`: the widths of "One weird trick" (arXiv:1404.5997) in one
# tower, no normalization, dropout before fc6 and fc7, PyTorch's own initial values.
TORCHVISION = Architecture(
    name='torchvision',
    input_size=224,
    columns=1,
    layers=(
        Conv('conv1', 64, kernel=11, stride=4, padding=(2, 2), then=(Relu(), MaxPool()), std=None),
        Conv('conv2', 192, kernel=5, padding=(2, 2), then=(Relu(), MaxPool()), std=None),
        Conv('conv3', 384, kernel=3, padding=(1, 1), std=None),
        Conv('conv4', 256, kernel=3, padding=(1, 1), std=None),
        Conv('conv5', 256, kernel=3, padding=(1, 1), then=(Relu(), MaxPool(), Dropout()), std=None),
        Dense('fc6', 4096, then=(Relu(), Dropout()), std=None),
        Dense('fc7', 4096, std=None),
    ),
    output=Output('fc8', std=None),
)
# cuda-convnet2's file of that net (layers-223-ce2-1gpu-crp.cfg), by the paper's author. The initial
# biases of its fc8 are −7: a logistic unit then returns 1/1100, about the frequency of one class.
ONE_WEIRD_TRICK = Architecture(
    name='one_weird_trick',
    input_size=224,
    columns=1,
    layers=(
        Conv('conv1', 64, kernel=11, stride=4, padding=(0, 3),
             then=(_SOURCE_LRN, MaxPool(), Relu())),
        Conv('conv2', 192, kernel=5, padding=(2, 2), bias=1.0,
             then=(Relu(), _SOURCE_LRN, MaxPool())),
        Conv('conv3', 384, kernel=3, padding=(1, 1), std=0.03),
        Conv('conv4', 256, kernel=3, padding=(1, 1), std=0.03, bias=1.0),
        Conv('conv5', 256, kernel=3, padding=(1, 1), std=0.03, bias=1.0,
             then=(MaxPool(), Relu())),
        Dense('fc6', 4096, bias=1.0, then=(Relu(), Dropout())),
        Dense('fc7', 4096, bias=1.0, then=(Relu(), Dropout())),
    ),
    output=Output('fc8', bias=-7.0),
)  # fmt: skip

# A common re-implementation: one tower, batch normalization after each convolution's ReLU. Its
# initial values are not published; these are the paper's.
BATCHNORM227 = Architecture(
    name='batchnorm227',
    input_size=227,
    columns=1,
    layers=(
        Conv('conv1', 96, kernel=11, stride=4, then=(Relu(), BatchNorm(), MaxPool())),
        Conv('conv2', 256, kernel=5, padding=(2, 2), then=(Relu(), BatchNorm(), MaxPool())),
        Conv('conv3', 384, kernel=3, padding=(1, 1), then=(Relu(), BatchNorm())),
        Conv('conv4', 384, kernel=3, padding=(1, 1), then=(Relu(), BatchNorm())),
        Conv('conv5', 256, kernel=3, padding=(1, 1), then=(Relu(), BatchNorm(), MaxPool())),
        Dense('fc6', 4096, then=(Relu(), Dropout())),
        Dense('fc7', 4096, then=(Relu(), Dropout())),
    ),
    output=Output('fc8'),
)
# nvcaffe's models/alexnet_bn/train_val.prototxt: `caffe` with batch normalization, right after the
# convolution, in place of LRN. The file has no biases in conv1 to conv4. The biases here have no
# effect: the normalization subtracts the mean of each map, which includes them.
_NVCAFFE_NORM = BatchNorm(epsilon=1e-4, momentum=0.9)
ALEXNET_BN = with_layers(
    CAFFE, 'alexnet_bn',
    conv1={'then': (_NVCAFFE_NORM, Relu(), MaxPool())},
    conv2={'then': (_NVCAFFE_NORM, Relu(), MaxPool()), 'bias': 0.0},
    conv3={'then': (_NVCAFFE_NORM, Relu())},
    conv4={'then': (_NVCAFFE_NORM, Relu()), 'bias': 0.0},
    conv5={'then': (_NVCAFFE_NORM, Relu(), MaxPool())},
)  # fmt: skip
# Another re-implementation: one tower, groups only in conv2, no normalization; PyTorch's initial
# values.
ONE_TOWER = Architecture(
    name='one_tower',
    input_size=224,
    columns=1,
    layers=(
        Conv('conv1', 96, kernel=11, stride=4, padding=(2, 2), then=(Relu(), MaxPool()), std=None),
        Conv('conv2', 256, kernel=5, padding=(2, 2), groups=2, then=(Relu(), MaxPool()), std=None),
        Conv('conv3', 384, kernel=3, padding=(1, 1), std=None),
        Conv('conv4', 384, kernel=3, padding=(1, 1), std=None),
        Conv('conv5', 256, kernel=3, padding=(1, 1), then=(Relu(), MaxPool(), Dropout()), std=None),
        Dense('fc6', 4096, then=(Relu(), Dropout()), std=None),
        Dense('fc7', 4096, std=None),
    ),
    output=Output('fc8', std=None),
)
# Another re-implementation: the paper's net with 192 maps in conv5, which is normalized as well.
# The loss of this net stays at ln(classes) (docs/LOG.md); with the initial values of the authors'
# code in conv3-5 it decreases.
CONV5_192 = with_layers(
    PAPER, 'conv5_192',
    conv5={'features': 192, 'then': (Relu(), LocalResponseNorm(), MaxPool())},
)  # fmt: skip
CONV5_192_STD03 = with_layers(
    CONV5_192, 'conv5_192_std03', conv3={'std': 0.03}, conv4={'std': 0.03}, conv5={'std': 0.03}
)

# The authors' net for CIFAR-10 (layers-18pct.cfg): 18 % error in twenty minutes of 2011.
_CIFAR_NORM = SameMapNorm(size=3, alpha=5e-5)
CIFAR18 = Architecture(
    name='cifar18',
    input_size=32,
    columns=1,
    layers=(
        Conv('conv1', 32, kernel=5, padding=(2, 2), std=1e-4,
             then=(MaxPool(), Relu(), _CIFAR_NORM)),
        Conv('conv2', 32, kernel=5, padding=(2, 2), then=(Relu(), AveragePool(), _CIFAR_NORM)),
        Conv('conv3', 64, kernel=5, padding=(2, 2), then=(Relu(), AveragePool())),
    ),
    output=Output('fc10'),
)  # fmt: skip
# §3.3 states errors of such a net: 13 % without normalization and 11 % with it.
CIFAR18_NO_NORM = without_stages(CIFAR18, 'cifar18_no_norm', SameMapNorm)
# The four-layer net of Figure 1, which compares activation functions (`with_activation`). The paper
# does not describe its layers; this is cifar18 without normalization.
FOUR_LAYER = Architecture(
    name='four_layer',
    input_size=32,
    columns=1,
    layers=(
        Conv('conv1', 32, kernel=5, padding=(2, 2), then=(Relu(), MaxPool())),
        Conv('conv2', 32, kernel=5, padding=(2, 2), then=(Relu(), AveragePool())),
        Conv('conv3', 64, kernel=5, padding=(2, 2), then=(Relu(), AveragePool())),
    ),
    output=Output('fc4'),
)

# The paper's net with all its parts, reduced for images of a few dozen pixels. The initial standard
# deviation of its convolutions is 0.03, as in conv3-5 of the authors' code: with 0.02 the loss on
# digits stays at ln(10) for twenty epochs (docs/LOG.md).
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

# For the set of patterns: the same net with kernels that are large enough for an orientation; with
# columns that are connected only at the classifier; and with all kernels in one column.
PATTERNS = with_layers(SMALL, 'patterns', conv1={'kernel': 9, 'padding': (4, 4)})
PATTERNS_NO_COMMUNICATION = with_layers(
    PATTERNS, 'patterns_no_communication',
    **{row.name: {'reads_all': False} for row in PATTERNS.layers},
)  # fmt: skip
PATTERNS_ONE_COLUMN = dataclasses.replace(PATTERNS, name='patterns_one_column', columns=1)

# The paper's net for photographs of 64 pixels, cropped to 56: a quarter as wide in all but conv1,
# whose 9×9 kernels are 2 pixels apart. As in the paper, the window of conv1 may overhang at the
# bottom and right. The initial values keep the differences between images up to fc8: with 0.02 in
# fc6 and fc7 these are a third as large (docs/LOG.md).
PHOTOGRAPHS = Architecture(
    name='photographs',
    input_size=56,
    columns=2,
    layers=(
        Conv('conv1', 32, kernel=9, stride=2, padding=(0, 1),
             then=(Relu(), LocalResponseNorm(), MaxPool())),
        Conv('conv2', 64, kernel=5, padding=(2, 2), std=0.03, bias=1.0,
             then=(Relu(), LocalResponseNorm(), MaxPool())),
        Conv('conv3', 96, kernel=3, padding=(1, 1), reads_all=True, std=0.06),
        Conv('conv4', 96, kernel=3, padding=(1, 1), std=0.06, bias=1.0),
        Conv('conv5', 64, kernel=3, padding=(1, 1), std=0.06, bias=1.0,
             then=(Relu(), MaxPool())),
        Dense('fc6', 1024, std=0.04, bias=1.0, then=(Relu(), Dropout())),
        Dense('fc7', 1024, std=0.04, bias=1.0, then=(Relu(), Dropout())),
    ),
    output=Output('fc8'),
)  # fmt: skip

ARCHITECTURES = {
    net.name: net
    for net in (
        PAPER, PAPER_LRN_ACROSS, KRIZHEVSKY2012, *ablations(KRIZHEVSKY2012, '', **_POOLED),
        CAFFE, CAFFENET, TORCHVISION, ONE_WEIRD_TRICK, BATCHNORM227, ALEXNET_BN, ONE_TOWER,
        CONV5_192, CONV5_192_STD03,
        CIFAR18, CIFAR18_NO_NORM, FOUR_LAYER, SMALL,
        PATTERNS, PATTERNS_NO_COMMUNICATION, PATTERNS_ONE_COLUMN,
        *ablations(PAPER, 'paper_', **_POOLED),
        PHOTOGRAPHS, *ablations(PHOTOGRAPHS, 'photographs_', conv2={'padding': (1, 2)}),
    )
}  # fmt: skip
# Nets with ablations, by the prefix of the ablations' names.
ABLATED = {'krizhevsky2012': '', 'paper': 'paper_', 'photographs': 'photographs_'}


def architecture(
    name: str, input_size: int = 0, width: float = 1.0, activation: str = ''
) -> Architecture:
    """Returns the table `name`, changed as `varied` does.

    Raises:
      InputError: there is no such table; as `varied`.
    """
    _require_known('network', name, ARCHITECTURES)
    return varied(ARCHITECTURES[name], input_size, width, activation)


def varied(
    net: Architecture, input_size: int = 0, width: float = 1.0, activation: str = ''
) -> Architecture:
    """Returns a table changed as `variants.resized` and `with_activation` do.

    Args:
      input_size: pixels; 0: the table's own.
      activation: a name of `layers.ACTIVATIONS`; '': the table's own.

    Raises:
      InputError: there is no such activation; what comes out cannot be.
    """
    if activation:
        _require_known('activation', activation, ACTIVATIONS)
        net = with_activation(net, ACTIVATIONS[activation])
    return resized(net, input_size or net.input_size, width)


def _require_known(what: str, given: str, known: Collection[str]) -> None:
    if given not in known:
        raise InputError(f'{what} is {shown(given)}; allowed: one of {", ".join(known)}')
