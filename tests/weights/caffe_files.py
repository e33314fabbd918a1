"""Files of Caffe's nets at a reduced size, and the tables read from them."""

from pathlib import Path

import pytest

from alexnet_jax.runtime.errors import InputError
from alexnet_jax.weights import pretrained
from tests.weights import authors, forms, handmade
from tests.weights.handmade import field

CAFFE, CAFFENET = authors.caffe_order('caffe'), authors.caffe_order('caffenet')


PLAIN = [layer for layer in CAFFE if not layer.startswith('norm')]


def table(path: Path, net: str = ''):
    opened = pretrained.open_file(path, net)
    return opened.architecture(forms.reduced(opened.settings['network.name'])), opened


def caffe_data(shape: bytes = b'', transform: bytes = b'') -> bytes:
    rest = field(143, field(1, field(1, shape))) if shape else b''
    return handmade.caffe_layer('data', [], False, 'Input', transform or None, rest)


def refusal(path: Path, net: str = '') -> str:
    with pytest.raises(InputError) as error:
        table(path, net)
    told = str(error.value)
    assert str(path) in told and len(told.splitlines()) == 1 and len(told) < 400
    return told
