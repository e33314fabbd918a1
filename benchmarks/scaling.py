"""How the training step's time grows with images, their size, the net's width and its classes;
and what the mesh costs on one device.

    python benchmarks/scaling.py --net=paper --rounds=5

One of the four is varied at a time, the others as in the paper but for the batch, of which the
middle is 32. All points take turns, round by round. For each of the four: the exponent of a power
law through the points (least squares of the logarithms, in every round anew) and a straight
line a + b·x through their medians, with its R². Images are varied in size, and grow by area.

Then the step as the package runs it, under `jax.shard_map` on a mesh of one device, in turns
with the same step written without any mesh. Prints two tables and writes the same as JSON
beside this file.
"""

import argparse
import dataclasses
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from alexnet_jax.runtime import command_line

command_line.before_jax()

import jax  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
import report  # noqa: E402
import timing  # noqa: E402

from alexnet_jax.network import compiler, device_mesh, inference  # noqa: E402
from alexnet_jax.network.alexnet import AlexNet  # noqa: E402
from alexnet_jax.network.architectures import ARCHITECTURES, architecture  # noqa: E402
from alexnet_jax.training import optimizer, protocols, schedule  # noqa: E402
from alexnet_jax.training.step import TrainState, create_state, score  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Point:
    """What a step is of."""

    batch: int
    size: int  # pixels
    width: float
    classes: int

    def net(self, name: str) -> AlexNet:
        """Returns a net of this point's size, width and classes."""
        return AlexNet(architecture(name, self.size, self.width), self.classes)


def numbers(text: str) -> list[float]:
    """Parses numbers separated by commas."""
    return [float(part) if '.' in part else int(part) for part in text.split(',')]


def bare_call(name: str, point: Point) -> Callable:
    """The same step, and no mesh in it."""
    net, mesh = point.net(name), device_mesh.make_mesh()
    mean, clock = timing.mean_image(point.size), timing.clock(point.batch)

    def loss(params: Any, state: TrainState, batch: dict[str, Any]) -> tuple[Any, Any]:
        images = inference.mirror(batch['image'], batch['mirrored'])
        images = inference.normalize(images, mean, 1.0, batch['color_shift'])
        (logits, _), moved = net.apply(
            {'params': params, 'batch_stats': state.batch_stats}, images,
            dropout_key=jax.random.fold_in(jax.random.key(0), state.step), mutable=['batch_stats'],
        )  # fmt: skip
        sums = score(logits, batch['label'], batch['mask'])
        count = sums.pop('count')
        means = {name: total / count for name, total in sums.items()}
        return means['loss'], (means, moved.get('batch_stats', {}))

    def step(state: TrainState, batch: dict[str, Any]) -> tuple[TrainState, Any]:
        gradients, (means, batch_stats) = jax.grad(loss, has_aux=True)(state.params, state, batch)
        rates = schedule.rates(protocols.PAPER, timing.RATE, 3, clock, state.step, state.plateau)
        rule = optimizer.sgd(protocols.PAPER, rates)
        updates, momentum = rule.update(gradients, state.momentum, state.params)
        return state.replace(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            momentum=momentum,
        ), means

    compiled = jax.jit(step, donate_argnums=0, compiler_options=compiler.options())
    batch = timing.random_batch(point.batch, point.size, point.classes)
    # On the device, and nothing that says which mesh it is of.
    state = jax.device_put(create_state(net, 0, mesh), jax.devices()[0])
    return timing.in_a_chain(compiled, state, jax.device_put(batch, jax.devices()[0]))


def exponent(values: Sequence[float], seconds: Sequence[float]) -> float:
    """Of the power law through the points."""
    return float(np.polyfit(np.log(values), np.log(seconds), 1)[0])


def line(values: Sequence[float], seconds: Sequence[float]) -> tuple[float, float, float]:
    """a, b and R² of seconds = a + b · value."""
    b, a = np.polyfit(values, seconds, 1)
    left = np.asarray(seconds) - (a + b * np.asarray(values))
    return float(a), float(b), float(1 - left.var() / np.var(seconds))


def growth(middle: Point, varied: dict[str, list[float]], name: str, rounds: int) -> Any:
    """Seconds of each point in each round: {what is varied: {its value: seconds}}."""
    points = {
        what: {value: dataclasses.replace(middle, **{what: value}) for value in values}
        for what, values in varied.items()
    }
    # Each once, though the middle is in all four.
    different = {str(point): point for of in points.values() for point in of.values()}
    runs = {
        text: timing.seconds_a_call(timing.package_step(point.net(name), point.batch))
        for text, point in different.items()
    }
    seconds = report.in_turns(runs, rounds, warmup=1)
    return {
        what: {value: seconds[str(point)] for value, point in of.items()}
        for what, of in points.items()
    }


def growth_rows(found: dict[str, dict[float, list[float]]]) -> list[list[str]]:
    """Formats the seconds of each value and the exponent of growth as rows."""
    rows = []
    for what, of in found.items():
        values = [value**2 if what == 'size' else value for value in of]
        medians = [statistics.median(seconds) for seconds in of.values()]
        exponents = [exponent(values, turn) for turn in zip(*of.values(), strict=True)]
        a, b, r2 = line(values, medians)
        for value, seconds in of.items():
            rows.append([what, f'{value:g}', report.spread(seconds), '', ''])
        rows[-1][3:] = [report.spread(exponents, '.2f'), f'{a:.3g} + {b:.3g}·x, {r2:.4f}']
    return rows


def main() -> None:
    """Measures the rounds and prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--net', choices=ARCHITECTURES, default='paper')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--batches', type=numbers, default='16,32,64,96')
    parser.add_argument('--sizes', type=numbers, default='131,163,195,224')
    parser.add_argument('--widths', type=numbers, default='0.25,0.5,0.75,1')
    parser.add_argument('--classes', type=numbers, default='10,100,1000,4000')
    parser.add_argument('--middle', type=numbers, default='32,224,1,1000',
                        help='batch, size, width and classes where they are not varied')  # fmt: skip
    parser.add_argument('--overhead_batch', type=int, default=64)
    parser.add_argument('--overhead_rounds', type=int, default=9)
    options = parser.parse_args()
    batch, size, width, classes = options.middle
    middle = Point(int(batch), int(size), width, int(classes))
    varied = {
        'batch': options.batches,
        'size': options.sizes,
        'width': options.widths,
        'classes': options.classes,
    }
    found = growth(middle, varied, options.net, options.rounds)
    text = report.table(
        [
            'varied',
            '',
            'seconds a step',
            'exponent',
            'line (x: the value; of size, its square), R²',
        ],
        growth_rows(found),
    )

    point = dataclasses.replace(middle, batch=options.overhead_batch)
    package = timing.package_step(point.net(options.net), point.batch)
    runs = {
        'on a mesh of one device': timing.seconds_a_call(package),
        'without a mesh': timing.seconds_a_call(bare_call(options.net, point)),
    }
    steps = report.in_turns(runs, options.overhead_rounds)
    ratios = report.ratios(*steps.values())
    rows = [[name, report.spread(seconds), ''] for name, seconds in steps.items()]
    rows[0][2] = report.spread(ratios)
    text += f'\n\nbatch {point.batch}\n\n'
    text += report.table(['step', 'seconds', 'ratio, round by round'], rows)
    result = {
        'machine': report.machine('jax', 'jaxlib', 'flax', 'optax'),
        'device': jax.devices()[0].device_kind,
        'options': vars(options),
        'compiler_options': compiler.options(),
        'seconds': found,
        'overhead_seconds': steps,
        'overhead_ratio': ratios,
    }
    report.publish(__file__, result, text)


if __name__ == '__main__':
    main()
