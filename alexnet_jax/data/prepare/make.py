"""Writes a prepared set: shards and metadata."""

import dataclasses
import functools
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from alexnet_jax.data import image_set, set_files
from alexnet_jax.data.images import CENTER_SQUARE, MAX_PIXELS, PIXELS
from alexnet_jax.data.own_source import is_own
from alexnet_jax.data.prepare import begun, repeated, shards, sources, tfds_files
from alexnet_jax.data.prepare.begun import WORK
from alexnet_jax.data.prepare.engines import Engine
from alexnet_jax.data.prepare.originals import Source
from alexnet_jax.data.prepare.shards import LIBRARIES, Encoding, Task
from alexnet_jax.data.statistics import PixelSums
from alexnet_jax.runtime import files, python_files, storage
from alexnet_jax.runtime.errors import InputError, counted, plain

PAPER_SIZE = 256
QUALITY = 95
MOST_RECORDS, LEAST_RECORDS, SHARDS = 4096, 128, 32


@dataclasses.dataclass(frozen=True)
class Request:
    """What to prepare, and how images are stored.

    val_fraction: as in `sources.with_val_split`.
    max_pixels: as in `images.read_square`.
    """

    source: str
    encoding: Encoding
    val_fraction: float = 0.0
    max_pixels: int = MAX_PIXELS

    def options(self) -> dict[str, Any]:
        """Returns the options of the command line, without those with their default."""
        given = {
            'size': (self.encoding.size, PAPER_SIZE),
            'encoding': (self.encoding.form, 'jpeg'),
            'quality': (self.encoding.quality, QUALITY),
            'resize': (self.encoding.resize, CENTER_SQUARE),
            'val_fraction': (self.val_fraction, 0.0),
            'max_pixels': (self.max_pixels, MAX_PIXELS),
        }
        return {'source': self.source} | {
            name: value for name, (value, usual) in given.items() if value != usual
        }


def make_set(
    request: Request,
    out: Path,
    open_source: Callable[[], Source],
    engine: Engine,
    *,
    max_bad: int = 0,
    where: Mapping[str, Any] = MappingProxyType({}),
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Creates the set in `out`, or completes it.

    Args:
      engine: does tasks, in any order, and reports each shard when it is done.
      max_bad: as in `shards.Task`, for the whole set.
      where: options of the command beside those of `request`, to prepare the set again.
      say: prints lines for the user.

    Raises:
      InputError: images cannot be read; `out` cannot be written, or holds something else or a
        set of what the source was before it changed. Refused before a shard was made, nothing
        new is left.
    """
    _refuse_unprintable(request.options() | dict(where))
    open_source = functools.cache(open_source)
    try:
        if _is_there(out, request, open_source, max_bad, say):
            return out
        begun.require_usable_folder(out)
        with begun.folders(out), begun.only_one(out / WORK / 'lock'), storage.owned(out):
            if _is_there(out, request, open_source, max_bad, say):  # created during the wait
                return out
            source = sources.with_val_split(open_source(), request.val_fraction)
            if request.val_fraction:
                say(_held_out(source, request.val_fraction))
            plan = _plan(request, source) | {'where': dict(where)}
            begun.start_or_resume(out, plan)
            tasks = _tasks(request, source, out, max_bad)
            _do(tasks, engine, max_bad, say, functools.partial(storage.push, out))
            _finish(out, plan, source, tasks, say)
    except OSError as error:
        raise shards.disk_error(Path(error.filename or out), error) from error
    return out


def _refuse_unprintable(options: Mapping[str, Any]) -> None:
    """Refuses options that prepared.json may not hold, before anything is made."""
    for name, value in options.items():
        if isinstance(value, str) and not set_files.is_one_line(value):
            raise InputError(f'--{name} is {plain(value)}; allowed: printable characters')


def _is_there(
    out: Path,
    request: Request,
    open_source: Callable[[], Source],
    max_bad: int,
    say: Callable[[str], None],
) -> bool:
    """Returns whether `out` has the requested set, complete and intact.

    Raises:
      InputError: it holds another, or one of what the source was before it changed; it is not
        whole, and the source cannot be opened.
    """
    if not image_set.is_whole(out):
        return False
    about = set_files.read_about(out)
    if about['options'] != request.options():
        raise InputError(
            f'--out {out} holds a set prepared with {_words(about["options"])};'
            f' now asked for: {_words(request.options())}'
        )
    if len(about['skipped']) > max_bad:
        raise InputError(
            f'--out {out} holds a set that leaves out {counted(len(about["skipped"]), "image")};'
            f' --skip_bad is {max_bad}'
        )
    unseen = _reason_not_compared(request.source)
    if not unseen:
        _require_unchanged(out, about, open_source)
    damage = set_files.damage_of(out, about, thorough=True)
    if not damage:
        same = 'the same files, by their names and sizes'
        same = 'the same file, classes and lengths' if is_own(request.source) else same
        compared = f'its source has {same}'
        say(f'{out} is prepared already; ' + (unseen or compared))
        shutil.rmtree(out / WORK, ignore_errors=True)  # of one killed at its very end
        return True
    _require_source(out, damage, open_source)
    say(f'{out} is damaged ({damage}): preparing it again')
    (out / set_files.DATASET_INFO).unlink()
    return False


def _reason_not_compared(source: str) -> str:
    """Returns the reason to skip the check of the source; '' if it is checked."""
    kind, _, place = source.partition(':')
    if is_own(source):
        path, _ = python_files.split(source)
        return '' if path.is_file() else f'its source was not looked at: no {plain(path)}'
    if kind == 'folder':
        is_there = storage.is_url(place) or os.path.isdir(place)
        return '' if is_there else f'its source was not looked at: no {plain(place)}'
    return 'its source was not looked at'  # of TFDS, that may take a download


def _require_unchanged(
    out: Path, about: Mapping[str, Any], open_source: Callable[[], Source]
) -> None:
    """Checks that the source of the set is unchanged.

    Raises:
      InputError: it is another.
    """
    advice = 'take another --out, or remove it and run again'
    try:
        changed = open_source().version != about['version']
    except InputError as error:
        raise InputError(
            f'--out {out} holds a set of {about["source"]}, which cannot be opened any more:'
            f' {error}; {advice}'
        ) from error
    if changed:
        raise InputError(
            f'--out {out} holds a set of {about["source"]}, whose images changed since; {advice}'
        )


def _require_source(out: Path, damage: str, open_source: Callable[[], Source]) -> None:
    """Checks that a damaged set can be prepared again, which needs its source."""
    try:
        open_source()
    except InputError as error:
        raise InputError(f'--out {out} is damaged ({damage}), and {error}') from error


def _held_out(source: Source, fraction: float) -> str:
    held, rest = len(source.splits['val']), len(source.splits['train'])
    return (
        f'--val_fraction={fraction} holds out {held} of {counted(held + rest, "training image")}:'
        ' the same share of each class, at least one of two or more images, none of a single one'
    )


def _words(options: dict[str, Any]) -> str:
    return ' '.join(f'--{name}={value}' for name, value in options.items())


def _plan(request: Request, source: Source) -> dict[str, Any]:
    """Returns everything that affects the set's bytes, for prepared.json."""
    return {
        'source': source.spec,
        'version': source.version,
        'size': request.encoding.size,
        'resize': request.encoding.resize,
        'encoding': request.encoding.form,
        'quality': request.encoding.quality,
        'mirror': source.mirror,
        'max_pixels': request.max_pixels,
        'options': request.options(),
        'originals': {split: len(originals) for split, originals in source.splits.items()},
        'classes': set_files.short_digest(source.classes),
        'pixels': PIXELS,
        'libraries': {name: metadata.version(name) for name in LIBRARIES},
    }


def _tasks(request: Request, source: Source, out: Path, max_bad: int) -> list[Task]:
    """Returns the shards of all splits. Their content depends only on the source."""
    tasks = []
    for split, originals in source.splits.items():
        size = min(MOST_RECORDS, max(LEAST_RECORDS, math.ceil(len(originals) / SHARDS)))
        starts = range(0, len(originals), size)
        for number, start in enumerate(starts):
            rows = range(start, min(start + size, len(originals)))
            tasks.append(
                Task(
                    path=tfds_files.shard_path(out, source, split, number, len(starts)),
                    split=split,
                    notes=out / WORK,
                    originals=originals.take(rows),
                    classes=len(source.classes),
                    encoding=request.encoding,
                    max_pixels=request.max_pixels,
                    max_bad=max_bad,
                    measured=split == 'train' or 'train' not in source.splits,
                )
            )
    return tasks


def _do(
    tasks: list[Task],
    engine: Engine,
    max_bad: int,
    say: Callable[[str], None],
    made: Callable[[], None],
) -> None:
    """Has all tasks done that are not. made: is called after each.

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
        made()


def _refuse_more(bad: shards.Bad, allowed: int) -> None:
    if len(bad) > allowed:
        raise InputError(shards.too_many(bad, allowed))


def _finish(
    out: Path,
    plan: dict[str, Any],
    source: Source,
    tasks: list[Task],
    say: Callable[[str], None],
) -> None:
    """Writes the metadata of the set; TFDS's own file, which marks it as complete, is the last."""
    missing = [task.path.name for task in tasks if not task.is_done()]
    if missing:
        raise InputError(f'--out {out}: {", ".join(missing)} were not made; run it again')
    for line in repeated.warnings(tasks):
        say(line)
    made = {task.path.name: shards.read_note(task) for task in tasks}
    by_split = {split: [] for split in source.splits}
    sums = PixelSums.zero(plan['size'])
    for task in tasks:
        by_split[task.split].append(made[task.path.name])
        if task.measured:
            sums.add(shards.read_sums(task))
    counts = {split: sum(shard.records for shard in of) for split, of in by_split.items()}
    empty = [split for split, count in counts.items() if not count]
    if empty:
        raise InputError(f'{source.spec}: no image of the split {empty[0]} can be read')
    work = out / WORK / 'final'
    work.mkdir(exist_ok=True)
    with open(work / set_files.STATISTICS, 'wb') as file:
        np.savez(file, **dataclasses.asdict(sums.statistics()))
    about = plan | {
        'counts': counts,
        'skipped': [list(entry) for shard in made.values() for entry in shard.bad],
        'shards': {name: shard.bytes for name, shard in made.items()},
        'shard_digests': {name: shard.digest for name, shard in made.items()},
    }
    tfds_files.write(work, out, source, tasks[0].encoding, by_split)
    beside = sorted(path for path in work.iterdir() if path.name != set_files.PREPARED)
    about['digests'] = {path.name: files.sha256(path) for path in beside}
    (work / set_files.PREPARED).write_text(json.dumps(about, indent=2) + '\n')
    last = work / set_files.DATASET_INFO
    for file in sorted(work.iterdir(), key=lambda file: file == last):
        os.replace(file, out / file.name)
    for left_over in out.glob('.*.array_record-*'):
        left_over.unlink()
    shutil.rmtree(out / WORK)
