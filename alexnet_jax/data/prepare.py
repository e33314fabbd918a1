"""Any source -> a set of square records, prepared once.

    python -m alexnet_jax.data.prepare --source folder:PATH --out DIR
    python -m alexnet_jax.data.prepare --source tfds:NAME[/config][:version] --out DIR

The set is a TFDS data set in ArrayRecord that `tfds.builder_from_directory(DIR)`
opens, and that the main command trains on with `--config.data.source=SOURCE
--config.data.dir=DIR`. Beside it lie the training set's mean image and principal
components of colour (statistics.npz) and how it was made (prepared.json). A
preparation that was stopped or killed is finished by the same command.

Exit status: 0 done; 1 a fault while running; 2 a bad command or input; 75 stopped
on request: the same command goes on.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import fcntl
import functools
import json
import logging
import math
import multiprocessing
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from multiprocessing import connection
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from rich.progress import Progress, TextColumn, TimeRemainingColumn
from tensorflow_datasets.core import dataset_info, splits

from alexnet_jax import command_line
from alexnet_jax.command_line import DONE, STOPPED, Parser
from alexnet_jax.data import prepared, shards, sources
from alexnet_jax.data.images import MAX_PIXELS, PILLOW_LIMIT
from alexnet_jax.data.shards import Encoding, Shard, StopRequestedError, Task
from alexnet_jax.data.sources import Source
from alexnet_jax.data.statistics import PixelSums
from alexnet_jax.errors import InputError
from alexnet_jax.stop import stop_requests

PAPER_SIZE = 256
QUALITY = 95
MOST_RECORDS, LEAST_RECORDS, SHARDS = 4096, 128, 32
WORK = '.preparing'
SECONDS_BETWEEN_LINES = 10
SECONDS_BETWEEN_LOOKS = 0.2
# Whatever decides what the bytes of a record are.
LIBRARIES = ('pillow', 'simplejpeg', 'array_record')

Engine = Callable[[list[Task]], Iterable[Shard]]


@dataclasses.dataclass(frozen=True)
class Request:
    """What to prepare, and how images are stored. val_fraction: as in
    `sources.with_val_split`."""

    source: str
    encoding: Encoding
    val_fraction: float = 0.0

    def options(self) -> dict[str, Any]:
        """As the command line has them, without what is usual."""
        given = {
            'size': (self.encoding.size, PAPER_SIZE),
            'encoding': (self.encoding.form, 'jpeg'),
            'quality': (self.encoding.quality, QUALITY),
            'val_fraction': (self.val_fraction, 0.0),
        }
        return {'source': self.source} | {
            name: value for name, (value, usual) in given.items() if value != usual
        }


def prepare(
    request: Request,
    out: Path,
    open_source: Callable[[], Source],
    engine: Engine,
    *,
    max_pixels: int = MAX_PIXELS,
    max_bad: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Makes the set in `out`, or what of it is not made yet.

    Args:
      engine: does tasks, in any order, and tells of each shard when it is done.
      max_pixels, max_bad: as in `shards.Task`, `max_bad` for the whole set.
      say: takes what the user should know.

    Raises:
      InputError: images cannot be read, or `out` cannot be written or holds
        something else.
    """
    try:
        if _is_there(out, request, say):
            return out
        _refuse_strange(out)
        (out / WORK).mkdir(parents=True, exist_ok=True)
        with _only_one(out / WORK / 'lock'):
            if _is_there(out, request, say):  # made while we waited
                return out
            source = sources.with_val_split(open_source(), request.val_fraction)
            plan = _plan(request, source)
            _take_up(out, plan)
            tasks = _tasks(request.encoding, source, out, max_pixels, max_bad)
            _do(tasks, engine, max_bad, say)
            _finish(out, plan, source, tasks)
    except OSError as error:
        raise shards.disk_error(Path(error.filename or out), error) from error
    return out


def digits(size: int, data_dir: str | None = None) -> prepared.ImageSet:
    """The handwritten digits as size×size records; prepared if they are not yet.

    Raises:
      InputError: `data_dir` cannot be written.
    """
    folder = prepared.find('digits', size, data_dir)
    if folder is None:
        request = Request('digits', Encoding(size, 'raw', QUALITY))
        place = prepared.usual_place('digits', size, data_dir)
        folder = prepare(request, place, sources.open_digits, one_by_one)
    return prepared.open_set(folder)


def stored(spec: str, size: int, data_dir: str | None) -> prepared.ImageSet:
    """The set prepared of a source.

    Raises:
      InputError: there is none; it says which command makes it.
    """
    folder = prepared.find(spec, size, data_dir)
    if folder is None:
        sources.require(spec, data_dir)
        size_option = {} if size == PAPER_SIZE else {'size': size}
        place = prepared.usual_place(spec, size, data_dir)
        raise InputError(
            f'data.source {spec} is not prepared at {size} pixels'
            f' in {prepared.root(data_dir)}; run:\n'
            + prepared.command(place, sources.canonical(spec), **size_option)
        )
    return prepared.open_set(folder)


# The set as a whole


@contextlib.contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    """Waits for whoever else prepares the same set."""
    with open(lock, 'w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        lock.parent.mkdir(exist_ok=True)  # who came first has removed it
        yield


def _is_there(out: Path, request: Request, say: Callable[[str], None]) -> bool:
    """Whether `out` holds the set asked for, finished and whole.

    Raises:
      InputError: it holds another.
    """
    if not prepared.is_whole(out):
        return False
    about = prepared.read_about(out)
    if about['options'] != request.options():
        raise InputError(
            f'--out {out} holds a set prepared with {_words(about["options"])};'
            f' now asked for: {_words(request.options())}'
        )
    sizes = {name: (out / name).stat().st_size for name in about['shards'] if (out / name).exists()}
    if sizes == about['shards']:
        say(f'{out} is prepared already')
        shutil.rmtree(out / WORK, ignore_errors=True)  # of one killed at its very end
        return True
    say(f'{out} is not whole: making it again')
    (out / prepared.DATASET_INFO).unlink()
    return False


def _words(options: dict[str, Any]) -> str:
    return ' '.join(f'--{name}={value}' for name, value in options.items())


def _plan(request: Request, source: Source) -> dict[str, Any]:
    """All that decides the set's bytes, for prepared.json."""
    return {
        'source': source.spec,
        'version': source.version,
        'size': request.encoding.size,
        'encoding': request.encoding.form,
        'quality': request.encoding.quality,
        'mirror': source.mirror,
        'options': request.options(),
        'libraries': {name: metadata.version(name) for name in LIBRARIES},
    }


def _refuse_strange(out: Path) -> None:
    """
    Raises:
      InputError: `out` holds what is neither a set nor the beginning of one.
    """
    ours = (WORK, prepared.PREPARED)
    if out.is_dir() and not any((out / name).exists() for name in ours):
        for path in sorted(out.iterdir()):
            raise InputError(f'--out {out} is not empty: it holds {path.name}; take another folder')


def _take_up(out: Path, plan: dict[str, Any]) -> None:
    """Begins, or goes on where the same plan was begun.

    Raises:
      InputError: another plan was begun in `out`.
    """
    kept = out / WORK / 'plan.json'
    if kept.exists():
        before = json.loads(kept.read_text())
        changed = [
            f'{name} was {before.get(name)}, now {plan[name]}'
            for name in plan
            if before.get(name) != plan[name]
        ]
        if changed:
            raise InputError(
                f'--out {out} holds a begun preparation of another kind: {"; ".join(changed)};'
                ' remove it or take another folder'
            )
        return
    beside = kept.with_suffix('.tmp')
    beside.write_text(json.dumps(plan, indent=2))
    os.replace(beside, kept)


def _tasks(
    encoding: Encoding, source: Source, out: Path, max_pixels: int, max_bad: int
) -> list[Task]:
    """The shards of all splits. What is in which depends on the source alone."""
    tasks = []
    for split, originals in source.splits.items():
        size = min(MOST_RECORDS, max(LEAST_RECORDS, math.ceil(len(originals) / SHARDS)))
        starts = range(0, len(originals), size)
        template = _template(source, out).replace(split=split)
        for number, start in enumerate(starts):
            path = template.sharded_filepath(shard_index=number, num_shards=len(starts))
            rows = range(start, min(start + size, len(originals)))
            tasks.append(
                Task(
                    path=Path(path),
                    notes=out / WORK,
                    originals=originals.take(rows),
                    classes=len(source.classes),
                    encoding=encoding,
                    measured=split == 'train',
                    max_pixels=max_pixels,
                    max_bad=max_bad,
                )
            )
    return tasks


def _template(source: Source, out: Path) -> tfds.core.ShardedFileTemplate:
    return tfds.core.ShardedFileTemplate(
        data_dir=epath.Path(out), dataset_name=_dataset_name(source), filetype_suffix='array_record'
    )


def _dataset_name(source: Source) -> str:
    """A name as TFDS wants it."""
    name = source.spec.partition(':')[2] or source.spec
    name = Path(name.partition(':')[0]).name if source.spec.startswith('folder:') else name
    return re.sub(r'\W+', '_', name, flags=re.ASCII).strip('_').lower() or 'images'


def _do(tasks: list[Task], engine: Engine, max_bad: int, say: Callable[[str], None]) -> None:
    """Has all tasks done that are not.

    Raises:
      InputError: more images than allowed cannot be read.
    """
    done = [task for task in tasks if task.is_done()]
    waiting = [task for task in tasks if not task.is_done()]
    bad = [entry for task in done for entry in shards.read_note(task).bad]
    if done and waiting:
        say(f'going on: {len(done)} of {len(tasks)} shards are there')
    _refuse_more(bad, max_bad)
    for shard in engine(waiting):
        bad += shard.bad
        _refuse_more(bad, max_bad)


def _refuse_more(bad: shards.Bad, allowed: int) -> None:
    if len(bad) > allowed:
        raise InputError(shards.too_many(bad, allowed))


def _finish(out: Path, plan: dict[str, Any], source: Source, tasks: list[Task]) -> None:
    """Writes what lies beside the shards; TFDS's own file, without which no set is
    taken for whole, last."""
    missing = [task.path.name for task in tasks if not task.is_done()]
    if missing:
        raise InputError(f'--out {out}: {", ".join(missing)} were not made; run it again')
    made = {task.path: shards.read_note(task) for task in tasks}
    lengths = {split: [] for split in source.splits}
    sums = PixelSums.zero(plan['size'])
    for task in tasks:
        lengths[_split_of(task.path)].append(made[task.path].records)
        if task.measured:
            sums.add(shards.read_sums(task))
    empty = [split for split, counts in lengths.items() if not sum(counts)]
    if empty:
        raise InputError(f'{source.spec}: no image of the split {empty[0]} can be read')
    work = out / WORK / 'final'
    work.mkdir(exist_ok=True)
    with open(work / prepared.STATISTICS, 'wb') as file:
        np.savez(file, **dataclasses.asdict(sums.statistics()))
    about = plan | {
        'counts': {split: sum(counts) for split, counts in lengths.items()},
        'skipped': [list(entry) for shard in made.values() for entry in shard.bad],
        'shards': {path.name: shard.bytes for path, shard in made.items()},
    }
    (work / prepared.PREPARED).write_text(json.dumps(about, indent=2) + '\n')
    _write_tfds_files(work, out, source, plan, lengths, made)
    last = work / prepared.DATASET_INFO
    for file in sorted(work.iterdir(), key=lambda file: file == last):
        os.replace(file, out / file.name)
    for left_over in out.glob('.*.array_record-*'):
        left_over.unlink()
    shutil.rmtree(out / WORK)


def _split_of(path: Path) -> str:
    return path.name.partition('.array_record')[0].rpartition('-')[2]


def _write_tfds_files(
    work: Path,
    out: Path,
    source: Source,
    plan: dict[str, Any],
    lengths: dict[str, list[int]],
    made: dict[Path, Shard],
) -> None:
    size = plan['size']
    shape = (size, size, 3)
    if plan['encoding'] == 'jpeg':
        image = tfds.features.Image(shape=shape, encoding_format='jpeg')
    else:
        image = tfds.features.Tensor(shape=shape, dtype=np.uint8, encoding='bytes')
    features = tfds.features.FeaturesDict({
        'id': tfds.features.Text(),
        'image': image,
        'label': tfds.features.ClassLabel(names=source.classes),
    })  # fmt: skip
    identity = dataset_info.DatasetIdentity(
        name=_dataset_name(source),
        version=tfds.core.Version('1.0.0'),
        data_dir=os.fspath(out),
        module_name='',
    )
    info = tfds.core.DatasetInfo(
        builder=identity,
        features=features,
        description=f'{source.spec} ({source.version}), {size}×{size} pixels, {plan["encoding"]}',
        supervised_keys=('image', 'label'),
    )
    info.set_file_format(tfds.core.FileFormat.ARRAY_RECORD)
    split_infos = [
        tfds.core.SplitInfo(
            name=split,
            shard_lengths=counts,
            num_bytes=sum(shard.bytes for path, shard in made.items() if _split_of(path) == split),
            filename_template=_template(source, out).replace(split=split),
        )
        for split, counts in lengths.items()
    ]
    info.set_splits(splits.SplitDict(split_infos))
    info.write_to_directory(work)


# Engines


def one_by_one(tasks: list[Task]) -> Iterator[Shard]:
    """Does the tasks in this process."""
    return map(shards.write_shard, tasks)


def stoppable(tasks: list[Task]) -> Iterator[Shard]:
    """Does the tasks in this process; ends at the next image if a stop is requested."""
    with stop_requests() as stop_requested:
        for task in tasks:
            yield shards.write_shard(task, stop_requested)


def in_processes(tasks: list[Task], workers: int) -> Iterator[Shard]:
    """Does the tasks in several processes. If one ends in an error, or the caller
    ends, or a stop is requested, all stop at their next image.

    Raises:
      RuntimeError: a process died.
    """
    context = multiprocessing.get_context('spawn')  # threads of this one must not be forked
    stop = context.Event()
    executor = concurrent.futures.ProcessPoolExecutor(
        min(workers, len(tasks)) or 1, context, _start_worker, (stop,)
    )
    with stop_requests() as stop_requested:
        try:
            waiting = {executor.submit(_work, task) for task in tasks}
            while waiting:
                done, waiting = concurrent.futures.wait(
                    waiting, SECONDS_BETWEEN_LOOKS, concurrent.futures.FIRST_COMPLETED
                )
                if stop_requested():
                    raise StopRequestedError
                for future in done:
                    yield future.result()
        except concurrent.futures.process.BrokenProcessPool as error:
            raise RuntimeError(
                'a worker process died, maybe for lack of memory; run the same command again,'
                ' with fewer --workers'
            ) from error
        finally:
            stop.set()
            executor.shutdown(cancel_futures=True)


_stop_requested: Callable[[], bool] = lambda: False  # noqa: E731


def _start_worker(stop: Any) -> None:
    """A worker leaves signals to the main process, and ends when that one does,
    even if it was killed."""
    global _stop_requested
    _stop_requested = stop.is_set
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    main_process = multiprocessing.parent_process()
    assert main_process is not None

    def end_with_main() -> None:
        connection.wait([main_process.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_main, daemon=True).start()


def _work(task: Task) -> Shard:
    return shards.write_shard(task, _stop_requested)


def in_beam(tasks: list[Task], runner: str, options: list[str]) -> Iterator[Shard]:
    """Does the tasks as an Apache Beam pipeline: an element a task. The folder must
    be one that all of the runner's workers see.

    Raises:
      InputError: Beam is not installed, or there is no such runner.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise InputError(
            "--beam_runner needs Apache Beam: pip install 'alexnet_jax[beam]'"
        ) from error
    try:
        pipeline = beam.Pipeline(runner=runner, options=PipelineOptions(options))
    except ValueError as error:
        raise InputError(f'--beam_runner {runner}: {str(error).splitlines()[0]}') from error
    if tasks:
        with pipeline:
            _ = pipeline | beam.Create(tasks) | beam.Reshuffle() | beam.Map(_work_or_note)
    for task in tasks:
        fault = task.note_file('.fault')
        if fault.exists():
            message = fault.read_text()
            fault.unlink()
            raise InputError(message)
    return (shards.read_note(task) for task in tasks)


def _work_or_note(task: Task) -> None:
    """Notes what is wrong with the input: a runner would only try again."""
    try:
        shards.write_shard(task)
    except InputError as error:
        task.note_file('.fault').write_text(str(error))


# The command line


def with_progress(engine: Engine, tasks: list[Task]) -> Iterator[Shard]:
    """The engine, and how far it is: a bar on a terminal, else a line now and then."""
    images = sum(len(task.originals) for task in tasks)
    begun = told = time.monotonic()
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
            if not sys.stdout.isatty() and now - told > SECONDS_BETWEEN_LINES:
                told = now
                left = (images - done) / rate
                print(
                    f'{done} of {images} images, {rate:.0f} images/s, {left / 60:.1f} minutes left',
                    flush=True,
                )
            yield shard
    if images:
        seconds = time.monotonic() - begun
        print(f'{done} images in {seconds:.1f} s, {done / seconds:.0f} images/s')


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser(prog='python -m alexnet_jax.data.prepare', description=__doc__)
    parser.add_argument(
        '--source',
        required=True,
        help='tfds:NAME[/config][:version], folder:PATH (class folders, or train, val and maybe'
        ' test folders of such) or digits',
    )
    parser.add_argument(
        '--out', type=Path, help='folder of the set; default: where the main command looks for it'
    )
    parser.add_argument(
        '--size', type=_whole(1, 4096), default=PAPER_SIZE, help='side of the records, pixels (256)'
    )
    parser.add_argument(
        '--encoding',
        choices=('jpeg', 'raw'),
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
        help='share of the training images to keep for validation, if the source has none for it',
    )
    parser.add_argument(
        '--max_pixels',
        type=_whole(1, PILLOW_LIMIT),
        default=MAX_PIXELS,
        help=f'larger images are refused before they are decoded ({MAX_PIXELS})',
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
        '--allow_partial', action='store_true', help='take an ImageNet that lacks images'
    )
    parser.add_argument(
        '--beam_runner', help='do it as an Apache Beam pipeline: DirectRunner, DataflowRunner, ...'
    )
    parser.add_argument(
        '--beam_options', default='', help='options of the pipeline, separated by commas'
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
    options = parse(argv)
    for name in (None, 'absl'):
        logging.getLogger(name).setLevel(logging.ERROR)  # TFDS and Beam tell every step.
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')  # TensorFlow, where TFDS needs it
    source = sources.canonical(options.source)
    out = options.out or prepared.usual_place(source, options.size, None)
    encoding = Encoding(options.size, options.encoding, options.quality)
    open_source = functools.partial(
        sources.open_source,
        source,
        data_dir=options.data_dir,
        manual_dir=options.manual_dir,
        allow_partial=options.allow_partial,
    )
    if options.beam_runner:
        beam_options = [f'--{option}' for option in options.beam_options.split(',') if option]
        engine = functools.partial(in_beam, runner=options.beam_runner, options=beam_options)
    elif options.workers > 1:
        engine = functools.partial(in_processes, workers=options.workers)
    else:
        engine = stoppable
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        prepare(
            Request(source, encoding, options.val_fraction),
            out,
            open_source,
            functools.partial(with_progress, engine),
            max_pixels=options.max_pixels,
            max_bad=options.skip_bad,
            say=functools.partial(print, flush=True),
        )
    except (KeyboardInterrupt, StopRequestedError):
        print('stopped; the same command goes on', file=sys.stderr)
        return STOPPED
    print(_summary(out))
    return DONE


def _summary(out: Path) -> str:
    about = prepared.read_about(out)
    lines = [f'left out: {name} {reason}' for name, reason in about['skipped']]
    if lines:
        lines.append(f'{len(lines)} images left out')
    counts = ', '.join(f'{count} {split}' for split, count in about['counts'].items())
    lines.append(f'{about["source"]}: {counts} -> {out}')
    return '\n'.join(lines)


def main(argv: list[str] | None = None) -> int:
    return command_line.run(run, argv)


if __name__ == '__main__':
    sys.exit(main())
