"""What a workdir keeps of its evaluations: eval/SPLIT-VIEWS.json, and files beside it."""

import json
import os
import re
from pathlib import Path
from typing import Any

from alexnet_jax.config import Config
from alexnet_jax.data import class_names
from alexnet_jax.errors import InputError, StorageError
from alexnet_jax.evaluation.tally import Tally

SHOWN = 3  # of the confusions, on the terminal


def keep(workdir: Path, about: dict[str, Any], tally: Tally, classes: tuple[str, ...]) -> str:
    """Writes eval/SPLIT-VIEWS.json, and eval/SPLIT-VIEWS-classes.json with the errors of
    each class and what was taken for what; returns it as lines of text.

    Args:
      about: {'split', 'views', 'source', 'network', 'step'}, as `about` gives it.
    """
    scores, by_class = tally.scores(), tally.by_class(classes)
    path = place(workdir, about['split'], about['views'])
    write_json(path, about | scores)
    write_json(path.with_name(f'{path.stem}-classes.json'), about | by_class)
    return '\n'.join(
        [
            *(
                f'{row["images"]} of {class_names.told(row["label"])} taken for'
                f' {class_names.told(row["taken_for"])}'
                for row in by_class['confusions'][:SHOWN]
            ),
            f'{about["split"]}: {told(scores)}  ({scores["examples"]} images,'
            f' {views_told(about["views"])}, step {about["step"]}) -> {path}',
        ]
    )


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
    """What `keep` kept."""
    return json.loads(place(workdir, split, views).read_text())


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
    try:
        return [json.loads(path.read_text()) for path in paths]
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f'an evaluation in {workdir}/eval cannot be read: {error}') from error


def write_text(path: Path, text: str) -> None:
    """
    Raises:
      InputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise InputError(f'{path} cannot be written: {error.strerror}') from error


def write_json(path: Path, tree: Any) -> None:
    """Whole or not at all, in a folder that is made if need be.

    Raises:
      StorageError: it cannot be written; what was there before is as it was.
    """
    content, beside = json.dumps(tree, indent=2) + '\n', path.with_suffix('.tmp')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(content)
        os.replace(beside, path)
    except OSError as error:
        raise StorageError(
            f'{path}, {len(content)} bytes, cannot be written: {error.strerror}'
        ) from error
