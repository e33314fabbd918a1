"""Other programs' layouts beside indices worked out by hand, and beside PyTorch's own nets."""

from pathlib import Path

import jax
import numpy as np
import pytest

from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.architectures import ARCHITECTURES
from alexnet_jax.runtime.errors import InputError
from alexnet_jax.weights import caffe, caffe_layers, files, layouts, torch_file
from tests.network.parity import QUICK, apart
from tests.weights import forms, handmade

SOURCE = Path('theirs')
TORCHVISION, CAFFE = ('torchvision', 'one_tower'), ('caffe', 'caffenet')
TOLERANCE = 1e-4  # relative


@pytest.mark.parametrize('name', TORCHVISION)
def test_torchvision_there_and_back(name, random):
    arrays, net = forms.torchvision_arrays(name, random), forms.reduced(name)
    layers = layouts.from_torchvision(arrays, net, SOURCE)
    assert forms.same(layouts.to_torchvision(layers, net, SOURCE), arrays)


@pytest.mark.parametrize('name', CAFFE)
def test_caffe_there_and_back(name, random):
    blobs, net = forms.caffe_blobs(random), forms.reduced(name)
    back = layouts.to_caffe(layouts.from_caffe(blobs, net, SOURCE), net, SOURCE)
    for layer, both in back.items():
        assert all(np.array_equal(a, b) for a, b in zip(both, blobs[layer], strict=True))


def test_caffes_old_files(random, tmp_path):
    """Four axes each: 1×1×512×512 for fc7, 1×1×1×512 for its bias."""
    blobs, net = forms.caffe_blobs(random), forms.reduced('caffe')
    content = b''.join(
        handmade.caffe_layer(
            name, [handmade.caffe_blob(x, x.shape, old=True) for x in both], old=True
        )
        for name, both in blobs.items()
    )
    (tmp_path / 'old.caffemodel').write_bytes(content)
    old = {layer.name: layer.blobs for layer in caffe.read(tmp_path / 'old.caffemodel')}
    assert [x.shape for x in old['fc7']] == [(1, 1, 512, 512), (1, 1, 1, 512)]
    layers, expected = (layouts.from_caffe(x, net, SOURCE) for x in (old, blobs))
    assert all(forms.same(layers[name], expected[name]) for name in expected)


def test_where_torchvision_numbers_lie(random):
    arrays = forms.torchvision_arrays('torchvision', random)
    layers = layouts.from_torchvision(arrays, forms.reduced('torchvision'), SOURCE)
    kernels = {name: layer['kernel'][0] for name, layer in layers.items()}
    assert kernels['conv2'][4, 1, 7, 23] == arrays['features.3.weight'][23, 7, 4, 1]
    # fc6 reads the map 21 at row 1, column 0 of 2×2 places
    assert kernels['fc6'][1, 0, 21, 300] == arrays['classifier.1.weight'][300, 21 * 4 + 2]
    assert kernels['fc7'][17, 300] == arrays['classifier.4.weight'][300, 17]
    assert kernels['fc8'][17, 5] == arrays['classifier.6.weight'][5, 17]
    assert layers['conv5']['bias'][0, 30] == arrays['features.10.bias'][30]
    assert layers['fc8']['bias'][5] == arrays['classifier.6.bias'][5]


def test_where_caffe_numbers_lie(random):
    blobs = forms.caffe_blobs(random)
    layers = layouts.from_caffe(blobs, forms.reduced('caffe'), SOURCE)
    kernels = {name: layer['kernel'] for name, layer in layers.items()}
    red, blue = 0, 2
    assert kernels['conv1'][1, 3, 9, red, 4] == blobs['conv1'][0][6 + 4, 2 - red, 3, 9]
    assert kernels['conv1'][0, 3, 9, blue, 4] == blobs['conv1'][0][4, 2 - blue, 3, 9]
    assert kernels['conv2'][1, 4, 0, 5, 9] == blobs['conv2'][0][16 + 9, 5, 4, 0]
    assert kernels['conv3'][1, 2, 0, 30, 9] == blobs['conv3'][0][24 + 9, 30, 2, 0]
    assert kernels['fc6'][1, 0, 1, 21, 40] == blobs['fc6'][0][256 + 40, 21 * 4 + 1]
    assert kernels['fc7'][1, 300, 40] == blobs['fc7'][0][256 + 40, 300]
    assert kernels['fc8'][1, 40, 5] == blobs['fc8'][0][5, 256 + 40]
    assert layers['fc6']['bias'][1, 40] == blobs['fc6'][1][256 + 40]


def our_logits(name: str, layers: files.Layers, images: np.ndarray) -> np.ndarray:
    net = AlexNet(forms.reduced(name), forms.CLASSES)
    apply = jax.jit(lambda images: net.apply({'params': layers}, images)[0], compiler_options=QUICK)
    return np.asarray(apply(images))


def images_for(name: str, random: np.random.Generator) -> np.ndarray:
    size = forms.reduced(name).input_size
    return random.normal(0, 60, (2, size, size, 3)).astype(np.float32)


@pytest.mark.parametrize('zipped', [True, False], ids=['zip', 'legacy'])
@pytest.mark.parametrize('name', TORCHVISION)
def test_a_state_dict_beside_pytorch(name, zipped, random, tmp_path):
    torch = pytest.importorskip('torch')
    from tests.weights import torch_forms

    theirs = torch_forms.torchvision_net(
        forms.SHAPES[name], groups2=2 if name == 'one_tower' else 1
    )
    arrays = forms.torchvision_arrays(name, random)
    theirs.load_state_dict({key: torch.from_numpy(x) for key, x in arrays.items()})
    torch.save(theirs.state_dict(), tmp_path / 'a.pth', _use_new_zipfile_serialization=zipped)
    read, _ = torch_file.read(tmp_path / 'a.pth', layouts.are_torchvision_names)
    layers = layouts.from_torchvision(read, forms.reduced(name), SOURCE)
    images = images_for(name, random)
    with torch.no_grad():
        expected = theirs.eval()(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    ours = our_logits(name, layers, images)
    assert apart({'logits': ours}, {'logits': expected})['logits'] < TOLERANCE


@pytest.mark.parametrize('name', CAFFE)
def test_caffe_blobs_beside_pytorch(name, random):
    torch = pytest.importorskip('torch')
    from tests.weights import torch_forms

    blobs, images = forms.caffe_blobs(random), images_for(name, random)
    bgr = torch.from_numpy(images).permute(0, 3, 1, 2).flip(1)
    expected = torch_forms.caffe_net(blobs, bgr, pool_first=name == 'caffenet').numpy()
    layers = layouts.from_caffe(blobs, forms.reduced(name), SOURCE)
    ours = our_logits(name, layers, images)
    assert apart({'logits': ours}, {'logits': expected})['logits'] < TOLERANCE


def test_which_nets_have_whose_form():
    nets = ARCHITECTURES.items()
    assert [name for name, net in nets if layouts.has_torchvision_form(net)] == list(TORCHVISION)
    assert [name for name, net in nets if caffe_layers.has_form(net)] == list(CAFFE)


def test_whose_names():
    assert layouts.are_torchvision_names({'features.0.weight', 'features.2.weight'})
    assert not layouts.are_torchvision_names({'conv1/kernel', 'conv1/bias'})


def test_a_net_of_another_form(random):
    arrays = forms.torchvision_arrays('torchvision', random)
    with pytest.raises(
        InputError, match=r'network paper has another form.*allowed: torchvision, one'
    ):
        layouts.from_torchvision(arrays, ARCHITECTURES['paper'], SOURCE)
    with pytest.raises(
        InputError, match=r'network paper has another form.*allowed: caffe, caffenet'
    ):
        layouts.from_caffe({}, ARCHITECTURES['paper'], SOURCE)


def refusal(arrays: dict[str, np.ndarray]) -> str:
    with pytest.raises(InputError) as error:
        layouts.from_torchvision(arrays, forms.reduced('torchvision'), SOURCE)
    assert len(str(error.value).splitlines()) <= 2
    return str(error.value)


def test_what_is_missing_too_many_and_misshapen_is_told(random):
    arrays = forms.torchvision_arrays('torchvision', random)
    del arrays['features.6.bias']
    arrays['features.7.bias'] = np.zeros(3, np.float32)
    arrays['classifier.4.weight'] = arrays['classifier.4.weight'][1:]
    printed = refusal(arrays)
    assert 'theirs' in printed and 'network torchvision' in printed
    assert 'missing: features.6.bias;' in printed
    assert 'too many: features.7.bias;' in printed
    assert 'classifier.4.weight (511, 512), not (512, 512)' in printed


def test_a_long_list_is_cut(random):
    assert 'features.0.weight, features.0.bias, features.3.weight and 13 more' in refusal({})
    other = forms.torchvision_arrays('one_tower', random)
    assert len(refusal(other)) < 400


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(value, random):
    arrays, net = forms.torchvision_arrays('torchvision', random), forms.reduced('torchvision')
    layers = layouts.from_torchvision(arrays, net, SOURCE)
    layers['fc7']['kernel'][0, 3, 4] = value
    with pytest.raises(InputError, match='fc7/kernel of theirs'):
        layouts.to_torchvision(layers, net, SOURCE)
    arrays['features.3.bias'][2] = value
    assert 'features.3.bias of theirs' in refusal(arrays)


def test_layers_of_another_net(random):
    """Another number of classes is no other net; another width is."""
    blobs = forms.caffe_blobs(random)
    layers = layouts.from_caffe(blobs, forms.reduced('caffe'), SOURCE)
    layers['conv2']['kernel'] = layers['conv2']['kernel'][..., :-1]
    with pytest.raises(
        InputError, match=r'conv2/kernel \(2, 5, 5, 6, 15\), not \(2, 5, 5, 6, 16\)'
    ):
        layouts.to_caffe(layers, forms.reduced('caffe'), SOURCE)
    blobs['fc8'] = [blobs['fc8'][0][:3], blobs['fc8'][1][:3]]
    layers = layouts.from_caffe(blobs, forms.reduced('caffe'), SOURCE)
    assert layers['fc8']['kernel'].shape == (2, 256, 3)
