"""Names the images of a step whose loss or gradient is not finite."""

from pathlib import Path

from alexnet_jax.data import pipeline
from alexnet_jax.experiment import results
from alexnet_jax.experiment.build import Experiment
from alexnet_jax.experiment.workdir import last_checkpoint
from alexnet_jax.runtime import multihost
from alexnet_jax.runtime.errors import NotFiniteError


def with_records(experiment: Experiment, workdir: Path, error: NotFiniteError) -> NotFiniteError:
    """Writes the images of the error's step to WORKDIR/not_finite.json.

    Returns the error with the first of them in its message.
    """
    kept, path = last_checkpoint(workdir), workdir / 'not_finite.json'
    ids = pipeline.record_ids(
        experiment.images, experiment.config.seed, experiment.config.data.batch_size,
        error.step,
    )  # fmt: skip
    if multihost.is_first():
        results.write_json(path, {'step': error.step, 'fault': str(error), 'records': ids})
    more = f' and {len(ids) - 3} more, in {path}' if len(ids) > 3 else ''
    saved = (
        'no checkpoint exists yet' if kept is None else f'checkpoints up to step {kept} are intact'
    )
    return NotFiniteError(
        f'{error}; the images of that step: {", ".join(ids[:3])}{more}\n'
        f'Nothing of it is saved, {saved}; a lower optimizer.learning_rate may help',
        error.step,
    )
