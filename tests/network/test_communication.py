"""Bytes between devices: by hand for the paper's net, and the mesh that sends least."""

import dataclasses

import pytest

from alexnet_jax.network.architectures import ARCHITECTURES, PAPER, SMALL
from alexnet_jax.network.communication import (
    activations_held,
    best_mesh,
    bytes_sent,
    parameters_held,
    step_traffic,
)
from alexnet_jax.network.layers import Architecture, Conv, Dense, LocalResponseNorm, Output

# Numbers of an image that one of two columns makes, where both are read.
CONV3, FC6, FC7 = 13 * 13 * 128, 6 * 6 * 128, 2048
LOGITS = 1000


def sent(name: str, mesh: tuple[int, int], batch: int, exchange='gather', **which) -> float:
    transfers = step_traffic(ARCHITECTURES[name], 1000, mesh, batch, exchange)
    return sum(one.sent for one in transfers if all(getattr(one, k) == v for k, v in which.items()))


def test_what_collectives_send():
    """Four devices; 12 bytes put in by each."""
    expected = {
        'all-gather': 36, 'reduce-scatter': 9, 'all-reduce': 18, 'all-to-all': 9,
        'collective-permute': 12,
    }  # fmt: skip
    assert {name: bytes_sent(name, 12, 4) for name in expected} == expected


def test_columns_of_the_paper_s_net():
    """An image's bytes: 121,344 each way if fc8's units were gathered too; the program
    adds up logits instead, which half of them are received, half sent on."""
    assert 4 * (CONV3 + FC6 + FC7 + 2048) == 121_344
    assert sent('paper', (1, 2), 1, backward=True) == 4 * (CONV3 + FC6 + FC7) == 113_152
    assert sent('paper', (1, 2), 1, what='fc8') == 4 * LOGITS
    assert sent('paper', (1, 2), 1) == 2 * 113_152 + 4000 == 230_304 < 2 * 121_344
    assert sent('paper', (1, 2), 1, 'scatter') == 209_824
    assert sent('paper', (1, 2), 1, 'scatter', what='conv3') == 2 * 4 * CONV3
    assert sent('paper', (4, 2), 1024, axis='column') == 256 * 230_304
    assert sent('no_communication', (1, 2), 1) == 4000
    assert sent('paper', (1, 1), 1) == sent('half', (1, 1), 1) == 0


def test_the_image_is_everybody_s():
    net = Architecture('two', 8, 2, (Dense('fc1', 16), Dense('fc2', 16)), Output('fc3'))
    assert {one.what for one in step_traffic(net, 10, (1, 2), 1)} == {'fc2', 'fc3'}


def test_neighbors_across_columns():
    """Two maps of conv1 and of conv2, to the other column and back again as gradients."""
    halo = 4 * 2 * (55 * 55 + 27 * 27)
    assert sent('paper_lrn_across', (1, 2), 1, collective='collective-permute') == 2 * halo
    assert sent('paper_lrn_across', (1, 2), 1) == 230_304 + 2 * halo
    # Of four columns two have one neighbor and two have two: 1.5 on average.
    four = dataclasses.replace(ARCHITECTURES['paper_lrn_across'], columns=4)
    permuted = [
        one.sent for one in step_traffic(four, 1000, (1, 4), 1)
        if one.collective == 'collective-permute'
    ]  # fmt: skip
    assert sum(permuted) == 1.5 * 2 * halo


def test_neighbors_beyond_the_nearest():
    """Of three maps on either side the next two devices give two and one; of four devices 3/4
    and 2/4 have such a device. One pixel, forward and back."""

    def permuted(size: int) -> float:
        stages = (LocalResponseNorm(size=size, across_columns=True),)
        net = Architecture('four', 1, 4, (Conv('conv1', 8, 1, then=stages),), Output('fc2'))
        transfers = step_traffic(net, 10, (1, 4), 1)
        return sum(one.sent for one in transfers if one.collective == 'collective-permute')

    assert permuted(7) == 4 * 2 * 2 * (2 * 3 / 4 + 1 * 2 / 4)
    assert permuted(5) == 4 * 2 * 2 * 2 * 3 / 4
    assert permuted(1) == 0


def test_gradients():
    held = (60_965_224 - 1000) // 2 + 1000  # every device has fc8's biases
    assert parameters_held(PAPER, 1000, 2) == held == 30_483_112
    assert parameters_held(PAPER, 1000, 1) == 60_965_224
    for data in (2, 4, 1024):
        reduced = 2 * (data - 1) / data * 4 * held
        assert sent('paper', (data, 2), data, what='gradients') == reduced
        assert sent('paper', (data, 2), data, axis='data') == pytest.approx(reduced, abs=32)


def test_batch_statistics():
    """Two numbers a map each way, and the maps' scales and shifts among the gradients."""
    maps = 96 + 256 + 384 + 384 + 256
    which = {'axis': 'data', 'backward': False}
    assert sent('batchnorm227', (2, 1), 2, **which) == 4 * (2 * maps + 4)
    assert sent('batchnorm227', (2, 1), 2, what='gradients') == 4 * (62_383_848 - 2 * maps)


def test_activations():
    """The paper's layers, each sum and each stage's result once; on two devices half,
    but logits whole."""
    conv1 = 3 * 55 * 55 * 96 - 55 * 55 * 96 + 55 * 55 * 96 + 27 * 27 * 96
    conv2 = 3 * 27 * 27 * 256 + 13 * 13 * 256
    conv345 = 2 * 13 * 13 * (384 + 384 + 256) + 6 * 6 * 256
    fc67 = 2 * 3 * 4096
    everything = conv1 + conv2 + conv345 + fc67
    assert activations_held(PAPER, 1000, 1, 1) == everything + LOGITS
    assert activations_held(PAPER, 1000, 2, 3) == 3 * (everything // 2 + LOGITS)


@pytest.mark.parametrize(('name', 'devices', 'batch', 'mesh'), [
    ('paper', 1, 128, (1, 1)),
    ('paper', 2, 128, (1, 2)),
    # 4·60,965,224 bytes of gradients are worth 1,058.9 images of 230,304 bytes.
    ('paper', 2, 1058, (1, 2)),
    ('paper', 2, 1060, (2, 1)),
    ('paper', 8, 1024, (4, 2)),
    ('paper', 8, 8192, (8, 1)),
    ('half', 8, 128, (8, 1)),
    ('no_communication', 8, 65536, (4, 2)),
    # Seven devices cannot share 128 images, nor six; four can, in two ways.
    ('paper', 7, 128, (2, 2)),
    ('half', 7, 128, (4, 1)),
    ('paper', 3, 9, (3, 1)),
    ('paper', 5, 1, (1, 2)),
])  # fmt: skip
def test_the_mesh_that_sends_least(name, devices, batch, mesh):
    assert best_mesh(ARCHITECTURES[name], 1000, devices, batch) == mesh


def test_the_exchange_moves_the_border():
    assert best_mesh(PAPER, 1000, 2, 1100) == (2, 1)
    assert best_mesh(PAPER, 1000, 2, 1100, 'scatter') == (1, 2)
    assert best_mesh(SMALL, 10, 4, 64) == (2, 2)
