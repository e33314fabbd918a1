"""Prepared sets with something wrong in their files, and what reading them comes to."""

import dataclasses
import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.data import image_set
from alexnet_jax.data.prepare import engines
from alexnet_jax.data.prepare.make import Request, make_set
from alexnet_jax.data.prepare.shards import Encoding
from alexnet_jax.data.prepare.sources import open_source
from alexnet_jax.data.set_files import STATISTICS
from alexnet_jax.runtime.errors import InputError, RecordError
from tests.data.photographs import without_shard_digests, write_classes
from tests.faults import run_changes
from tests.weights.mutations import some

Random = np.random.Generator

SIZE = 40
MOST_LINES, LONGEST = 2, 1000  # of an error
# Numbers and words that take the place of others in what a set says of itself.
VALUES = (
    None, True, -1, 0, 1, 7, 2.5, 10**400, '', 'x', [], {}, [1], {'a': 1}, '../..', '7', '[]', '99999999999',
)  # fmt: skip


def make_sets(folder: Path) -> dict[str, Path]:
    """A sound set of each encoding, its training images in two files."""
    write_classes(folder / 'images' / 'train', 50)
    write_classes(folder / 'images' / 'val', 4)
    spec = f'folder:{folder / "images"}'
    return {
        form: without_shard_digests(make_set(
            Request(spec, Encoding(SIZE, form, 90)), folder / form, lambda: open_source(spec), engines.one_by_one
        ))
        for form in ('jpeg', 'raw')
    }  # fmt: skip


def read_all(folder: Path) -> Any:
    """All that a run sees of a set."""
    images = image_set.open_set(folder)
    records = {
        split: [records.read(row) for row in range(len(records))]
        for split, records in images.splits.items()
    }
    pixels = {split: np.stack([record.image for record in rows]) for split, rows in records.items()}
    labels = {split: [record[1:] for record in rows] for split, rows in records.items()}
    statistics = list(dataclasses.asdict(images.statistics).values())
    return pixels, statistics, labels, images.classes, images.mirror


def same(one: Any, other: Any) -> bool:
    pixels, statistics, *rest = one
    return (
        rest == list(other[2:])
        and all(np.array_equal(pixels[split], other[0][split]) for split in pixels)
        and all(map(np.array_equal, statistics, other[1]))
    )


def files_of(folder: Path, random: Random) -> Path:
    """One of the files; each kind as often as the others."""
    kinds = (
        '*train*', '*val*', '*.npz', 'prepared.json', 'dataset_info.json', 'features.json', '*.txt',
    )  # fmt: skip
    return some(sorted(folder.glob(some(kinds, random))), random)


def of_a_file(change: run_changes.Change, folder: Path, random: Random) -> None:
    change(files_of(folder, random), folder, random)


change_bytes, flip_a_bit, cut_short = (
    functools.partial(of_a_file, change)
    for change in (run_changes.change_bytes, run_changes.flip_a_bit, run_changes.cut_short)
)


def remove(folder: Path, random: Random) -> None:
    path = files_of(folder, random)
    path.unlink()
    if random.integers(3) == 0:
        path.mkdir()


def swap(folder: Path, random: Random) -> None:
    """Two files in each other's place."""
    one, other = files_of(folder, random), files_of(folder, random)
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def take_from_another(folder: Path, random: Random) -> None:
    """A file of the set of the other encoding, where they have the same names."""
    path = files_of(folder, random)
    others = folder.parent / ('raw' if folder.name.startswith('jpeg') else 'jpeg')
    path.write_bytes((others / path.name).read_bytes())


def other_value(folder: Path, random: Random) -> None:
    """Sound JSON that does not say what it should."""
    path = folder / some(('prepared.json', 'dataset_info.json', 'features.json'), random)
    tree = json.loads(path.read_text())
    branch = tree
    while True:
        key = some(list(branch) if isinstance(branch, dict) else range(len(branch)), random)
        if not isinstance(branch[key], dict | list) or not branch[key] or random.integers(3) == 0:
            break
        branch = branch[key]
    if isinstance(branch, dict) and random.integers(3) == 0:
        del branch[key]
    else:
        branch[key] = some(VALUES, random)
    path.write_text(json.dumps(tree))


def other_statistics(folder: Path, random: Random) -> None:
    """Sound arrays that are not those of the set."""
    with np.load(folder / STATISTICS) as arrays:
        arrays = dict(arrays)
    name = some(sorted(arrays), random)
    changes = (
        arrays[name][:-1], arrays[name] * np.nan, arrays[name].astype(str), arrays[name][None],
        np.zeros((0,)), np.float64(3), np.zeros((50, 50, 3)), np.full(arrays[name].shape, -np.inf),
    )  # fmt: skip
    arrays[name] = some(changes, random)
    if random.integers(4) == 0:
        arrays[name + 'x'] = arrays.pop(name)
    np.savez(folder / STATISTICS, **arrays)


FORMS = (
    change_bytes, flip_a_bit, flip_a_bit, cut_short, remove, swap, take_from_another, other_value,
    other_value, other_statistics,
)  # fmt: skip


def outcome(sound: Path, whole: Any, seed: int) -> str:
    """'same' or 'refused' if all is well, else what happened. `whole`: what `read_all` found."""
    random = np.random.default_rng(seed)
    form: Callable[[Path, Random], None] = FORMS[seed % len(FORMS)]
    copy = sound.with_name(f'{sound.name} damaged')
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(sound, copy)
    form(copy, random)
    where = f'form {seed % len(FORMS)}, {seed} {sound.name}'
    try:
        found = read_all(copy)
    except (InputError, RecordError) as error:
        lines = str(error).split('\n')
        plain = (
            len(lines) <= MOST_LINES
            and all(line.isprintable() and len(line) <= LONGEST for line in lines)
            and str(copy) in lines[0]
        )
        return 'refused' if plain else f'{where}: {str(error)[:600]!r}'
    changed = [
        path.name
        for path in sound.iterdir()
        if not (copy / path.name).is_file() or (copy / path.name).read_bytes() != path.read_bytes()
    ]
    return 'same' if same(found, whole) else f'{where}: silently other, {changed}'
