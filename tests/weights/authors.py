"""torchvision's and Caffe's nets with random weights on photographs, as those programs run
them: their files, their preprocessing and, with PyTorch, their logits.

    python -m tests.weights.authors

writes authors.npz anew, in seconds; `tests/experiment/test_exchange.py` compares with it where PyTorch
is not installed. Run it if the weights or images change; never to make a test pass.
"""

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from tests.weights import forms, handmade

LOGITS = Path(__file__).with_name('authors.npz')
NETS = ('torchvision', 'caffe', 'caffenet')
WIDTH = 0.25  # of the stored numbers

_CAFFE = [(96, 3, 11, 11), (256, 48, 5, 5), (384, 256, 3, 3), (384, 192, 3, 3), (256, 192, 3, 3),
          (4096, 256 * 6 * 6), (4096, 4096), (1000, 4096)]  # fmt: skip
SHAPES = {
    'torchvision': [(64, 3, 11, 11), (192, 64, 5, 5), (384, 192, 3, 3), (256, 384, 3, 3),
                    (256, 256, 3, 3), (4096, 256 * 6 * 6), (4096, 4096), (1000, 4096)],
    'caffe': _CAFFE,
    'caffenet': _CAFFE,
}  # fmt: skip
# What follows conv1 and conv2, and what Caffe calls the layers.
_ABOVE = {'caffe': ('relu', 'norm', 'pool'), 'caffenet': ('relu', 'pool', 'norm')}
_REST = (
    'conv3', 'relu3', 'conv4', 'relu4', 'conv5', 'relu5', 'pool5',
    'fc6', 'relu6', 'drop6', 'fc7', 'relu7', 'drop7', 'fc8',
)  # fmt: skip
# So that logits are of about 1: images are of 1 with torchvision, of 100 with Caffe, where
# the normalization is to do something.
_OUTPUT = {'torchvision': 1 / 5, 'caffe': 1 / 100, 'caffenet': 1 / 100}


def shapes(name: str, width: float) -> list[tuple[int, ...]]:
    """Of the weights, from below to above. As many classes as there are `width` thousands."""
    first, *rest = SHAPES[name]
    narrow = [(int(n * width), int(reads * width), *window) for n, reads, *window in rest]
    return [(int(first[0] * width), *first[1:]), *narrow]


def pairs(name: str, width: float = WIDTH) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights and bias of each layer, the same on every machine: NumPy keeps RandomState's
    numbers for ever."""
    random = np.random.RandomState(NETS.index(name))
    drawn = [
        (
            random.standard_normal(shape) * (2 / np.prod(shape[1:])) ** 0.5,
            0.1 * random.standard_normal(shape[0]),
        )
        for shape in shapes(name, width)
    ]
    drawn[-1] = (drawn[-1][0] * _OUTPUT[name], drawn[-1][1])
    return [(weights.astype(np.float32), bias.astype(np.float32)) for weights, bias in drawn]


def state_dict(width: float = WIDTH) -> dict[str, np.ndarray]:
    return {
        f'{module}.{part}': values
        for module, pair in zip(forms.TORCHVISION_MODULES, pairs('torchvision', width), strict=True)
        for part, values in zip(('weight', 'bias'), pair, strict=True)
    }


def blobs(name: str, width: float = WIDTH) -> dict[str, list[np.ndarray]]:
    return dict(zip(forms.CAFFE_LAYERS, map(list, pairs(name, width)), strict=True))


def caffe_order(name: str) -> list[str]:
    """Layers from below to above."""
    below = [f'{layer}{number}' for number in (1, 2) for layer in ('conv', *_ABOVE[name])]
    return ['data', *below, *_REST]


def write_state_dict(path: Path, arrays: dict[str, np.ndarray], legacy: bool = False) -> Path:
    """As `torch.save` does."""
    tensors = [(name, handmade.whole(str(key), x)) for key, (name, x) in enumerate(arrays.items())]
    pickled = handmade.state_dict(tensors, legacy)
    if legacy:
        sized = {str(key): (x.size, x.tobytes()) for key, x in enumerate(arrays.values())}
        return handmade.write_legacy(path, pickled, sized)
    content = {str(key): x.tobytes() for key, x in enumerate(arrays.values())}
    return handmade.write_zip(path, pickled, content)


def caffe_parameters(layer: str, features: int) -> bytes | None:
    """What models/bvlc_alexnet/deploy.prototxt says of a layer, as protobuf."""
    field, real = handmade.field, handmade.real
    layer = layer.split('_')[0]
    sizes = {
        'conv1': field(4, 11) + field(6, 4), 'conv2': field(3, 2) + field(4, 5) + field(5, 2),
        'conv3': field(3, 1) + field(4, 3), 'conv4': field(3, 1) + field(4, 3) + field(5, 2),
        'conv5': field(3, 1) + field(4, 3) + field(5, 2),
    }  # fmt: skip
    if layer.startswith(('conv', 'fc')):
        return field(1, features) + sizes.get(layer, b'')
    return {
        'norm': field(1, 5) + real(2, 1e-4) + real(3, 0.75),
        'pool': field(1, 0) + field(2, 3) + field(3, 2),
        'drop': real(1, 0.5),
    }.get(layer.rstrip('0123456789'))


def write_caffemodel(
    path: Path,
    arrays: dict[str, list[np.ndarray]],
    order: Sequence[str],
    changes: Mapping[str, bytes | None] = {},
    old: bool = False,
) -> Path:
    """A file as Caffe writes it. `changes`: other parameters of layers, by name."""
    content = []
    for layer in order:
        blobs = arrays.get(layer, ())
        parameters = caffe_parameters(layer, len(blobs[0]) if blobs else 0)
        content.append(
            handmade.caffe_layer(
                layer,
                [handmade.caffe_blob(x, x.shape, old) for x in blobs],
                old,
                parameters=changes.get(layer, parameters),
            )
        )
    path.write_bytes(b''.join(content))
    return path


def write(folder: Path, name: str, width: float = WIDTH) -> Path:
    """The net's weight file, as its authors' program writes it."""
    if name == 'torchvision':
        return write_state_dict(folder / f'{name}.pth', state_dict(width))
    return write_caffemodel(folder / f'{name}.caffemodel', blobs(name, width), caffe_order(name))


def photographs(folder: Path) -> list[Path]:
    """Two JPEG files as they are, and a part of each: one of an odd size, one gray."""
    images = resources.files('sklearn.datasets') / 'images'
    china, flower = (Path(str(images / name)) for name in ('china.jpg', 'flower.jpg'))
    odd = Image.open(china).crop((101, 3, 334, 404))
    gray = Image.open(flower).crop((0, 20, 601, 321)).convert('L')
    for name, image in {'odd': odd, 'gray': gray}.items():
        image.save(folder / f'{name}.png', icc_profile=None)
    return [china, flower, folder / 'odd.png', folder / 'gray.png']


def resize_and_center_crop(image: Image.Image, short: int, size: int) -> np.ndarray:
    """torchvision's `Resize(short)` and `CenterCrop(size)`, as its source has them."""
    width, height = image.size
    if width <= height:
        width, height = short, int(short * height / width)
    else:
        width, height = int(short * width / height), short
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2.0), round((height - size) / 2.0)
    return np.asarray(image)[top : top + size, left : left + size]


def torchvision_pixels(file: Path) -> np.ndarray:
    """uint8 [224, 224, 3], RGB."""
    return resize_and_center_crop(Image.open(file).convert('RGB'), 256, 224)


def caffe_pixels(file: Path) -> np.ndarray:
    """`convert_imageset -resize_width 256 -resize_height 256`, `crop_size: 227`: uint8
    [227, 227, 3], BGR."""
    bgr = cv2.resize(cv2.imread(str(file)), (256, 256), interpolation=cv2.INTER_LINEAR)
    return bgr[14 : 14 + 227, 14 : 14 + 227]


def rgb_pixels(name: str, file: Path) -> np.ndarray:
    if name == 'torchvision':
        return torchvision_pixels(file)
    return caffe_pixels(file)[:, :, ::-1]


def logits(name: str, files: Sequence[Path], width: float = WIDTH) -> np.ndarray:
    """By PyTorch."""
    import torch

    from tests.weights import torch_forms

    if name == 'torchvision':
        net = torch_forms.torchvision_net(shapes(name, width), groups2=1)
        net.load_state_dict({key: torch.from_numpy(x) for key, x in state_dict(width).items()})
        images = torch.from_numpy(np.stack([torchvision_pixels(file) for file in files])) / 255
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        with torch.no_grad():
            return net.eval()(((images - mean) / std).permute(0, 3, 1, 2)).numpy()
    images = np.stack([caffe_pixels(file) for file in files]) - np.float32([104, 117, 123])
    bgr = torch.from_numpy(images).permute(0, 3, 1, 2)
    return torch_forms.caffe_net(blobs(name, width), bgr, name == 'caffenet').numpy()


def write_logits(folder: Path) -> None:
    files = photographs(folder)
    np.savez_compressed(LOGITS, **{name: logits(name, files) for name in NETS})


if __name__ == '__main__':
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write_logits(Path(folder))
