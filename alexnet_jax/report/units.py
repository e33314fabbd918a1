"""Shows what units of a trained net respond to.

    alexnet-jax units MODEL --units 0,3,7 --out DIR [--layer conv5/relu] [--images 9]
        [--steps 128] [--seed 0] [--config.NAME=VALUE ...]

MODEL is a workdir, a weight file or a name of published weights. Of each unit (a map of a
convolution, or a unit of a fully connected layer) DIR then holds the images of the set for which it is
largest, cut to the pixels that the largest value depends on, and an image that maximizes it, made
by gradient ascent (docs/interventions.md).

The images are the training images, or where there are none those of eval.split; settings say which
set (data.source, data.dir) and split. Exit status: as for alexnet_jax.main.
"""

import argparse
import sys
from pathlib import Path

from alexnet_jax.experiment.flags import SettingsParser
from alexnet_jax.runtime import command_line
from alexnet_jax.runtime.command_line import DONE
from alexnet_jax.runtime.stop import stop_requests

MOST_IMAGES, MOST_STEPS, MOST_SEED = 32, 100_000, 2**31 - 1


def parse(argv: list[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    """Parses the command line into options and overridden settings."""
    parser = SettingsParser(prog='alexnet-jax units', description=__doc__)
    parser.add_argument('model', type=Path, metavar='MODEL', help='a workdir or a weight file')
    parser.add_argument('--layer', help="an activation; the last convolution's activation function")
    parser.add_argument('--units', required=True, help='each, or numbers with commas')
    parser.add_argument('--images', type=int, default=9, help='of a unit (9)')
    parser.add_argument('--steps', type=int, default=128, help='of gradient ascent (128)')
    parser.add_argument('--seed', type=int, default=0, help='of gradient ascent (0)')
    parser.add_argument('--out', type=Path, required=True, help='a folder')
    options, overrides = parser.parse_with_settings(argv)
    allowed = {'images': (1, MOST_IMAGES), 'steps': (1, MOST_STEPS), 'seed': (0, MOST_SEED)}
    for name, (least, most) in allowed.items():
        value = getattr(options, name)
        if not least <= value <= most:
            parser.error(f'--{name} is {value}; allowed: from {least} to {most}')
    return options, overrides


def run(argv: list[str]) -> int:
    """Writes a page of the images and the ascents of units; returns the exit status."""
    options, overrides = parse(argv)
    command_line.before_jax()
    from alexnet_jax.report import unit_folder

    request = unit_folder.Request(
        options.layer, options.units, options.images, options.steps, options.seed
    )
    with stop_requests() as stop_requested:
        print(unit_folder.keep(options.model, overrides, request, options.out, stop_requested))
    return DONE


def main(argv: list[str] | None = None) -> int:
    """Runs the command line in this process and returns its exit status."""
    return command_line.run(run, argv)


if __name__ == '__main__':
    sys.exit(main())
