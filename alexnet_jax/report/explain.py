"""Explains by which pixels a net takes images for a class.

    python -m alexnet_jax.report.explain MODEL IMAGE ... --out DIR
        [--method gradcam|occlusion|gradient|integrated] [--class NAME|NUMBER] [--layer conv5/relu]

MODEL is a workdir or a weight file; images are JPEG or PNG files. DIR then holds
explanations.json, and of image N its attribution N.npy and the picture N.png of both
(docs/interventions.md). An image that cannot be read is named, and the others are done.

Exit status: as for alexnet_jax.main; 2, too, if an image cannot be read.
"""

import argparse
import sys
from pathlib import Path

from alexnet_jax.runtime import command_line
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE, Parser

# The options that each method has beside the class.
METHODS = {
    'gradcam': ('layer',), 'occlusion': ('square', 'stride'), 'gradient': (), 'integrated': ('steps',),
}  # fmt: skip


def parse(argv: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = Parser(prog='python -m alexnet_jax.report.explain', description=__doc__)
    parser.add_argument('model', type=Path, metavar='MODEL', help='a workdir or a weight file')
    parser.add_argument('images', type=Path, nargs='+', metavar='IMAGE')
    parser.add_argument('--method', choices=METHODS, default='gradcam', help='gradcam')
    parser.add_argument(
        '--class', dest='target', metavar='NAME|NUMBER', help='the most probable of each image'
    )
    parser.add_argument('--layer', help="of gradcam; the last convolution's activation function")
    parser.add_argument('--square', type=int, help="of occlusion, pixels; a quarter of the image's")
    parser.add_argument('--stride', type=int, help='of occlusion, pixels; a quarter of the square')
    parser.add_argument('--steps', type=int, help='of integrated; 64')
    parser.add_argument('--out', type=Path, required=True, help='a folder')
    options = parser.parse_args(argv)
    for name in ('layer', 'square', 'stride', 'steps'):
        if getattr(options, name) is not None and name not in METHODS[options.method]:
            parser.error(f'--{name} does not go with --method={options.method}')
    return options


def run(argv: list[str]) -> int:
    """Writes a page of attributions for each image; returns the exit status."""
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
