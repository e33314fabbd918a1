"""Several runs under one folder, each an ordinary workdir; what is finished stays so."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from alexnet_jax.data.image_set import ImageSet
from alexnet_jax.experiment import build, identity, training_run
from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment.defaults import Config
from alexnet_jax.experiment.results import write_json
from alexnet_jax.experiment.workdir import last_checkpoint, refuse_other
from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import InputError, NotFiniteError, plain
from alexnet_jax.studies import study

RESULTS = 'results.json'
# From a run's name: whether it has reached the target of the study, before its plan ends.
Reached = Callable[[str], Callable[[], bool]]
SET = (
    'data.source', 'data.dir', 'data.record_size', 'data.resize', 'data.synthetic_examples',
    'data.synthetic_classes',
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Expected:
    """What a run has to be: the last step of its plan, and of what it is trained.

    identity: by name, a digest or a number: of the net's table, the classes, the images.
    """

    steps: int
    identity: dict[str, Any]


def check(runs: Mapping[str, Config], folder: Path, ends_early: bool = False) -> None:
    """Checks that each run is new, or in its folder as far as its plan or less far.

    Args:
      ends_early: whether results may be of a step before the end of the plan.

    Raises:
      InputError: one is of another configuration, net, classes or images, or is beyond the end of
        its plan; the images cannot be had; results.json cannot be read.
    """
    _check(runs, folder, _expected(runs), _read(folder / RESULTS), ends_early)


def train_all(
    runs: Mapping[str, Config],
    folder: Path,
    stop_requested: Callable[[], bool],
    reached: Reached | None = None,
) -> dict[str, dict[str, Any]] | None:
    """Trains every configuration in folder/NAME, those that are finished not again.

    Args:
      reached: of every run, if runs may end before their plans; called anew for each use.

    Returns:
      by name, {'split', 'views', 'examples', 'loss', 'top1_error', 'top5_error',
      'step'} of the held-out images; or {'fault'}, where the loss was no number.
      None if it was stopped on request: the same call resumes.

    Raises:
      InputError: as `check`, before any run; as `training_run.train`; a result is of another
        step than the end of the plan.
    """
    expected = _expected(runs)
    finished = _read(folder / RESULTS)
    ends_early = reached is not None
    _check(runs, folder, expected, finished, ends_early)
    results = {}
    for number, (name, config) in enumerate(runs.items(), start=1):
        kept = finished.get(name)
        steps = expected[name].steps
        if (
            kept is None
            or not _is_of(kept, config, folder / name)
            or (reached and not _has_ended(kept['result'], steps, reached(name)))
        ):
            print(f'run {number}/{len(runs)}: {name}', flush=True)
            more = (reached(name),) if reached else ()
            result = _train(config, folder / name, stop_requested, *more)
            if result is None:
                return None
            kept = {
                'config': study.settings_of_result(config),
                'identity': expected[name].identity,
                'result': result,
            }
            _require_end(kept['result'], config, steps, folder / name, ends_early)
            finished = _read(folder / RESULTS) | {name: kept}
            write_json(folder / RESULTS, finished)
        results[name] = kept['result']
    return results


def _has_ended(result: Mapping[str, Any], steps: int, reached: Callable[[], bool]) -> bool:
    return 'fault' in result or result['step'] == steps or reached()


def _train(config: Config, workdir: Path, *until: Callable[[], bool]) -> dict[str, Any] | None:
    try:
        if not training_run.train(config, workdir, *until):
            return None
    except NotFiniteError as error:
        return {'fault': str(error).splitlines()[0]}
    return training_run.result(config, workdir)


def _expected(runs: Mapping[str, Config]) -> dict[str, Expected]:
    """Opens each set once."""
    opened: dict[tuple, tuple[int, dict[str, Any]]] = {}
    found = {}
    for name, config in runs.items():
        own = config.seed if config.data.source == 'synthetic' else None
        key = (*(config[setting] for setting in SET), own)
        if key not in opened:
            images = build.training_images(config)
            build.held_out_split(config, images)
            opened[key] = len(images.splits['train']), identity_of(images)
        length, of_set = opened[key]
        steps = build.clock(config, length).steps
        found[name] = Expected(steps, {'network': identity.network_digest(config)} | of_set)
    return found


def identity_of(images: ImageSet) -> dict[str, Any]:
    """Returns a set's identity.

    It is a digest of the classes, the number of images in each split, and the text by which sets
    are distinguished.
    """
    return {
        'classes': identity.digest(images.classes),
        'images': {split: len(records) for split, records in images.splits.items()},
        'set': dict(images.identity),
    }


def _check(
    runs: Mapping[str, Config],
    folder: Path,
    expected: Mapping[str, Expected],
    finished: Mapping[str, dict[str, Any]],
    ends_early: bool,
) -> None:
    for name, config in runs.items():
        workdir, steps = folder / name, expected[name].steps
        if not workdir.is_dir():  # a new run, or removed to be trained again
            continue
        refuse_other(workdir, config)
        last = last_checkpoint(workdir)
        if last is not None and last > steps:
            raise InputError(
                f'{plain(workdir)} is at step {last}, beyond the end of the plan, step {steps}: no'
                ' result of that plan can be had from it\n'
                'Ask for as many steps at least (train.epochs, train.steps), or take another folder'
            )
        kept = finished.get(name)
        if kept is not None and 'identity' in kept:
            _require_same(kept['identity'], expected[name].identity, workdir)
        if kept is not None and _is_of(kept, config, workdir):
            _require_end(kept['result'], config, steps, workdir, ends_early)


def _is_of(kept: Mapping[str, Any], config: Config, workdir: Path) -> bool:
    """Whether a kept result is that of this configuration in this workdir."""
    if not workdir.is_dir() or 'identity' not in kept:
        return False
    result, last = kept['result'], last_checkpoint(workdir)
    whole = 'fault' in result or last in (None, result['step'])  # None: only the result was kept
    # Older studies may hold the relative path of a folder.
    same = study.same_form(kept['config']) == study.same_form(study.settings_of_result(config))
    return same and whole


def _require_same(kept: Mapping[str, Any], now: Mapping[str, Any], workdir: Path) -> None:
    words = {
        'network': "the net's table",
        'classes': 'the classes',
        'images': 'the number of images',
    }
    differing = [words.get(name, name) for name in words if kept.get(name) != now[name]]
    of_set, now_set = kept.get('set') or {}, now['set']
    differing += [
        f'{name} of the set' for name in now_set if name in of_set and of_set[name] != now_set[name]
    ]
    if differing:
        raise InputError(
            f'{plain(workdir)} was trained on something else: {", ".join(differing)} changed since;'
            ' take another folder, or remove that run to train it again'
        )


def _require_end(
    result: Mapping[str, Any], config: Config, steps: int, workdir: Path, ends_early: bool
) -> None:
    """Checks that a result is of the end of the plan, which a plateau or the study may bring before
    its last step.

    Raises:
      InputError: it is of another step.
    """
    if 'fault' in result:
        return
    ends_early = ends_early or configuration.base_protocol(config).watches_plateaus
    step = result['step']
    if step > steps or (step < steps and not ends_early):
        raise InputError(
            f'{plain(workdir)} has a result of step {step}; its plan ends at step {steps}: it is not'
            ' filed; take another folder, or remove that run to train it again'
        )


def _read(path: Path) -> dict[str, Any]:
    """Returns the results by name; {} where nothing is kept.

    Raises:
      InputError: it is no such file.
    """
    try:
        kept = files.read_json(path)
        for row in kept.values():
            result = row['result']
            for name in ('identity', 'config'):
                if not isinstance(row.get(name, {}), dict):
                    raise ValueError(f'{name} is no table')
            if 'fault' not in result and not result['step'] >= 0:
                raise ValueError('a step is no number')
        return kept
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f'{plain(path)} cannot be read: {type(error).__name__}: {plain(error)}\n'
            'Remove it to evaluate the runs again, or take another folder'
        ) from error
