"""Trains, evaluates, predicts or reports, in one workdir.

    python -m alexnet_jax.main --config configs/digits.py --workdir runs/digits
        [--mode train|eval|report] [--config.NAME=VALUE ...] [--debug]
    python -m alexnet_jax.main --workdir runs/digits --mode=predict IMAGE ...

Settings override the configuration file: --config.data.batch_size=64, --config.seed 3,
--noconfig.data.mirror, --config.data.mean=123,117,104. --help=data lists those of a group.

One of several processes has the same command, with --processes=auto, or with
--processes=N --process=I --coordinator=HOST:PORT (docs/processes.md).

Exit status: 0 done; 1 a fault while running; 2 a bad command, setting or input,
found before training; 75 stopped on request after saving: the same command resumes.
"""

import argparse
import functools
import shlex
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment import config_file, kept_config
from alexnet_jax.experiment.flags import SettingsParser
from alexnet_jax.runtime import command_line, heartbeat, joining, storage, supervisor
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE, STOPPED
from alexnet_jax.runtime.errors import StopRequestedError, plain
from alexnet_jax.runtime.stop import stop_requests


def parse(argv: list[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    """Parses the command line into options and settings given as --config.NAME=VALUE.

    Raises:
      InputError: another argument on the command line.
    """
    parser = SettingsParser(
        prog='python -m alexnet_jax.main',
        usage='%(prog)s --config FILE[:ARGUMENT] --workdir DIR\n'
        '  [--mode MODE] [--config.NAME=VALUE ...] [IMAGE ...]',
        description=__doc__,
    )
    parser.add_argument(
        '--config',
        help='a Python file whose get_config() is called, or the name of one in configs/',
    )
    parser.add_argument(
        '--workdir',
        help='a folder, or a URL such as s3://BUCKET/RUN (docs/storage.md); default: runs/NAME for'
        ' configs/NAME.py',
    )
    parser.add_argument('--mode', choices=('train', 'eval', 'predict', 'report'), default='train')
    joining.add_options(parser)
    options, overrides, words = parser.parse_with_words(argv)
    if words and options.mode != 'predict':
        parser.error(f'unknown argument {words[0]!r:.200}; images go with --mode=predict')
    if not words and options.mode == 'predict':
        parser.error('--mode=predict needs images: JPEG or PNG files')
    options.images = [Path(word) for word in words]
    if options.config is None and options.workdir is None:
        parser.error('neither --config nor --workdir is given')
    options.gives_source = options.config is not None or 'data.source' in overrides
    options.joining = joining.read(options)
    if options.joining and options.mode not in ('train', 'eval'):
        parser.error(f'--mode={options.mode} runs in one process; leave out --processes')
    if options.joining and storage.is_url(options.workdir):
        parser.error(
            f'--workdir is {options.workdir:.200}; allowed with --processes: a folder that all of them'
            ' share'
        )
    if options.workdir is not None:
        options.workdir = storage.place(options.workdir, '--workdir')
    return options, overrides


def settings(options: argparse.Namespace, overrides: dict[str, str]) -> configuration.Config:
    """Returns the configuration of the config file, or else of the workdir's own config.json.

    It has the content of the user's own net and protocol.
    """
    if options.config is not None:
        return configuration.settled(config_file.load(options.config, overrides))
    return configuration.settled(kept_config.of_workdir(options.workdir, overrides))


def run(argv: list[str]) -> int:
    """Runs the mode that the command line names; returns the exit status.

    With several processes, this one supervises another that does the work.
    """
    heartbeat.start()
    options, overrides = parse(argv)
    config = settings(options, overrides)
    workdir = options.workdir or Path('runs') / config_file.run_name(options.config)
    if options.joining and not heartbeat.is_watched():
        return supervisor.supervise('alexnet_jax.main', argv, options.joining, options.debug)
    command_line.before_jax()
    if options.joining is None:
        if options.mode == 'predict':
            return do(options, config, workdir)
        with stop_requests() as stop_requested:
            return do(options, config, workdir, stop_requested)
    # With several processes JAX itself receives the request and synchronizes it.
    from alexnet_jax.runtime import multihost  # JAX starts here: not before a bad setting

    multihost.join(options.joining)
    from alexnet_jax.experiment import build

    with multihost.lost_process_errors():
        multihost.require_alike({'--mode': options.mode} | build.facts(config, workdir))
        return do(options, config, workdir)


def do(
    options: argparse.Namespace,
    config: configuration.Config,
    workdir: Path,
    stop_requested: Callable[[], bool] = lambda: False,
) -> int:
    """Runs the mode in this process; returns the exit status."""
    from alexnet_jax.experiment import build, trained, training_run

    if options.mode == 'train' and options.gives_source:
        build.prepare_own_source(config)
    if options.mode == 'eval':
        result = trained.evaluate_workdir(config, workdir, stop_requested)
        if result:
            print(result)
        return DONE
    if options.mode == 'predict':
        from alexnet_jax.report import predict

        return DONE if predict.predict(config, workdir, options.images) else BAD_INPUT
    if options.mode == 'train' and not training_run.train(config, workdir, stop_requested):
        return STOPPED
    if options.mode == 'report' or (config.train.report and not options.joining):
        from alexnet_jax.report import run_page

        print(run_page.make(config, workdir, stop_requested), flush=True)
    elif config.train.report:
        return report_by_first(config, workdir, options.debug)
    return DONE


def report_training(
    config: configuration.Config, workdir: Path, debug: bool, stop_requested: Callable[[], bool]
) -> None:
    """Makes the report of a training in several processes.

    A fault is only a warning, because a launcher would restart the finished training after another
    status.
    """
    from alexnet_jax.report import run_page

    try:
        print(run_page.make(config, workdir, stop_requested), flush=True)
    except StopRequestedError:
        raise
    except Exception as error:
        if debug:
            traceback.print_exc()
        _, lines = command_line.explain(error)
        print(f'warning: there is no new report: {plain(lines[0], command_line.LONGEST)}',
              f'python -m alexnet_jax.main --workdir {shlex.quote(str(workdir))} --mode=report',
              sep='\n', file=sys.stderr, flush=True)  # fmt: skip


def report_by_first(config: configuration.Config, workdir: Path, debug: bool) -> int:
    """Makes the report in process 0 while the others wait; returns the exit status of each."""
    from alexnet_jax.runtime import multihost

    # The mesh of all processes is not that of one.
    alone = configuration.changed(config, {'mesh.data': 0, 'mesh.column': 0})
    try:
        multihost.by_first(workdir, functools.partial(report_training, alone, workdir, debug))
    except StopRequestedError:
        if multihost.is_first():
            raise
        return STOPPED
    return DONE


def main(argv: list[str] | None = None) -> int:
    """Runs the command line in this process and returns its exit status."""
    status = command_line.run(run, argv)
    if heartbeat.is_watched():
        from alexnet_jax.runtime import multihost

        multihost.leave(status)
    return status


if __name__ == '__main__':
    sys.exit(main())
