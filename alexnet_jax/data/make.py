"""Originals -> a prepared set: the shards, and what lies beside them."""

import contextlib
import dataclasses
import fcntl
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core import dataset_info, splits

from alexnet_jax.data import prepared, set_files, shards, sources
from alexnet_jax.data.engines import Engine
from alexnet_jax.data.images import CENTER_SQUARE, MAX_PIXELS, SQUASH
from alexnet_jax.data.originals import Source
from alexnet_jax.data.shards import Encoding, Shard, Task
from alexnet_jax.data.statistics import PixelSums
from alexnet_jax.errors import InputError

PAPER_SIZE = 256
QUALITY = 95
MOST_RECORDS, LEAST_RECORDS, SHARDS = 4096, 128, 32
WORK = '.preparing'
# Whatever decides what the bytes of a record are.
LIBRARIES = ('pillow', 'simplejpeg', 'array_record')
SQUASH_LIBRARY = 'opencv-python-headless'


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
            'resize': (self.encoding.resize, CENTER_SQUARE),
            'val_fraction': (self.val_fraction, 0.0),
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
    about = set_files.read_about(out)
    if about['options'] != request.options():
        raise InputError(
            f'--out {out} holds a set prepared with {_words(about["options"])};'
            f' now asked for: {_words(request.options())}'
        )
    if not set_files.damage_of(out, about):
        say(f'{out} is prepared already; if its source has changed since, remove it and run again')
        shutil.rmtree(out / WORK, ignore_errors=True)  # of one killed at its very end
        return True
    say(f'{out} is not whole: making it again')
    (out / set_files.DATASET_INFO).unlink()
    return False


def _words(options: dict[str, Any]) -> str:
    return ' '.join(f'--{name}={value}' for name, value in options.items())


def _plan(request: Request, source: Source) -> dict[str, Any]:
    """All that decides the set's bytes, for prepared.json."""
    resize = request.encoding.resize
    libraries = (*LIBRARIES, SQUASH_LIBRARY) if resize == SQUASH else LIBRARIES
    return {
        'source': source.spec,
        'version': source.version,
        'size': request.encoding.size,
        'resize': resize,
        'encoding': request.encoding.form,
        'quality': request.encoding.quality,
        'mirror': source.mirror,
        'options': request.options(),
        'libraries': {name: metadata.version(name) for name in libraries},
    }


def _refuse_strange(out: Path) -> None:
    """
    Raises:
      InputError: `out` holds what is neither a set nor the beginning of one.
    """
    ours = (WORK, set_files.PREPARED)
    if out.is_dir() and not any((out / name).exists() for name in ours):
        strange = sorted(path.name for path in out.iterdir())
        if strange:
            raise InputError(
                f'--out {out} is not empty: it holds {strange[0]}; take another folder'
            )


def _take_up(out: Path, plan: dict[str, Any]) -> None:
    """Begins, or goes on where the same plan was begun.

    Raises:
      InputError: another plan was begun in `out`.
    """
    kept = out / WORK / 'plan.json'
    if kept.exists():
        # Older plans do not say how: there was no other way.
        before = {'resize': CENTER_SQUARE} | json.loads(kept.read_text())
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
    with open(work / set_files.STATISTICS, 'wb') as file:
        np.savez(file, **dataclasses.asdict(sums.statistics()))
    about = plan | {
        'counts': {split: sum(counts) for split, counts in lengths.items()},
        'skipped': [list(entry) for shard in made.values() for entry in shard.bad],
        'shards': {path.name: shard.bytes for path, shard in made.items()},
        'shard_digests': {path.name: shard.digest for path, shard in made.items()},
    }
    _write_tfds_files(work, out, source, plan, lengths, made)
    beside = sorted(path for path in work.iterdir() if path.name != set_files.PREPARED)
    about['digests'] = {path.name: set_files.digest_of(path) for path in beside}
    (work / set_files.PREPARED).write_text(json.dumps(about, indent=2) + '\n')
    last = work / set_files.DATASET_INFO
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
