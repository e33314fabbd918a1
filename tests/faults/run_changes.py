"""Seeded changes to one file of a prepared set, of a workdir or of its checkpoints."""

import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.weights.mutations import damaged, some

Random = np.random.Generator
Change = Callable[[Path, Path, Random], None]  # (file, folder of the case, random)

# What lies beside every file and must never run, as a module or as a pickle.
MODULE, RAN = 'module_of_a_stranger', 'ran'
# The files of a case by kind, and the commands that read them.
EVERY = ('train', 'longer', 'eval', 'eval', 'predict', 'features', 'report')
OF_SET = ('train', 'longer', 'eval', 'eval', 'features', 'report')
PARTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    'shard': (('set/*.array_record-*',), OF_SET),
    'prepared.json': (('set/prepared.json',), OF_SET),
    'TFDS files': (('set/dataset_info.json', 'set/features.json', 'set/label.labels.txt'), OF_SET),
    'statistics.npz': (('set/statistics.npz',), OF_SET),
    'config.json': (('run/config.json',), EVERY),
    'model.json': (('run/model.json',), EVERY),
    'normalization.npz': (('run/normalization.npz',), EVERY),
    'metrics.jsonl': (('run/metrics.jsonl',), ('train', 'longer', 'longer', 'report')),
    'results': (('run/eval/*[0-9].json',), ('report', 'tables', 'tables', 'tables', 'eval')),
    'kernels': (('run/kernels/*.npy',), ('longer', 'report')),
    'lock': (('run/.lock',), ('train', 'longer', 'eval')),
    'manifest': (('run/checkpoints/[24]/manifest.json',), EVERY),
    'record': (('run/checkpoints/[24]/config/metadata',), EVERY),
    'arrays': (('run/checkpoints/[24]/state/params.*/[0-9]*', 'run/checkpoints/[24]/state/*/[0-9]*'),
               EVERY),
    'descriptions': (('run/checkpoints/[24]/state/*/.zarray', 'run/checkpoints/[24]/state/_*',
                      'run/checkpoints/[24]/_*', 'run/checkpoints/[24]/state/*/process_0'), EVERY),
}  # fmt: skip
HUGE = (1 << 31, 1 << 40, (1 << 63) - 1)
VALUES = (
    None, True, False, -1, 0, 1, 2, 7, 0.5, 1e-9, 1e400, float('nan'), 10**400, *HUGE, '', 'x', 'val',
    'train', MODULE, f'{MODULE}.Thing', '../..', '/dev/zero', [], {}, [1], ['a'], {'a': 1},
    {'pythonClassName': MODULE}, {'py_type': MODULE}, '\x1b[31m', '\udcff', 'a' * 10**5,
)  # fmt: skip


class Stranger:
    """A pickle that leaves a file behind."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


def choose(here: Path, part: str, random: Random) -> Path:
    patterns, _ = PARTS[part]
    found = sorted(path for path in here.glob(some(patterns, random)) if path.is_file())
    return some(found, random)


# Bytes.


def flip_a_bit(path: Path, here: Path, random: Random) -> None:
    content = bytearray(path.read_bytes())
    content[random.integers(len(content))] ^= 1 << random.integers(8)
    path.write_bytes(content)


def change_bytes(path: Path, here: Path, random: Random) -> None:
    path.write_bytes(damaged(path.read_bytes(), random))


def cut_short(path: Path, here: Path, random: Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: some((0, 1, len(content) // 2, len(content) - 1), random)])


def extend(path: Path, here: Path, random: Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content + some((b'\0', b' ', b'\n', b'x', content, bytes(10**5)), random))


def fill(path: Path, here: Path, random: Random) -> None:
    path.write_bytes(bytes([some((0, 32, 255), random)]) * path.stat().st_size)


def large(path: Path, here: Path, random: Random) -> None:
    """Sparse: four gigabytes that take no room."""
    os.truncate(path, 1 << 32)


# Places and names.


def remove(path: Path, here: Path, random: Random) -> None:
    path.unlink()


def other_kind(path: Path, here: Path, random: Random) -> None:
    """A folder, pipe or link where a file was."""
    kept = path.rename(here / 'moved')
    match random.integers(6):
        case 0:
            path.mkdir()
        case 1:
            os.mkfifo(path)
        case 2:
            path.symlink_to(path)
        case 3:
            path.symlink_to(here / 'nowhere')
        case 4:
            path.symlink_to('/dev/zero')
        case 5:
            path.symlink_to(kept)


def exchange(path: Path, here: Path, random: Random) -> None:
    """Two files of the same run in each other's place."""
    part = some([part for part in PARTS if path in files_of(here, part)], random)
    others = (
        files_of(here, part) if random.integers(3) else files_of(here, some(list(PARTS), random))
    )
    others = [other for other in others if other != path]
    if not others:
        return fill(path, here, random)
    other = some(others, random)
    content = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(content)


def files_of(here: Path, part: str) -> list[Path]:
    return sorted({
        path for pattern in PARTS[part][0] for path in here.glob(pattern) if path.is_file()
    })  # fmt: skip


def from_another_run(path: Path, here: Path, random: Random) -> None:
    """The file of this place of a run with another seed on other pictures."""
    shutil.copyfile(here.parent / 'other' / path.relative_to(here), path)


def rename(path: Path, here: Path, random: Random) -> None:
    """A file, or a folder above it, under another name: of another step, another array."""
    above = [path, *(one for one in path.parents if one.is_relative_to(here) and one != here)]
    which = some(above, random)
    names = (
        f'{which.name}x', f'.{which.name}', which.name.upper(), '2', '4', '6', '99', '04',
        *(one.name for one in which.parent.iterdir()),
    )  # fmt: skip
    target = which.with_name(some(names, random))
    if target.is_dir() and target != which:
        between = which.with_name('between')
        which.rename(between)
        target.rename(which)
        between.rename(target)
    elif target != which:
        if which.is_dir() and target.exists():
            target.unlink()
        which.rename(target)


# JSON.


def json_value(path: Path, here: Path, random: Random) -> None:
    """Another value, a name gone, doubled or new, a list in another order."""
    tree = json.loads(path.read_text())
    branch, key = place_in(tree, random)
    match random.integers(5):
        case 0 if isinstance(branch, dict):
            del branch[key]
        case 1 if isinstance(branch, dict):
            branch[some(('x', '', 'sha256', 'run', 'python_class_name', f'{key}s'), random)] = (
                branch.pop(key) if random.integers(2) else some(VALUES, random)
            )
        case 2 if isinstance(branch, list):
            branch.insert(random.integers(len(branch) + 1), branch[key])
        case 3 if isinstance(branch, list):
            branch.reverse()
        case _:
            branch[key] = near(branch[key], random)
    path.write_text(json.dumps(tree, indent=1))


def place_in(tree: Any, random: Random) -> tuple[Any, Any]:
    branch = tree
    while True:
        key = some(list(branch) if isinstance(branch, dict) else range(len(branch)), random)
        inner = branch[key]
        if not isinstance(inner, dict | list) or not inner or random.integers(4) == 0:
            return branch, key
        branch = inner


def near(value: Any, random: Random) -> Any:
    """A value that could be there, half of the times."""
    if random.integers(2):
        return some(VALUES, random)
    match value:
        case bool():
            return not value
        case int() | float():
            return value + some((1, -1, 0.5, 1e-7 * value), random)
        case str():
            return some((value[:-1], value.upper(), value[::-1], f'{value} ', value * 2), random)
        case list():
            return value[:-1]
        case _:
            return some(VALUES, random)


def json_text(path: Path, here: Path, random: Random) -> None:
    """What Python's reader takes and JSON has not, or means two things."""
    text = path.read_text().strip()
    if not text.startswith('{'):
        return change_bytes(path, here, random)
    _, key = place_in(json.loads(text), random)
    word = json.dumps(key) if isinstance(key, str) else '"x"'
    # At the end, so that the last of two counts.
    more = (
        f'{word}: {json.dumps(some(VALUES[:20], random))}', '"loss": NaN', f'{word}: ' + '[' * 10**5,
        f'{word}: {"9" * 5000}', '"\\u0073tep": 7', f'{word}: "\\ud800"',
    )  # fmt: skip
    path.write_text(text[:-1] + ', ' + some(more, random) + '}')


# Arrays.


def array_values(path: Path, here: Path, random: Random) -> None:
    """Other values, shapes, types and names in a sound archive; or the same, packed anew."""
    if path.suffix == '.npy':
        return np.save(path, other_array(np.load(path), here, random), allow_pickle=True)
    with np.load(path) as file:
        arrays = dict(file)
    name = some(sorted(arrays), random)
    match random.integers(5):
        case 0:
            arrays[f'{name}x'] = arrays.pop(name)
        case 1:
            one, other = sorted(arrays)[0], sorted(arrays)[-1]
            arrays[one], arrays[other] = arrays[other], arrays[one]
        case 2:
            pass  # the bytes are others, the arrays are not
        case _:
            arrays[name] = other_array(arrays[name], here, random)
    save = np.savez_compressed if random.integers(2) else np.savez
    save(path, **arrays)


def other_array(array: np.ndarray, here: Path, random: Random) -> np.ndarray:
    return some((
        array[::-1], array + 1e-3, -array, array * np.nan, array.astype(str), array.astype(complex),
        array.astype(np.float16), array.astype('>f8'), array[None], array[:-1], array * 0,
        np.full_like(array, np.inf), np.asfortranarray(array), np.zeros((0,)),
        np.array([Stranger(here / RAN)], object),
    ), random)  # fmt: skip


def lying_header(path: Path, here: Path, random: Random) -> None:
    """The header of an array says more, or something else, than there is."""
    huge = some(HUGE, random)
    headers = (
        f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({huge},), }}",
        f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({1 << 28}, 4), }}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
        f"__import__('{MODULE}')", '(' * 5000,
    )  # fmt: skip
    text = some(headers, random).encode()
    made = b'\x93NUMPY\x01\x00' + (len(text) + 1).to_bytes(2, 'little') + text + b'\n' + bytes(64)
    if path.suffix == '.npy':
        path.write_bytes(made)
        return
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members[some(sorted(members), random)] = made
    content = io.BytesIO()
    with zipfile.ZipFile(content, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    path.write_bytes(content.getvalue())


# Lines.


def other_lines(path: Path, here: Path, random: Random) -> None:
    """Lines gone, doubled, in another order, other or no JSON."""
    lines = path.read_text().splitlines(keepends=True)
    which = random.integers(len(lines))
    match random.integers(6):
        case 0:
            del lines[which]
        case 1:
            lines.insert(random.integers(len(lines)), lines[which])
        case 2:
            random.shuffle(lines)
        case 3:
            lines.insert(
                which, some(('\n', '{}\n', '[]\n', 'NaN\n', 'x' * 10**5, '[' * 10**5), random)
            )
        case _:
            row = json.loads(lines[which])
            key = some(sorted(row), random)
            row[key] = near(row[key], random)
            lines[which] = json.dumps(row) + '\n'
    path.write_text(''.join(lines))


BYTES: tuple[Change, ...] = (flip_a_bit, change_bytes, cut_short, extend, fill, large)
PLACES: tuple[Change, ...] = (remove, other_kind, exchange, from_another_run, rename)


def forms_of(path: Path, part: str) -> tuple[Change, ...]:
    """What can be done to a file: what suits its kind as often as all else."""
    if path.suffix in ('.npz', '.npy'):
        own: tuple[Change, ...] = (array_values, array_values, lying_header)
    elif path.suffix == '.jsonl':
        own = (other_lines,)
    elif path.suffix == '.json' or part in ('record', 'descriptions'):
        own = (json_value, json_value, json_text)
    else:
        return (*BYTES, *PLACES)
    rest = (*BYTES, *PLACES)
    if part == 'results':  # a whole result of another run is one
        rest = tuple(form for form in rest if form is not from_another_run)
    return (*own * (12 // len(own)), *rest)
