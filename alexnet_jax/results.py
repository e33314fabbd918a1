"""What a workdir keeps of its evaluations: eval/SPLIT-VIEWS.json, and files beside it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alexnet_jax import files
from alexnet_jax.config import Config
from alexnet_jax.data import class_names
from alexnet_jax.errors import InputError, StorageError, shown
from alexnet_jax.evaluation.tally import Tally

SHOWN = 3  # of the confusions, on the terminal
# What an evaluation holds, and of which types.
KEPT = {
    **dict.fromkeys(('split', 'source', 'network'), (str,)),
    **dict.fromkeys(('views', 'step', 'examples'), (int,)),
    **dict.fromkeys(('loss', 'top1_error'), (int, float)),
    'top5_error': (int, float, type(None)),
}


def keep(
    workdir: Path,
    about: dict[str, Any],
    tally: Tally,
    classes: tuple[str, ...],
    say: Callable[[str], None],
) -> None:
    """Says the result as lines of text, and writes eval/SPLIT-VIEWS.json, and
    eval/SPLIT-VIEWS-classes.json with the errors of each class and what was taken for what.

    Args:
      about: {'split', 'views', 'source', 'network', 'step'}, as `about` gives it.

    Raises:
      StorageError: it cannot be written; it is said all the same.
    """
    scores, by_class = tally.scores(), tally.by_class(classes)
    path = place(workdir, about['split'], about['views'])
    confusions = [
        f'{row["images"]} of {class_names.told(row["label"])} taken for'
        f' {class_names.told(row["taken_for"])}'
        for row in by_class['confusions'][:SHOWN]
    ]
    result = (
        f'{about["split"]}: {told(scores)}  ({scores["examples"]} images,'
        f' {views_told(about["views"])}, step {about["step"]})'
    )
    lines = '\n'.join([*confusions, result])
    try:
        write_json(path, about | scores)
        write_json(path.with_name(f'{path.stem}-classes.json'), about | by_class)
    except StorageError:
        say(lines)
        raise
    say(f'{lines} -> {path}')


def about(config: Config, split: str, step: int) -> dict[str, Any]:
    """What was evaluated."""
    return {
        'split': split,
        'views': config['eval.views'],
        'source': config['data.source'],
        'network': config['network.name'],
        'step': step,
    }


def told(scores: dict[str, Any]) -> str:
    """Errors with their 95 % intervals, and the loss."""
    parts = []
    for name in ('top1', 'top5'):
        low, high = scores[f'{name}_interval']
        parts.append(f'{name}_error {scores[f"{name}_error"]:.6f} [{low:.4f}, {high:.4f}]')
    return '  '.join([*parts, f'loss {scores["loss"]:.6f}'])


def views_told(views: int) -> str:
    return f'{views} view{"s" * (views > 1)}'


def read(workdir: Path, split: str, views: int) -> dict[str, Any]:
    """What `keep` kept.

    Raises:
      InputError: it cannot be read, or is something else.
    """
    return _read(place(workdir, split, views))


def _read(path: Path) -> dict[str, Any]:
    tree = read_object(path)
    fault = _fault_of(tree)
    if fault:
        raise InputError(f'{path} is no evaluation: {fault}')
    return tree


def read_object(path: Path) -> dict[str, Any]:
    """Reads a file that holds a JSON object.

    Raises:
      InputError: it cannot be read, or holds something else.
    """
    try:
        tree = files.read_json(path)
    except OSError as error:
        raise InputError(f'{path} cannot be read: {error.strerror}') from error
    except ValueError as error:
        raise InputError(f'{path} cannot be read: {error}') from error
    if not isinstance(tree, dict):
        raise InputError(f'{path} cannot be read: it holds {shown(tree)}, not an object')
    return tree


def _fault_of(tree: dict[str, Any]) -> str:
    """Returns what is wrong with a kept evaluation; '' for nothing."""
    for name, kind in KEPT.items():
        if type(tree.get(name)) not in kind:
            return f'{name} is {shown(tree.get(name))}'
    for name in ('top1_interval', 'top5_interval'):
        ends = tree.get(name)
        if ends is None and tree['top5_error'] is None:
            continue
        if not isinstance(ends, list) or [type(end) in (int, float) for end in ends] != [
            True,
            True,
        ]:
            return f'{name} is {shown(ends)}'
    return ''


def place(workdir: Path, split: str, views: int) -> Path:
    return workdir / 'eval' / f'{split}-{views}.json'


def every(workdir: Path) -> list[dict[str, Any]]:
    """All that `keep` kept there.

    Raises:
      InputError: nothing, or what is no such file.
    """
    paths = [
        path
        for path in sorted((workdir / 'eval').glob('*.json'))
        if re.fullmatch(r'(train|val|test)-(1|10)\.json', path.name)
    ]
    if not paths:
        raise InputError(f'{workdir} holds no eval/SPLIT-VIEWS.json; run --mode=eval there first')
    return [_read(path) for path in paths]


def write_text(path: Path, text: str) -> None:
    """
    Raises:
      InputError: it cannot be written.
    """
    try:
        files.write_bytes(path, text.encode(errors='backslashreplace'))
    except OSError as error:
        raise InputError(f'{path} cannot be written: {error.strerror}') from error


def write_json(path: Path, tree: Any) -> None:
    """Whole or not at all, in a folder that is made if need be.

    Raises:
      StorageError: it cannot be written; what was there before is as it was.
      ValueError: a number in it is not finite.
    """
    content = json.dumps(tree, indent=2, allow_nan=False) + '\n'
    try:
        files.write_bytes(path, content.encode())
    except OSError as error:
        raise StorageError(
            f'{path}, {len(content)} bytes, cannot be written: {error.strerror}'
        ) from error
