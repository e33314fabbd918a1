"""Evaluation results of a workdir, in eval/.

SPLIT-VIEWS.json is the run's own last result of a split with so many views; results of its other
steps and of other sets have longer names.
"""

import hashlib
import json
import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from alexnet_jax.data import class_names
from alexnet_jax.evaluation.tally import Tally, has_top
from alexnet_jax.experiment import identity
from alexnet_jax.experiment.defaults import Config
from alexnet_jax.experiment.identity import Identity
from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import InputError, NotFiniteError, StorageError, plain, unwritable

SHOWN = 3  # of the confusions, on the terminal
SEAL = 'sha256'  # of a result
LONGEST = 40  # characters of a source in a file's name
OWN = re.compile(r'(train|val|test)-(1|10)\.json')
OTHER = re.compile(
    r'(train|val|test)-(1|10)(-step-\d+)?(-[A-Za-z0-9._]+-[0-9a-f]{8})?(-bfloat16)?\.json'
)
TOP = re.compile(r'top([0-9]{1,10})_interval')  # a key of a result
# Required keys of a result, and their types.
KEYS = {
    'split': str, 'views': int, 'source': str, 'network': str, 'step': int, 'examples': int,
    'loss': float, 'top1_error': float, 'top5_error': float,
}  # fmt: skip
# Optional keys: earlier versions wrote fewer, and some are only for ensembles.
OPTIONAL = {
    'set': str, 'data': dict, 'run': str, 'distinct_views': int, 'class_count': int,
    'compute': str, 'members': list[str], 'steps': list[int], 'class_rule': str,
    'net_labels': list[int], 'calibration_error': float, 'calibration': list,
}  # fmt: skip


def keep(
    workdir: Path,
    about: dict[str, Any],
    tally: Tally,
    classes: tuple[str, ...],
    which: str = '',
    top_k: int = 5,
) -> str:
    """Writes eval/SPLIT-VIEWS.json, and eval/SPLIT-VIEWS-classes.json.

    The latter has the errors of each class and the confusions. Returns them as lines of text.

    Args:
      about: as `about` returns it.
      which: as `which` returns it.
      top_k: k of an additional top-k error.

    Raises:
      NotFiniteError: the loss is NaN or infinite; nothing is written.
      StorageError: it cannot be written; the lines are printed nevertheless.
    """
    scores, by_class = tally.scores() | tally.top(top_k), tally.by_class(classes)
    if not math.isfinite(scores['loss']):
        raise NotFiniteError(
            f'{about["split"]}: the loss is {scores["loss"]} at {steps_text(about)}: the net ended'
            ' in NaN or infinite values; nothing is kept of this evaluation',
            about['step'],
        )
    calibration = tally.calibration()
    path = place(workdir, about['split'], about['views'], which)
    rule = [f'classes: {about["class_rule"]}'] if 'class_rule' in about else []
    lines = [
        *rule,
        *(
            f'class {plain(class_names.display_name(row["label"]))}: {images_text(row["images"])}'
            f' predicted as {plain(class_names.display_name(row["taken_for"]))}'
            for row in by_class['confusions'][:SHOWN]
        ),
        f'{about["split"]}: calibration_error {calibration["calibration_error"]:.6f}'
        f' ({len(calibration["calibration"])} bins)',
        f'{about["split"]}: {scores_text(scores)}  ({images_text(scores["examples"])},'
        f' {views_text(about)}, {steps_text(about)})',
    ]
    try:
        write_json(path, _sealed(path, about | scores | calibration))
        write_json(path.with_name(f'{path.stem}-classes.json'), about | by_class)
    except StorageError:
        print('\n'.join(lines), flush=True)
        raise
    return '\n'.join(lines) + f' -> {path}'


def about(
    config: Config, split: str, step: int, mirror: bool, data: Mapping[str, str], run: Identity
) -> dict[str, Any]:
    """Returns a description of an evaluation.

    It is {'split', 'views', 'distinct_views', 'source', 'set', 'data', 'network', 'step', 'run'}.

    Args:
      run: identity of the net; its digest binds the result to the workdir.
      data: the set, as `ImageSet.identity`.
      mirror: whether mirror images are of the same class. They are among the ten views only if the
        net was also trained with them; otherwise the five crops are used twice.
    """
    views, source = config.eval.views, config.data.source
    mirrored = mirror and config.data.mirror
    return {
        'split': split,
        'views': views,
        'distinct_views': views if mirrored or views == 1 else views // 2,
        'source': source,
        'set': set_of(config),
        'data': dict(data),
        'network': config.network.name,
        'step': step,
        'run': run.digest,
    }


def set_of(config: Config) -> str:
    """Returns the source; for synthetic images with all parameters, including the run's seed."""
    if config.data.source != 'synthetic':
        return config.data.source
    return (
        f'synthetic, {config.data.synthetic_examples} images of'
        f' {config.data.synthetic_classes} classes, seed {config.seed}'
    )


def which(
    step: int | None,
    source: str,
    other_set: Mapping[str, str] | None,
    compute: str = 'float32',
) -> str:
    """Returns the suffix of a result's name after SPLIT-VIEWS; '' for the run's own.

    Args:
      step: a step before the run's last; None: the last.
      other_set: as `ImageSet.identity`; None: the run's own set.
      compute: the type of activations and products.
    """
    parts = [] if step is None else [f'-step-{step}']
    if other_set is not None:
        name = re.sub(r'[^A-Za-z0-9._]+', '_', source)[:LONGEST]
        digest = hashlib.sha256(json.dumps(dict(other_set), sort_keys=True).encode()).hexdigest()
        parts.append(f'-{name}-{digest[:8]}')
    return ''.join(parts) + f'-{compute}' * (compute != 'float32')


def float32_result(workdir: Path, about: Mapping[str, Any], which: str) -> str:
    """Returns a line of text with the float32 result of the same split, views and step.

    If there is none, the line has the reason.

    Args:
      about: as `about` returns it, of a result in another type.
      which: as `which` returns it, of the float32 result.
    """
    path = place(workdir, about['split'], about['views'], which)
    try:
        result = _read_own(workdir, path) if path.exists() else None
    except InputError as error:
        return f'in float32: {error}'
    if result is None or result['step'] != about['step']:
        return 'in float32: no result of this step; --config.eval.compute=float32 computes it'
    return f'in float32: {scores_text(result)} -> {path}'


def scores_text(scores: Mapping[str, Any]) -> str:
    """Formats errors with their 95 % intervals, and the loss."""
    parts = []
    for k in sorted(int(found[1]) for name in scores if (found := TOP.fullmatch(name))):
        low, high = scores[f'top{k}_interval']
        error = f'{scores[f"top{k}_error"]:.6f} [{low:.4f}, {high:.4f}]'
        parts.append(f'top{k}_error {error if has_top(k, scores) or k == 1 else "–"}')
    return '  '.join([*parts, f'loss {scores["loss"]:.6f}'])


def images_text(count: int) -> str:
    """Formats a number of images: '1 image', '300 images'."""
    return f'{count} image{"s" * (count != 1)}'


def distinct_views(about: Mapping[str, Any]) -> int:
    """Returns how many different views of an image an evaluation used.

    Results of earlier versions lack it: then it is the configured number.
    """
    return about.get('distinct_views', about['views'])


def views_text(about: Mapping[str, Any]) -> str:
    """Describes an evaluation's distinct views of an image: '5 views, none mirrored'."""
    views = distinct_views(about)
    return f'{views} view{"s" * (views > 1)}' + ', none mirrored' * (1 < views < about['views'])


def steps_text(result: Mapping[str, Any]) -> str:
    """Returns 'step 120', or of an ensemble 'steps 120, 240', each different step once."""
    steps = list(dict.fromkeys(result.get('steps', [result['step']])))
    return f'step{"s" * (len(steps) > 1)} {", ".join(map(str, steps))}'


def read(workdir: Path, split: str, views: int) -> dict[str, Any]:
    """Returns the run's own result.

    Raises:
      InputError: there is none, or it cannot be read, or is of another run.
    """
    return _read_own(workdir, place(workdir, split, views))


def place(workdir: Path, split: str, views: int, which: str = '') -> Path:
    """Returns the path of a result's file in a workdir."""
    return workdir / 'eval' / f'{split}-{views}{which}.json'


def every(workdir: Path) -> list[dict[str, Any]]:
    """Returns all of the run's own results.

    Raises:
      InputError: there is none, or one that cannot be read, or is of another run.
    """
    results = own(workdir)
    if not results:
        raise InputError(f'{workdir} holds no eval/SPLIT-VIEWS.json; run --mode=eval there first')
    return results


def own(workdir: Path) -> list[dict[str, Any]]:
    """Returns all of the run's own results, maybe none.

    Raises:
      InputError: one cannot be read, or is of another run.
    """
    return _matching(workdir, OWN)


def others(workdir: Path) -> list[dict[str, Any]]:
    """Returns the results of the run's other steps and of other sets.

    Raises:
      InputError: one cannot be read, or is of another run.
    """
    return _matching(workdir, OTHER, but=OWN)


def _matching(workdir: Path, wanted: re.Pattern, but: re.Pattern | None = None) -> list[Any]:
    return [
        _read_own(workdir, path)
        for path in sorted((workdir / 'eval').glob('*.json'))
        if wanted.fullmatch(path.name) and not (but and but.fullmatch(path.name))
    ]


def _read_own(workdir: Path, path: Path) -> dict[str, Any]:
    """Reads a result and compares its run with that of the workdir, if both have one: results of
    earlier versions and folders of ensembles have none.
    """
    result = _read(path)
    if 'run' in result and identity.digest_of(workdir) not in (None, result['run']):
        raise InputError(f'{path} is of another run than {workdir}; evaluate it again')
    return result


def _read(path: Path) -> dict[str, Any]:
    try:
        result = files.read_json(path)
    except (OSError, ValueError) as error:
        raise InputError(f'{path} cannot be read: {error}; evaluate it again') from error
    fault = f'{path} is not a result of an evaluation: it has no usable'
    if not isinstance(result, dict):
        raise InputError(f'{fault} keys; evaluate it again')
    for key, kind in (KEYS | {key: OPTIONAL[key] for key in OPTIONAL.keys() & result}).items():
        if not _is_usable(result.get(key), kind):
            raise InputError(f'{fault} {key}; evaluate it again')
    for error in ('top1', 'top5'):
        match result.get(f'{error}_interval'):
            case [int() | float() as low, int() | float() as high] if 0 <= low <= high <= 1:
                if not low <= result[f'{error}_error'] <= high:
                    raise InputError(f'{fault} {error}_error; evaluate it again')
            case _:
                raise InputError(f'{fault} {error}_interval; evaluate it again')
    if SEAL in result and _sealed(path, result) != result:  # earlier versions wrote none
        raise InputError(f'{path} was modified; evaluate it again')
    return result


def _is_usable(value: Any, kind: Any) -> bool:
    """Returns whether it has this type; numbers must be finite and not negative."""
    if kind in (list[str], list[int]):
        (of,) = get_args(kind)
        return isinstance(value, list) and all(_is_usable(one, of) for one in value)
    if type(value) is not kind and not (kind is float and type(value) is int):
        return False
    return not isinstance(value, int | float) or 0 <= value <= sys.float_info.max


def _sealed(path: Path, result: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a result with a SHA-256 of the file's name and all its other keys. Like a manifest it
    protects against accidents, not against forgery.
    """
    tree = {key: value for key, value in result.items() if key != SEAL}
    text = json.dumps([path.name, tree], sort_keys=True, allow_nan=False)
    return tree | {SEAL: hashlib.sha256(text.encode()).hexdigest()}


def write_text(path: Path, text: str) -> None:
    """Writes a file atomically.

    Raises:
      InputError, StorageError: as `unwritable`.
    """
    try:
        files.write_bytes(path, text.encode('utf-8', 'backslashreplace'))
    except OSError as error:
        raise unwritable(path, error) from error


def write_json(path: Path, tree: Any) -> None:
    """Writes a file atomically, and creates its folder if necessary.

    Raises:
      StorageError: it cannot be written; the previous file is unchanged.
    """
    content = (json.dumps(tree, indent=2, allow_nan=False) + '\n').encode()
    try:
        files.write_bytes(path, content)
    except OSError as error:
        raise StorageError(
            f'{path}, {len(content)} bytes, cannot be written: {error.strerror}'
        ) from error
