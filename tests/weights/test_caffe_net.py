"""The net that a Caffe file states, beside Caffe's layers in NumPy."""

import dataclasses
import struct
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.layers import AveragePool, LeakyRelu, LocalResponseNorm, SameMapNorm
from alexnet_jax.runtime.errors import InputError
from alexnet_jax.weights import caffe, caffe_layers, caffe_net, pretrained
from alexnet_jax.weights.arrays import ContentError
from tests.network.parity import QUICK
from tests.weights import authors, forms, handmade
from tests.weights import caffe_in_numpy as theirs
from tests.weights.handmade import field, real

CAFFE, CAFFENET = authors.caffe_order('caffe'), authors.caffe_order('caffenet')
PLAIN = [layer for layer in CAFFE if not layer.startswith('norm')]


def table(path: Path, net: str = ''):
    opened = pretrained.open_file(path, net)
    return opened.architecture(forms.reduced(opened.settings['network.name'])), opened


def run(path: Path, images: np.ndarray) -> np.ndarray:
    """Logits of RGB images [batch, height, width, 3], from the file alone."""
    net, opened = table(path)
    variables = {'params': opened.layers(net)}
    apply = jax.jit(
        lambda images: AlexNet(net, forms.CLASSES).apply(variables, images)[0],
        compiler_options=QUICK,
    )
    return np.asarray(apply(images))


@dataclasses.dataclass
class Case:
    """A file's order and changed parameters, and what follows conv1 and conv2, and conv5, there."""

    order: list[str]
    changes: dict[str, bytes | None]
    above: Callable[[np.ndarray, int], np.ndarray]
    pool5: Callable[[np.ndarray], np.ndarray] = lambda x: theirs.pool(x, 3, 2)
    slope: float = 0


def normal_then_average(x: np.ndarray, number: int) -> np.ndarray:
    return theirs.pool(theirs.lrn(x, 5, 0.5), 3, 2, average=number == 1)


def mixed(x: np.ndarray, number: int) -> np.ndarray:
    if number == 1:
        return theirs.pool(theirs.lrn(x, 3, 0.7, 0.5, 2), 3, 2)
    return theirs.lrn_within(theirs.pool(x, 2, 2), 3, 0.9, 0.6)


CASES = {
    'alpha and average': Case(
        CAFFE,
        {
            'norm1': field(1, 5) + real(2, 0.5), 'norm2': field(1, 5) + real(2, 0.5),
            'pool1': field(1, 1) + field(2, 3) + field(3, 2),
        },
        normal_then_average,
    ),
    "Caffe's own defaults": Case(
        CAFFENET, {'norm1': None, 'norm2': b''}, lambda x, _: theirs.lrn(theirs.pool(x, 3, 2))
    ),
    'mixed order, within a channel, windows of two sides': Case(
        [*CAFFE[:7], 'pool2', 'norm2', *CAFFE[9:]],
        {
            'norm1': field(1, 3) + real(2, 0.7) + real(3, 0.5) + field(4, 0) + real(5, 2),
            'norm2': field(1, 3) + real(2, 0.9) + real(3, 0.6) + field(4, 1),
            'pool2': field(5, 2) + field(6, 2) + field(7, 2) + field(8, 2) + field(12, 0),
            'pool5': field(2, 4) + field(3, 3),
        },
        mixed,
        lambda x: theirs.pool(x, 4, 3),
    ),
    'no normalization, a slope, another dropout, averages that overhang': Case(
        PLAIN,
        {
            **{f'relu{n}': real(1, 0.25) for n in range(1, 8)},
            'drop6': real(1, 0.75),
            'pool5': field(1, 1) + field(2, 4) + field(3, 2) + field(13, 0),
        },
        lambda x, _: theirs.pool(x, 3, 2),
        lambda x: theirs.pool(x, 4, 2, average=True),
        0.25,
    ),
}  # fmt: skip


def expected(case: Case, blobs: dict, images: np.ndarray, groups4: int = 2) -> np.ndarray:
    x = images[..., ::-1].transpose(0, 3, 1, 2).astype(np.float64)
    x = case.above(theirs.relu(theirs.convolution(x, *blobs['conv1'], stride=4), case.slope), 1)
    x = theirs.convolution(x, *blobs['conv2'], pad=2, group=2)
    x = case.above(theirs.relu(x, case.slope), 2)
    for name, group in {'conv3': 1, 'conv4': groups4, 'conv5': 2}.items():
        x = theirs.relu(theirs.convolution(x, *blobs[name], pad=1, group=group), case.slope)
    x = case.pool5(x)
    for name in ('fc6', 'fc7'):
        x = theirs.relu(theirs.inner_product(x, *blobs[name]), case.slope)
    return theirs.inner_product(x, *blobs['fc8'])


@pytest.fixture
def images(random) -> np.ndarray:
    size = forms.reduced('caffe').input_size
    return random.normal(0, 60, (2, size, size, 3)).astype(np.float32)


@pytest.mark.parametrize('name', CASES)
def test_a_file_computes_what_it_states(name, random, images, tmp_path):
    case, blobs = CASES[name], forms.caffe_blobs(random)
    path = authors.write_caffemodel(tmp_path / 'a', blobs, case.order, case.changes)
    ours, wanted = run(path, images), expected(case, blobs, images)
    assert np.abs(ours - wanted).max() < 1e-4 * wanted.std()
    usual = CASES["Caffe's own defaults"]
    plain = Case(CAFFE, {}, lambda x, _: theirs.pool(theirs.lrn(x, 5, 1e-4), 3, 2))
    if case is not usual:  # and it matters
        assert np.abs(expected(plain, blobs, images) - wanted).max() > 0.01 * wanted.std()


def test_other_windows_groups_and_names(random, images, tmp_path):
    """Four groups, layers of a fine-tuned net, no bias, sizes that the file alone states."""
    blobs = forms.caffe_blobs(random)
    blobs['conv4'] = [np.ascontiguousarray(blobs['conv4'][0][:, :12]), blobs['conv4'][1]]
    blobs['fc7'] = blobs['fc7'][:1]
    order = [f'{layer}_cats' if layer == 'fc8' else layer for layer in CAFFE]
    named = {f'{name}_cats' if name == 'fc8' else name: both for name, both in blobs.items()}
    changes = {
        'conv4': field(1, 48) + field(9, 1) + field(10, 1) + field(11, 3) + field(12, 3)
        + field(5, 4) + field(18, 1),
        'fc7': field(1, 512) + field(2, 0), 'data': None,
    }  # fmt: skip
    path = authors.write_caffemodel(tmp_path / 'a', named, order, changes)
    ours = run(path, images)
    blobs['fc7'] = [*blobs['fc7'], np.zeros(512)]
    case = Case(CAFFE, {}, lambda x, _: theirs.pool(theirs.lrn(x, 5, 1e-4), 3, 2))
    wanted = expected(case, blobs, images, groups4=4)
    assert np.abs(ours - wanted).max() < 1e-4 * wanted.std()
    net, _ = table(path)
    assert net.layers[3].groups == 2 and net.name == 'caffe_imported'


@pytest.mark.parametrize('old', [False, True], ids=['layer', 'layers'])
def test_caffes_own_nets_are_their_tables(old, random, tmp_path):
    for name in ('caffe', 'caffenet'):
        path = tmp_path / name
        order = authors.caffe_order(name)
        authors.write_caffemodel(path, forms.caffe_blobs(random), order, old=old)
        assert table(path)[0] == forms.reduced(name)
        assert table(path, name)[0] == forms.reduced(name)


def test_what_a_table_is_made_of(random, tmp_path):
    case = CASES['mixed order, within a channel, windows of two sides']
    path = authors.write_caffemodel(
        tmp_path / 'a', forms.caffe_blobs(random), case.order, case.changes
    )
    net, _ = table(path)
    norm = LocalResponseNorm(3, 0.7, 0.5, 2.0, alpha_divided=True, across_columns=True)
    assert net.layers[0].then[1] == norm
    assert net.layers[1].then[2] == SameMapNorm(3, 0.9, 0.6, 1.0)
    case = CASES['no normalization, a slope, another dropout, averages that overhang']
    authors.write_caffemodel(path, forms.caffe_blobs(random), case.order, case.changes)
    net, _ = table(path)
    assert net.layers[4].then == (LeakyRelu(0.25), AveragePool(4, 2))
    assert net.layers[5].then[1].rate == 0.75


def test_every_table_goes_there_and_back(random, tmp_path):
    for number, case in enumerate(CASES.values()):
        path = authors.write_caffemodel(
            tmp_path / f'{number}', forms.caffe_blobs(random), case.order, case.changes
        )
        net, _ = table(path)
        assert caffe_layers.has_form(net)
        blobs = caffe_net.blobs(caffe_net.rows(caffe.read(path)))
        caffe.write(tmp_path / 'back', net.name, caffe_layers.layers_of(net, blobs, None))
        again, _ = table(tmp_path / 'back')
        assert dataclasses.replace(again, name=net.name) == net


def caffe_data(shape: bytes = b'', transform: bytes = b'') -> bytes:
    rest = field(143, field(1, field(1, shape))) if shape else b''
    return handmade.caffe_layer('data', [], False, 'Input', transform or None, rest)


def test_the_preprocessing_that_a_file_states(random, tmp_path):
    """Means BGR, one factor, and the size of the images."""
    path = tmp_path / 'a'
    authors.write_caffemodel(path, forms.caffe_blobs(random), CAFFE[1:])
    content = path.read_bytes()
    transform = real(1, 0.5) + field(3, 99) + b''.join(real(5, x) for x in (104.25, 117, 123.1))
    path.write_bytes(caffe_data(bytes([1, 3, 99, 99]), transform) + content)
    stated = pretrained.open_file(path).settings
    assert stated['data.mean'] == (123.1, 117.0, 104.25) and stated['data.std'] == (2.0, 2.0, 2.0)
    assert stated['data.normalization'] == 'standardized'
    assert stated['network.input_size'] == 99
    path.write_bytes(field(4, 10) + field(4, 3) + field(4, 99) + field(4, 99) + content)
    assert pretrained.open_file(path).settings['network.input_size'] == 99
    path.write_bytes(caffe_data(transform=field(4, b'mean.binaryproto')) + content)
    opened = pretrained.open_file(path)
    assert 'mean.binaryproto' in opened.notes[0] and 'data.mean' in opened.assumed


@pytest.mark.parametrize(('kind', 'number'), [(5, 11), (12, 15), (24, 20)])
def test_the_preprocessing_that_an_old_source_states(kind, number, random, tmp_path):
    """In the message of its own of a data layer of `layers`, which goes before the common one."""
    path = tmp_path / 'a'
    authors.write_caffemodel(path, forms.caffe_blobs(random), CAFFE[1:], old=True)
    own = field(number, real(2, 0.5) + field(3, b'mean.binaryproto') + field(5, 99))
    common = field(36, real(1, 0.25) + real(5, 117))
    layer = field(4, b'data') + field(5, kind) + field(3, b'data') + own + common
    path.write_bytes(field(2, layer) + path.read_bytes())
    opened = pretrained.open_file(path)
    assert opened.settings['data.std'] == (2.0, 2.0, 2.0)
    assert opened.settings['data.mean'] == (117.0, 117.0, 117.0)
    assert opened.settings['network.input_size'] == 99 and 'mean.binaryproto' in opened.notes[0]


BAD_IMAGES = {
    'two sizes': (caffe_data(bytes([1, 3, 99, 99]), field(3, 95)), 'states images of'),
    'not square': (caffe_data(bytes([1, 3, 99, 95])), 'shape (1, 3, 99, 95)'),
    'grey': (caffe_data(bytes([1, 1, 99, 99])), 'shape (1, 1, 99, 99)'),
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


def refusal(path: Path, net: str = '') -> str:
    with pytest.raises(InputError) as error:
        table(path, net)
    told = str(error.value)
    assert str(path) in told and len(told.splitlines()) == 1 and len(told) < 400
    return told


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
    'an even window': ({'norm1': field(1, 4)}, 'normalisation over 4 maps'),
    'a window wider than all maps': ({'norm1': field(1, 13)}, 'normalisation over 13 maps'),
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


def test_sizes_rounded_down_that_are_whole(random, tmp_path):
    """Of 23, 11 and 5 places, windows of 3 every 2 leave nothing over."""
    changes = {f'pool{n}': POOL + field(13, 1) for n in (1, 2, 5)}
    path = authors.write_caffemodel(tmp_path / 'a', forms.caffe_blobs(random), CAFFE, changes)
    assert table(path)[0] == forms.reduced('caffe')


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


def test_numbers_as_people_write_them():
    """float32 has no 1e-4; the table has the number that was meant."""
    stored = struct.unpack('<f', struct.pack('<f', 1e-4))[0]
    layer = caffe.Layer('norm1', 'LRN', parameters={'alpha': stored})
    assert caffe_net._stage(layer).alpha == 1e-4 != stored
    with pytest.raises(ContentError):
        caffe_net._stage(dataclasses.replace(layer, parameters={'beta': np.inf}))
