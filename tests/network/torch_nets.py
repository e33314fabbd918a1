"""Every net once more, in PyTorch: written by hand from the same sources, not from our tables.

Nothing of alexnet_jax is read here. Weights come in our layout, and leave it in
autograd's sight, so that the gradients are in our layout too:

  conv:   kernel [columns, size, size, maps read, features of a column]
  fc:     kernel [columns, units read, features of a column], or of maps
          [columns, height, width, maps read, features of a column]
  fc8:    kernel [columns, units of a column, classes], bias [classes]

Units of maps are read row by row, those of a place side by side. Sizes are those of the
weights given; what is done with them, in which order and columns, stands here. Dropout
is left out: no net is compared while it drops.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Layer = dict[str, Tensor]
Net = dict[str, Layer]


def conv(
    x: Tensor, layer: Layer, padding: int | tuple[int, int] = 0, stride: int = 1, groups: int = 1
) -> Tensor:
    """`padding`: the same on all sides, or (above and left, below and right)."""
    before, after = padding if isinstance(padding, tuple) else (padding, padding)
    x = F.pad(x, (before, after, before, after))
    kernel = layer['kernel'].permute(0, 4, 3, 1, 2).flatten(0, 1)
    return F.conv2d(x, kernel, layer['bias'].flatten(), stride=stride, groups=groups)


def units(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).flatten(1) if x.ndim == 4 else x


def dense(x: Tensor, layer: Layer) -> Tensor:
    kernel = layer['kernel'].flatten(1, -2).transpose(1, 2).flatten(0, 1)
    return F.linear(units(x), kernel, layer['bias'].flatten())


def dense_apart(x: Tensor, layer: Layer) -> Tensor:
    """Two columns that each read their own half of x."""
    halves = zip(x.chunk(2, dim=1), layer['kernel'].flatten(1, -2), layer['bias'], strict=True)
    return torch.cat([F.linear(units(half), kernel.T, bias) for half, kernel, bias in halves], 1)


def logits(x: Tensor, layer: Layer) -> Tensor:
    return F.linear(units(x), layer['kernel'].flatten(0, 1).T, layer['bias'])


def classifier(net: Net, x: Tensor, dense=dense) -> Tensor:
    x = F.relu(dense(x, net['fc6']))
    return logits(F.relu(dense(x, net['fc7'])), net['fc8'])


# 224 pixels as the authors' code reads them: zeros below and to the right.
OVERHANGING = {'padding': (0, 3), 'stride': 4}


def pool(x: Tensor, size: int = 3) -> Tensor:
    return F.max_pool2d(x, size, 2, ceil_mode=True)


def mean_pool(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 2, ceil_mode=True, count_include_pad=False)


def lrn(x: Tensor, alpha: float = 1e-4, k: float = 2.0, columns: int = 2) -> Tensor:
    """PyTorch divides alpha by n = 5, as the authors' code and Caffe do."""
    apart = [F.local_response_norm(half, 5, alpha, 0.75, k) for half in x.chunk(columns, dim=1)]
    return torch.cat(apart, dim=1)


def same_map_norm(x: Tensor, size: int = 5, scale: float = 1e-3) -> Tensor:
    """The mean over size² places, zeros beyond the edges counted: scale is divided by size²."""
    mean = F.avg_pool2d(x**2, size, stride=1, padding=size // 2, count_include_pad=True)
    return x / (1 + scale * mean) ** 0.75


# The paper: alpha 1e-4 is not divided by n.
paper_lrn = partial(lrn, alpha=5e-4)


def paper(
    net, x, norm=paper_lrn, norm5=None, conv1=OVERHANGING, columns=2, apart=False, pool=pool, padding2=2,
    padding5=1, middle=('conv3', 'conv4'), conv6=False,
) -> Tensor:  # fmt: skip
    """§3.5. `norm5`: a normalization after conv5 too; `conv1`: another reading of the image;
    `apart`: columns that meet at fc8 alone; `middle`, `conv6`: as for `krizhevsky2012`."""
    x = pool(norm(F.relu(conv(x, net['conv1'], **conv1))))
    x = pool(norm(F.relu(conv(x, net['conv2'], padding=padding2, groups=columns))))
    for name in middle:
        groups = columns if apart or name == 'conv4' else 1
        x = F.relu(conv(x, net[name], padding=1, groups=groups))
    x = F.relu(conv(x, net['conv5'], padding=padding5, groups=columns))
    x = pool(norm5(x) if norm5 else x)
    if conv6:
        x = F.relu(conv(x, net['conv6'], padding=1))
    return classifier(net, x, dense_apart if apart else dense)


def krizhevsky2012(
    net, x, columns=2, norm=lrn, norm_in_map=same_map_norm, pool=pool, padding2=2, padding5=1,
    middle=('conv3', 'conv4'), conv6=False, apart=False,
) -> Tensor:  # fmt: skip
    """The authors' net 145, and by the arguments its ablations.

    `middle`: the convolutions between the second and the fifth; `conv6`: one above
    the last pooling; `apart`: columns that meet at fc8 alone.
    """
    x = F.relu(pool(norm(conv(x, net['conv1'], **OVERHANGING))))
    x = F.relu(conv(x, net['conv2'], padding=padding2, groups=columns))
    x = pool(norm_in_map(norm(x)))
    for name in middle:
        groups = columns if apart or name == 'conv4' else 1
        x = F.relu(conv(x, net[name], padding=1, groups=groups))
    x = F.relu(pool(conv(x, net['conv5'], padding=padding5, groups=columns)))
    if conv6:
        x = F.relu(conv(x, net['conv6'], padding=1))
    return classifier(net, x, dense_apart if apart else dense)


def same(x: Tensor) -> Tensor:
    return x


# The published ablations, which leave either net as it is in all else.
ABLATIONS = {
    'no_lrn': {'norm': same},
    'non_overlapping': {'pool': partial(pool, size=2), 'padding2': 1, 'padding5': 0},
    'no_communication': {'apart': True},
    'six_conv': {'conv6': True},
    'no_conv4': {'middle': ('conv3',)},
    'no_dropout': {},  # which no net here has
}
ONE_COLUMN = {'columns': 1, 'norm': partial(paper_lrn, columns=1)}  # of the paper's net
# That for photographs of 64 pixels.
photographs = partial(paper, conv1={'padding': (0, 1), 'stride': 2})
SMALL_POOLS = {'pool': partial(pool, size=2), 'padding2': (1, 2)}


def caffe(net, x, pool_first=False) -> Tensor:
    """bvlc_alexnet; with `pool_first` bvlc_reference_caffenet."""
    norm = partial(lrn, k=1.0, columns=1)

    def above(x):
        return norm(pool(F.relu(x))) if pool_first else pool(norm(F.relu(x)))

    x = above(conv(x, net['conv1'], stride=4))
    x = above(conv(x, net['conv2'], padding=2, groups=2))
    x = F.relu(conv(x, net['conv3'], padding=1))
    x = F.relu(conv(x, net['conv4'], padding=1, groups=2))
    x = F.relu(conv(x, net['conv5'], padding=1, groups=2))
    return classifier(net, pool(x))


def torchvision(net, x, groups2=1) -> Tensor:
    """torchvision's `alexnet`; with `groups2` 2 the net `one_tower`."""
    x = pool(F.relu(conv(x, net['conv1'], stride=4, padding=2)))
    x = pool(F.relu(conv(x, net['conv2'], padding=2, groups=groups2)))
    x = F.relu(conv(x, net['conv3'], padding=1))
    x = F.relu(conv(x, net['conv4'], padding=1))
    return classifier(net, pool(F.relu(conv(x, net['conv5'], padding=1))))


def one_weird_trick(net, x) -> Tensor:
    """cuda-convnet2's layers-imagenet-1gpu.cfg."""
    norm = partial(lrn, columns=1)
    x = F.relu(pool(norm(conv(x, net['conv1'], **OVERHANGING))))
    x = pool(norm(F.relu(conv(x, net['conv2'], padding=2))))
    x = F.relu(conv(x, net['conv3'], padding=1))
    x = F.relu(conv(x, net['conv4'], padding=1))
    return classifier(net, F.relu(pool(conv(x, net['conv5'], padding=1))))


def batchnorm227(net, x, statistics: Net, training=False) -> Tensor:
    """In training each `statistics` is moved by a hundredth towards the batch's own."""

    def norm(x, name):
        layer, kept = net[name], statistics[name]
        moving = (None, None) if training else (kept['mean'], kept['var'])
        if training:
            var, mean = torch.var_mean(x.detach(), dim=(0, 2, 3), correction=0)
            kept['mean'] = 0.99 * kept['mean'] + 0.01 * mean
            kept['var'] = 0.99 * kept['var'] + 0.01 * var
        return F.batch_norm(x, *moving, layer['scale'], layer['bias'], training, eps=1e-3)

    x = pool(norm(F.relu(conv(x, net['conv1'], stride=4)), 'conv1_norm'))
    x = pool(norm(F.relu(conv(x, net['conv2'], padding=2)), 'conv2_norm'))
    x = norm(F.relu(conv(x, net['conv3'], padding=1)), 'conv3_norm')
    x = norm(F.relu(conv(x, net['conv4'], padding=1)), 'conv4_norm')
    x = pool(norm(F.relu(conv(x, net['conv5'], padding=1)), 'conv5_norm'))
    return classifier(net, x)


def alexnet_bn(net, x, statistics: Net, training=False) -> Tensor:
    """nvcaffe's models/alexnet_bn/train_val.prototxt. In training conv1 to conv5 have no biases,
    as in the file (but for conv5's); moved statistics keep nine tenths of themselves."""

    def norm(x, name):
        layer, kept = net[f'{name}_norm'], statistics[f'{name}_norm']
        if not training:
            x = x + net[name]['bias'].flatten()[:, None, None]
            moments = kept['mean'], kept['var']
        else:
            var, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
            moments = mean, var
            bias = net[name]['bias'].flatten()
            kept['mean'] = 0.9 * kept['mean'] + 0.1 * (mean + bias).detach()
            kept['var'] = 0.9 * kept['var'] + 0.1 * var.detach()
        mean, var = (moment[:, None, None] for moment in moments)
        scale, shift = (layer[part][:, None, None] for part in ('scale', 'bias'))
        return scale * (x - mean) / torch.sqrt(var + 1e-4) + shift

    def above(x, name, **how):
        kernel = net[name]['kernel'].permute(0, 4, 3, 1, 2).flatten(0, 1)
        return F.relu(norm(F.conv2d(x, kernel, **how), name))

    x = pool(above(x, 'conv1', stride=4))
    x = pool(above(x, 'conv2', padding=2, groups=2))
    x = above(x, 'conv3', padding=1)
    x = above(x, 'conv4', padding=1, groups=2)
    return classifier(net, pool(above(x, 'conv5', padding=1, groups=2)))


cifar_norm = partial(same_map_norm, size=3, scale=5e-5)


def cifar18(net, x, norm=cifar_norm) -> Tensor:
    """The authors' layers-18pct.cfg."""
    x = norm(F.relu(pool(conv(x, net['conv1'], padding=2))))
    x = norm(mean_pool(F.relu(conv(x, net['conv2'], padding=2))))
    x = mean_pool(F.relu(conv(x, net['conv3'], padding=2)))
    return logits(x, net['fc10'])


def four_layer(net, x, activation=F.relu) -> Tensor:
    x = pool(activation(conv(x, net['conv1'], padding=2)))
    x = mean_pool(activation(conv(x, net['conv2'], padding=2)))
    x = mean_pool(activation(conv(x, net['conv3'], padding=2)))
    return logits(x, net['fc4'])


def maxout(x: Tensor) -> Tensor:
    return torch.maximum(x[:, 0::2], x[:, 1::2])


NETS: dict[str, Callable[..., Tensor]] = {
    'paper': paper,
    'paper_lrn_across': partial(paper, norm=partial(paper_lrn, columns=1)),
    'conv5_192': partial(paper, norm5=paper_lrn),
    'conv5_192_std03': partial(paper, norm5=paper_lrn),
    'small': partial(paper, conv1={'padding': 2}),
    'patterns': partial(paper, conv1={'padding': 4}),
    'patterns_no_communication': partial(paper, conv1={'padding': 4}, apart=True),
    'patterns_one_column': partial(paper, conv1={'padding': 4}, **ONE_COLUMN),
    'krizhevsky2012': krizhevsky2012,
    'half': partial(krizhevsky2012, columns=1, norm=partial(lrn, columns=1)),
    'one_column': partial(krizhevsky2012, columns=1, norm=partial(lrn, columns=1)),
    **{name: partial(krizhevsky2012, **how) for name, how in ABLATIONS.items()},
    'no_lrn': partial(krizhevsky2012, norm=same, norm_in_map=same),
    'paper_half': partial(paper, **ONE_COLUMN),
    'paper_one_column': partial(paper, **ONE_COLUMN),
    **{f'paper_{name}': partial(paper, **how) for name, how in ABLATIONS.items()},
    'photographs': photographs,
    'photographs_half': partial(photographs, **ONE_COLUMN),
    'photographs_one_column': partial(photographs, **ONE_COLUMN),
    **{f'photographs_{name}': partial(photographs, **how) for name, how in ABLATIONS.items()},
    'photographs_non_overlapping': partial(photographs, **SMALL_POOLS),
    'caffe': caffe,
    'caffenet': partial(caffe, pool_first=True),
    'torchvision': torchvision,
    'one_tower': partial(torchvision, groups2=2),
    'one_weird_trick': one_weird_trick,
    'batchnorm227': batchnorm227,
    'batchnorm227 training': partial(batchnorm227, training=True),
    'alexnet_bn': alexnet_bn,
    'alexnet_bn training': partial(alexnet_bn, training=True),
    'cifar18': cifar18,
    'cifar18_no_norm': partial(cifar18, norm=same),
    'four_layer': four_layer,
    'four_layer tanh': partial(four_layer, activation=torch.tanh),
    'four_layer sigmoid': partial(four_layer, activation=torch.sigmoid),
    'four_layer leaky_relu': partial(four_layer, activation=partial(F.leaky_relu, negative_slope=1 / 3)),
    'four_layer maxout': partial(four_layer, activation=maxout),
}  # fmt: skip


def _loss(case: str, variables: dict, images: np.ndarray, labels: np.ndarray):
    """In float64: the parameters, moving statistics, logits and the mean cross-entropy."""
    net, kept = (
        {
            name: {part: torch.tensor(x, dtype=torch.float64) for part, x in layer.items()}
            for name, layer in variables[collection].items()
        }
        for collection in ('params', 'batch_stats')
    )
    for layer in net.values():
        for x in layer.values():
            x.requires_grad_()
    x = torch.tensor(images, dtype=torch.float64).permute(0, 3, 1, 2)
    outputs = NETS[case](net, x, kept) if kept else NETS[case](net, x)
    return net, kept, outputs, F.cross_entropy(outputs, torch.tensor(labels))


def _by_name(net: Net) -> dict[str, Tensor]:
    return {f'{name}/{part}': x for name, layer in net.items() for part, x in layer.items()}


def results(
    case: str, variables: dict, images: np.ndarray, labels: np.ndarray
) -> dict[str, np.ndarray]:
    """In float64: the logits, the mean cross-entropy's gradient to every parameter
    (`conv1/kernel`, ..., 0 to what the net does not read), and moving statistics
    (`conv1_norm/mean`, ...) as they are then."""
    net, kept, outputs, loss = _loss(case, variables, images, labels)
    loss.backward()
    gradients = {
        name: np.zeros(x.shape) if x.grad is None else x.grad.numpy()
        for name, x in _by_name(net).items()
    }
    moved = {name: x.numpy() for name, x in _by_name(kept).items()}
    return {'logits': outputs.detach().numpy()} | gradients | moved


def hessian_product(
    case: str, variables: dict, images: np.ndarray, labels: np.ndarray, direction: dict
) -> dict[str, np.ndarray]:
    """In float64: the Hessian of the mean cross-entropy times a direction, a tree as the
    parameters; by the name of the parameter."""
    net, _, _, loss = _loss(case, variables, images, labels)
    params = _by_name(net)
    gradients = torch.autograd.grad(loss, list(params.values()), create_graph=True)
    along = [torch.tensor(x, dtype=torch.float64) for x in _by_name(direction).values()]
    slope = sum((one * other).sum() for one, other in zip(gradients, along, strict=True))
    products = torch.autograd.grad(slope, list(params.values()))
    return {name: x.numpy() for name, x in zip(params, products, strict=True)}
