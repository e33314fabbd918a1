"""Writes attributions of images: the pixels that support a class.

    python -m alexnet_jax.report.explain MODEL IMAGE ... --out DIR
        [--method gradcam|occlusion|gradient|integrated] [--class NAME|NUMBER] [--layer conv5/relu]

MODEL is a workdir or a weight file. Images are JPEG or PNG files. DIR receives explanations.json
and, for image N, its attribution N.npy and a picture of both, N.png (docs/interventions.md).
Images that cannot be read are reported and skipped.

Exit status: as for alexnet_jax.main, and 2 if an image cannot be read.
"""

import argparse
import sys
from pathlib import Path

from alexnet_jax.runtime import command_line
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE, Parser

# Options of each method, in addition to the class.
METHODS = {
    'gradcam': ('layer',), 'occlusion': ('square', 'stride'), 'gradient': (), 'integrated': ('steps',),
}  # fmt: skip


def parse(argv: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = Parser(prog='python -m alexnet_jax.report.explain', description=__doc__)
    parser.add_argument('model', type=Path, metavar='MODEL', help='a workdir or a weight file')
    parser.add_argument('images', type=Path, nargs='+', metavar='IMAGE')
    parser.add_argument('--method', choices=METHODS, default='gradcam', help='method (gradcam)')
    parser.add_argument(
        '--class',
        dest='target',
        metavar='NAME|NUMBER',
        help='class to explain; default: the most probable class of each image',
    )
    parser.add_argument(
        '--layer',
        help="activation for gradcam; default: the last convolution's activation function",
    )
    parser.add_argument(
        '--square',
        type=int,
        help='side of the square for occlusion, in pixels; default: a quarter of the image',
    )
    parser.add_argument(
        '--stride',
        type=int,
        help='stride for occlusion, in pixels; default: a quarter of the square',
    )
    parser.add_argument('--steps', type=int, help='steps for integrated (64)')
    parser.add_argument('--out', type=Path, required=True, help='output folder')
    options = parser.parse_args(argv)
    for name in ('layer', 'square', 'stride', 'steps'):
        if getattr(options, name) is not None and name not in METHODS[options.method]:
            parser.error(f'--{name} does not go with --method={options.method}')
    return options


def run(argv: list[str]) -> int:
    """Writes the attributions of all images; returns the exit status."""
    options = parse(argv)
    command_line.before_jax()
    from alexnet_jax.report import explanations

    given = {name: getattr(options, name) for name in METHODS[options.method]}
    given = {name: value for name, value in given.items() if value is not None}
    method = explanations.Method(options.method, given)
    every = explanations.explain(options.model, options.images, method, options.target, options.out)
    return DONE if every else BAD_INPUT


def main(argv: list[str] | None = None) -> int:
    """Runs the command line in this process and returns its exit status."""
    return command_line.run(run, argv)


if __name__ == '__main__':
    sys.exit(main())
