"""Runs of a study in one folder; each is an ordinary workdir, and finished runs are kept."""

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
# Returns, for the name of a run, a function that returns whether the run has reached its target.
Reached = Callable[[str], Callable[[], bool]]
SET = (
    'data.source', 'data.dir', 'data.record_size', 'data.resize', 'data.synthetic_examples',
    'data.synthetic_classes',
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Expected:
    """Requirements of a finished run.

    steps: its length. identity: digests or numbers of the net's table, the classes and the images.
    """

    steps: int
    identity: dict[str, Any]


def check(runs: Mapping[str, Config], folder: Path, ends_early: bool = False) -> None:
    """Checks that each run is new, or has the expected identity and at most the expected length.

    Args:
      ends_early: whether a result may be of an earlier step than the last.

    Raises:
      InputError: a run has another configuration, net, classes or images, or is too long; the images are
        not available; results.json cannot be read.
    """
    _check(runs, folder, _expected(runs), _read(folder / RESULTS), ends_early)


def train_all(
    runs: Mapping[str, Config],
    folder: Path,
    stop_requested: Callable[[], bool],
    reached: Reached | None = None,
) -> dict[str, dict[str, Any]] | None:
    """Trains every configuration in folder/NAME, except finished runs.

    Args:
      reached: for runs that may end early; it is called again for each use.

    Returns:
      by name, {'split', 'views', 'examples', 'loss', 'top1_error', 'top5_error', 'step'} of the
      held-out images, or {'fault'} for a run that ended in NaN. None after a stop request; the same call
      then resumes.

    Raises:
      InputError: as `check`, before any run; as `training_run.train`; a result is of another step than
        the last.
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
                'config': study.result_settings(config),
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
    """Returns the requirements by name; each set is opened once."""
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
    """Returns the identity of a set: a digest of its classes, its number of images by split, and its own."""
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
        if not workdir.is_dir():  # a new run, or one that was removed to train it again
            continue
        refuse_other(workdir, config)
        last = last_checkpoint(workdir)
        if last is not None and last > steps:
            raise InputError(
                f'{plain(workdir)} is at step {last}, after the requested last step {steps}\n'
                'Request at least as many steps (train.epochs, train.steps), or use another folder'
            )
        kept = finished.get(name)
        if kept is not None and 'identity' in kept:
            _require_same(kept['identity'], expected[name].identity, workdir)
        if kept is not None and _is_of(kept, config, workdir):
            _require_end(kept['result'], config, steps, workdir, ends_early)


def _is_of(kept: Mapping[str, Any], config: Config, workdir: Path) -> bool:
    """Returns whether a stored result belongs to this configuration and workdir."""
    if not workdir.is_dir() or 'identity' not in kept:
        return False
    result, last = kept['result'], last_checkpoint(workdir)
    whole = 'fault' in result or last in (None, result['step'])  # None: only the result exists
    # Older studies may have relative paths of folders.
    same = study.same_form(kept['config']) == study.same_form(study.result_settings(config))
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
            f'{plain(workdir)} was trained with other inputs: {", ".join(differing)} changed since;'
            ' use another folder, or remove that run to train it again'
        )


def _require_end(
    result: Mapping[str, Any], config: Config, steps: int, workdir: Path, ends_early: bool
) -> None:
    """Checks that a result is of the last step, or of an earlier one if the run may end early.

    A run may end early at a plateau or at the target of the study.

    Raises:
      InputError: it is of another step.
    """
    if 'fault' in result:
        return
    ends_early = ends_early or configuration.base_protocol(config).watches_plateaus
    step = result['step']
    if step > steps or (step < steps and not ends_early):
        raise InputError(
            f'{plain(workdir)} has a result of step {step}, but its last step is {steps}; use another folder,'
            ' or remove that run to train it again'
        )


def _read(path: Path) -> dict[str, Any]:
    """Returns the results by name, {} if there are none.

    Raises:
      InputError: the file cannot be read or has another format.
    """
    try:
        kept = files.read_json(path)
        for row in kept.values():
            result = row['result']
            for name in ('identity', 'config'):
                if not isinstance(row.get(name, {}), dict):
                    raise ValueError(f'{name} is not an object')
            if 'fault' not in result and not result['step'] >= 0:
                raise ValueError('a step is not a number')
        return kept
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f'{plain(path)} cannot be read: {type(error).__name__}: {plain(error)}\n'
            'Remove it to evaluate the runs again, or use another folder'
        ) from error
