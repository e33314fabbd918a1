"""Errors of a trained net with removed units, overall and by class, compared with the whole net."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.data import class_names
from alexnet_jax.data.image_set import sample
from alexnet_jax.evaluation import evaluate
from alexnet_jax.evaluation.evaluate import Outputs
from alexnet_jax.evaluation.tally import Tally
from alexnet_jax.experiment import results, trained
from alexnet_jax.experiment.model import Model
from alexnet_jax.experiment.trained import Showing
from alexnet_jax.network.shapes import activation_shapes
from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import InputError, NotFiniteError, counted, nearest, plain, shown

AT_ONCE = 64  # lesions per pass over the images
LISTED = 20  # lesions in the table
EACH, COLUMNS = 'each', 'columns'
Units = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Lesion:
    """Units of a layer that are removed together, and the net's errors without them."""

    name: str
    units: Units
    tally: Tally


def open_showing(source: Path, overrides: Mapping[str, str]) -> Showing:
    """Opens a workdir or a weight file, and the configured images.

    Raises:
      InputError: as `trained.open_any` and `trained.show_to`.
    """
    return trained.show_to(*trained.open_any(source, overrides))


def units_in(layer: str, shapes: Mapping[str, Sequence[int]]) -> int:
    """Returns how many units the activation `--layer` has.

    Args:
      shapes: shapes of the allowed activations, with maps or units last.

    Raises:
      InputError: it is not one of them.
    """
    if layer not in shapes:
        raise InputError(
            f'--layer is {shown(layer)}; the nearest is {nearest(layer, shapes)}; allowed: one of'
            f' {", ".join(shapes)}'
        )
    return shapes[layer][-1]


def removals(model: Model, layer: str, text: str) -> dict[str, Units]:
    """Returns the units to remove together, by name.

    Args:
      layer: an activation; its units are maps, or the units of a fully connected layer.
      text: 'each', 'columns', or comma-separated numbers.

    Raises:
      InputError: the net has no such activation or units.
    """
    table = model.net.architecture
    shapes = activation_shapes(table, len(model.classes))
    del shapes[table.output.name]
    count = units_in(layer, shapes)
    if text == COLUMNS:
        parts = np.split(np.arange(count), table.columns)
        return {f'column {i}': tuple(part.tolist()) for i, part in enumerate(parts, start=1)}
    numbers = range(count) if text == EACH else numbers_of(text, count, (EACH, COLUMNS))
    return {f'unit {number}': (number,) for number in numbers}


def numbers_of(text: str, count: int, words: Sequence[str]) -> list[int]:
    """Returns the numbers of units in '0,3,7', each once.

    Args:
      count: number of units. words: other allowed values of the option.

    Raises:
      InputError: they are not numbers below `count`.
    """
    parts = [word.strip() for word in text.split(',')]
    digits = all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts)
    if not digits or max(map(int, parts)) >= count:
        raise InputError(
            f'--units is {shown(text)}; allowed: {", ".join(words)}, or numbers from 0 to'
            f' {count - 1} with commas between'
        )
    return list(dict.fromkeys(map(int, parts)))


def lesions(
    showing: Showing, layer: str, removed: Mapping[str, Units], most: int = 0
) -> tuple[Tally, list[Lesion]]:
    """Returns the errors of the whole net, and of each lesion in order.

    Args:
      most: number of random images of the split, the same every time; 0: all.

    Raises:
      RecordError: a stored image is damaged.
      StopRequestedError: a stop was requested.
    """
    model, images = showing.model, showing.images
    if most:
        some = sample(images.splits[showing.split], most)
        images = dataclasses.replace(images, splits={showing.split: some})
    count = activation_shapes(model.net.architecture, len(model.classes))[layer][-1]
    run = showing.lesioned(layer)
    names, found, whole = list(removed), [], Tally.zero(len(model.classes))
    width = min(AT_ONCE, len(names))
    for first in range(0, len(names), width):
        group = names[first : first + width]
        masks = np.ones((width, count), np.float32)  # the last group may have empty lesions
        for mask, name in zip(masks, group, strict=False):
            mask[list(removed[name])] = 0
        whole, tallies = _tallies(run(masks, images), len(model.classes), len(group))
        found += [
            Lesion(name, removed[name], tally) for name, tally in zip(group, tallies, strict=True)
        ]
    return whole, found


def _tallies(outputs: Any, classes: int, lesions: int) -> tuple[Tally, list[Tally]]:
    """Counts the errors of the whole net and of each lesion."""
    tallies = [Tally.zero(classes) for _ in range(lesions)]

    def each(batch: Outputs, _: np.ndarray) -> None:
        for number, tally in enumerate(tallies):
            logits = batch.activations['lesioned'][:, :, number]
            evaluate.add(tally, dataclasses.replace(batch, logits=logits))

    return evaluate.evaluate(outputs, classes, each), tallies


def tree(showing: Showing, layer: str, whole: Tally, found: Sequence[Lesion]) -> dict[str, Any]:
    """Returns all results for JSON.

    Errors by class are in the order of `classes`; None for a class without images.
    """

    def errors(tally: Tally) -> dict[str, Any]:
        scores = tally.scores()
        own = ('loss', 'top1_error', 'top5_error', 'top1_interval', 'top5_interval')
        by_class = tally.by_class(showing.model.classes)['classes']
        of_classes = {'class_top1_errors': [row['top1_error'] for row in by_class]}
        return {key: scores[key] for key in own} | of_classes

    lesions = [{'removed': one.name, 'units': list(one.units)} | errors(one.tally) for one in found]
    examples = {'examples': whole.images, 'class_examples': whole.examples.tolist()}
    about = showing.about | {'layer': layer} | examples
    return about | {'whole_net': errors(whole), 'lesions': lesions}


def markdown(result: Mapping[str, Any]) -> str:
    """Returns a `tree` as a page: the lesions that change the top-1 error most.

    Ties are ordered by the change of the loss. Each row names the most affected class.
    """
    whole, lesions = result['whole_net'], result['lesions']

    def change(row: Mapping[str, Any], key: str = 'top1_error') -> float:
        return row[key] - whole[key]

    largest = sorted(lesions, key=lambda row: (-abs(change(row)), -abs(change(row, 'loss'))))
    listed = largest[:LISTED]
    names = class_names.short_names(result['classes'])
    return '\n'.join([
        f'# Lesions of {result["layer"]}', '',
        f'{result["network"]} at step {result["step"]}, {result["split"]} of {result["source"]},'
        f' {counted(result["examples"], "image")}. Errors are fractions. Of'
        f' {counted(len(lesions), "lesion")}, {len(listed)} that change the top-1 error most.', '',
        '| removed | top-1 error | change | loss | change | most changed class |',
        '|---|---|---|---|---|---|',
        f'| nothing | {whole["top1_error"]:.4f} | | {whole["loss"]:.4f} | | |',
        *(
            f'| {row["removed"]} | {row["top1_error"]:.4f} | {change(row):+.4f} |'
            f' {row["loss"]:.4f} | {change(row, "loss"):+.4f} | {_most_changed(row, whole, names)} |'
            for row in listed
        ),
    ])  # fmt: skip


def _most_changed(row: Mapping[str, Any], whole: Mapping[str, Any], names: Sequence[str]) -> str:
    """Returns the class whose error changes most, with its error before and after."""
    pairs = zip(whole['class_top1_errors'], row['class_top1_errors'], strict=True)
    changes = [(0 if old is None else abs(new - old), old, new) for old, new in pairs]
    label = max(range(len(changes)), key=lambda label: changes[label][0])
    size, old, new = changes[label]
    return f'{_cell(names[label])} {old:.4f} → {new:.4f}' if size else ''


def _cell(text: str) -> str:
    return plain(text).replace('|', '\\|')


def keep(
    source: Path, overrides: Mapping[str, str], layer: str, units: str, most: int, out: Path
) -> str:
    """Writes lesions.json and lesions.md into `out`, and returns the page as text.

    A line is added if the split has fewer images than `most`.

    Raises:
      InputError: as `open_showing` and `removals`; `out` is of another command or cannot be written.
      NotFiniteError: a loss is NaN or infinite; nothing is written.
      StorageError: lesions.json cannot be written.
    """
    showing = open_showing(source, overrides)
    removed = removals(showing.model, layer, units)
    asked = showing.about | {'layer': layer, 'removed': list(removed), 'most_images': most}
    files.require_same_command(out / 'lesions.json', asked)
    whole, found = lesions(showing, layer, removed, most)
    _require_finite(source, showing.model.step, whole, found)
    result = asked | tree(showing, layer, whole, found)
    page = markdown(result)
    results.write_text(out / 'lesions.md', page + '\n')
    results.write_json(out / 'lesions.json', result)
    fewer = f'--images is {most}; the {showing.split} split has {showing.count}: all were used\n'
    return f'{page}\n\n{fewer * (most > showing.count)}-> {out}/lesions.md, lesions.json'


def _require_finite(source: Path, step: int, whole: Tally, found: Sequence[Lesion]) -> None:
    for name, tally in [('nothing', whole), *((one.name, one.tally) for one in found)]:
        if not np.isfinite(tally.losses).all():
            raise NotFiniteError(
                f'the net of {plain(source)} at step {step} gives NaN or infinite values with'
                f' {name} removed; nothing is kept',
                step,
            )
