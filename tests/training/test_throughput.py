"""Operations of a training step, counted otherwise, and their share of a peak."""

from types import SimpleNamespace

import pytest

from alexnet_jax.network.architectures import architecture
from alexnet_jax.training import throughput


def devices(kind: str, count: int = 1) -> list:
    return [SimpleNamespace(device_kind=kind)] * count


def test_the_paper_s_net_by_hand():
    """Weighted sums: places times numbers that each reads (two columns: half of the maps below in
    conv2, conv4 and conv5), from the paper's figure 2 and this package's 224 pixels."""
    conv1 = 55 * 55 * 96 * 11 * 11 * 3
    conv2 = 27 * 27 * 256 * 5 * 5 * 48
    conv3 = 13 * 13 * 384 * 3 * 3 * 256
    conv4, conv5 = 13 * 13 * 384 * 3 * 3 * 192, 13 * 13 * 256 * 3 * 3 * 192
    dense = 6 * 6 * 256 * 4096 + 4096 * 4096 + 4096 * 1000
    others = conv2 + conv3 + conv4 + conv5 + dense
    found = throughput.flop_per_image(architecture('paper'), 1000)
    assert found == 2 * (2 * conv1 + 3 * others)
    assert found == pytest.approx(4.136e9, rel=1e-3)


def test_rates_and_shares():
    """10,000 images a second of 4.136 GFLOP."""
    paper = architecture('paper')
    assert throughput.meter(paper, 1000, 'default', devices('cpu'))(1e4) == {'tflops': 41.36}
    h100 = devices('NVIDIA H100 80GB HBM3')
    of_bfloat16 = throughput.meter(paper, 1000, 'bfloat16', h100)(1e4)
    assert of_bfloat16 == {'tflops': 41.36, 'mfu': pytest.approx(41.36 / 989.5, rel=1e-3)}
    of_tf32 = throughput.meter(paper, 1000, 'default', h100)(1e4)
    assert of_tf32['mfu'] == pytest.approx(2 * of_bfloat16['mfu'], rel=2e-3)
    of_float32 = throughput.meter(paper, 1000, 'highest', h100)(1e4)
    assert of_float32['mfu'] == pytest.approx(41.36 / 67, rel=1e-3)
    four = throughput.meter(paper, 1000, 'bfloat16', devices('TPU v5 lite', 4))(1e4)
    assert four == {'tflops': 41.36, 'mfu': pytest.approx(41.36 / (4 * 197), rel=1e-3)}
    assert throughput.meter(paper, 1000, 'bfloat16', devices('NVIDIA L4'))(1e4).keys() == {'tflops'}


def test_a_small_net_keeps_its_digits():
    small = throughput.meter(architecture('small', width=0.5), 10, 'default', devices('cpu'))
    assert 0 < small(1.0)['tflops'] == pytest.approx(small(1000.0)['tflops'] / 1000, rel=1e-3)
