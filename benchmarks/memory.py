"""The most memory a process takes for the same training steps, beside PyTorch's.

    python benchmarks/memory.py --batch=128 --rounds=3

Each is a new process in each round (`contestants.py`), which makes three steps at least; what
it had resident at most is read then. The second column is that less what the libraries' import
took. On a GPU the device's own peak has a column. XLA's own plan of our compiled step stands
below. Prints one table and writes the same as JSON beside this file.
"""

import argparse
import dataclasses
from typing import Any

import report
from contestants import Contestant, Spec, has_torch

OURS = 'alexnet_jax'


def peaks(spec: Spec) -> dict[str, float]:
    """MiB of a process of its own, after its first two steps and more."""
    with Contestant(spec) as contestant:
        contestant.ask('step')
        memory = contestant.ask('memory')
        found = {
            'resident': memory['resident'],
            'beyond import': memory['resident'] - contestant.about['after_import'],
        }
        return found | ({} if memory['device'] is None else {'on the device': memory['device']})


def main() -> None:
    """Measures each contestant in a process of its own and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--net', default='paper')
    parser.add_argument('--batch', type=int, default=128)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--dtype', choices=('float32', 'bfloat16'), default='float32')
    parser.add_argument('--width', type=float, default=1.0, help='of the net: a dry run')
    parser.add_argument('--size', type=int, default=0, help="of the images; 0: the net's own")
    options = parser.parse_args()

    how = {name: getattr(options, name) for name in ('net', 'batch', 'dtype', 'width', 'size')}
    ours, torch = Spec('jax', **how), Spec('torch', **how)
    last = dataclasses.replace(torch, layout='channels_last')
    specs = {OURS: ours}
    if has_torch():
        specs |= {
            'PyTorch NCHW': torch,
            'PyTorch channels last': last,
            'PyTorch compiled': dataclasses.replace(last, compiled=True),
        }
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in specs}
    for _ in range(options.rounds):
        for name, spec in specs.items():
            measured[name].append(peaks(spec))
    with Contestant(ours) as contestant:
        plan: dict[str, Any] = contestant.ask('plan')

    columns = list(measured[OURS][0])
    rows = [
        (name, *(report.spread([each[column] for each in found], '.0f') for column in columns))
        for name, found in measured.items()
    ]
    planned = ', '.join(f'{name} {size:.0f}' for name, size in plan.items())
    lines = [
        f'{options.net}, training, batch {options.batch}, {options.dtype}; MiB at most',
        '',
        report.table(('', *columns), rows),
        '',
        f"XLA's plan of our step, MiB: {planned}.",
    ]
    if not has_torch():
        lines.append('PyTorch is not installed: it is left out.')
    result = {
        'machine': report.machine('jax', 'jaxlib', 'flax', 'torch'),
        **how,
        'rounds': options.rounds,
        'mebibytes': measured,
        'plan': plan,
    }
    report.publish(__file__, result, '\n'.join(lines))


if __name__ == '__main__':
    main()
