"""Prepares a set of square records from any source.

    python -m alexnet_jax.data.prepare --source folder:PATH --out DIR
    python -m alexnet_jax.data.prepare --source tfds:NAME[/config][:version] --out DIR
    python -m alexnet_jax.data.prepare --source FILE.py:NAME --out DIR

The set is a TFDS data set in ArrayRecord that `tfds.builder_from_directory(DIR)`
opens, and that the main command trains on with `--config.data.source=SOURCE
--config.data.dir=DIR`. It also has the training set's mean image and principal components of color
(statistics.npz) and its source and options (prepared.json). The same command completes an
interrupted preparation.

Exit status: 0 done; 1 a fault while running; 2 a bad command or input; 75 stopped
on request: the same command resumes.
"""

import argparse
import functools
import logging
import math
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.progress import Progress, TextColumn, TimeRemainingColumn

from alexnet_jax.data import set_files
from alexnet_jax.data.images import CENTER_SQUARE, FORMS, MAX_PIXELS, PILLOW_LIMIT, RESIZES
from alexnet_jax.data.prepare import dask_cluster, engines, sources, stored
from alexnet_jax.data.prepare.engines import Engine
from alexnet_jax.data.prepare.make import PAPER_SIZE, QUALITY, Request, make_set
from alexnet_jax.data.prepare.shards import Encoding, Shard, Task
from alexnet_jax.runtime import command_line, storage
from alexnet_jax.runtime.command_line import DONE, STOPPED, Parser
from alexnet_jax.runtime.errors import InputError, StopRequestedError, counted, plain

COMMAND = ('python', '-m', 'alexnet_jax.data.prepare')
SECONDS_BETWEEN_LINES = 10
MOST_NAMED = 10  # classes in the summary


def with_progress(engine: Engine, tasks: list[Task]) -> Iterator[Shard]:
    """Returns the engine with progress: a bar on a terminal, else a line now and then."""
    images = sum(len(task.originals) for task in tasks)
    begun = last_line = time.monotonic()
    done = 0
    columns = (
        *Progress.get_default_columns()[:3],
        TextColumn('{task.completed}/{task.total} images  {task.fields[rate]:.0f}/s '),
        TimeRemainingColumn(),
    )
    with Progress(*columns, disable=not sys.stdout.isatty()) as progress:
        bar = progress.add_task('preparing', total=images, rate=0.0)
        for shard in engine(tasks):
            done += shard.records + len(shard.bad)
            now = time.monotonic()
            rate = done / (now - begun)
            progress.update(bar, completed=done, rate=rate)
            if not sys.stdout.isatty() and now - last_line > SECONDS_BETWEEN_LINES:
                last_line = now
                left = (images - done) / rate
                print(
                    f'{done} of {counted(images, "image")}, {rate:.0f} images/s,'
                    f' {left / 60:.1f} minutes left',
                    flush=True,
                )
            yield shard
    if images:
        seconds = time.monotonic() - begun
        print(f'{counted(done, "image")} in {seconds:.1f} s, {done / seconds:.0f} images/s')


def parse(argv: list[str]) -> argparse.Namespace:
    """Parses the command line."""
    parser = Parser(prog='python -m alexnet_jax.data.prepare', description=__doc__)
    parser.add_argument(
        '--source',
        required=True,
        help='tfds:NAME[/config][:version], folder:PATH or folder:URL (class folders, or train, val'
        ' and test folders of such; without train, a set to evaluate on), digits, or FILE.py:NAME, a'
        ' function of your own',
    )
    parser.add_argument(
        '--out',
        type=Path,
        help='folder of the set, or its URL; default: where the main command looks for it',
    )
    parser.add_argument(
        '--size', type=_whole(1, 4096), default=PAPER_SIZE, help='side of the records, pixels (256)'
    )
    parser.add_argument(
        '--resize',
        choices=RESIZES,
        default=CENTER_SQUARE,
        help="how images become squares: their middle, torchvision's way or Caffe's (data.resize)",
    )
    parser.add_argument(
        '--encoding',
        choices=FORMS,
        default='jpeg',
        help='raw: no decoding later, five times the room',
    )
    parser.add_argument(
        '--quality', type=_whole(1, 100), default=QUALITY, help='of the JPEG, 1 to 100 (95)'
    )
    parser.add_argument(
        '--val_fraction',
        type=_fraction,
        default=0.0,
        help='share of the training images of each class to keep for validation, if the source has'
        ' none for it: of two or more, at least one and not all',
    )
    parser.add_argument(
        '--max_pixels',
        type=_whole(1, PILLOW_LIMIT),
        default=MAX_PIXELS,
        help=f'larger images are an error, before they are decoded ({MAX_PIXELS})',
    )
    parser.add_argument(
        '--skip_bad',
        type=_whole(0, 10**9),
        default=0,
        metavar='N',
        help='leave out up to N images that cannot be read, and list them (0)',
    )
    parser.add_argument(
        '--workers', type=_whole(1, 1024), default=os.cpu_count(), help='processes (one a core)'
    )
    parser.add_argument('--data_dir', help="where TFDS keeps its sets (TFDS's own place)")
    parser.add_argument(
        '--manual_dir', help="where the files lie that TFDS cannot download, as ImageNet's tars"
    )
    parser.add_argument(
        '--allow_partial', action='store_true', help='accept an incomplete ImageNet'
    )
    parser.add_argument(
        '--beam_runner', help='do it as an Apache Beam pipeline: DirectRunner, DataflowRunner, ...'
    )
    parser.add_argument(
        '--beam_options', default='', help='options of the pipeline, separated by commas'
    )
    parser.add_argument(
        '--dask',
        metavar='HOST:PORT',
        help='do it on the Dask cluster with this scheduler',
    )
    return parser.parse_args(argv)


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse_number(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(
                f'{text!r}; allowed: a whole number from {least} to {most}'
            )
        return int(text)

    return parse_number


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f'{text!r}; allowed: a number between 0 and 1')
    return value


def run(argv: list[str]) -> int:
    """Prepares a set and prints its location; returns the exit status."""
    options = parse(argv)
    for name in (None, 'absl'):
        logging.getLogger(name).setLevel(logging.ERROR)  # TFDS and Beam tell every step.
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')  # TensorFlow, where TFDS needs it
    source = sources.canonical(options.source)
    out = options.out or stored.usual_place(source, options.size, None, options.resize)
    encoding = Encoding(options.size, options.encoding, options.quality, options.resize)
    open_source = functools.partial(
        sources.open_source,
        source,
        data_dir=options.data_dir,
        manual_dir=options.manual_dir,
        allow_partial=options.allow_partial,
    )
    engine = _engine(options)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        make_set(
            Request(source, encoding, options.val_fraction, options.max_pixels),
            out,
            open_source,
            functools.partial(with_progress, engine),
            max_bad=options.skip_bad,
            where=_where(options),
            say=functools.partial(print, flush=True),
        )
    except sources.NoValidationError as error:
        words = [*COMMAND, *argv, f'--val_fraction={sources.HOLD_OUT}']
        raise InputError(
            f'{error}. To take a share of the training images, run:\n{shlex.join(words)}'
        ) from error
    except (KeyboardInterrupt, StopRequestedError):
        print('stopped; the same command resumes', file=sys.stderr)
        return STOPPED
    print(_summary(out))
    return DONE


def _engine(options: argparse.Namespace) -> Engine:
    if options.beam_runner and options.dask:
        raise InputError(
            f'--beam_runner {plain(options.beam_runner)} and --dask {plain(options.dask)};'
            ' allowed: one of them'
        )
    if options.beam_runner:
        beam_options = [f'--{option}' for option in options.beam_options.split(',') if option]
        return functools.partial(engines.in_beam, runner=options.beam_runner, options=beam_options)
    if options.dask:
        return functools.partial(dask_cluster.in_dask, address=options.dask)
    if options.workers > 1:
        return functools.partial(engines.in_processes, workers=options.workers)
    return engines.stoppable


def _where(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the options of `set_files.WHERE` that are given, paths absolute."""
    given = {name: getattr(options, name) for name in set_files.WHERE if getattr(options, name)}
    for name in ('data_dir', 'manual_dir'):
        if name in given and '://' not in given[name]:
            given[name] = os.path.abspath(os.path.expanduser(given[name]))
    return given


def _summary(out: Path) -> str:
    about = set_files.read_about(out)
    lines = [f'left out: {name} {reason}' for name, reason in about['skipped']]
    if lines:
        lines.append(f'{counted(len(lines), "image")} left out')
    classes = set_files.read_classes(out)
    more = ', ...' if len(classes) > MOST_NAMED else ''
    lines.append(
        f'{counted(len(classes), "class", "classes")}: {", ".join(classes[:MOST_NAMED])}{more}'
    )
    counts = ', '.join(f'{count} {split}' for split, count in about['counts'].items())
    if 'train' not in about['counts']:
        lines.append('no training images: a set to evaluate on')
    lines.append(f'{about["source"]}: {counts} -> {storage.as_urls(str(out))}')
    return '\n'.join(lines)


def main(argv: list[str] | None = None) -> int:
    """Runs the command line in this process and returns its exit status."""
    return command_line.run(run, argv)


if __name__ == '__main__':
    sys.exit(main())
