"""Weight files with something wrong in them, and what reading them comes to.

    python -m tests.weights.mutations FOLDER

reads 300 of them, made from seeds, in FOLDER and prints as JSON how many were refused
and read, what else happened, and by how many bytes the process grew.
"""

import collections
import dataclasses
import json
import resource
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.runtime.errors import InputError
from alexnet_jax.weights import files, layouts, pretrained, torch_file
from tests.weights import authors, forms, handmade
from tests.weights.handmade import Tensor

COUNT = 300
HUGE = (1 << 20, 1 << 31, 1 << 40, (1 << 63) - 1)
Random = np.random.Generator


def pth_zip(path: Path, random: Random, lie: bool) -> None:
    items, storages = torch_parts(random, lie)
    order = b'middle' if lie and random.integers(8) == 0 else b'little'
    handmade.write_zip(path, handmade.state_dict(items), storages, order)


def pth_legacy(path: Path, random: Random, lie: bool) -> None:
    items, storages = torch_parts(random, lie)
    sizes = {key: (len(content) // 4, content) for key, content in storages.items()}
    if lie and random.integers(4) == 0:
        sizes['0'] = (int(random.choice(HUGE)) - 1, sizes['0'][1])
    handmade.write_legacy(path, handmade.state_dict(items, legacy=True), sizes)


def torch_parts(random: Random, lie: bool) -> tuple[list[tuple[str, Tensor]], dict[str, bytes]]:
    """What a pickle says of its arrays, maybe one of them a lie, and the storages."""
    arrays = forms.torchvision_arrays('torchvision', random)
    items = [(name, handmade.whole(str(key), x)) for key, (name, x) in enumerate(arrays.items())]
    if lie:
        name, tensor = items.pop(random.integers(len(items)))
        items += [(name, lied_tensor(tensor, random))] * random.integers(1, 3)
    return items, {str(key): x.tobytes() for key, x in enumerate(arrays.values())}


def lied_tensor(tensor: Tensor, random: Random) -> Tensor:
    huge = int(random.choice(HUGE))
    changes = [
        {'shape': lied_shape(tensor.shape, random)},
        {'strides': lied_shape(tensor.strides, random)},
        {'size': huge},
        {'size': huge, 'shape': (huge,), 'strides': (1,)},
        {'shape': (huge,) * 4, 'strides': (0,) * 4},
        {'offset': huge},
        {'key': '0'},
        {'kind': 'DoubleStorage'},
    ]
    return dataclasses.replace(tensor, **changes[random.integers(len(changes))])


def lied_shape(shape: tuple[int, ...], random: Random) -> tuple[int, ...]:
    """One extent huge, of one more, nothing, or negative."""
    place = int(random.integers(len(shape)))
    others = (int(random.choice(HUGE)), shape[place] + 1, 0, -shape[place])
    return (*shape[:place], others[random.integers(len(others))], *shape[place + 1 :])


def safetensors(path: Path, random: Random, lie: bool) -> None:
    arrays = {
        f'{layer}/{part}': values
        for layer, pair in zip(forms.CAFFE_LAYERS, forms.pairs('torchvision', random), strict=True)
        for part, values in zip(('kernel', 'bias'), pair, strict=True)
    }
    if not lie:
        return files.write_arrays(path, arrays, {'step': '90'})
    header = handmade.safetensors_header(arrays)
    entry = header[list(header)[random.integers(len(header))]]
    match random.integers(3):
        case 0:
            entry['shape'] = lied_shape(tuple(entry['shape']), random)
        case 1:
            entry['data_offsets'] = lied_shape(tuple(entry['data_offsets']), random)
        case 2:
            entry['dtype'] = str(random.choice(['F64', 'BF16', 'I32', 'F8_E4M3', 'X']))
    content = b''.join(x.tobytes() for x in arrays.values())
    path.write_bytes(handmade.safetensors(header, content))


def caffemodel(path: Path, random: Random, lie: bool, old: bool = False) -> None:
    blobs = forms.caffe_blobs(random)
    which = forms.CAFFE_LAYERS[random.integers(8)] if lie else None
    content = b''
    for name in authors.caffe_order('caffe'):
        both = blobs.get(name, [])
        shapes = [x.shape for x in both]
        if name == which:
            shapes[0] = lied_shape(shapes[0], random)
        parts = [handmade.caffe_blob(x, shape, old) for x, shape in zip(both, shapes, strict=True)]
        twice = name == which and random.integers(4) == 0
        stated = authors.caffe_parameters(name, len(both[0]) if both else 0)
        layer = handmade.caffe_layer(name, parts, old, parameters=stated)
        content += layer * (2 if twice else 1)
    path.write_bytes(content)


def old_caffemodel(path: Path, random: Random, lie: bool) -> None:
    caffemodel(path, random, lie, old=True)


def some(things: Any, random: Random) -> Any:
    return things[random.integers(len(things))]


def damaged(content: bytes, random: Random) -> bytes:
    """Bits flipped, cut short, parts swapped, repeated, or overwritten with zeros; mostly
    near the ends, where the headers are."""

    def place() -> int:
        near = random.integers(min(3000, len(content)))
        return int(
            [near, len(content) - 1 - near, random.integers(len(content))][random.integers(3)]
        )

    one, two = sorted((place(), place()))
    length = int(random.integers(1, 300))
    match random.integers(5):
        case 0:
            flipped = bytearray(content)
            for _ in range(random.integers(1, 9)):
                flipped[place()] ^= 1 << random.integers(8)
            return bytes(flipped)
        case 1:
            return content[:two]
        case 2:
            first, second = content[one : one + length], content[two : two + length]
            return (
                content[:one]
                + second
                + content[one + length : two]
                + first
                + content[two + length :]
            )
        case 3:
            return content[:two] + content[one : one + length] + content[two:]
        case _:
            return content[:one] + bytes(length) + content[one + length :]


def torch_arrays(path: Path) -> dict[str, np.ndarray]:
    return torch_file.read(path, layouts.are_torchvision_names)[0]


def read_torch(path: Path) -> None:
    net = forms.reduced('torchvision')
    require_shapes(layouts.from_torchvision(torch_arrays(path), net, path), 'torchvision')


def read_caffe(path: Path) -> None:
    opened = pretrained.open_file(path, 'caffe')
    require_shapes(opened.layers(opened.architecture(forms.reduced('caffe'))), 'caffe')


def read_safetensors(path: Path) -> None:
    layers = files.read(path)
    found = sorted(x.shape for parts in layers.values() for x in parts.values())
    shapes = forms.SHAPES['torchvision']
    assert found == sorted([*shapes, *((shape[0],) for shape in shapes)]), found


def require_shapes(layers: files.Layers, name: str) -> None:
    shapes = forms.SHAPES[name]
    sizes = [layer['kernel'].size for layer in layers.values()]
    assert sizes == [np.prod(shape) for shape in shapes], sizes
    assert [layer['bias'].size for layer in layers.values()] == [shape[0] for shape in shapes]


FORMS: list[tuple[Callable, Callable]] = [
    (pth_zip, read_torch), (pth_legacy, read_torch), (safetensors, read_safetensors),
    (caffemodel, read_caffe), (old_caffemodel, read_caffe),
]  # fmt: skip


def outcome(path: Path, seed: int) -> str:
    """'refused' or 'read' if all is well, else what happened."""
    random = np.random.default_rng(seed)
    write, read = FORMS[seed % len(FORMS)]
    lie = seed // len(FORMS) % 2 == 1
    write(path, random, lie)
    if not lie:
        path.write_bytes(damaged(path.read_bytes(), random))
    try:
        read(path)
    except InputError as error:
        printed = str(error)
        plain = str(path) in printed and len(printed.splitlines()) <= 2 and len(printed) < 500
        return 'refused' if plain else f'{seed}: {printed}'
    except BaseException:
        return f'{seed} {write.__name__}: {traceback.format_exc(limit=-3)}'
    return 'read'


def main(folder: Path) -> None:
    for write, read in FORMS:
        write(folder / 'sound', np.random.default_rng(0), False)
        read(folder / 'sound')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = collections.Counter(outcome(folder / 'damaged', seed) for seed in range(COUNT))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({'outcomes': outcomes, 'grown': grown * 1024}))


if __name__ == '__main__':
    main(Path(sys.argv[1]))
