"""The full net's training step beside PyTorch's, in one run.

    python benchmarks/step_time.py --batch=64 --rounds=5

The two take turns, so that a machine whose speed drifts is the same for both.
PyTorch (`pip install torch`) runs the same net in its better memory layout:
groups of two, its own LocalResponseNorm, SGD with momentum and weight decay.
Prints one table and writes the same as JSON beside this file.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import jax
import numpy as np
import torch
from torch import nn

from alexnet_jax.network import columns
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.architectures import PAPER
from alexnet_jax.training.schedule import Clock
from alexnet_jax.training.step import create_state, make_train_step

CLASSES = 1000


def torch_net() -> nn.Module:
    """The paper's net as a PyTorch user would write it."""
    return nn.Sequential(
        nn.ZeroPad2d((0, 3, 0, 3)),
        nn.Conv2d(3, 96, 11, 4), nn.ReLU(), nn.LocalResponseNorm(5, 5e-4, 0.75, 2), nn.MaxPool2d(3, 2),
        nn.Conv2d(96, 256, 5, 1, 2, groups=2), nn.ReLU(), nn.LocalResponseNorm(5, 5e-4, 0.75, 2),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(256, 384, 3, 1, 1), nn.ReLU(),
        nn.Conv2d(384, 384, 3, 1, 1, groups=2), nn.ReLU(),
        nn.Conv2d(384, 256, 3, 1, 1, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Flatten(),
        nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout(),
        nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(),
        nn.Linear(4096, CLASSES),
    )  # fmt: skip


def torch_step(images: np.ndarray, labels: np.ndarray, layout: torch.memory_format) -> Callable:
    net = torch_net().to(memory_format=layout)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4)
    batch = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) - 127)
    batch = batch.contiguous(memory_format=layout)
    target = torch.from_numpy(labels.astype(np.int64))

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(net(batch), target)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def jax_step(images: np.ndarray, labels: np.ndarray) -> Callable:
    net, mesh = AlexNet(PAPER, CLASSES), columns.make_mesh()
    step = make_train_step(
        net, mesh, np.full((224, 224, 3), 127, np.float32),
        seed=0, learning_rate=1e-4, clock=Clock(steps=1000, batch_size=64, epoch_size=1000),
    )  # fmt: skip
    state = create_state(net, 0, mesh)
    batch = {
        'image': images,
        'label': labels,
        'color_shift': np.zeros((len(images), 3), np.float32),
        'mask': np.ones(len(images), np.float32),
    }

    def run():
        nonlocal state
        state, scores = step(state, batch)
        return float(scores['loss'])

    return run


def time_in_turns(steps: dict[str, Callable], rounds: int) -> dict[str, list[float]]:
    """Seconds of each step, `rounds` of them after two that do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 2):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if number >= 2:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--rounds', type=int, default=5)
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (arguments.batch, 224, 224, 3), dtype=np.uint8)
    labels = random.integers(0, CLASSES, arguments.batch, dtype=np.int32)
    seconds = time_in_turns({
        'alexnet_jax': jax_step(images, labels),
        'torch NCHW': torch_step(images, labels, torch.contiguous_format),
        'torch channels last': torch_step(images, labels, torch.channels_last),
    }, arguments.rounds)  # fmt: skip

    torch_names = [name for name in seconds if name.startswith('torch')]
    better = min(torch_names, key=lambda name: statistics.median(seconds[name]))
    ratios = [
        theirs / ours for theirs, ours in zip(seconds[better], seconds['alexnet_jax'], strict=True)
    ]
    result = {
        'versions': {name: metadata.version(name) for name in ('jax', 'jaxlib', 'torch', 'flax')}
        | {'python': platform.python_version()},
        'device': jax.devices()[0].device_kind,
        'cores': torch.get_num_threads(),
        'batch': arguments.batch,
        'rounds': arguments.rounds,
        'images_per_second': {
            name: [
                arguments.batch / statistics.median(times),
                arguments.batch / max(times),
                arguments.batch / min(times),
            ]
            for name, times in seconds.items()
        },
        'ratio_to_better_torch': [statistics.median(ratios), min(ratios), max(ratios)],
        'better_torch': better,
    }
    print(
        f'training step, batch {arguments.batch}, {arguments.rounds} rounds in turns; {result["versions"]}'
    )
    print(f'{"":24}{"median":>9}{"lowest":>9}{"highest":>9}')
    for name, rates in result['images_per_second'].items():
        print(f'{name + ", images/s":24}' + ''.join(f'{rate:9.1f}' for rate in rates))
    print(
        f'{"ratio to " + better:24}' + ''.join(f'{x:9.2f}' for x in result['ratio_to_better_torch'])
    )
    Path(__file__).with_suffix('.json').write_text(json.dumps(result, indent=2) + '\n')


if __name__ == '__main__':
    main()
