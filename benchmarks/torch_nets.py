"""The tables' nets in PyTorch, as its users write them.

Columns that do not read each other are groups of two. PyTorch's LocalResponseNorm runs over
all maps of a layer, so at the border of the paper's two columns it sums over four maps of
the other; the work is the same.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alexnet_jax.network.layers import (
    Architecture,
    BatchNorm,
    Conv,
    Dropout,
    LocalResponseNorm,
    MaxPool,
    Relu,
    Stage,
)
from alexnet_jax.network.shapes import layer_shapes


class HandTunedNorm(nn.Module):
    """Local response normalization for `torch.compile`, which makes one kernel of it: shifted
    slices in place of PyTorch's pooling over a padded copy, no general power."""

    def __init__(self, size: int, alpha: float, beta: float, k: float):
        super().__init__()
        assert beta == 0.75, beta
        self.size, self.alpha, self.k = size, alpha, k

    def forward(self, x: Tensor) -> Tensor:
        """Returns the normalized maps, [images, maps, height, width] as x."""
        half, maps = self.size // 2, x.shape[1]
        squares = F.pad(x * x, (0, 0, 0, 0, half, half))
        total = squares[:, :maps]
        for shift in range(1, self.size):
            total = total + squares[:, shift : shift + maps]
        root = torch.rsqrt(self.k + self.alpha * total)
        return x * (root * torch.sqrt(root))  # d^-3/4


def build(architecture: Architecture, classes: int, hand_tuned_norm: bool = False) -> nn.Sequential:
    """The net, with PyTorch's own initial values."""
    parts: list[nn.Module] = []
    below = (architecture.input_size, architecture.input_size, 3)
    shapes = layer_shapes(architecture, classes)
    for number, (layer, shape) in enumerate(zip(architecture.layers, shapes, strict=False)):
        if isinstance(layer, Conv):
            before, after = layer.padding
            if before != after:
                parts.append(nn.ZeroPad2d((before, after, before, after)))
                before = 0
            apart = number > 0 and not layer.reads_all
            groups = layer.groups * (architecture.columns if apart else 1)
            window = (layer.kernel, layer.stride, before)
            parts.append(nn.Conv2d(below[-1], layer.features, *window, groups=groups))
        else:
            parts += _flat(below)
            parts.append(nn.Linear(math.prod(below), layer.features))
        # One activation more than there are stages: the last is nobody's input here.
        for stage, seen in zip(layer.then, shape.activations.values(), strict=False):
            parts.append(_stage(stage, seen, hand_tuned_norm))
        below = shape.output
    return nn.Sequential(*parts, *_flat(below), nn.Linear(math.prod(below), classes))


def _flat(shape: tuple[int, ...]) -> list[nn.Module]:
    return [nn.Flatten()] if len(shape) > 1 else []


def _stage(stage: Stage, seen: tuple[int, ...], hand_tuned_norm: bool) -> nn.Module:
    """`seen`: the shape of what it is given, maps last as in the tables."""
    match stage:
        case Relu():
            return nn.ReLU()
        case MaxPool(size, stride):
            return nn.MaxPool2d(size, stride, ceil_mode=(seen[0] - size) % stride > 0)
        case Dropout(rate):
            return nn.Dropout(rate)
        case BatchNorm(epsilon, momentum):
            return nn.BatchNorm2d(seen[-1], eps=epsilon, momentum=1 - momentum)
        case LocalResponseNorm(size, alpha, beta, k, alpha_divided):
            each = alpha / size if alpha_divided else alpha
            if hand_tuned_norm:
                return HandTunedNorm(size, each, beta, k)
            return nn.LocalResponseNorm(size, each * size, beta, k)  # it divides by the size
    raise TypeError(f'{stage!r} is not among the stages compared here')
