"""Writes HTML reports of runs.

    python -m alexnet_jax.report RUN
    python -m alexnet_jax.report RUN RUN ... --out DIR

One RUN is a workdir, whose report is that of alexnet_jax.main --mode=report, or a folder of
alexnet_jax.figure1, alexnet_jax.ablations or alexnet_jax.specialization. The page is
RUN/report/index.html. Several workdirs are compared in DIR/index.html: errors, curves, settings.
Exit status: as for alexnet_jax.main.
"""

import argparse
import sys
from pathlib import Path

from alexnet_jax.experiment import kept_config
from alexnet_jax.experiment.flags import SettingsParser
from alexnet_jax.runtime import command_line
from alexnet_jax.runtime.command_line import DONE
from alexnet_jax.runtime.errors import InputError
from alexnet_jax.runtime.stop import stop_requests


def parse(argv: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = SettingsParser(prog='python -m alexnet_jax.report', description=__doc__)
    parser.add_argument('runs', type=Path, nargs='+', metavar='RUN', help='workdirs, or a study')
    parser.add_argument('--out', type=Path, help='output folder for several RUNs')
    options, overrides = parser.parse_with_settings(argv)
    if overrides:
        parser.error('settings (--config.NAME=VALUE) go with --mode=report of alexnet_jax.main')
    if (len(options.runs) > 1) != bool(options.out):
        parser.error('--out goes with several RUNs, and several RUNs need --out')
    for run in options.runs:
        if not run.is_dir():
            raise InputError(f'{run}: no such folder')
    return options


def run(argv: list[str]) -> int:
    """Writes the report of one run or the page of several runs; returns the exit status."""
    options = parse(argv)
    command_line.before_jax()
    from alexnet_jax.report import run_page, several

    first = options.runs[0]
    if options.out:
        message = several.compare(options.runs, options.out)
    elif several.kind_of(first):
        message = several.make(first)
    else:
        config = kept_config.of_workdir(first, {})
        with stop_requests() as stop_requested:
            message = run_page.make(config, first, stop_requested)
    print(message)
    return DONE


def main(argv: list[str] | None = None) -> int:
    """Runs the command line in this process and returns its exit status."""
    return command_line.run(run, argv)


if __name__ == '__main__':
    sys.exit(main())
