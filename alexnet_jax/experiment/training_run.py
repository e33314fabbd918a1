"""Trains one run: resumes from the last intact checkpoint of its workdir, if there is one.

It trains to the end of the plan, then evaluates the held-out images.
"""

import contextlib
import functools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from alexnet_jax.evaluation import kernels
from alexnet_jax.experiment import donors, not_finite, results
from alexnet_jax.experiment.build import (
    Experiment,
    build,
    evaluator,
    held_out_split,
    initial_state,
    open_images,
    profile_span,
    start_values,
    train_batches,
    train_step,
)
from alexnet_jax.experiment.config import flat
from alexnet_jax.experiment.defaults import Config
from alexnet_jax.experiment.placement import require_room
from alexnet_jax.experiment.workdir import claim, last_checkpoint, locked, require_same_run
from alexnet_jax.network import chips, device_mesh
from alexnet_jax.runtime import heartbeat, multihost, storage
from alexnet_jax.runtime.errors import (
    InputError,
    NotFiniteError,
    StopRequestedError,
    StorageError,
    counted,
)
from alexnet_jax.training import (
    checkpoint_reader,
    kernel_history,
    loop,
    metrics_log,
    profile,
    step,
    throughput,
    warm_start,
)
from alexnet_jax.training.checkpoint import Checkpoints
from alexnet_jax.training.console import Reporter
from alexnet_jax.training.health import Health, require_finite
from alexnet_jax.training.metrics_log import MetricsLog
from alexnet_jax.training.trackers import Board, TensorBoard, WeightsAndBiases, held_here
from alexnet_jax.weights.files import Layers

METRICS = 'metrics.jsonl'


def train(
    config: Config,
    workdir: Path,
    stop_requested: Callable[[], bool] = lambda: False,
    reached: Callable[[], bool] = lambda: False,
) -> bool:
    """Trains from the workdir's last intact checkpoint, if there is one, and evaluates the result.

    Returns True if the run is complete, False if it was stopped.

    Args:
      reached: as in `loop.train`.

    Raises:
      InputError: as `build`, `held_out_split`, `workdir.locked`, `workdir.claim`,
        `checkpoint_reader.newest_intact` and `start_values`, or the run is longer already; before training.
      NotFiniteError, StorageError: as `loop.train`.
    """
    with multihost.together():
        experiment = build(config, donors.normalization(config, workdir))
        require_room(config, experiment.images, experiment.mesh, experiment.crop_size)
        profile_span(config, experiment.plan.steps)
        held_out_split(config, experiment.images)
        require_same_run(workdir, experiment.identity)
        metrics_log.require_usable(workdir / METRICS)
        begins = last_checkpoint(workdir) is None
        values, of_start = start_values(experiment, workdir) if begins else ({}, [])
    facts = experiment.identity.facts
    if config.start['from'] and multihost.count() > 1:
        facts |= {'the values of start.from': warm_start.digest(values)}
    multihost.require_alike(facts)
    with contextlib.ExitStack() as stack:
        with multihost.together():
            if multihost.is_first():
                stack.enter_context(locked(workdir))
        stop = multihost.agreed(stop_requested)
        return _train_there(experiment, workdir, values, of_start, stop, reached)


def _train_there(
    experiment: Experiment,
    workdir: Path,
    values: Layers,
    of_start: list[str],
    stop_requested: Callable[[], bool],
    reached: Callable[[], bool],
) -> bool:
    """Trains in a workdir that is locked by this process."""
    config, plan = experiment.config, experiment.plan
    with contextlib.ExitStack() as stack:
        checkpoints, at, messages = _open_checkpoints(experiment, workdir, stack)
        _require_not_beyond(config, plan, at, workdir)
        if at is None:
            state, messages = initial_state(experiment, values), of_start
        with multihost.together():
            if multihost.is_first():
                claim(workdir, experiment.identity)
        multihost.require_shared(workdir)
        if at is not None:
            checkpoints.rename_damaged_after(at)
            like = step.abstract_state(experiment.net, experiment.mesh, experiment.protocol)
            state = checkpoints.restore(at, like)
        first_step, silent = int(state.step), not multihost.is_first()
        has_top5 = len(experiment.images.classes) > 5
        reporter = Reporter(
            plan.steps, first_step, silent, config.train.print_every_steps, has_top5
        )
        stack.callback(reporter.close)
        for line in [_opening(experiment, workdir, first_step), *messages]:
            reporter.print_line(line)
        metrics = workdir / METRICS if multihost.is_first() else None
        validated = loop.is_validated(first_step, state.plateau, plan)
        with multihost.together():
            log = stack.enter_context(
                contextlib.closing(MetricsLog(metrics, first_step, validated))
            )
        boards = _open_boards(config, workdir, first_step, stack)
        try:
            _run(
                experiment, workdir, state, checkpoints, log, boards, reporter, stop_requested,
                reached,
            )  # fmt: skip
        except StopRequestedError:
            kept = last_checkpoint(workdir)
            saved = 'no step was done yet' if kept is None else f'step {kept} is saved'
            reporter.print_line(f'stopped; {saved}; run the same command to resume')
            return False
        except NotFiniteError as error:
            with contextlib.suppress(StorageError):
                checkpoints.wait()  # or its last would not be messages of
            raise not_finite.with_records(experiment, workdir, error) from error
    return True


def _open_checkpoints(
    experiment: Experiment, workdir: Path, stack: contextlib.ExitStack
) -> tuple[Checkpoints, int | None, list[str]]:
    """Returns the run's checkpoints, the step to resume from (the same in all processes), and lines
    about later, damaged checkpoints.

    Raises:
      InputError: as `checkpoint_reader.newest_intact`; they cannot be written.
    """
    folder, keep = workdir / 'checkpoints', experiment.config.checkpoint.keep
    found: tuple[int | None, list[str]] = None, []
    with multihost.together():
        try:
            published = functools.partial(storage.push, workdir)
            checkpoints = Checkpoints(folder, keep, experiment.identity.record, published)
        except StorageError as error:
            raise InputError(f'--workdir {workdir}: {error}') from error
        stack.enter_context(contextlib.closing(checkpoints))
        if multihost.is_first():
            at, passed = checkpoint_reader.newest_intact(folder)
            found = at, [f'warning: {line}' for line in passed]
    at, messages = json.loads(multihost.gather_texts(json.dumps(found))[0])
    return checkpoints, at, messages


def _require_not_beyond(config: Config, plan: loop.Plan, at: int | None, workdir: Path) -> None:
    """Checks that step `at`, from which a run resumes, is not after the end of the plan.

    Raises:
      InputError: it has; in all processes.
    """
    if at is None or at <= plan.steps:
        return
    name, asked, least = 'train.steps', f'{config.train.steps}', f'{at}'
    if not config.train.steps:
        name, asked = (
            'train.epochs',
            f'{config.train.epochs}, which is {counted(plan.steps, "step")}',
        )
        least = f'{math.ceil(plan.epoch(at))}'
    raise InputError(
        f'{name} is {asked}; --workdir {workdir} holds a run that has done {at}; allowed: at least'
        f' {least}, or another --workdir'
    )


def _open_boards(
    config: Config, workdir: Path, first_step: int, stack: contextlib.ExitStack
) -> list[Board]:
    """Returns the configured trackers of the first process.

    Raises:
      InputError: as `trackers.WeightsAndBiases`.
      StorageError: as `trackers.TensorBoard`.
    """
    names, opened = config.train.log_to, []
    with multihost.together():
        if multihost.is_first() and 'tensorboard' in names:
            opened.append(TensorBoard(workdir / 'tensorboard', first_step))
        if multihost.is_first() and 'wandb' in names:
            opened.append(WeightsAndBiases(workdir, flat(config)))
    for board in opened:
        stack.enter_context(contextlib.closing(board))
    return opened


def _run(
    experiment: Experiment,
    workdir: Path,
    state: step.TrainState,
    checkpoints: Checkpoints,
    log: MetricsLog,
    boards: Sequence[Board],
    reporter: Reporter,
    stop_requested: Callable[[], bool],
    reached: Callable[[], bool],
) -> None:
    """Trains from a state to the end of the plan, and evaluates the held-out images.

    Raises:
      StopRequestedError: before the end, but all is saved.
    """
    config, plan, architecture = experiment.config, experiment.plan, experiment.net.architecture
    evaluate_split = evaluator(experiment, stop_requested)

    def keep(row: loop.Row) -> None:
        log.write(row)
        for board in boards:
            board.row(row)

    achieved = throughput.meter(
        architecture, len(experiment.images.classes),
        chips.product_kind(config.network.compute, config.network.precision),
        experiment.mesh.devices.ravel().tolist(),
    )  # fmt: skip

    def record(row: loop.Row) -> None:
        if row['split'] == 'train':
            row |= achieved(row['images_per_second'])
        keep(row)
        (reporter.train if row['split'] == 'train' else reporter.evaluation)(row)

    span, done = profile_span(config, plan.steps), int(state.step)
    if span and span[1] <= done:
        reporter.print_line(
            f'warning: no profile: step {span[1]}, the last of train.profile, was done before'
        )
    folder = workdir / 'profile' if multihost.is_first() else None
    with (
        contextlib.closing(train_batches(experiment, done)) as batches,
        profile.traced(train_step(experiment), folder, span, done) as one_step,
    ):
        state, stopped = loop.train(
            state,
            plan,
            train_step=one_step,
            batches=batches,
            validate=lambda variables: evaluate_split('val', 1, variables).scores(),
            saves=checkpoints,
            log=record,
            health=Health(
                step.layer_names(architecture),
                len(experiment.images.classes),
                reporter.print_line,
                [row.name for row in architecture.layers if row.reads_all],
                multihost.gather_arrays,
            ),
            watch=functools.partial(_watch, experiment, workdir, boards),
            stop_requested=stop_requested,
            reached=reached,
        )
    if stopped:
        raise StopRequestedError
    held_out, at_step = held_out_split(config, experiment.images), int(state.step)
    if at_step < plan.steps:
        why = (
            'the validation error no longer improves at the lowest rate (schedule.drops,'
            ' schedule.patience)'
        )
        why = 'the target of the study is reached' if reached() else why
        reporter.print_line(f'ended after step {at_step} of {plan.steps}: {why}')
    heartbeat.slow(f'evaluating {held_out}')
    tally = evaluate_split(held_out, config.eval.views, state.variables)
    require_finite(tally.scores()['loss'], f'the loss on the {held_out} images', at_step)
    if held_out == 'test':
        keep(loop.evaluation_row('test', at_step, plan, tally.scores()))
    if multihost.is_first():
        images = experiment.images
        about = results.about(
            config, held_out, at_step, images.mirror, images.identity, experiment.identity
        )
        reporter.print_line(
            results.keep(workdir, about, tally, images.classes, top_k=config.eval.top_k)
        )


def _watch(
    experiment: Experiment, workdir: Path, boards: Sequence[Board], at_step: int, variables: Any
) -> None:
    """Saves conv1's kernels, and logs them and histograms of the weights to the trackers."""
    first = experiment.net.architecture.layers[0].name
    kernel = device_mesh.everywhere(experiment.mesh, variables['params'][first]['kernel'])
    if not multihost.is_first():
        return
    kernel_history.keep(workdir / 'kernels', at_step, kernel)
    if boards:
        sheet = kernels.sheet(kernel)
        arrays = {
            f'{layer}/{part}': held_here(array)
            for layer, parts in variables['params'].items()
            for part, array in parts.items()
        }
        for board in boards:
            board.weights(at_step, sheet, arrays)


def _opening(experiment: Experiment, workdir: Path, first_step: int) -> str:
    config, mesh = experiment.config, experiment.mesh
    devices = f'{mesh.shape["data"]}×{mesh.shape["column"]} {jax.devices()[0].platform} devices'
    if multihost.count() > 1:
        devices += f' of {multihost.count()} processes'
    doing = f'resuming after step {first_step}' if first_step else 'training'
    return (
        f'{doing}: {config.network.name} on {config.data.source}'
        f' ({counted(experiment.plan.epoch_size, "image")}), up to step {experiment.plan.steps},'
        f' {devices} (data×column), workdir {storage.as_urls(str(workdir))}'
    )


def result(config: Config, workdir: Path) -> dict[str, Any]:
    """Returns the result on held-out images that `train` saved at its end."""
    split = held_out_split(config, open_images(config))
    return results.read(workdir, split, config.eval.views)
