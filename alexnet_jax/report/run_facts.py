"""Run section of a report: command, hardware, speed, versions and evaluations."""

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from alexnet_jax.evaluation.tally import has_top5
from alexnet_jax.experiment import kept_config, results
from alexnet_jax.experiment.defaults import Config
from alexnet_jax.report.figures import page
from alexnet_jax.report.figures.page import Cell
from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import InputError, counted
from alexnet_jax.training import manifest
from alexnet_jax.training.manifest import DamagedError

Row = dict[str, Any]


def content(workdir: Path, config: Config, step: int, metrics: Sequence[Row]) -> list[str]:
    """Returns the parts of the section.

    Args:
      step: the step of the report's checkpoint. metrics: the rows of metrics.jsonl.
    """
    checkpoint, kept = workdir / 'checkpoints' / str(step), _kept(workdir / 'config.json')
    facts = [*_named(kept, ('command',)), *_pace(config, metrics, kept)]
    facts += [('checkpoint', str(checkpoint)), ('mesh (data × column)', _mesh(kept.get('mesh')))]
    versions = kept.get('versions')
    origin = _named(kept, ('commit', 'python'))
    origin += [(name, str(x)) for name, x in versions.items()] if isinstance(versions, dict) else []
    tree = json.dumps(kept_config.to_tree(config), indent=1)
    return [
        page.side_by_side(
            page.table(('property', 'value'), facts), page.table(('software', 'version'), origin)
        ),
        *_evaluations(workdir),
        page.folded('Configuration', page.listing(tree)),
        page.folded('Checksums of the checkpoint', _checksums(checkpoint)),
    ]


def _mesh(mesh: Any) -> str:
    """Returns '4×2' of {'data': 4, 'column': 2}."""
    return '×'.join(map(str, mesh.values())) if isinstance(mesh, dict) else 'unknown'


def _kept(path: Path) -> dict[str, Any]:
    """Returns the content of config.json, or {} if it cannot be read."""
    try:
        kept = files.read_json(path)
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _named(kept: dict[str, Any], names: Sequence[str]) -> list[tuple[str, str]]:
    return [(name, str(kept[name])) for name in names if kept.get(name) is not None]


def _checksums(checkpoint: Path) -> str:
    try:
        named = manifest.read(checkpoint)['files']
    except DamagedError as fault:  # a running training has deleted it
        return page.paragraph(f'No checksums are available: {fault}.')
    rows = [(f'{file["bytes"]:,}', name, file['sha256']) for name, file in named.items()]
    return page.table(('bytes', 'file', 'SHA-256'), rows)


def _evaluations(workdir: Path) -> list[str]:
    titles = {
        'Evaluations in eval/': results.every,
        'Evaluations of other sets or steps': results.others,
    }
    return [part for title, read in titles.items() for part in _table(title, read, workdir)]


def _table(title: str, read: Callable[[Path], list[Row]], workdir: Path) -> list[str]:
    try:
        found = read(workdir)
    except InputError as error:
        return [page.paragraph(f'{title}: {error}.')]
    if not found:
        return []
    names = ('split and views', 'set', 'step', 'images', 'top-1 error', 'top-5 error', 'loss')
    return [page.table(names, [cells(row) for row in found], title)]


def cells(row: Row) -> list[Cell]:
    """Returns a result's split and views, set, step, number of images, errors and loss."""
    top5 = row['top5_error'] if has_top5(row) else '–'
    return [
        f'{row["split"]}, {results.views_text(row)}', str(row.get('set', row['source'])),
        row['step'], row['examples'], row['top1_error'], top5, row['loss'],
    ]  # fmt: skip


def _achieved(train: Sequence[Row]) -> str:
    """Returns ', 12.3 TFLOP/s, 40 % of the peak': medians of the rows with such values."""
    text = ''
    for name, factor, unit in (('tflops', 1, 'TFLOP/s'), ('mfu', 100, '% of the peak')):
        found = [row[name] for row in train if isinstance(row.get(name), int | float)]
        text += f', {factor * statistics.median(found):.3g} {unit}' if found else ''
    return text


def _pace(config: Config, metrics: Sequence[Row], kept: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns the hardware, as far as config.json has it, and the speed and time of the training."""
    hardware = [str(kept[name]) for name in ('devices', 'platform') if kept.get(name) is not None]
    if isinstance(kept.get('cores'), int):
        hardware.append(counted(kept['cores'], 'CPU core'))
    facts = [('hardware', ', '.join(hardware))] if hardware else []
    train = [row for row in metrics if row['split'] == 'train' and row['images_per_second'] > 0]
    if not train:
        return facts
    images = config.data.batch_size * config.train.log_every_steps
    seconds = sum(images / row['images_per_second'] for row in train)
    evaluations = [row.get('seconds_evaluation', 0) for row in metrics]
    seconds += sum(x for x in evaluations if isinstance(x, int | float))
    rate = statistics.median(row['images_per_second'] for row in train)
    on = f' on {kept["devices"]}' if kept.get('devices') is not None else ''
    return [
        *facts,
        ('images per second (median)', f'{rate:.0f}{on}{_achieved(train)}'),
        ('time of training and validation', f'{seconds / 60:.1f} minutes'),
    ]
