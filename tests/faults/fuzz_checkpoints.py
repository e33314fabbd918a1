"""Checkpoints that somebody changed, with a manifest that fits, and what reading them comes to."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from alexnet_jax.experiment import loading
from alexnet_jax.network import device_mesh
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.architectures import SMALL
from alexnet_jax.runtime.errors import InputError
from alexnet_jax.training import manifest, step
from alexnet_jax.training.checkpoint import Checkpoints
from alexnet_jax.training.checkpoint_reader import read_layers
from tests.weights.mutations import damaged, lied_shape

Random = np.random.Generator
LONGEST = 700  # of a message
AT = 5


def like() -> step.TrainState:
    return step.abstract_state(AlexNet(SMALL, 10), device_mesh.make_mesh())


def make(folder: Path) -> Path:
    """A sound one."""
    state = step.create_state(AlexNet(SMALL, 10), 0, device_mesh.make_mesh())
    checkpoints = Checkpoints(folder)
    checkpoints.save(state.replace(step=state.step + AT))
    checkpoints.wait()
    return folder / str(AT)


def some_file(place: Path, random: Random, pattern: str) -> Path:
    found = [path for path in sorted((place / 'state').rglob('*')) if re.search(pattern, str(path))]
    return found[random.integers(len(found))]


def lying_array(place: Path, random: Random) -> None:
    """What Zarr says of an array is not so."""
    path = some_file(place, random, r'\.zarray$')
    tree = json.loads(path.read_text())
    shape = tuple(tree['shape']) or (1,)
    kinds = ('<f8', '>f4', '<i4', '|O', '|S9', '<U3', [['a', '<f4']], 'x' * 999, None)
    codecs = (
        {'id': 'zlib', 'level': 9}, {'id': 'blosc'}, {'id': 'pickle'}, {'id': '../x'}, 'x', [], 3,
    )  # fmt: skip
    lies = [
        {'shape': lied_shape(shape, random)},
        {'chunks': lied_shape(shape, random)},
        {'shape': (huge := lied_shape(shape, random)), 'chunks': huge},
        {'dtype': kinds[random.integers(len(kinds))]},
        {'compressor': codecs[random.integers(len(codecs))]},
        {'filters': [{'id': 'pickle'}]},
        {'order': 'F'}, {'fill_value': 'x'}, {'fill_value': float('nan')}, {'zarr_format': 3},
        {'dimension_separator': '/'}, {'dimension_separator': '../'},
    ]  # fmt: skip
    lie = lies[random.integers(len(lies))]
    path.write_text(json.dumps(tree | lie))


def lying_tree(place: Path, random: Random) -> None:
    """What Orbax says of the tree is not so: other names, kinds, nesting, places of files."""
    path = place / ('state/_METADATA', '_CHECKPOINT_METADATA')[random.integers(2)]
    text = path.read_text()
    words = sorted(set(re.findall(r'"[^"]*"', text)))
    others = (
        '"../../../x"', '"__class__"', '"params"', '"jax.Array"', 'null', '[]', '1e999',
        '"\\u0000"',
    )  # fmt: skip
    for _ in range(random.integers(1, 4)):
        word = words[random.integers(len(words))]
        text = text.replace(word, others[random.integers(len(others))], random.integers(1, 4))
    path.write_text(text)


def damaged_file(place: Path, random: Random) -> None:
    path = some_file(place, random, r'zarray|METADATA|_sharding|process_|/[\d.]+$')
    if path.is_file() and path.stat().st_size:
        path.write_bytes(damaged(path.read_bytes(), random))


def other_files(place: Path, random: Random) -> None:
    """One gone, one in place of another, a folder for a file."""
    one, two = (some_file(place, random, r'zarray|METADATA|process_|/[\d.]+$') for _ in range(2))
    if one.is_file():
        one.unlink()
    elif one.is_dir():
        shutil.rmtree(one)
    match random.integers(3):
        case 0:
            one.mkdir(parents=True)
        case 1 if two.is_file():
            one.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(two, one)


FORMS: tuple[Callable[[Path, Random], None], ...] = (
    lying_array, lying_array, lying_tree, damaged_file, other_files,
)  # fmt: skip


def outcome(sound: Path, here: Path, seed: int) -> str:
    """'read' or 'refused' if all is well, else what happened."""
    random = np.random.default_rng(seed)
    shutil.rmtree(here, ignore_errors=True)
    place = here / str(AT)
    shutil.copytree(sound, place)
    form = FORMS[seed % len(FORMS)]
    form(place, random)
    (place / manifest.NAME).unlink()
    manifest.write(place, {'step': AT, 'top1_error': None})
    found = []
    for read in (restored, layers):
        try:
            shapes = read(here)
        except InputError as error:
            if str(here) not in str(error) or len(str(error)) > LONGEST or '\n' in str(error):
                return f'{form.__name__} {seed}: {str(error)[:900]!r}'
            found.append('refused')
        else:
            if shapes != read(sound.parent):
                return f'{form.__name__} {seed}: other shapes'
            found.append('read')
    return found[0] if 'refused' not in found else 'refused'


def restored(folder: Path) -> list[tuple]:
    checkpoints = Checkpoints(folder)
    try:
        return [x.shape for x in jax.tree.leaves(checkpoints.restore(AT, like()))]
    finally:
        checkpoints.close()


def layers(folder: Path) -> list[tuple]:
    """As `alexnet_jax.load` takes them."""
    variables = loading._variables(AlexNet(SMALL, 10), read_layers(folder, AT)[0], folder)
    return [x.shape for x in jax.tree.leaves(variables)]
