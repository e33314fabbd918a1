"""A training step, or inference, beside PyTorch's and beside a plain JAX program's, in one run.

    python benchmarks/step_time.py --batches=64 --rounds=5
    python benchmarks/step_time.py --nets=paper,torchvision,batchnorm227 --modes=train,infer
    python benchmarks/step_time.py --dtype=bfloat16 --batches=128,1024,4096     # on a GPU

Each contestant is a process of its own, idle while it is not its turn (`contestants.py`); they
take turns round by round, so that a machine whose speed drifts is the same for all. Training
includes dropout, the update and the reading of the loss. Ours and the naive program
(`naive.py`) begin with uint8 images, PyTorch with floats.

The arithmetic of a step is beside the rate of a matrix product in the same rounds: in training
three products a layer, but none for the gradient of the images. On a GPU the rate in bfloat16 is
beside a floor for the paper's net on an H200: FLOORS.

PyTorch (`pip install torch`) is left out where it is missing. Prints one table and writes the
same as JSON beside this file. A dry run: --width=0.125 --size=67 --batches=2 --rounds=1.
"""

import argparse
import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import report
from contestants import (
    CLASSES,
    Contestant,
    ContestantError,
    Spec,
    has_torch,
)

from alexnet_jax.network.shapes import layer_shapes

OURS = 'alexnet_jax'
LAYOUTS = ('PyTorch NCHW', 'PyTorch channels last')
REST = 0.2  # seconds before each turn: threads of the one before spin a little longer
# Images/s in training by batch, of the paper's net in bfloat16: 790 TFLOP/s of products and
# 4.3 TB/s of memory, every tensor touched once by each that reads it, the optimizer counted.
FLOORS = {128: 112_000, 1024: 155_000, 4096: 162_000}


def rivals(spec: Spec, platform: str, options: argparse.Namespace) -> dict[str, Spec]:
    """What is run beside ours, by name."""

    def torch(**how: Any) -> Spec:
        return dataclasses.replace(spec, library='torch', **how)

    found: dict[str, Spec] = {}
    if options.naive:
        found['naive JAX'] = dataclasses.replace(spec, library='jax naive')
    if has_torch():
        compiled = torch(layout='channels_last', compiled=True)
        found[LAYOUTS[0]] = torch()
        found[LAYOUTS[1]] = torch(layout='channels_last')
        if options.compile:
            found['PyTorch compiled'] = compiled
            if platform != 'cpu':
                tuned = dataclasses.replace(compiled, norm='hand_tuned')
                found['PyTorch compiled, norm by hand'] = tuned
    return found


def floating_operations(spec: Spec) -> int:
    """Of one image's weighted sums."""
    sums = [row.multiply_adds for row in layer_shapes(spec.architecture, CLASSES)]
    return 2 * (sum(sums) if spec.mode == 'infer' else 3 * sum(sums) - sums[0])


def measure(spec: Spec, options: argparse.Namespace) -> dict[str, Any]:
    """Starts all that compare in one case, and lets them take turns."""
    with contextlib.ExitStack() as stack:
        started: dict[str, Contestant] = {OURS: stack.enter_context(Contestant(spec))}
        failed = []
        for name, what in rivals(spec, started[OURS].about['platform'], options).items():
            try:
                started[name] = stack.enter_context(Contestant(what))
            except ContestantError as error:
                failed.append(f'{name}: {error}')

        def rate(contestant: Contestant) -> Callable[[], float]:
            def turn():
                time.sleep(REST)
                return spec.batch / contestant.ask('step')['seconds']

            return turn

        def product(contestant: Contestant) -> Callable[[], float]:
            def turn():
                time.sleep(REST)
                return contestant.ask('product')['gflops']

            return turn

        products = {'JAX': started[OURS]}
        if LAYOUTS[0] in started:
            products['PyTorch'] = started[LAYOUTS[0]]
        runs = {name: rate(contestant) for name, contestant in started.items()}
        runs |= {f'product {name}': product(each) for name, each in products.items()}
        figures = report.in_turns(runs, options.rounds)
        return dataclasses.asdict(spec) | {
            'about': {name: contestant.about for name, contestant in started.items()},
            'failed': failed,
            'gflop_per_image': floating_operations(spec) / 1e9,
            'product_gflops': {name: figures.pop(f'product {name}') for name in products},
            'images_per_second': figures,
            'ratio_of_ours': {
                name: report.ratios(figures[OURS], rates)
                for name, rates in figures.items()
                if name != OURS
            },
        }


def text_of(case: dict[str, Any]) -> str:
    """A case as a table and a few lines."""
    rates = {name: statistics.median(each) for name, each in case['images_per_second'].items()}
    peaks = {name: statistics.median(each) for name, each in case['product_gflops'].items()}
    rows = []
    for name, each in case['images_per_second'].items():
        gflops = rates[name] * case['gflop_per_image']
        ratio = report.spread(case['ratio_of_ours'][name], '.2f') if name != OURS else ''
        share = f'{gflops / max(peaks.values()):.0%}'
        rows.append((name, report.spread(each, '.4g'), ratio, f'{gflops:.4g}', share))
    header = ('', 'images/s', 'ours / theirs', 'GFLOP/s', 'share of a matrix product')
    both = ', '.join(f'{name} {peak:.4g}' for name, peak in peaks.items())
    lines = [
        f'{case["net"]}, {case["mode"]}, batch {case["batch"]}, {case["dtype"]},'
        f' on {case["about"][OURS]["device"]}',
        '',
        report.table(header, rows),
        '',
        f'Matrix product, GFLOP/s: {both}; the share is of the higher.',
    ]
    layouts = [name for name in LAYOUTS if name in rates]
    if layouts:
        lines.append(f'The better layout: {max(layouts, key=rates.__getitem__)}.')
    lines += [f'Not there: {line}' for line in case['failed']]
    floor = FLOORS.get(case['batch'])
    full = (case['net'], case['mode'], case['dtype']) == ('paper', 'train', 'bfloat16')
    if floor and full and case['about'][OURS]['platform'] != 'cpu':
        shares = ', '.join(f'{name} {rate / floor:.0%}' for name, rate in rates.items())
        lines.append(f'Of the floor, {floor} images/s: {shares}.')
    return '\n'.join(lines) + '\n'


def main() -> None:
    """Measures the contestants in turn and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--nets', default='paper', help='names, with commas between')
    parser.add_argument('--modes', default='train,infer')
    parser.add_argument('--batches', default='64')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--dtype', choices=('float32', 'bfloat16'), default='float32')
    flag = argparse.BooleanOptionalAction
    parser.add_argument('--compile', action=flag, default=True, help='torch.compile too')
    parser.add_argument('--naive', action=flag, default=True, help='the plain JAX program too')
    parser.add_argument('--width', type=float, default=1.0, help='of the net: a dry run')
    parser.add_argument('--size', type=int, default=0, help="of the images; 0: the net's own")
    options = parser.parse_args()

    how = {'dtype': options.dtype, 'width': options.width, 'size': options.size}
    cases = [
        measure(Spec('jax', net=net, mode=mode, batch=int(batch), **how), options)
        for net in options.nets.split(',')
        for mode in options.modes.split(',')
        for batch in options.batches.split(',')
    ]
    about = report.machine('jax', 'jaxlib', 'flax', 'torch')
    lines = [text_of(case) for case in cases]
    if not has_torch():
        lines.append('PyTorch is not installed: it is left out.\n')
    report.publish(
        __file__, {'machine': about, 'rounds': options.rounds, 'cases': cases}, '\n'.join(lines)
    )


if __name__ == '__main__':
    main()
