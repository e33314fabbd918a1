"""All commands under one name.

    alexnet-jax COMMAND ...           or python -m alexnet_jax COMMAND ...

  train, eval, predict, report        a run: alexnet-jax train --config digits --workdir runs/digits
  prepare                             images to a set, once
  features, ensemble, tables          of trained nets
  lesions                             a trained net with units removed
  explain                             which pixels a class depends on
  units                               preferred images of units
  rdm, rsa, cka, probe                comparisons of features
  weights import|export|push|pull     weight files
  ablations, figure1, specialization  studies of many runs
  pages                               pages of several runs side by side
  nets, rates                         the nets, and the learning rates of a configuration, printed
  compile                             programs for accelerators that are not at hand
  configs                             the packaged configurations, printed

`alexnet-jax COMMAND --help` prints the options. Exit status: as for alexnet_jax.main.
"""

import importlib
import sys
from importlib import metadata

from alexnet_jax.runtime import command_line
from alexnet_jax.runtime.command_line import DONE
from alexnet_jax.runtime.errors import InputError, nearest, shown

# The module of each command, and its leading arguments.
COMMANDS = {
    **{mode: ('main', f'--mode={mode}') for mode in ('train', 'eval', 'predict', 'report')},
    'prepare': ('data.prepare.__main__',),
    **{
        name: ('evaluation.__main__', name)
        for name in ('features', 'ensemble', 'tables', 'lesions')
    },
    **{name: ('evaluation.compare.__main__', name) for name in ('rdm', 'rsa', 'cka', 'probe')},
    'weights': ('weights.__main__',),
    **{name: (f'studies.{name}',) for name in ('ablations', 'figure1', 'specialization')},
    'pages': ('report.__main__',),
    'explain': ('report.explain',),
    'units': ('report.units',),
    'nets': ('network.__main__',),
    'rates': ('training.__main__',),
    'compile': ('experiment.ahead_of_time.__main__',),
}


def print_configs(argv: list[str]) -> int:
    """Prints the name of each packaged configuration and the first line of its text."""
    if argv in (['-h'], ['--help']):
        print(print_configs.__doc__)
        return DONE
    if argv:
        raise InputError(f'configs takes no arguments; it has {shown(argv[0])}')
    from alexnet_jax.experiment import config_file

    for name, first in config_file.packaged().items():
        print(f'{name:24} {first}')
    return DONE


def refuse(argv: list[str]) -> int:
    """Refuses a command line without a known command.

    Raises:
      InputError: always; the message names the nearest command.
    """
    if not argv:
        raise InputError('no command is given; alexnet-jax --help lists them')
    names = (*COMMANDS, 'configs')
    raise InputError(f'unknown command {shown(argv[0])}; the nearest is {nearest(argv[0], names)}')


def main(argv: list[str] | None = None) -> int:
    """Runs a command by its name and returns its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    name, rest = (argv[0], argv[1:]) if argv else ('', [])
    if name in COMMANDS:
        module, *words = COMMANDS[name]
        return importlib.import_module(f'alexnet_jax.{module}').main([*words, *rest])
    if name == 'configs':
        return command_line.run(print_configs, rest, prints=True)
    if name in ('-h', '--help', '--version'):
        version = metadata.version('alexnet_jax')
        print(f'alexnet_jax {version}' if name == '--version' else __doc__)
        return DONE
    return command_line.run(refuse, argv)


if __name__ == '__main__':
    sys.exit(main())
