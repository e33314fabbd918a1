"""Imports, exports, pushes and pulls trained nets.

    python -m alexnet_jax.weights import FILE --workdir DIR [--net NAME] [--classes FILE]
        [--config.NAME=VALUE ...]
    python -m alexnet_jax.weights export SOURCE --out FILE [--form FORM] [--step N]
    python -m alexnet_jax.weights push SOURCE TO [--license NAME]
    python -m alexnet_jax.weights pull FROM --workdir DIR

`import` converts a weight file to an ordinary workdir: a file of this package, torchvision's
(safetensors or torch.save) or Caffe's (.caffemodel). The configuration has the preprocessing of the
file or of its authors. SOURCE is a workdir or such a file. TO and FROM are folders, or repositories
on Hugging Face, as hf:OWNER/NAME (with the extra `hub`). For FILE and SOURCE, torchvision, caffe,
caffenet and hf:OWNER/NAME are names of weights that are downloaded once. Exit status: as for
alexnet_jax.main.
"""

import argparse
import re
import sys
import unicodedata
from pathlib import Path

from alexnet_jax.experiment.flags import SettingsParser
from alexnet_jax.runtime import command_line, files
from alexnet_jax.runtime.command_line import DONE
from alexnet_jax.runtime.errors import InputError, shown

FORMS = {
    'alexnet_jax': 'safetensors, with the configuration in its metadata',
    'torchvision': "safetensors, named as torchvision's state dict",
    'caffe': 'a .caffemodel',
    'stablehlo': 'the inference itself, for jax.export.deserialize',
}
LONGEST = 1000  # characters of a class name
LICENSE = '[a-z0-9.-]{0,50}'


def parse(argv: list[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    """Parses the command line into options and overridden settings."""
    parser = SettingsParser(prog='python -m alexnet_jax.weights', description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    add = commands.add_parser('import', help='convert a weight file to a workdir')
    add.add_argument('file', type=Path, metavar='FILE', help='a weight file, or a name')
    add.add_argument('--workdir', type=Path, required=True, help='a new folder')
    add.add_argument('--net', default='', help='caffe or caffenet, for a file without the net')
    add.add_argument(
        '--classes', type=Path, help='a file with the names of the classes, one per line'
    )
    add = commands.add_parser('export', help='convert a workdir to a weight file')
    add.add_argument('source', type=Path, metavar='SOURCE', help='a workdir or weight file')
    add.add_argument('--out', type=Path, required=True, metavar='FILE', help='the new file')
    add.add_argument(
        '--form', choices=FORMS, default='alexnet_jax',
        help='; '.join(f'{name}: {words}' for name, words in FORMS.items()),
    )  # fmt: skip
    add.add_argument('--step', type=int, help='step of the checkpoint; default: the last')
    add = commands.add_parser('push', help='write a model to a folder or Hugging Face')
    add.add_argument('source', type=Path, metavar='SOURCE', help='a workdir or weight file')
    add.add_argument('to', metavar='TO', help='a folder, or hf:OWNER/NAME')
    add.add_argument(
        '--license', default='', help="license of the weights by the Hub's name, such as mit"
    )
    add = commands.add_parser('pull', help='convert a pushed model to a workdir')
    add.add_argument('source', metavar='FROM', help='a folder, or hf:OWNER/NAME')
    add.add_argument('--workdir', type=Path, required=True, help='a new folder')
    options, overrides = parser.parse_with_settings(argv)
    if options.command == 'push' and not re.fullmatch(LICENSE, options.license):
        parser.error(f'--license is {shown(options.license)}; allowed: a name as mit or cc-by-4.0')
    if overrides and options.command != 'import':
        parser.error(f'settings (--config.NAME=VALUE) do not go with {options.command}')
    return options, overrides


def run(argv: list[str]) -> int:
    """Imports, exports, pushes or pulls a model; returns the exit status."""
    options, overrides = parse(argv)
    command_line.before_jax()
    from alexnet_jax.experiment import exchange

    if options.command == 'import':
        classes = read_names(options.classes) if options.classes else None
        said = exchange.import_file(
            options.file, options.workdir, options.net, classes, overrides
        )  # fmt: skip
    elif options.command == 'export':
        said = exchange.export_file(options.source, options.step, options.out, options.form)
    elif options.command == 'push':
        said = exchange.push(options.source, options.to, options.license)
    else:
        said = exchange.pull(options.source, options.workdir)
    print(said)
    return DONE


def read_names(path: Path) -> tuple[str, ...]:
    """Returns the names in a text file, one per line.

    A byte order mark, spaces around names and empty lines are removed.

    Raises:
      InputError: the file cannot be read; a name occurs twice, or is not text.
    """
    try:
        text = files.read_bytes(path).decode('utf-8-sig')
    except OSError as error:
        raise InputError(f'--classes {path} cannot be read: {error.strerror}') from error
    except UnicodeDecodeError as error:
        line = error.object.count(b'\n', 0, error.start) + 1
        raise InputError(f'--classes {path}, line {line}, is not UTF-8') from error
    except ValueError as error:
        raise InputError(f'--classes {path} cannot be read: {error}') from error
    lines: dict[str, int] = {}
    for number, line in enumerate(text.split('\n'), start=1):
        name = line.strip(' \t\r')
        where = f'--classes {path}, line {number},'
        if any(unicodedata.category(sign) == 'Cc' for sign in name):
            raise InputError(f'{where} is {shown(name)}; allowed: no control characters')
        if len(name) > LONGEST:
            raise InputError(f'{where} has {len(name)} characters; allowed: at most {LONGEST}')
        if name in lines:
            raise InputError(f'{where} is {shown(name)}, as line {lines[name]} is')
        if name:
            lines[name] = number
    return tuple(lines)


def main(argv: list[str] | None = None) -> int:
    """Runs the command line in this process and returns its exit status."""
    return command_line.run(run, argv)


if __name__ == '__main__':
    sys.exit(main())
