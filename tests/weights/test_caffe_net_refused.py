"""Nets of Caffe that no table here has, and what is read of them all the same."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from alexnet_jax.network.layers import LocalResponseNorm
from tests.weights import authors, forms, handmade
from tests.weights.handmade import field, real
from tests.weights.test_caffe_net import CAFFE, PLAIN, caffe_data, refusal, table

BAD_IMAGES = {
    'two sizes': (caffe_data(bytes([1, 3, 99, 99]), field(3, 95)), 'states images of'),
    'not square': (caffe_data(bytes([1, 3, 99, 95])), 'shape (1, 3, 99, 95)'),
    'gray': (caffe_data(bytes([1, 1, 99, 99])), 'shape (1, 1, 99, 99)'),
    'three axes': (caffe_data(bytes([3, 99, 99])), 'shape (3, 99, 99)'),
    'two means': (caffe_data(transform=real(5, 1) + real(5, 2)), '2 means of channels'),
    'a factor of 0': (caffe_data(transform=real(1, 0)), 'multiplies images by 0.0'),
    'a factor below 0': (caffe_data(transform=real(1, -1)), 'multiplies images by -1.0'),
    'a factor that is no number': (caffe_data(transform=real(1, np.nan)), 'multiplies images'),
    'layers that differ': (
        caffe_data(transform=real(5, 1)) + caffe_data(transform=real(5, 2)), 'states means of',
    ),
}  # fmt: skip


@pytest.mark.parametrize('name', BAD_IMAGES)
def test_a_preprocessing_that_cannot_be(name, random, tmp_path):
    first, message = BAD_IMAGES[name]
    path = tmp_path / 'a'
    authors.write_caffemodel(path, forms.caffe_blobs(random), CAFFE[1:])
    path.write_bytes(first + path.read_bytes())
    assert message in refusal(path)


def conv(number: int, *more: bytes) -> bytes:
    return (authors.caffe_parameters(f'conv{number}', {1: 12, 2: 32, 3: 48, 4: 48, 5: 32}[number])
            or b'') + b''.join(more)  # fmt: skip


POOL = field(2, 3) + field(3, 2)


BAD_PARAMETERS: dict[str, tuple[dict[str, bytes | None], str]] = {
    'dilation': ({'conv3': conv(3, field(18, 2))}, 'dilation'),
    'axis of a convolution': ({'conv3': conv(3, field(16, 2))}, 'axis'),
    'a window of two sides': ({'conv2': field(1, 32) + field(11, 5) + field(12, 3)}, 'kernel_size'),
    'one side of two': ({'conv2': field(1, 32) + field(11, 5)}, 'kernel_size'),
    'no window': ({'conv2': field(1, 32)}, 'kernel_size [] in layer conv2'),
    'a window of 0': ({'conv2': field(1, 32) + field(4, 0)}, 'kernel_size [0]'),
    'three sides': ({'conv2': conv(2, field(4, 3), field(4, 7))}, 'kernel_size [3, 5, 7]'),
    'a stride of 0': ({'conv2': conv(2, field(6, 0))}, 'stride [0]'),
    'padding of two sides': ({'conv2': field(1, 32) + field(4, 5) + field(9, 1)}, 'pad [0, 1]'),
    'groups of the image': ({'conv1': conv(1, field(5, 3))}, 'group 3 in layer conv1'),
    'three groups': ({'conv4': conv(4, field(5, 3))}, 'group 3 in layer conv4'),
    'no groups': ({'conv4': conv(4, field(5, 0))}, 'group 0 in layer conv4'),
    'more groups than maps': ({'conv4': conv(4, field(5, 98))}, 'a multiple of its'),
    'an odd width': ({'conv3': conv(3, field(1, 47))}, 'has 47 features'),
    'no width': ({'conv3': conv(3, field(1, 0))}, 'has 0 features'),
    'axis of fc6': ({'fc6': field(1, 512) + field(5, 2)}, 'axis or transpose in layer fc6'),
    'transposed': ({'fc8': field(1, 7) + field(6, 1)}, 'axis or transpose in layer fc8'),
    'other classes': ({'fc8': field(1, 8)}, 'num_output 8 in layer fc8'),
    'an even window': ({'norm1': field(1, 4)}, 'normalization over 4 maps'),
    'a window wider than all maps': ({'norm1': field(1, 13)}, 'normalization over 13 maps'),
    'an even neighborhood': ({'norm1': field(1, 4) + field(4, 1)}, 'over 4 pixels'),
    'k within a channel': ({'norm1': field(4, 1) + real(5, 2)}, 'k 2 within a channel'),
    'k of 0': ({'norm1': real(5, 0)}, 'k 0'),
    'alpha below 0': ({'norm1': real(2, -1)}, 'alpha -1'),
    'alpha that is no number': ({'norm1': real(2, np.nan)}, 'alpha nan'),
    'infinite beta': ({'norm1': real(3, np.inf)}, 'beta inf'),
    'padded pooling': ({'pool1': POOL + field(4, 1)}, 'padding in layer pool1'),
    'global pooling': ({'pool5': field(12, 1)}, 'global or stochastic'),
    'stochastic pooling': ({'pool1': POOL + field(1, 2)}, 'global or stochastic'),
    'pooling of a number that is none': ({'pool1': POOL + field(1, 9)}, 'global or stochastic'),
    'pooling without a window': ({'pool1': field(3, 2)}, 'kernel_size []'),
    'pooling with gaps': ({'pool1': field(2, 2) + field(3, 3)}, 'stride 3 over windows of 2'),
    'pooling of two sides': ({'pool1': field(5, 3) + field(6, 2)}, 'kernel_size [2, 3]'),
    'no parameters of a pooling': ({'pool1': None}, 'kernel_size []'),
    'sizes rounded down': ({'pool1': field(2, 4) + field(3, 2) + field(13, 1)}, 'rounded down'),
    'all dropped': ({'drop6': real(1, 1)}, 'dropout_ratio 1'),
    'a slope that is no number': ({'relu1': real(1, np.nan)}, 'negative_slope nan'),
}  # fmt: skip


@pytest.mark.parametrize('name', BAD_PARAMETERS)
def test_parameters_that_no_table_has(name, random, tmp_path):
    changes, message = BAD_PARAMETERS[name]
    path = authors.write_caffemodel(tmp_path / 'a', forms.caffe_blobs(random), CAFFE, changes)
    assert message in refusal(path)


def changed(order: list[str], **places: str) -> list[str]:
    """`after_conv3='norm3'` puts a layer there; `without_relu3=''` leaves one out."""
    for where, layer in places.items():
        kind, name = where.split('_')
        at = order.index(name)
        order = [*order[: at + 1], layer, *order[at + 1 :]] if kind == 'after' else [
            *order[:at], *order[at + 1 :]
        ]  # fmt: skip
    return order


BAD_ORDERS: dict[str, tuple[list[str], str]] = {
    'no activation': (changed(CAFFE, without_relu3=''), 'no activation after conv3'),
    'no activation of fc7': (changed(CAFFE, without_relu7=''), 'no activation after fc7'),
    'a layer less': (changed(CAFFE, without_conv3='', without_relu3=''), '4 convolutions, 3 fully'),
    'a layer more': (changed(CAFFE, after_relu7='fc75'), '5 convolutions, 4 fully'),
    'a stage above all': (changed(CAFFE, after_fc8='relu8'), 'relu8 above the classifier'),
    'a stage below all': (['relu0', *CAFFE[1:]], 'relu0 of type ReLU'),
    'two poolings': (changed(CAFFE, after_pool5='pool55'), 'pools twice after conv5'),
    'pooling of units': (changed(CAFFE, after_relu6='pool6'), 'pools or normalizes after fc6'),
}


@pytest.mark.parametrize('name', BAD_ORDERS)
def test_layers_that_no_table_has(name, random, tmp_path):
    order, message = BAD_ORDERS[name]
    path = authors.write_caffemodel(tmp_path / 'a', forms.caffe_blobs(random), order)
    assert message in refusal(path)


OTHER_LAYERS = ('Scale', 'BatchNorm', 'Eltwise', 'Concat', 'PReLU', 'Power', 'Flatten', 'Slice',
                'Deconvolution', 'Python', 'x\x1b[2J', '')  # fmt: skip


@pytest.mark.parametrize('kind', OTHER_LAYERS)
def test_a_layer_of_another_type_between(kind, random, tmp_path):
    path = authors.write_caffemodel(tmp_path / 'a', forms.caffe_blobs(random), CAFFE)
    content = path.read_bytes()
    at = content.index(field(1, b'conv3')) - 4
    at = content.rindex(b'\xa2\x06', 0, at + 4)
    odd = field(100, field(1, b'odd') + field(2, kind.encode()))
    path.write_bytes(content[:at] + odd + content[at:])
    assert 'odd of type' in refusal(path)


def wired(*layers: tuple[str, str, str, bytes]) -> Callable[[Path], None]:
    """Layers: name, bottom, top, other fields."""

    def write(path: Path) -> None:
        blobs = forms.caffe_blobs(np.random.default_rng(0))
        content = b''
        for name, bottom, top, rest in layers:
            both = blobs.get(name, [])
            ends = b''.join(field(3, x.encode()) for x in bottom.split())
            ends += b''.join(field(4, x.encode()) for x in top.split())
            content += handmade.caffe_layer(
                name, [handmade.caffe_blob(x, x.shape, False) for x in both], False,
                {'s': 'Split', 'softmax': 'Softmax'}.get(name, ''),
                authors.caffe_parameters(name, len(both[0]) if both else 0), ends + rest,
            )  # fmt: skip
        path.write_bytes(content)

    return write


def chain(order: list[str]) -> list[tuple[str, str, str, bytes]]:
    return [(name, order[at - 1] if at else '', name, b'') for at, name in enumerate(order)]


def test_layers_that_read_what_does_not_lie_below_them(tmp_path):
    path, whole = tmp_path / 'a', chain(CAFFE)
    split = [('s', 'data', 'one two', b''), ('conv1', 'two', 'conv1', b''), *whole[2:]]
    above = [*whole, ('s', 'fc8', 'x y', b''), ('softmax', 'x', 'p', b'')]
    training = [(*layer[:3], field(8, field(1, 0))) if layer[0] == 'data' else layer
                for layer in whole]  # fmt: skip
    for layers in (whole, [whole[0], *split], above, training):
        wired(*layers)(path)
        assert table(path)[0] == forms.reduced('caffe')
    at = CAFFE.index('conv3')
    for name, bottom, more in [
        ('conv3', 'conv2', b''), ('conv3', 'pool2 norm2', b''), ('conv3', 'pool2', field(8, b'')),
        ('conv3', 'pool2', field(9, field(1, 1))),
    ]:  # fmt: skip
        wired(*whole[:at], (name, bottom, name, more), *whole[at + 1 :])(path)
        assert 'conv3 of type Convolution' in refusal(path)


def test_layers_that_change_the_images_or_write_two_things(tmp_path):
    path, whole = tmp_path / 'a', chain(CAFFE)
    wired(whole[0], ('softmax', 'data', 'data', b''), ('conv1', 'data', 'conv1', b''), *whole[2:])(
        path
    )
    assert 'softmax of type Softmax, which no net here has there' in refusal(path)
    at = CAFFE.index('pool1')
    wired(*whole[:at], ('pool1', 'norm1', 'pool1 mask', b''), *whole[at + 1 :])(path)
    assert 'pool1 of type Pooling that writes pool1, mask; allowed: one top' in refusal(path)


def test_a_bias_that_the_file_denies(random, tmp_path):
    changes = {'fc7': field(1, 512) + field(2, 0)}
    path = authors.write_caffemodel(tmp_path / 'a', forms.caffe_blobs(random), CAFFE, changes)
    assert 'bias_term false beside a bias in layer fc7; allowed: weights alone' in refusal(path)


def test_weights_alone_and_files_without_parameters(random, tmp_path):
    """Weights alone are of the net that `--net` names, if what they state fits; an order of
    layers without parameters must be that of the net."""
    path, blobs = tmp_path / 'a', forms.caffe_blobs(random)
    authors.write_caffemodel(path, blobs, forms.CAFFE_LAYERS)
    assert 'import it with --net=caffe' in refusal(path)
    for net in ('caffe', 'caffenet'):
        assert table(path, net)[0] == forms.reduced(net)
    authors.write_caffemodel(path, blobs, forms.CAFFE_LAYERS, {'conv1': conv(1, field(3, 2))})
    assert 'conv1.padding is (2, 2), not (0, 0)' in refusal(path, 'caffe')
    silent = dict.fromkeys(CAFFE)
    authors.write_caffemodel(path, blobs, CAFFE, silent)
    assert table(path)[0] == forms.reduced('caffe')
    authors.write_caffemodel(path, blobs, PLAIN, silent)
    assert 'states no parameters of its layers, and after conv1 ReLU Pooling' in refusal(
        path, 'caffe'
    )
    authors.write_caffemodel(path, blobs, PLAIN)
    assert '--net is caffe, but' in refusal(path, 'caffe')
    assert not any(isinstance(x, LocalResponseNorm) for x in table(path)[0].layers[0].then)


def test_the_form_of_before_2013(tmp_path):
    path = tmp_path / 'a.caffemodel'
    path.write_bytes(field(2, field(1, field(1, b'conv1'))))
    assert 'upgrade_net_proto_binary' in refusal(path)
