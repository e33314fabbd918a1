"""Preferred images of units of a trained net, as a folder of pictures, numbers and one page."""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from alexnet_jax.data import class_names
from alexnet_jax.data.image_set import ImageSet
from alexnet_jax.experiment import build, features, results, trained, unit_images
from alexnet_jax.experiment.defaults import Config
from alexnet_jax.experiment.model import Model
from alexnet_jax.experiment.unit_images import Crop, Search, Unit
from alexnet_jax.network.shapes import last_convolution
from alexnet_jax.report import unit_section
from alexnet_jax.report.figures import page, units
from alexnet_jax.report.figures.curves import SPLITS
from alexnet_jax.report.figures.page import Section
from alexnet_jax.runtime import files, multihost
from alexnet_jax.runtime.errors import InputError, NotFiniteError, counted, plain, unwritable

ABOUT = 'units.json'


@dataclasses.dataclass(frozen=True)
class Request:
    """The requested units and images.

    layer: None for the last convolution's activation function. units: as `unit_images.chosen`
    accepts them. images: images per unit. steps, seed: of gradient ascent.
    """

    layer: str | None
    units: str
    images: int
    steps: int
    seed: int


@dataclasses.dataclass(frozen=True)
class Shown:
    """The searched split of a set."""

    images: ImageSet
    split: str

    @property
    def description(self) -> str:
        """The number of images and the split, such as '1,000 training images'."""
        return counted(len(self.images.splits[self.split]), f'{SPLITS[self.split]} image')


def keep(
    source: Path,
    overrides: Mapping[str, str],
    request: Request,
    out: Path,
    stop_requested: Callable[[], bool] = lambda: False,
) -> str:
    """Writes units.json, unit-N.png, ascent-N.png and index.html to the folder `out`.

    Returns a summary as text.

    Raises:
      InputError: as `trained.open_any` and `unit_images.chosen`; the images of the settings are not
        available; `out` belongs to another command. InputError, StorageError: as `unwritable`.
      NotFiniteError: the net returns values that are not finite; nothing is written.
      RecordError: a stored image is broken.
      StopRequestedError: a stop was requested; nothing is written.
    """
    model, config = trained.open_any(source, overrides)
    layer = request.layer or last_convolution(model.net.architecture)
    if layer is None:
        raise InputError('the net has no convolution; set --layer')
    numbers = unit_images.chosen(model, layer, request.units)
    shown, reason = _images(config, overrides)
    ascended = unit_images.ascended(model.net.architecture, layer)
    about = {
        'model': str(source), 'network': model.net.architecture.name, 'step': model.step,
        'layer': layer, 'numbers': numbers, 'images': request.images,
        'ascended': ascended, 'ascent_steps': request.steps, 'seed': request.seed,
    }  # fmt: skip
    about |= _about(config, shown)
    files.require_own_folder(out, ABOUT)
    files.require_same_command(out / ABOUT, about)
    crops = [[] for _ in numbers]
    if shown:
        search = Search(layer, numbers, request.images)
        crops = _searched(model, config, shown, search, stop_requested)
    ascents = unit_images.ascents(
        model, ascended, numbers, request.steps, request.seed, stop_requested
    )
    found = [Unit(*one) for one in zip(numbers, ascents, crops, strict=True)]
    _require_finite(source, model.step, found)
    _write(out, about, found, shown)
    lines = [f'no images: {reason}; writing gradient ascents only'] if reason else []
    on = f'{shown.description}, ' if shown else ''
    lines.append(f'{counted(len(found), "unit")} of {layer}: {on}{request.steps} steps of ascent')
    return '\n'.join([*lines, f'-> {out}/index.html, {ABOUT}'])


def _images(config: Config, overrides: Mapping[str, str]) -> tuple[Shown | None, str]:
    """Returns the images to search, or the reason why there are none.

    These are the training images, unless a setting names the split.

    Raises:
      InputError: the set that the settings name is not available.
    """
    try:
        images = build.open_images(config)
        split = build.held_out_split(config, images)
    except InputError as error:
        if any(name.startswith(('data.', 'eval.')) for name in overrides):
            raise
        return None, str(error).splitlines()[0]
    if 'eval.split' not in overrides and len(images.splits.get('train', ())):
        split = 'train'
    if not len(images.splits[split]):
        raise InputError(f'the {split} split of data.source {config.data.source} has no images')
    return Shown(images, split), ''


def _about(config: Config, shown: Shown | None) -> dict[str, Any]:
    if shown is None:
        return {'set': None, 'split': None, 'data': None, 'examples': 0}
    return {
        'set': results.set_of(config), 'split': shown.split, 'data': dict(shown.images.identity),
        'examples': len(shown.images.splits[shown.split]),
    }  # fmt: skip


def _searched(
    model: Model, config: Config, shown: Shown, search: Search, stop_requested: Callable[[], bool]
) -> list[list[Crop]]:
    reading = dataclasses.replace(trained.reading_of(model, config), views=1)
    outputs = features.outputs(model, shown.images, shown.split, reading, [search.layer])
    for _ in search.watching(multihost.until_stopped(outputs, stop_requested)):
        pass
    return search.crops(model, shown.images, shown.split)


def _require_finite(source: Path, step: int, found: Sequence[Unit]) -> None:
    for unit in found:
        values = [unit.ascent.value, *(crop.value for crop in unit.crops)]
        if not all(map(math.isfinite, values)):
            raise NotFiniteError(
                f'the net of {plain(source)} at step {step} gives NaN or infinite values of unit'
                f' {unit.number}; nothing is written',
                step,
            )


def _write(out: Path, about: Mapping[str, Any], found: Sequence[Unit], shown: Shown | None) -> None:
    names = shown.images.classes if shown else ()
    short = class_names.short_names(names)
    try:
        with files.new_folder(out) as made:
            for unit in found:
                units.draw([unit], short, made / f'unit-{unit.number}')
                units.save_ascent(unit, made / f'ascent-{unit.number}.png')
            content = _page(about, found, short, shown)
            (made / 'index.html').write_text(content, encoding='utf-8')
            rows = [_tree(unit, names) for unit in found]
            text = json.dumps({**about, 'units': rows}, indent=2, allow_nan=False)
            (made / ABOUT).write_text(text + '\n', 'utf-8', 'backslashreplace')
    except OSError as error:
        raise unwritable(out, error) from error


def _page(
    about: Mapping[str, Any], found: Sequence[Unit], names: Sequence[str], shown: Shown | None
) -> str:
    layer, searched = about['layer'], shown.description if shown else ''
    text = unit_section.explained(layer, about['ascended'], about['ascent_steps'], searched)
    cards = page.side_by_side(*(unit_section.card(unit, layer, names) for unit in found))
    title = f'Units of {layer}, {about["network"]} at step {about["step"]}'
    return page.render(title, page.paragraph(text), [Section('Preferred images', [cards])])


def _tree(unit: Unit, names: Sequence[str]) -> dict[str, Any]:
    """Returns a unit for JSON."""
    number = unit.number
    images = [
        {
            'id': crop.id, 'label': crop.label, 'class': units.name_of(names, crop.label),
            'value': crop.value, 'position': crop.place and list(crop.place),
            'box': dict(zip(('top', 'left', 'bottom', 'right'), crop.box, strict=True)),
        }
        for crop in unit.crops
    ]  # fmt: skip
    ascent = {
        'start': unit.ascent.start, 'value': unit.ascent.value, 'image': f'ascent-{number}.png'
    }  # fmt: skip
    return {'unit': number, 'picture': f'unit-{number}.png', 'images': images, 'ascent': ascent}
