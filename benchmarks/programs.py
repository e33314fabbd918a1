"""One library that is timed: it makes steps as `contestants.py` asks, a word in and a line of JSON
out.

- (its start): {'platform', 'device', 'first_seconds', 'steps', 'after_import'}
- step: {'seconds': of one step, 'loss'}, the mean of `steps` in a row, half a second of them
- product: {'gflops'} of a matrix product in the library's own hands
- memory: {'resident', 'device'} at most since its start, MiB
- plan: {'temporaries', ...} of the compiled step, MiB; JAX only
"""

import dataclasses
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from contestants import CLASSES, MIB, Spec

from alexnet_jax.runtime import command_line


@dataclasses.dataclass
class Program:
    """A library at work.

    step: starts a step, and gives what is to be read of it: the loss, or logits.
    read: waits for that; its mean.
    product: of a square matrix with itself; how it is placed, and the product, waited for.
    """

    platform: str  # cpu, gpu
    device: str
    after_import: float
    step: Callable[[], Any]
    read: Callable[[Any], float]
    product: tuple[Callable[[np.ndarray], Any], Callable[[Any], Any]]
    device_memory: Callable[[], float | None]
    plan: Callable[[], dict[str, float]] = dict


def peak_resident() -> float:
    """MiB since the process began."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MIB if sys.platform == 'darwin' else peak / 1024


def random_batch(spec: Spec) -> tuple[np.ndarray, np.ndarray]:
    """Returns images, uint8 [batch, size, size, 3], and labels, int32 [batch]."""
    random, size = np.random.default_rng(0), spec.architecture.input_size
    images = random.integers(0, 256, (spec.batch, size, size, 3), dtype=np.uint8)
    return images, random.integers(0, CLASSES, spec.batch, dtype=np.int32)


def ours(spec: Spec) -> Program:
    """The package's own step, or inference."""
    import jax

    from alexnet_jax.network import device_mesh, inference
    from alexnet_jax.network.alexnet import AlexNet
    from alexnet_jax.training.schedule import Clock
    from alexnet_jax.training.step import create_state, make_train_step

    after_import = peak_resident()
    images, labels = random_batch(spec)
    compute: dict[str, Any] = {} if spec.dtype == 'float32' else {'compute': spec.dtype}
    net, mesh = AlexNet(spec.architecture, CLASSES, **compute), device_mesh.make_mesh()
    mean = np.full(images.shape[1:], 127, np.float32)
    state = create_state(net, 0, mesh)
    if spec.mode == 'infer':
        forward = inference.make_forward(net, mesh, mean, 1.0)
        variables = inference.place_variables(net, mesh, state.variables)
        placed = device_mesh.place_batch(mesh, {'image': images})['image']
        del state
        compiled, arguments = forward, (variables, placed)

        def step():
            return forward(variables, placed)[0]
    else:
        train = make_train_step(
            net, mesh, mean, seed=0, learning_rate=1e-4,
            clock=Clock(steps=1000, batch_size=spec.batch, epoch_size=1000),
        )  # fmt: skip
        batch = device_mesh.place_batch(mesh, {
            'image': images,
            'label': labels,
            'mirrored': np.zeros(spec.batch, bool),
            'color_shift': np.zeros((spec.batch, 3), np.float32),
            'mask': np.ones(spec.batch, np.float32),
        })  # fmt: skip
        compiled, arguments = train, (jax.eval_shape(lambda: state), batch)

        def step():
            nonlocal state
            state, scores = train(state, batch)
            return scores['loss']

    return _jax_program(spec, after_import, step, compiled, arguments)


def naive_jax(spec: Spec) -> Program:
    """`naive.py`, under JAX's defaults."""
    import jax
    import naive

    after_import = peak_resident()
    images, labels = map(jax.device_put, random_batch(spec))
    params, statistics = jax.device_put(naive.start(spec.architecture, CLASSES))
    if spec.mode == 'infer':
        forward = naive.inference(spec.architecture, spec.dtype)
        compiled, arguments = forward, (params, statistics, images)

        def step():
            return forward(params, statistics, images)
    else:
        train = naive.train_step(spec.architecture, spec.dtype)
        velocity = jax.tree.map(lambda w: 0 * w, params)
        state = (params, statistics, velocity, jax.random.key(0))
        del params, statistics, velocity  # the step gives their memory away
        compiled, arguments = train, (jax.eval_shape(lambda: state), images, labels)

        def step():
            nonlocal state
            state, loss = train(state, images, labels)
            return loss

    return _jax_program(spec, after_import, step, compiled, arguments)


def _jax_program(
    spec: Spec, after_import: float, step: Callable, compiled: Any, arguments: tuple
) -> Program:
    import jax
    import jax.numpy as jnp

    device, multiply = jax.devices()[0], jax.jit(jnp.matmul)

    def device_memory():
        figures = device.memory_stats() or {}
        return figures['peak_bytes_in_use'] / MIB if 'peak_bytes_in_use' in figures else None

    def plan():
        figures = compiled.lower(*arguments).compile().memory_analysis()
        return {
            'temporaries': figures.temp_size_in_bytes / MIB,
            'arguments': figures.argument_size_in_bytes / MIB,
            'outputs': figures.output_size_in_bytes / MIB,
            'shared': figures.alias_size_in_bytes / MIB,  # outputs in the place of arguments
        }

    return Program(
        platform=device.platform,
        device=device.device_kind,
        after_import=after_import,
        step=step,
        read=lambda x: float(np.asarray(x).astype(np.float32).mean()),
        product=(
            lambda square: jnp.asarray(square, spec.dtype),
            lambda x: jax.block_until_ready(multiply(x, x)),
        ),
        device_memory=device_memory,
        plan=plan,
    )


def torchs(spec: Spec) -> Program:
    """The net in PyTorch, its images as floats already."""
    import torch
    import torch_nets
    from torch.nn import functional as F

    after_import = peak_resident()
    cuda = torch.cuda.is_available()
    device = torch.device('cuda' if cuda else 'cpu')
    if cuda:
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision('high')  # as JAX and cuDNN have it by default
    layout = torch.channels_last if spec.layout == 'channels_last' else torch.contiguous_format
    net: Any = torch_nets.build(spec.architecture, CLASSES, spec.norm == 'hand_tuned')
    net = net.to(device, memory_format=layout).train(spec.mode == 'train')
    optimizer = torch.optim.SGD(
        net.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4, fused=cuda or None
    )
    if spec.compiled:
        net = torch.compile(net, mode='max-autotune' if cuda else None)
    images, labels = random_batch(spec)
    batch = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) - 127)
    batch = batch.to(device).contiguous(memory_format=layout)
    target = torch.from_numpy(labels.astype(np.int64)).to(device)

    def logits():
        with torch.autocast(device.type, torch.bfloat16, enabled=spec.dtype == 'bfloat16'):
            return net(batch)

    def train():
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(logits().float(), target)
        loss.backward()
        optimizer.step()
        return loss.detach()

    def multiply(x):
        torch.matmul(x, x)
        if cuda:
            torch.cuda.synchronize()

    dtype = getattr(torch, spec.dtype)
    return Program(
        platform='gpu' if cuda else 'cpu',
        device=torch.cuda.get_device_name() if cuda else 'cpu',
        after_import=after_import,
        step=train if spec.mode == 'train' else torch.inference_mode()(logits),
        read=lambda x: x.float().mean().item(),
        product=(lambda square: torch.from_numpy(square).to(device, dtype), multiply),
        device_memory=lambda: torch.cuda.max_memory_allocated() / MIB if cuda else None,
    )


LIBRARIES: dict[str, Callable[[Spec], Program]] = {
    'jax': ours, 'jax naive': naive_jax, 'torch': torchs,
}  # fmt: skip


def timed(program: Program, count: int = 1) -> tuple[float, float]:
    """(seconds of one of `count` steps in a row, what the last one gave). That is read once, at
    the end, so that a GPU always has the next step before it."""
    begin = time.perf_counter()
    for _ in range(count - 1):
        program.step()
    value = program.read(program.step())
    return (time.perf_counter() - begin) / count, value


def gflops(program: Program, dry: bool) -> float:
    """Of the fastest of three products, after one that compiles."""
    side = 8192 if program.platform != 'cpu' else 256 if dry else 2048
    place, multiply = program.product
    # Not ones or zeros: with those a GPU needs less power and is faster.
    square = place(np.random.default_rng(0).standard_normal((side, side), np.float32))
    seconds = []
    for _ in range(4):
        begin = time.perf_counter()
        multiply(square)
        seconds.append(time.perf_counter() - begin)
    return 2 * side**3 / min(seconds[1:]) / 1e9


def main() -> None:
    """Answers requests on standard input with measurements, one a line."""
    spec = Spec(**json.loads(sys.argv[1]))
    if spec.library == 'jax':
        command_line.before_jax()
    # Libraries print what they like: the pipe is ours alone.
    replies = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)

    def reply(**what: Any) -> None:
        print(json.dumps(what), file=replies, flush=True)

    program = LIBRARIES[spec.library](spec)
    first, _ = timed(program)
    again, _ = timed(program)
    steps = max(1, round(0.5 / again))
    reply(
        platform=program.platform,
        device=program.device,
        first_seconds=first,
        steps=steps,
        after_import=program.after_import,
    )
    for line in sys.stdin:
        match line.strip():
            case 'step':
                seconds, loss = timed(program, steps)
                reply(seconds=seconds, loss=loss)
            case 'product':
                reply(gflops=gflops(program, dry=spec.width < 1))
            case 'memory':
                reply(resident=peak_resident(), device=program.device_memory())
            case 'plan':
                reply(**program.plan())
            case word:
                raise ValueError(word)


if __name__ == '__main__':
    main()
