"""What the benchmarks of programs on a device share: a call timed, a batch, a step."""

import math
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from alexnet_jax.network import device_mesh
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.training.schedule import Clock
from alexnet_jax.training.step import create_state, make_train_step

RATE = 1e-4  # low: the net may see one batch of noise a thousand times


def seconds_a_call(call: Callable[[], Any], at_least: float = 0.1) -> Callable[[], float]:
    """A run for `report.in_turns`: the mean of as many calls as take `at_least` seconds.

    On a GPU they queue up, so that the mean has little of the time it takes to start one.
    On a CPU each is waited for: calls that need nothing of each other would run at the same
    time.
    """
    each = jax.block_until_ready if jax.default_backend() == 'cpu' else lambda result: result
    count = 0

    def timed(count: int) -> float:
        begun = time.perf_counter()
        result = None
        for _ in range(count):
            result = each(call())
        jax.block_until_ready(result)
        return (time.perf_counter() - begun) / count

    def run() -> float:
        nonlocal count
        if not count:
            jax.block_until_ready(call())  # compiles
            count = max(1, math.ceil(at_least / timed(1)))
        return timed(count)

    return run


def random_batch(images: int, size: int, classes: int) -> dict[str, np.ndarray]:
    """A training batch of noise."""
    random = np.random.default_rng(0)
    return {
        'image': random.integers(0, 256, (images, size, size, 3), dtype=np.uint8),
        'mirrored': np.zeros(images, bool),
        'color_shift': np.zeros((images, 3), np.float32),
        'label': random.integers(0, classes, images, dtype=np.int32),
        'mask': np.ones(images, np.float32),
    }


def mean_image(size: int) -> np.ndarray:
    """Returns a gray mean image, float32 [size, size, 3]."""
    return np.full((size, size, 3), 127, np.float32)


def clock(images: int) -> Clock:
    """Returns the clock of a run that never ends, with batches of `images`."""
    return Clock(steps=2**30, batch_size=images, epoch_size=2**30)


def package_step(net: AlexNet, images: int) -> Callable:
    """A call of the package's own step, as a run of the paper's protocol has it, on a mesh of
    one device; its batch is there already. Returns the scores."""
    mesh, size = device_mesh.make_mesh(), net.architecture.input_size
    mean, batch = mean_image(size), random_batch(images, size, net.classes)
    step = make_train_step(net, mesh, mean, seed=0, learning_rate=RATE, clock=clock(images))
    return in_a_chain(step, create_state(net, 0, mesh), device_mesh.place_batch(mesh, batch))


def in_a_chain(step: Callable, state: Any, batch: Any) -> Callable:
    """A call of the step that goes on from the state before. Returns the scores."""

    def call():
        nonlocal state
        state, scores = step(state, batch)
        return scores

    return call
