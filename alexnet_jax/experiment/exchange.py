"""Imports and exports models: files, folders and repositories."""

import contextlib
import dataclasses
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np

from alexnet_jax.data.own_source import without_folder
from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment import loading, model_card, results
from alexnet_jax.experiment import workdir as workdirs
from alexnet_jax.experiment.defaults import Config
from alexnet_jax.experiment.flags import as_flag
from alexnet_jax.experiment.identity import WEIGHTS
from alexnet_jax.experiment.model import Model
from alexnet_jax.experiment.settings import SETTINGS
from alexnet_jax.network import table_json
from alexnet_jax.runtime import errors
from alexnet_jax.runtime.errors import InputError, counted, plain, unwritable
from alexnet_jax.training import protocol_json, step, warm_start
from alexnet_jax.training.checkpoint import Checkpoints
from alexnet_jax.weights import (
    caffe,
    caffe_images,
    caffe_layers,
    files,
    hub,
    layouts,
    pretrained,
    published,
)
from alexnet_jax.weights.arrays import shortest, write_whole
from alexnet_jax.weights.pretrained import NORMALIZATION, Pretrained
from alexnet_jax.weights.published import MODEL_FILE, REMOTE

PLATFORMS = ('cpu', 'cuda', 'tpu')  # of an exported inference
# Of the formats that can also be read; other formats may have any file name.
SUFFIXES = {'alexnet_jax': '.safetensors', 'torchvision': '.safetensors', 'caffe': '.caffemodel'}
CARD = 'README.md'


def import_file(
    file: Path,
    workdir: Path,
    net: str = '',
    classes: tuple[str, ...] | None = None,
    overrides: Mapping[str, str] | None = None,
) -> str:
    """Creates a workdir from a weight file.

    Returns one line about it, and one for each assumption.

    Args:
      file: a path, or a name as for `loading.load`.
      net, overrides: as for `loading.load`.
      classes: names of the classes; None: those of the file, or known ones.

    Raises:
      InputError: as `loading.load`; the numbers of classes and names differ; the workdir has a run.
    """
    if workdirs.last_checkpoint(workdir) is not None:
        raise InputError(f'--workdir {workdir} holds a run already; take another')
    notes: list[str] = []
    file = published.local(file)
    if pretrained.is_weight_file(file):
        opened = pretrained.open_file(file, net)
        loaded = loading.of_file(opened, file, overrides or {})
        notes = _notes(opened, loaded, file, classes is not None, overrides or {})
    else:
        loaded = loading.load(file, net=net, overrides=overrides)
    classes = loaded.classes if classes is None else classes
    if len(classes) != len(loaded.classes):
        raise InputError(
            f'--classes has {counted(len(classes), "name")}; {file} has {len(loaded.classes)}'
        )
    # Otherwise all imports with equal settings would be one run with exchangeable checkpoints.
    data = {**loaded.data, WEIGHTS: warm_start.digest(loaded.layers)}
    write_workdir(workdir, dataclasses.replace(loaded, classes=classes, data=data))
    return '\n'.join([f'{model_text(loaded)} -> {workdir}', *notes])


def _notes(
    opened: Pretrained, loaded: Model, file: Path, named: bool, overrides: Mapping[str, str]
) -> list[str]:
    """Returns lines about assumptions for a file, and how to change them."""
    notes = [f'{file}: {note}' for note in opened.notes]
    assumed = [name for name in opened.assumed if name not in overrides and loaded.config[name]]
    if assumed:
        values = ' '.join(as_flag(name, loaded.config[name]) for name in assumed)
        notes.append(f'{file} does not state its preprocessing; assuming: {values}')
    if opened.classes is None and not named:
        first = errors.plain(loaded.classes[0])
        notes.append(
            f'{file} does not name its classes; assuming {first}, ...: --classes FILE sets others'
        )
    return notes


def write_workdir(workdir: Path, loaded: Model) -> None:
    """Creates a workdir with the model as its only checkpoint.

    Raises:
      InputError, StorageError: as `unwritable`.
    """
    with workdirs.locked(workdir):
        _write_workdir(workdir, loaded)


def _write_workdir(workdir: Path, loaded: Model) -> None:
    workdirs.claim(workdir, loaded.identity)
    protocol, variables = configuration.base_protocol(loaded.config), loaded.variables
    state = step.start_from(**jax.device_put(variables), protocol=protocol)
    record = loaded.identity.record
    with contextlib.closing(Checkpoints(workdir / 'checkpoints', record=record)) as checkpoints:
        checkpoints.save(state.replace(step=state.step + loaded.step))
        checkpoints.wait()


def export_file(source: Path, at_step: int | None, out: Path, form: str = 'alexnet_jax') -> str:
    """Writes a model, of a workdir or a weight file, in a form of `weights/__main__.py`.

    Returns a line on it.

    Raises:
      InputError: as `loading.load`; the net has no such form.
      InputError, StorageError: as `unwritable`.
    """
    if out.suffix != SUFFIXES.get(form, out.suffix):
        raise InputError(f'--out is {out}; allowed: a name that ends in {SUFFIXES[form]}')
    loaded = loading.load(source, at_step, asked_as='--step')
    architecture = loaded.net.architecture
    lost: list[str] = []
    if form == 'alexnet_jax':
        write(out, loaded)
    elif form == 'torchvision':
        arrays = layouts.to_torchvision(loaded.layers, architecture, source)
        ours = metadata(loaded) | pretrained.packed(loaded.mean, loaded.scale)
        files.write_arrays(out, arrays, ours | {'format': 'pt'})
    elif form == 'caffe':
        lost = _write_caffe(out, loaded, source)
    else:
        _write_stablehlo(out, loaded, architecture.input_size)
    return '\n'.join([f'{model_text(loaded)} -> {out}, {out.stat().st_size} bytes', *lost])


def _write_stablehlo(out: Path, loaded: Model, size: int) -> None:
    """Writes a program for `jax.export.deserialize(content).call(images)`: uint8 images [any
    number, size, size, 3] -> logits. It includes weights and normalization. JAX guarantees to read
    it for six months, so it is not for archiving.
    """
    (batch,) = jax.export.symbolic_shape('batch')
    images = jax.ShapeDtypeStruct((batch, size, size, 3), np.uint8)
    run = jax.jit(lambda images: loaded(images)[0])
    content = jax.export.export(run, platforms=PLATFORMS)(images).serialize()
    write_whole(out, bytes(content))


def _write_caffe(out: Path, loaded: Model, source: Path) -> list[str]:
    """Writes a .caffemodel; returns a line about content that it cannot hold, if any."""
    net = loaded.net.architecture
    blobs = layouts.to_caffe(loaded.layers, net, source)
    transform = caffe_images.transform_of(loaded.mean, loaded.scale)
    caffe.write(out, net.name, caffe_layers.layers_of(net, blobs, transform))
    assumed = configuration.complete(pretrained.SETTINGS['caffe'], {})
    flags = {name: loaded.config[name] for name in ('data.resize', 'data.record_size')}
    if loaded.mean.shape == (3,) and transform is None:
        flags |= {
            'data.normalization': 'standardized',
            'data.mean': shortest(loaded.mean), 'data.std': shortest(loaded.scale),
        }  # fmt: skip
    lost = [as_flag(name, value) for name, value in flags.items() if value != assumed[name]]
    if loaded.classes != loading.assumed_classes(len(loaded.classes)):
        lost.append('--classes FILE')
    gone = ['the mean image'] if loaded.mean.shape != (3,) else []
    gone += ['that images are not to be mirrored'] if not loaded.mirror else []
    return [
        *(
            [f'{out} does not hold all; to import it as it was, give {" ".join(lost)}']
            if lost
            else []
        ),
        *([f'{out} cannot hold {" and ".join(gone)}'] if gone else []),
    ]


def push(source: Path, to: str, license: str = '') -> str:
    """Writes a model's weight file, and a card unless there is one, to a folder or a repository.

    A repository is hf:OWNER/NAME. Returns a line on it.

    Args:
      license: license of the weights, by the Hub's name; '' for none.

    Raises:
      InputError: as `loading.load` and `results.own`; the folder or the repository is not
        accessible.
    """
    loaded = loading.load(source)
    place = to if to.startswith(REMOTE) else 'FOLDER'
    trained_on = portable(loaded.config)['data.source']
    found = _results(source, loaded)
    if license and (Path(to) / CARD).exists():
        raise InputError(
            f'--license is {license}, but {plain(Path(to) / CARD)} is there, and stays as it is;'
            ' remove it, or leave --license out'
        )
    card = model_card.model_card(loaded, trained_on, place, found, license)
    if not to.startswith(REMOTE):
        stays = (Path(to) / CARD).exists()
        _fill(Path(to), loaded, card)
        kept = (
            f'{plain(Path(to) / CARD)} stays as it is; it may be of another model\n'
            if stays
            else ''
        )
        return f'{kept}{model_text(loaded)} -> {to}'
    with tempfile.TemporaryDirectory() as folder:
        _fill(Path(folder), loaded, card)
        address = hub.push(Path(folder), to.removeprefix(REMOTE), keep=CARD)
    return f'{model_text(loaded)} -> {address}'


def _results(source: Path, loaded: Model) -> list[dict[str, Any]]:
    """Returns a workdir's results of exactly this model: same step and run digest. A weight file
    has none.

    Raises:
      InputError: as `results.own`.
    """
    return [
        result
        for result in results.own(source)
        if result['step'] == loaded.step and result.get('run') == loaded.identity.digest
    ]


def pull(source: str, workdir: Path) -> str:
    """Creates a workdir from a model written by `push`; returns a line about it.

    It downloads only the weight file of a repository.

    Raises:
      InputError: the model is not accessible, or as `import_file`.
    """
    if source.startswith(REMOTE):
        return import_file(hub.pull(source.removeprefix(REMOTE), MODEL_FILE), workdir)
    return import_file(Path(source) / MODEL_FILE, workdir)


def write(path: Path, loaded: Model) -> None:
    """Writes a weight file of this package, with everything that `loading.load` needs.

    Raises:
      InputError: as `files.write`.
    """
    normalization = {'mean': loaded.mean, 'scale': loaded.scale}
    files.write(path, {**loaded.layers, NORMALIZATION: normalization}, metadata(loaded))


def metadata(loaded: Model) -> dict[str, str]:
    """Returns the metadata of this package's weight files."""
    protocol = loaded.config.train.table  # if it is not one of this package
    return {
        'format': 'alexnet_jax',
        'config': json.dumps(portable(loaded.config)),
        'network': json.dumps(table_json.to_json(loaded.net.architecture)),
        **({} if protocol is None else {'protocol': json.dumps(protocol_json.to_json(protocol))}),
        'model': json.dumps(
            {
                'classes': loaded.classes,
                'mirror': loaded.mirror,
                'step': loaded.step,
                'data': {
                    name: text
                    for name, text in loaded.data.items()
                    if name not in ('source', WEIGHTS)
                },
            }
        ),
    }


def portable(config: Config) -> dict[str, Any]:
    """Returns the settings that define the model, without paths of this machine."""
    kind, _, place = config.data.source.partition(':')
    if kind == 'folder':
        source = f'folder:{Path(place).resolve().name or place}'
        config = configuration.changed(config, {'data.source': source})
    source = without_folder(config.data.source)
    config = configuration.changed(config, {'data.source': source})
    return {
        name: value
        for name, value in configuration.flat(config).items()
        if not SETTINGS[name].free and not name.startswith('start.')
    }


def model_text(loaded: Model) -> str:
    """Describes a model in one line: its net, parameters, classes and step."""
    numbers = sum(x.size for parts in loaded.layers.values() for x in parts.values())
    return (
        f'{loaded.config.network.name}: {numbers:,} numbers,'
        f' {counted(len(loaded.classes), "class", "classes")},'
        f' step {loaded.step}'
    )


def _fill(folder: Path, loaded: Model, card: str) -> None:
    card_file = folder / CARD
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not Path(os.path.realpath(card_file)).is_relative_to(os.path.realpath(folder)):
            raise InputError(
                f'{card_file} is a link out of the folder; remove it, or push elsewhere'
            )
        write(folder / MODEL_FILE, loaded)
        if not card_file.exists():
            card_file.write_text(card, 'utf-8')
    except OSError as error:
        raise unwritable(folder, error) from error
