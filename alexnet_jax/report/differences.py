"""Section of a report on the differences from the paper: net, data, training, evaluation."""

from collections.abc import Sequence
from typing import Any

from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment import results, settings
from alexnet_jax.experiment.defaults import Config
from alexnet_jax.experiment.model import Model
from alexnet_jax.experiment.trained import Showing
from alexnet_jax.network.architectures import PAPER
from alexnet_jax.network.diff import deviations
from alexnet_jax.report.figures import page

CLASSES, EPOCHS, VIEWS = 1000, 90, 10  # in the paper: §2, §5, §4.1
IMAGENET = 'tfds:imagenet'
Row = tuple[str, str, str]


def content(
    config: Config, model: Model, showing: Showing | None, metrics: Sequence[dict[str, Any]]
) -> list[str]:
    """Returns the parts of the section.

    Args:
      showing: None if there are no images. metrics: the rows of metrics.jsonl.
    """
    net = [(row.field, row.one, row.other) for row in deviations(model.net.architecture, PAPER)]
    parts = []
    for name, rows in (
        ('Net', net),
        ('Data and training', training(model, showing, metrics)),
        ('Evaluation', evaluation(config, model, showing)),
    ):
        subject = 'part of the net' if rows is net else 'setting'
        if rows:
            parts.append(page.table((subject, 'this run', 'paper'), rows, name))
        else:
            parts.append(page.paragraph(f'{name}: no differences from the paper.'))
    of_net, *others = parts
    return [page.side_by_side(of_net, ''.join(others))]


def training(model: Model, showing: Showing | None, metrics: Sequence[dict[str, Any]]) -> list[Row]:
    """Returns the differences of the data and the training from the paper."""
    config, rows = model.config, []
    if not config.data.source.startswith(IMAGENET):
        rows.append(('data.source', config.data.source, 'ImageNet: ILSVRC-2010 and 2012'))
        if showing is not None and showing.is_of_own_set and 'train' in showing.images.splits:
            count = len(showing.images.splits['train'])
            rows.append(('training images', f'{count:,}', '1.2 million'))
    if len(model.classes) != CLASSES:
        rows.append(('classes', f'{len(model.classes):,}', f'{CLASSES:,}'))
    epochs = _epochs(model, showing, metrics)
    if epochs is None or round(epochs) != EPOCHS:
        here = 'unknown' if epochs is None else f'{epochs:.2f}'
        rows.append(('epochs', f'{here}, up to step {model.step}', f'roughly {EPOCHS}'))
    if not model.mirrored:
        reason = '' if not config.data.mirror else ': a mirror image has another class'
        rows.append(('data.mirror', f'off{reason}', 'on'))
    free = ('seed', 'network.name', 'data.mirror', *settings.IMAGES)
    values = configuration.flat(config)
    return rows + [
        (name, *(settings.as_text(name, value) or 'empty' for value in (here, setting.default)))
        for name, setting in settings.SETTINGS.items()
        if not setting.free and name not in free and (here := values[name]) != setting.default
    ]


def evaluation(config: Config, model: Model, showing: Showing | None) -> list[Row]:
    """Returns the differences of the evaluation in this report from the paper."""
    if showing is None:
        return []
    rows = []
    if not showing.is_of_own_set:
        own = model.config.data.source
        rows.append(('data.source', config.data.source, f'that of the training (here {own})'))
    if showing.split == 'train':
        rows.append(('eval.split', 'train', 'test or val'))
    views = results.distinct_views(showing.about)
    if views != VIEWS:
        rows.append(('eval.views', results.views_text(showing.about), str(VIEWS)))
    return rows


def _epochs(
    model: Model, showing: Showing | None, metrics: Sequence[dict[str, Any]]
) -> float | None:
    """Returns the epochs up to the model's step, or None if the training set is not available."""
    for row in metrics:
        if row['step'] == model.step:
            return row['epoch']
    if model.step == 0:
        return 0.0
    if showing is None or not showing.is_of_own_set or 'train' not in showing.images.splits:
        return None
    count = len(showing.images.splits['train'])
    return model.step * model.config.data.batch_size / count
