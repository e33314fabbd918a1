"""Times each layer and stage of a net alone beside the same in PyTorch, forward and backward.

    python benchmarks/layers_beside_pytorch.py --net=torchvision --batch=64 --rounds=5

The package's rows are those of `layers.py`; PyTorch's are the modules of `torch_nets.py` in
channels last, its backward `torch.autograd.grad` on a retained graph. In each round the
package's rows run first and PyTorch's then, in a process of their own. A row alone writes its
results to new memory; in a whole step compilers fuse neighbors. Prints one table and writes the
same as JSON beside this file.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator

from alexnet_jax.runtime import command_line

command_line.before_jax()

import jax.numpy as jnp  # noqa: E402
import layers  # noqa: E402
import report  # noqa: E402
import timing  # noqa: E402

from alexnet_jax.network.architectures import ARCHITECTURES, architecture  # noqa: E402

AT_LEAST = 0.1  # seconds of calls that a figure is the mean of
KINDS: dict[str, Callable[[str], bool]] = {
    'convolutions': lambda name: name.startswith('conv') and '/' not in name,
    'fully connected': lambda name: name.startswith('fc') and '/' not in name,
    'stages after them': lambda name: '/' in name,
    'all rows': lambda name: True,
}
Seconds = dict[str, list[float]]  # of each row, round by round


def rows_of_package(options: argparse.Namespace) -> dict[str, Callable[[], float]]:
    """Returns a run for `report.in_turns` of each row, forward and backward."""
    table = architecture(options.net)
    runs = {}
    rows = layers.rows_of(layers.Piece(table, layers.CLASSES), options.batch, jnp.float32)
    for number, row in enumerate(rows):
        forward, backward = layers.forward_and_backward(row, number)
        runs[f'{row.name} forward'] = timing.seconds_a_call(forward.call, AT_LEAST)
        runs[f'{row.name} backward'] = timing.seconds_a_call(backward.call, AT_LEAST)
    return runs


def seconds_of_pytorch(options: argparse.Namespace) -> Iterator[float]:
    """Yields the seconds of each row of PyTorch's net, forward and backward, in the order of
    `rows_of_package`."""
    import torch
    import torch_nets

    torch.set_num_threads(os.cpu_count() or 1)
    table = architecture(options.net)
    size = table.input_size
    seen = torch.randn(options.batch, 3, size, size).to(memory_format=torch.channels_last)
    reshaping = (torch.nn.ZeroPad2d, torch.nn.Flatten)
    pending: list[torch.nn.Module] = []
    is_first = True
    for module in torch_nets.build(table, layers.CLASSES):
        pending.append(module.to(memory_format=torch.channels_last))  # pyright: ignore[reportCallIssue]
        if isinstance(module, reshaping):
            continue
        row, pending = torch.nn.Sequential(*pending), []
        x = seen.detach().requires_grad_(not is_first)
        y = row(x)
        wanted = [*([] if is_first else [x]), *row.parameters()]
        cotangent = torch.randn_like(y)
        yield timing.seconds_a_call(lambda row=row, x=x: row(x), AT_LEAST)()

        def backward(y=y, wanted=wanted, cotangent=cotangent):
            return torch.autograd.grad(y, wanted, cotangent, retain_graph=True)

        yield timing.seconds_a_call(backward, AT_LEAST)()
        seen, is_first = y, False


def in_a_process(arguments: list[str]) -> list[float]:
    """Runs `seconds_of_pytorch` in another process, whose threads do not go on spinning here."""
    command = [sys.executable, __file__, *arguments, '--pytorch_only']
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def lines_of(package: Seconds, pytorch: Seconds) -> list[list[str]]:
    """Returns the table's rows: milliseconds of both, ratio and difference of each row and sum."""
    sums = {
        f'**{kind}**': [name for name in package if is_of(name)] for kind, is_of in KINDS.items()
    }
    return [
        _line(name, _summed(package, names), _summed(pytorch, names))
        for name, names in ({name: [name] for name in package} | sums).items()
    ]


def _summed(seconds: Seconds, names: list[str]) -> list[float]:
    """Returns the sum of some rows in each round."""
    return [sum(turn) for turn in zip(*(seconds[name] for name in names), strict=True)]


def _line(name: str, package: list[float], pytorch: list[float]) -> list[str]:
    difference = statistics.median(package) - statistics.median(pytorch)
    return [
        name,
        *(report.spread([1e3 * x for x in seconds]) for seconds in (package, pytorch)),
        report.spread(report.ratios(pytorch, package), '.2f'),
        f'{1e3 * difference:+.1f}',
    ]


def main() -> None:
    """Measures the layers of both libraries and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--net', choices=ARCHITECTURES, default='torchvision')
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--pytorch_only', action='store_true', help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.pytorch_only:
        print(json.dumps(list(seconds_of_pytorch(options))))
        return
    runs = rows_of_package(options)
    arguments = [f'--net={options.net}', f'--batch={options.batch}']
    package: Seconds = {name: [] for name in runs}
    pytorch: Seconds = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, seconds in report.in_turns(runs, 1, warmup=1).items():
            package[name] += seconds
        for name, seconds in zip(runs, in_a_process(arguments), strict=True):
            pytorch[name].append(seconds)
    header = ('', 'alexnet_jax, ms', 'PyTorch, ms', 'ratio', 'ours − PyTorch, ms')
    text = f'{options.net}, batch {options.batch}, float32\n\n'
    result = {
        'machine': report.machine('jax', 'jaxlib', 'torch'),
        'options': vars(options),
        'seconds': {'alexnet_jax': package, 'PyTorch channels last': pytorch},
    }
    report.publish(__file__, result, text + report.table(header, lines_of(package, pytorch)))


if __name__ == '__main__':
    main()
