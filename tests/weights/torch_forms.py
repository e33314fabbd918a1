"""torchvision's and Caffe's nets in PyTorch, in those programs' own layouts; nothing of
alexnet_jax is read here."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class AlexNet(nn.Module):
    """torchvision/models/alexnet.py; its adaptive pooling leaves maps of the right size alone."""

    def __init__(self, features: nn.Sequential, classifier: nn.Sequential):
        super().__init__()
        self.features, self.classifier = features, classifier

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))


def torchvision_net(shapes: Sequence[tuple[int, ...]], groups2: int) -> AlexNet:
    """`shapes`: of the weights, from below to above."""
    maps, units = [shape[0] for shape in shapes[:5]], [shape[::-1] for shape in shapes[5:]]
    return AlexNet(
        nn.Sequential(
            nn.Conv2d(3, maps[0], 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(maps[0], maps[1], 5, padding=2, groups=groups2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(maps[1], maps[2], 3, padding=1), nn.ReLU(),
            nn.Conv2d(maps[2], maps[3], 3, padding=1), nn.ReLU(),
            nn.Conv2d(maps[3], maps[4], 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        ),
        nn.Sequential(
            nn.Dropout(), nn.Linear(*units[0]), nn.ReLU(),
            nn.Dropout(), nn.Linear(*units[1]), nn.ReLU(), nn.Linear(*units[2]),
        ),
    )  # fmt: skip


def caffe_net(blobs: Mapping[str, Sequence[np.ndarray]], bgr: Tensor, pool_first: bool) -> Tensor:
    """models/bvlc_alexnet/deploy.prototxt; with `pool_first` bvlc_reference_caffenet's."""
    net = {layer: [torch.from_numpy(x) for x in both] for layer, both in blobs.items()}

    def pool(x: Tensor) -> Tensor:
        return F.max_pool2d(x, 3, 2, ceil_mode=True)

    def norm(x: Tensor) -> Tensor:
        return F.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=1)

    def above(x: Tensor) -> Tensor:
        return norm(pool(x)) if pool_first else pool(norm(x))

    x = above(F.relu(F.conv2d(bgr, *net['conv1'], stride=4)))
    x = above(F.relu(F.conv2d(x, *net['conv2'], padding=2, groups=2)))
    x = F.relu(F.conv2d(x, *net['conv3'], padding=1))
    x = F.relu(F.conv2d(x, *net['conv4'], padding=1, groups=2))
    x = pool(F.relu(F.conv2d(x, *net['conv5'], padding=1, groups=2)))
    x = F.relu(F.linear(x.flatten(1), *net['fc6']))
    return F.linear(F.relu(F.linear(x, *net['fc7'])), *net['fc8'])
