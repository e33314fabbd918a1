"""Features computed by several processes, each for a part of the images.

FOLDER.parts/I-of-N holds part I, in the form of `arrays.read`. The processes are independent: the
one that finds all parts complete joins them to the folder that a single process would write.
"""

import contextlib
import dataclasses
import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.evaluation import arrays
from alexnet_jax.evaluation.feature_files import AT_ONCE, STATE, FeatureFiles
from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import InputError, StorageError, counted, plain, reason, shown

PART = 'part'  # in about.json of a part
NAME = re.compile(r'\d+-of-(\d+)(\.partial)?')


@dataclasses.dataclass(frozen=True)
class Part:
    """Part `index`, from 0 on, of `count`."""

    index: int
    count: int

    def folder(self, out: Path) -> Path:
        """Returns the folder of this part of `out`."""
        return _parts(out) / f'{self.index}-of-{self.count}'

    def span(self, images: int, group: int) -> range:
        """Returns the numbers of its images.

        Args:
          group: images per device and batch; they stay together, so that each image has the same
            position in a batch as with one process.

        Raises:
          InputError: there are fewer groups than parts.
        """
        groups = -(-images // group)
        if self.count > groups:
            raise InputError(
                f'--part is {self.index}/{self.count}; allowed: at most {counted(groups, "part")} for'
                f' {counted(images, "image")} in batches of {group} (a smaller eval.batch_size allows more)'
            )
        first, last = (groups * place // self.count for place in (self.index, self.index + 1))
        return range(first * group, min(images, last * group))


def parse(text: str) -> Part:
    """Parses 'I/N', part I of N from 0 on: '0/4' is the first of four.

    Raises:
      InputError: it is no such part.
    """
    found = re.fullmatch(r'(\d{1,6})/(\d{1,6})', text)
    part = Part(int(found[1]), int(found[2])) if found else None
    if part is None or part.index >= part.count:
        raise InputError(
            f'--part is {shown(text)}; allowed: I/N, part I of N, where I is from 0 to N - 1'
        )
    return part


def is_whole(folder: Path) -> bool:
    """Returns whether features are complete, without files of an unfinished command."""
    return (folder / arrays.ABOUT).exists() and not (folder / STATE).exists()


def require_alike(out: Path, part: Part, request: Mapping[str, Any]) -> None:
    """Checks that existing parts of `out` are of the same command and number of parts.

    Raises:
      InputError: it is not.
    """
    files.require_own_folder(out, arrays.ABOUT)
    files.require_same_command(out / arrays.ABOUT, request)
    files.require_same_command(part.folder(out) / arrays.ABOUT, request)
    parts = _parts(out)
    for path in parts.iterdir() if parts.is_dir() else ():
        found = NAME.fullmatch(path.name)
        if not found:
            raise InputError(
                f'{plain(parts)} is there and holds something else; take another --out'
            )
        if int(found[1]) != part.count:
            raise InputError(
                f'--part is {part.index}/{part.count}, and {plain(parts)} holds parts of {found[1]};'
                f' allowed: I/{found[1]}, or remove that folder'
            )


def join(
    out: Path, count: int, request: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], dtype: str,
    form: str,
) -> None:  # fmt: skip
    """Joins the parts to the folder `out` if all are complete, unless another process does so.

    Args:
      request, shapes, dtype: as `FeatureFiles` takes them. form: as its `finish`.

    Raises:
      InputError: a part is of another command, or was modified; none has a row.
      StorageError: the disk is full or not available.
    """
    folders = [Part(index, count).folder(out) for index in range(count)]
    if not is_whole(out) and not all(map(is_whole, folders)):
        return
    with _locked(_parts(out)) as is_ours:
        if not is_ours:
            return
        if not is_whole(out):
            kept = FeatureFiles(out, request, shapes, dtype, anew=True)
            try:
                for folder in folders:
                    _append(kept, folder, request, shapes, dtype)
            except BaseException:
                with contextlib.suppress(OSError):
                    kept.close()
                raise
            kept.finish(form)
        try:
            shutil.rmtree(_parts(out))
        except OSError as error:
            raise StorageError(
                f'{plain(_parts(out))} cannot be removed: {reason(error)}'
            ) from error


def _parts(out: Path) -> Path:
    return out.with_name(f'{out.name}.parts')


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Yields whether this process has locked the folder; False if it was deleted."""
    try:
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(number)


def _append(
    kept: FeatureFiles, folder: Path, request: Mapping[str, Any],
    shapes: Mapping[str, Sequence[int]], dtype: str,
) -> None:  # fmt: skip
    """Appends the rows of a part, then its images without a row."""
    files.require_same_command(folder / arrays.ABOUT, request)
    about = arrays.read_about(folder)
    if about['images']:  # an empty file cannot be mapped
        part = arrays.read(folder)
        rows = {name: part.array(name) for name in shapes}
        at_once = max(1, AT_ONCE // max(array[:1].nbytes for array in rows.values()))
        for first in range(0, len(part.ids), at_once):
            some = slice(first, first + at_once)
            taken = {name: array[some] for name, array in rows.items()}
            kept.add(part.ids[some], part.labels[some], taken, {})
    skipped = dict(about['skipped'])
    none = {
        name: np.broadcast_to(np.zeros((), dtype), (len(skipped), *shape))
        for name, shape in shapes.items()
    }
    kept.add(list(skipped), np.zeros(len(skipped), np.int64), none, skipped)
