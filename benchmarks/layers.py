"""Where a training step's time goes: each layer and each stage on its own, forward and backward.

    python benchmarks/layers.py --net=paper --batch=64 --rounds=5

Every row is the package's own code (`AlexNet`'s methods) compiled alone on tensors of the
shapes it has in the net, all columns together. Backward is the compiled function that
`jax.vjp` gives, on what the forward pass kept; conv1's makes no gradient of the image.
Rows take turns, round by round, with the whole step and with measurements of the machine:

- a product of two large square matrices: the rate of arithmetic;
- x + 1 on a large vector, in its place: the rate at which memory is read and written;
- the same into a new vector, as every row here writes: on a CPU the system may have to find
  and clear the pages, which can take longer than to write them;
- a call that computes nothing: no row can take less. On a GPU, batches of hundreds of images
  are needed to leave it behind.

MB: each tensor touched once, what is read and what is written. Limit: the time in which the
machine, at the first two rates, does the row's products or moves its bytes, whichever takes
longer; its share of the time measured says how far the row is from it (above 1 where tensors
stay in a cache). Alone, a row writes all it computes to memory; in the whole step the compiler fuses
neighbors, so the sum may be more than the step. Prints one table and writes the same as JSON
beside this file.
"""

import argparse
import dataclasses
import statistics
from collections.abc import Callable, Iterator
from typing import Any

from alexnet_jax.runtime import command_line

command_line.before_jax()

import flax.linen as nn  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import report  # noqa: E402
import timing  # noqa: E402

from alexnet_jax.network import collectives, compiler, device_mesh  # noqa: E402
from alexnet_jax.network.alexnet import AlexNet  # noqa: E402
from alexnet_jax.network.architectures import ARCHITECTURES, architecture  # noqa: E402
from alexnet_jax.network.layers import STAGE_NAMES, BatchNorm, Dropout, Layer  # noqa: E402
from alexnet_jax.network.shapes import layer_shapes  # noqa: E402
from alexnet_jax.training import optimizer, protocols  # noqa: E402
from alexnet_jax.training.step import create_state  # noqa: E402

CLASSES = 1000
MATRIX, MEMORY, NEW_MEMORY, NOTHING = 'matrix product', 'memory', 'new memory', 'empty call'
STEP, UPDATE = 'step', 'update'


class Piece(AlexNet):
    """One method of the net on its own."""

    @nn.compact
    def __call__(self, method: str, *arguments: Any) -> Any:
        """Calls one of the net's own methods."""
        return getattr(self, method)(*arguments)


@dataclasses.dataclass(frozen=True)
class Row:
    """A part of the net.

    compute: (variables, what it reads) -> what it makes.
    inputs: those two, as shapes.
    multiply_adds: of the products, forward, for the batch; 0 where there are none to speak of.
    on_image: it reads the image, of which no gradient is made.
    """

    name: str
    compute: Callable[[Any, Any], Any]
    inputs: tuple[Any, Any]
    multiply_adds: int = 0
    on_image: bool = False


@dataclasses.dataclass(frozen=True)
class Work:
    """A call to be timed, the floating-point operations of its products, and the bytes it
    reads and writes."""

    call: Callable[[], Any]
    operations: int
    bytes: int


def rows_of(net: Piece, batch: int, dtype: Any) -> Iterator[Row]:
    """The parts of the net from the image to the logits."""
    table = net.architecture
    size = table.input_size
    products = {row.name: batch * row.multiply_adds for row in layer_shapes(table, net.classes)}
    seen: Any = jax.ShapeDtypeStruct((batch, size, size, 3), dtype)
    for number, layer in enumerate(table.layers):
        row = _row(net, layer.name, '_linear', _linear(net, layer, number), seen)
        yield dataclasses.replace(row, multiply_adds=products[layer.name], on_image=not number)
        seen = jax.eval_shape(row.compute, *row.inputs)
        for stage in layer.then:
            name = f'{layer.name}/{STAGE_NAMES[type(stage)]}'
            method, arguments = '_stage', _after(stage)
            if isinstance(stage, BatchNorm):
                method, arguments = '_batch_norm', _batch_norm(layer, stage)
            if isinstance(stage, Dropout):
                method, arguments = '_dropout', _dropout(stage, number, batch)
            yield (row := _row(net, name, method, arguments, seen))
            seen = jax.eval_shape(row.compute, *row.inputs)
    output = table.output
    row = _row(net, output.name, '_output', _after(output), seen)
    yield dataclasses.replace(row, multiply_adds=products[output.name])


def _row(net: Piece, name: str, method: str, arguments: Callable, seen: Any) -> Row:
    """`arguments`: what the part reads -> the method's arguments."""
    dtype = jax.tree.leaves(seen)[0].dtype
    variables = jax.eval_shape(
        lambda x: nn.unbox(net.init(jax.random.key(0), method, *arguments(x))),
        of_type(seen, jnp.float32),
    )

    def compute(variables: Any, x: Any) -> Any:
        # What batch normalization keeps beside its parameters is made, and dropped.
        made, _ = net.apply(variables, method, *arguments(x), mutable=['batch_stats'])
        return made

    return Row(name, compute, (of_type(variables, dtype), seen))


def of_type(shapes: Any, dtype: Any) -> Any:
    """Returns the shapes with another type."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype), shapes)


def _linear(net: Piece, layer: Layer, number: int) -> Callable:
    gathers = number > 0 and net._gathers(layer)
    return lambda x: (layer, collectives.gather(x, None) if gathers else x, True)


def _after(what: Any) -> Callable:
    return lambda x: (what, x)


def _batch_norm(layer: Layer, stage: BatchNorm) -> Callable:
    return lambda x: (layer, stage, x, True)


def _dropout(stage: Dropout, number: int, batch: int) -> Callable:
    return lambda x: (stage, x, jax.random.key(number), jnp.arange(batch))


def jit(function: Callable) -> Callable:
    """Compiles a function with the package's compiler options."""
    return jax.jit(function, compiler_options=compiler.options())


def random_like(tree: Any, seed: int) -> Any:
    """Normal numbers of those shapes."""
    leaves, shape = jax.tree.flatten(tree)
    key = jax.random.key(seed)
    made = [
        jax.random.normal(jax.random.fold_in(key, i), x.shape, x.dtype)
        for i, x in enumerate(leaves)
    ]
    return jax.tree.unflatten(shape, made)


def bytes_of(*trees: Any) -> int:
    """Of the arrays, each counted once."""
    arrays = {id(x): x.nbytes for x in jax.tree.leaves(trees)}
    return sum(arrays.values())


def forward_and_backward(row: Row, seed: int) -> tuple[Work, Work]:
    """Returns the compiled forward pass of a row and its backward pass, ready to be called."""
    variables, x = random_like(row.inputs, seed)
    forward = jit(row.compute)

    def made_and_pull(variables: Any, x: Any) -> Any:
        if row.on_image:
            return jax.vjp(lambda variables: row.compute(variables, x), variables)
        return jax.vjp(row.compute, variables, x)

    made, pull = jit(made_and_pull)(variables, x)
    kept, shape = jax.tree.flatten(pull)  # a list of arrays is quicker to call with
    cotangent = random_like(made, seed)
    backward = jit(lambda kept, cotangent: jax.tree.unflatten(shape, kept)(cotangent))
    gradients = (variables,) if row.on_image else (variables, x)  # of their shapes
    operations = 2 * row.multiply_adds
    return (
        Work(lambda: forward(variables, x), operations, bytes_of(variables, x, made)),
        Work(
            lambda: backward(kept, cotangent),
            operations * (1 if row.on_image else 2),
            bytes_of(kept, cotangent) + bytes_of(gradients),
        ),
    )


def update(net: AlexNet, mesh: Any) -> Work:
    """The paper's rule on the net's parameters, where they are."""
    state = create_state(net, 0, mesh)
    rule = optimizer.sgd(protocols.PAPER, [1e-4] * len(protocols.PAPER.groups))

    def move(params: Any, velocity: Any, gradients: Any) -> Any:
        updates, velocity = rule.update(gradients, velocity, params)
        return jax.tree.map(jnp.add, params, updates), velocity

    compiled = jax.jit(move, donate_argnums=(0, 1), compiler_options=compiler.options())
    held = (state.params, state.momentum)
    gradients = random_like(state.params, 0)

    def call():
        nonlocal held
        held = compiled(*held, gradients)
        return held

    return Work(call, 0, 2 * bytes_of(held) + bytes_of(gradients))


def machine_rates(dtype: Any) -> dict[str, Work]:
    """The calls that measure the machine."""
    on_cpu = jax.default_backend() == 'cpu'
    side, vector = (2048, 2**26) if on_cpu else (8192, 2**28)
    matrix = random_like(jax.ShapeDtypeStruct((side, side), dtype), 0)
    numbers, number = jnp.zeros(vector, jnp.float32), jnp.zeros((), jnp.float32)
    product, add = jit(lambda x: x @ x), jit(lambda x: x + 1)
    add_in_place = jax.jit(lambda x: x + 1, donate_argnums=0)
    held = add(numbers)

    def in_place():
        nonlocal held
        held = add_in_place(held)
        return held

    return {
        MATRIX: Work(lambda: product(matrix), 2 * side**3, 2 * matrix.nbytes),
        MEMORY: Work(in_place, vector, 2 * numbers.nbytes),
        NEW_MEMORY: Work(lambda: add(numbers), vector, 2 * numbers.nbytes),
        NOTHING: Work(lambda: add(number), 0, 0),
    }


def cells(work: Work, seconds: list[float], rates: tuple[float, float]) -> list[str]:
    """Milliseconds, GFLOP/s, MB and share of the limit."""
    middle = statistics.median(seconds)
    return [
        report.spread([1e3 * x for x in seconds]),
        f'{work.operations / middle / 1e9:.0f}' if work.operations else '',
        f'{work.bytes / 1e6:.3g}',
        f'{limit(work, rates) / middle:.2f}',
    ]


def limit(work: Work, rates: tuple[float, float]) -> float:
    """The fewest seconds it can take."""
    return max(work.operations / rates[0], work.bytes / rates[1])


def main() -> None:
    """Measures the layers and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--net', choices=ARCHITECTURES, default='paper')
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--width', type=float, default=1.0)
    parser.add_argument('--size', type=int, default=0, help="pixels; 0: the net's own")
    parser.add_argument('--dtype', choices=('float32', 'bfloat16'), default='float32',
                        help='of all tensors; the whole step is there in float32 only')  # fmt: skip
    options = parser.parse_args()
    table = architecture(options.net, options.size, options.width)
    net, mesh, dtype = AlexNet(table, CLASSES), device_mesh.make_mesh(), jnp.dtype(options.dtype)

    rows = list(rows_of(Piece(table, CLASSES), options.batch, dtype))
    passes = {row.name: forward_and_backward(row, number) for number, row in enumerate(rows)}
    works = machine_rates(dtype)
    for name, (forward, backward) in passes.items():
        works |= {f'{name} forward': forward, f'{name} backward': backward}
    works[UPDATE] = update(net, mesh)
    runs = {name: timing.seconds_a_call(work.call) for name, work in works.items()}
    if options.dtype == 'float32':
        runs[STEP] = timing.seconds_a_call(timing.package_step(net, options.batch))
    seconds = report.in_turns(runs, options.rounds, warmup=1)

    rates = (
        works[MATRIX].operations / statistics.median(seconds[MATRIX]),
        works[MEMORY].bytes / statistics.median(seconds[MEMORY]),
    )
    lines = [
        [name, *[cell for way in ('forward', 'backward')
                 for cell in cells(works[f'{name} {way}'], seconds[f'{name} {way}'], rates)]]
        for name in passes
    ]  # fmt: skip
    sums = {
        way: [
            sum(turn) for turn in zip(*(seconds[f'{name} {way}'] for name in passes), strict=True)
        ]
        for way in ('forward', 'backward')
    }
    lines.append(['sum', *[cell for way in sums for cell in
                           (report.spread([1e3 * x for x in sums[way]]), '', '', '')]])  # fmt: skip
    lines.append([UPDATE, *[''] * 4, *cells(works[UPDATE], seconds[UPDATE], rates)])
    whole = [sum(turn) for turn in zip(*sums.values(), seconds[UPDATE], strict=True)]
    text = report.table(
        ['', *[f'{way} {what}' for way in ('forward', 'backward')
               for what in ('ms', 'GFLOP/s', 'MB', 'share of the limit')]],
        lines,
    )  # fmt: skip
    text += (
        f'\n\nproducts {rates[0] / 1e9:.0f} GFLOP/s, memory {rates[1] / 1e9:.1f} GB/s'
        f' (new {works[NEW_MEMORY].bytes / statistics.median(seconds[NEW_MEMORY]) / 1e9:.1f}),'
        f' an empty call {report.spread([1e6 * x for x in seconds[NOTHING]])} µs'
        f'\nall rows {report.spread([1e3 * x for x in whole])} ms'
    )
    fewest = sum(limit(work, rates) for pair in passes.values() for work in pair)
    text += f', their limits {1e3 * (fewest + limit(works[UPDATE], rates)):.3g} ms'
    if STEP in seconds:
        text += (
            f'; the whole step {report.spread([1e3 * x for x in seconds[STEP]])} ms,'
            f' {report.spread(report.ratios(seconds[STEP], whole), ".2f")} of all rows'
        )
    result = {
        'machine': report.machine('jax', 'jaxlib', 'flax'),
        'device': jax.devices()[0].device_kind,
        'options': vars(options),
        'compiler_options': compiler.options(),
        'seconds': seconds,
        'operations': {name: work.operations for name, work in works.items()},
        'bytes': {name: work.bytes for name, work in works.items()},
        'operations_per_second': rates[0],
        'bytes_per_second': rates[1],
    }
    report.publish(__file__, result, text)


if __name__ == '__main__':
    main()
