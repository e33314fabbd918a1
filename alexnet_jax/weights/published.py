"""Weights by name: those that torchvision and Caffe publish, and models on Hugging Face.

They are looked for in the folder ALEXNET_CACHE, or alexnet_jax/weights in XDG_CACHE_HOME or
~/.cache, and downloaded into it once. Models on Hugging Face lie where its library keeps them.
"""

import os
import sys
from pathlib import Path

from alexnet_jax.runtime.errors import plain
from alexnet_jax.weights import download, hub
from alexnet_jax.weights.download import Published

# torchvision: AlexNet_Weights.IMAGENET1K_V1, whose file name holds the first digits of its SHA-256.
# Caffe: models/bvlc_alexnet/readme.md and models/bvlc_reference_caffenet/readme.md.
CAFFE = 'http://dl.caffe.berkeleyvision.org/'
PUBLISHED = {
    'torchvision': Published(
        'https://download.pytorch.org/models/alexnet-owt-7be5be79.pth',
        'sha256', '7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02', 244_408_911,
    ),
    'caffe': Published(
        f'{CAFFE}bvlc_alexnet.caffemodel', 'sha1', '9116a64c0fbe4459d18f4bb6b56d647b63920377'
    ),
    'caffenet': Published(
        f'{CAFFE}bvlc_reference_caffenet.caffemodel',
        'sha1', '4c8d77deb20ea792f84eb5e6d0a11ca0a8660a46',
    ),
}  # fmt: skip
REMOTE = 'hf:'  # before the name of a repository on Hugging Face
MODEL_FILE = 'model.safetensors'  # in a repository


def cache_folder() -> Path:
    """Returns the folder of downloaded weights."""
    if own := os.getenv('ALEXNET_CACHE'):
        return Path(own).expanduser()
    root = os.getenv('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(root, 'alexnet_jax', 'weights')


def public(name: str) -> str:
    """Returns the name of a model if anyone can use it, or '' for a path of this machine."""
    return name if name in PUBLISHED or name.startswith(REMOTE) else ''


def local(source: str | Path) -> Path:
    """Returns the path of a model, downloaded if need be.

    A name of `PUBLISHED` or hf:OWNER/NAME is downloaded, anything else is a path already. A path
    that exists goes before a name.

    Raises:
      InputError: as `download.fetch` and `hub.pull`.
      StorageError: as `download.fetch`.
    """
    name = os.fspath(source)
    is_there = os.path.lexists(source)
    if name in PUBLISHED and is_there:
        print(f'{name} is read as the path {plain(Path(name).absolute())}', file=sys.stderr)
    elif name in PUBLISHED:
        published = PUBLISHED[name]
        return download.fetch(published, cache_folder() / published.name)
    elif name.startswith(REMOTE) and not is_there:
        return hub.pull(name.removeprefix(REMOTE), MODEL_FILE)
    return Path(source)
