"""The net that a Caffe file states, beside Caffe's layers in NumPy."""

import dataclasses
import functools
import struct
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.layers import AveragePool, LeakyRelu, LocalResponseNorm, SameMapNorm
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


def caffe_data(shape: bytes = b'', transform: bytes = b'') -> bytes:
    rest = field(143, field(1, field(1, shape))) if shape else b''
    return handmade.caffe_layer('data', [], False, 'Input', transform or None, rest)


refusal = functools.partial(forms.refusal, table)


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


def test_sizes_rounded_down_that_are_whole(random, tmp_path):
    """Of 23, 11 and 5 places, windows of 3 every 2 leave nothing over."""
    changes = {f'pool{n}': field(2, 3) + field(3, 2) + field(13, 1) for n in (1, 2, 5)}
    path = authors.write_caffemodel(tmp_path / 'a', forms.caffe_blobs(random), CAFFE, changes)
    assert table(path)[0] == forms.reduced('caffe')


def test_numbers_as_people_write_them():
    """float32 has no 1e-4; the table has the number that was meant."""
    stored = struct.unpack('<f', struct.pack('<f', 1e-4))[0]
    layer = caffe.Layer('norm1', 'LRN', parameters={'alpha': stored})
    assert caffe_net._stage(layer).alpha == 1e-4 != stored
    with pytest.raises(ContentError):
        caffe_net._stage(dataclasses.replace(layer, parameters={'beta': np.inf}))
