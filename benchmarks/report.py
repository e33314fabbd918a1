"""What the benchmarks share: the machine, medians with their spread, a table, JSON beside it."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any


def machine(*libraries: str) -> dict[str, Any]:
    """Where and with what a run was: cores, processor, Python, versions of what is installed."""
    found = {}
    for name in libraries:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = 'not installed'
    return {
        'date': time.strftime('%Y-%m-%d'),
        'cores': os.cpu_count(),
        'processor': _processor(),
        'python': platform.python_version(),
        'versions': found,
    }


def _processor() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.machine()


def spread(values: Sequence[float], form: str = '.3g') -> str:
    """Median (lowest-highest)."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f'{middle:{form}} ({low:{form}}-{high:{form}})'


def in_turns(
    runs: dict[str, Callable[[], float]], rounds: int, warmup: int = 2
) -> dict[str, list[float]]:
    """Figures of each run, `rounds` of them after `warmup` that do not count: one after the
    other, so that a machine whose speed drifts is the same for all."""
    figures: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(warmup + rounds):
        for name, run in runs.items():
            figure = run()
            if number >= warmup:
                figures[name].append(figure)
    return figures


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Round by round."""
    return [a / b for a, b in zip(above, below, strict=True)]


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Markdown."""
    lines = [header, ['---'] * len(header), *rows]
    return '\n'.join('| ' + ' | '.join(map(str, line)) + ' |' for line in lines)


def publish(script: str, result: dict[str, Any], text: str) -> None:
    """Prints the text under the machine's line, and writes the result as JSON beside the
    script."""
    about = result['machine']
    print(
        f'{about["cores"]} cores, {about["processor"]}, Python {about["python"]}, {about["versions"]}\n'
    )
    print(text)
    Path(script).with_suffix('.json').write_text(json.dumps(result, indent=2) + '\n')
