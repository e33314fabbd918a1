"""Shared code of the command lines: exit statuses, and errors as plain lines."""

import argparse
import functools
import hashlib
import logging as python_logging
import os
import platform
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import logging

from alexnet_jax.runtime import output, storage
from alexnet_jax.runtime.errors import (
    InputError,
    LostProcessError,
    NotFiniteError,
    RecordError,
    StopRequestedError,
    StorageError,
    plain,
)

# Done; a fault while running; a bad command, setting or input; stopped on request
# with everything saved, so that the same command resumes.
DONE, FAULT, BAD_INPUT, STOPPED = 0, 1, 2, 75
COMMANDS = ('python -m ', 'pip install ')  # beginnings of lines that are commands
LONGEST = 4000  # maximum characters of an error's line


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str):
        super().__init__(prog, width=96)


def _path(text: str) -> Path | str:
    """Returns a path, or an unchanged URL, which `Parser` opens after parsing."""
    if not text:  # of a shell variable that is not set; Path('') is the current folder
        raise argparse.ArgumentTypeError('it is empty; allowed: a path')
    return text if storage.is_url(text) else Path(text)


class Parser(argparse.ArgumentParser):
    """A parser that accepts only full option names and raises `InputError`.

    If a path option is a URL, its value is the local folder of that URL (`runtime/storage`)."""

    def __init__(self, **settings):
        super().__init__(formatter_class=_Formatter, allow_abbrev=False, **settings)
        self.register('type', Path, _path)
        self.add_argument('--debug', action='store_true', help='print tracebacks')

    def add_subparsers(self, **settings):
        """Adds subcommands; the help of each has the description of all."""
        described = functools.partial(type(self), description=self.description)
        return super().add_subparsers(parser_class=described, **settings)  # pyright: ignore[reportArgumentType]

    def parse_known_args(self, args=None, namespace=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        """Parses the known arguments, and replaces URLs by local folders."""
        options, words = super().parse_known_args(args, namespace)
        for action in self._actions:
            value = getattr(options, action.dest, None)
            if action.type is Path and value is not None:
                setattr(options, action.dest, _opened(value, action))
        return options, words

    def error(self, message: str) -> NoReturn:
        """Refuses a command line.

        Raises:
          InputError: always, with the message.
        """
        raise InputError(f'{plain(message, 600)}; see --help')


def _opened(value: Any, action: argparse.Action) -> Any:
    """Returns an option's paths, with local folders in place of URLs."""
    if isinstance(value, list):
        return [_opened(one, action) for one in value]
    option = action.option_strings[-1] if action.option_strings else str(action.metavar)
    return storage.folder(value, option) if storage.is_url(value) else value


def _compiled() -> Path:
    """Returns the cache folder of compiled programs. It depends on the kind of processor, because a
    program may not run on another processor with the same home folder.
    """
    root = Path(os.getenv('XDG_CACHE_HOME') or Path.home() / '.cache')
    try:
        about = re.findall('(?m)^(?:flags|Features).*', Path('/proc/cpuinfo').read_text())[:1]
    except OSError:
        about = []
    digest = hashlib.sha256(repr((platform.machine(), about)).encode()).hexdigest()
    return root / 'alexnet_jax' / f'compiled-{digest[:8]}'


def before_jax(cpu_devices: int = 0) -> None:
    """Sets the environment variables that JAX reads when it starts.

    Args:
      cpu_devices: number of CPU devices; 0: that of XLA_FLAGS, or one.
    """
    if cpu_devices:  # XLA uses the last of repeated flags
        played = f'--xla_force_host_platform_device_count={cpu_devices}'
        os.environ['XLA_FLAGS'] = f'{os.getenv("XLA_FLAGS", "")} {played}'.strip()
    os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(_compiled()))
    played = re.findall(r'xla_force_host_platform_device_count=(\d+)', os.getenv('XLA_FLAGS', ''))
    devices = int(played[-1] if played else os.getenv('JAX_NUM_CPU_DEVICES', '1'))
    if devices > 1:
        # Several CPU devices in one process share a pool with one thread per core. If all threads
        # wait in a collective for a device without a thread, the run deadlocks; more threads than
        # cores prevent this.
        os.environ.setdefault('PJRT_NPROC', str(max(8, 4 * devices)))
    _leave_out(('Event loop is closed', 'Encountered error while reading array'))
    python_logging.getLogger('asyncio').setLevel(python_logging.CRITICAL)  # the same errors again
    logging.set_verbosity(logging.FATAL)  # Orbax logs each of its steps, and the errors it raises.


def _leave_out(texts: Sequence[str]) -> None:
    """Silences secondary errors that cannot be caught and follow a reported one.

    Orbax ends a failed read or write while its others are still running."""
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if not any(text in str(unraisable.exc_value) for text in texts):
            before(unraisable)

    sys.unraisablehook = hook


def run(command: Callable[[list[str]], int], argv: list[str] | None, prints: bool = False) -> int:
    """Runs the command; prints an error, and returns the exit status.

    Args:
      prints: whether the output is the result: it then fails if the output is lost. The results of
        other commands are in files.
    """
    argv = sys.argv[1:] if argv is None else argv
    with output.unbreakable() as printed:
        status, lines = _run(command, argv)
        lines = [plain(storage.as_urls(line), LONGEST) for line in lines]
        # A command has its own line, so that it can be copied.
        lines = [line if line.startswith(COMMANDS) else f'error: {line}' for line in lines]
        lost = output.fault_of(printed)
        if lost:
            failed = prints and status == DONE
            status = FAULT if failed else status
            kind = 'error' if failed else 'warning'
            lines.append(f'{kind}: what was printed could not all be written: {lost}')
        for line in lines:
            print(line, file=sys.stderr)
    return status


def _run(command: Callable[[list[str]], int], argv: list[str]) -> tuple[int, list[str]]:
    """Returns the exit status, and the lines to print for an error."""
    try:
        with storage.session():
            return command(argv), []
    except StopRequestedError:
        print('stopped; the same command resumes')
        return STOPPED, []
    except (Exception, KeyboardInterrupt) as error:
        if '--debug' in argv:
            traceback.print_exc()
        return explain(error)


def explain(error: BaseException) -> tuple[int, list[str]]:
    """Returns the exit status and the lines to print for an error."""
    if isinstance(error, InputError):
        return BAD_INPUT, str(error).split('\n')
    if isinstance(error, RecordError | LostProcessError | StorageError | NotFiniteError):
        return FAULT, str(error).split('\n')
    if isinstance(error, KeyboardInterrupt):
        return FAULT, ['interrupted; saved files are intact']
    first = (str(error).strip().splitlines() or [''])[0]
    return FAULT, [f'{type(error).__name__}: {first} (--debug shows where)']
