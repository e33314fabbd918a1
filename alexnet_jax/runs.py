"""Several runs under one folder, each an ordinary workdir; what is finished stays so."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from alexnet_jax import training_run
from alexnet_jax.config import Config
from alexnet_jax.errors import InputError, NotFiniteError, plain
from alexnet_jax.results import read_object, write_json
from alexnet_jax.settings import SETTINGS

RESULTS = 'results.json'
# Settings that change no step of a run, but what comes out at its end.
COUNT = ('train.epochs', 'train.steps', 'eval.split', 'eval.views')


def train_all(
    runs: Mapping[str, Config], folder: Path, stop_requested: Callable[[], bool]
) -> dict[str, dict[str, Any]] | None:
    """Trains every configuration in folder/NAME, those that are finished not again.

    Returns:
      by name, {'split', 'views', 'examples', 'loss', 'top1_error', 'top5_error',
      'step'} of the held-out images; or {'fault'}, where the loss was no number.
      None if it was stopped on request: the same call goes on.

    Raises:
      InputError: as `training_run.train`.
    """
    finished = _read(folder / RESULTS)
    results = {}
    for number, (name, config) in enumerate(runs.items(), start=1):
        kept = finished.get(name)
        if kept is None or kept['config'] != _what_counts(config):
            print(f'run {number}/{len(runs)}: {name}', flush=True)
            result = _train(config, folder / name, stop_requested)
            if result is None:
                return None
            kept = {'config': _what_counts(config), 'result': result}
            finished = _read(folder / RESULTS) | {name: kept}
            write_json(folder / RESULTS, finished)
        results[name] = kept['result']
    return results


def _train(
    config: Config, workdir: Path, stop_requested: Callable[[], bool]
) -> dict[str, Any] | None:
    try:
        if not training_run.train(config, workdir, stop_requested):
            return None
    except NotFiniteError as error:
        return {'fault': str(error).splitlines()[0]}
    return training_run.result(config, workdir)


def _what_counts(config: Config) -> Config:
    """The settings that decide a run's result."""
    return {
        name: value for name, value in config.items() if not SETTINGS[name].free or name in COUNT
    }


def _read(path: Path) -> dict[str, Any]:
    """
    Raises:
      InputError: it cannot be read, or is something else.
    """
    kept = read_object(path) if os.path.lexists(path) else {}
    for name, run in kept.items():
        parts = [run.get(part) for part in ('config', 'result')] if isinstance(run, dict) else []
        if [type(part) for part in parts] != [dict, dict]:
            raise InputError(f'{path}: {plain(name)} is no result of a run; delete that file, and'
                             ' runs that are finished are only evaluated again')  # fmt: skip
    return kept
