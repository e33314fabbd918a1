"""Files of configurations: Python that defines `get_config()`, packaged in configs/ or anywhere.

`--config=FILE` or `--config=NAME` calls `get_config()`, `--config=FILE:ARGUMENT` calls
`get_config('ARGUMENT')`, as in `ml_collections.config_flags`.
"""

import ast
import inspect
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment.defaults import Config, default_config
from alexnet_jax.runtime import files, python_files
from alexnet_jax.runtime.errors import InputError, counted, nearest, plain, shown

MODULE = '<config>'  # the name of a file while it runs


def load(config: str | None, overrides: Mapping[str, str]) -> Config:
    """Returns the configuration of a file, changed by the command line.

    Args:
      config: as given after --config; None for the defaults.
      overrides: values as text, by setting.

    Raises:
      InputError: as `read`; an unknown setting or a value that is not allowed, a line for each.
    """
    given = default_config() if config is None else read(config)
    return configuration.absolute_source(configuration.complete(given, overrides))


def packaged() -> dict[str, str]:
    """Returns the first line of each packaged configuration's docstring by its name."""
    texts = {path.stem: path.read_text() for path in sorted(_packaged_folder().glob('*.py'))}
    texts.pop('__init__', None)
    return {
        name: (ast.get_docstring(ast.parse(text)) or '').split('\n')[0]
        for name, text in texts.items()
    }


def _packaged_folder() -> Path:
    """In a wheel configs/ lies inside of the package, in a checkout beside it."""
    package = Path(__file__).parents[1]
    inside = package / 'configs'
    return inside if inside.is_dir() else package.parent / 'configs'


def split(config: str) -> tuple[Path, str | None]:
    """Returns the file and the argument of FILE or FILE:ARGUMENT.

    A file whose own name has a colon is taken as it is.
    """
    file, colon, argument = config.rpartition(':')
    if not colon or os.path.exists(config):
        return Path(config), None
    return Path(file), argument


def run_name(config: str) -> str:
    """Returns a name for the runs of --config: digits for configs/digits.py.

    For configs/digits.py:seed_3 it is digits-seed_3.
    """
    file, argument = split(config)
    return '-'.join([file.stem, *re.findall(r'[\w.=+-]+', argument or '')])


def read(config: str) -> Config:
    """Runs the file of --config and returns what its `get_config` returns.

    Raises:
      InputError: there is no such file; it does not run, or has no such function; the function
        raises, takes no argument, or returns no ConfigDict.
    """
    path, argument = split(config)
    option = f'--config {plain(config, 1000)}'
    try:
        source = files.read_bytes(_found(path))
    except FileNotFoundError:
        close = nearest(path.stem, packaged())
        raise InputError(
            f'{option}: no such file; allowed: a Python file, or the name of a configuration of'
            f' this package (`alexnet-jax configs` lists them), the nearest of which is {close}'
        ) from None
    except OSError as error:
        raise InputError(f'{option} cannot be read: {error.strerror}') from error
    except ValueError as error:
        raise InputError(f'{option} cannot be read: {error}') from error
    arguments = [] if argument is None else [argument]
    try:
        get_config = python_files.execute(source, path, MODULE).get('get_config')
        if callable(get_config):
            _require_takes(get_config, arguments, option)
            found = get_config(*arguments)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # A config is any Python: anything may go wrong.
        raise InputError(f'{option} does not run: {_where(error, source)}') from error
    if not callable(get_config):
        raise InputError(
            f'{option} defines no function `get_config`; allowed: one that returns a ConfigDict,'
            ' which alexnet_jax.default_config() makes'
        )
    if not isinstance(found, Config):
        raise InputError(
            f'{option}: get_config() returns {shown(found)}; allowed: a ConfigDict, which'
            ' alexnet_jax.default_config() makes'
        )
    return found


def _found(path: Path) -> Path:
    """Returns the file of a packaged configuration for its bare name; else the path itself. A
    folder of that name, such as a workdir, does not count."""
    packaged = _packaged_folder() / f'{path.name}.py'
    is_name = not path.suffix and len(path.parts) == 1
    return packaged if is_name and packaged.exists() and not path.is_file() else path


def _require_takes(get_config: Callable, arguments: list[str], option: str) -> None:
    """Checks that the function can be called with these arguments.

    Raises:
      InputError: it cannot.
    """
    signature = inspect.signature(get_config)
    try:
        signature.bind(*arguments)
    except TypeError:
        count = len(signature.parameters)
        takes = f'takes {counted(count, "argument")}' if count else 'takes no argument'
        given = f'but has {shown(arguments[0])}' if arguments else 'but has none'
        allowed = '; allowed: one, as --config=FILE:ARGUMENT' if count else ''
        raise InputError(f'{option}: get_config() {takes}, {given}{allowed}') from None


def _where(error: BaseException, source: bytes) -> str:
    """Returns the line of the file at which an error arose, and the error in words."""
    number, last = python_files.line_of(error, MODULE)
    no_field = isinstance(error, AttributeError | KeyError) and 'ConfigDict is' not in str(error)
    first = (str(error).splitlines() or [''])[0]
    fault = f'{type(error).__name__}: {plain(first)}'
    if last.startswith('ml_collections'):  # the line has the setting's name
        text = source.decode(errors='replace').splitlines()[number - 1]
        if no_field:
            fault = _unknown_field(str(error), text)
        else:
            fault = f'{plain(text.strip(), 80)}: {fault}'
    return f'line {number}: {fault}'


def _unknown_field(error: str, text: str) -> str:
    """Returns a message with the nearest setting, for the message of a ConfigDict that lists all
    of its fields.

    Args:
      text: the line of the file, which has the group of the field, as in `config.data.batch_sise`.
    """
    field = re.search(r'(?:Key ")?(\w+)', error)
    name = field[1] if field else ''
    group = re.search(rf'(?:\w+\.)?((?:\w+\.)*){re.escape(name)}\b', text)
    return configuration.unknown(f'{group[1] if group else ""}{name}')
