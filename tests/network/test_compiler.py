import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.network import compiler
from alexnet_jax.network.convolution import conv


@dataclasses.dataclass(frozen=True)
class Device:
    platform: str


@pytest.fixture(autouse=True)
def anew():
    compiler._known.cache_clear()
    yield
    compiler._known.cache_clear()


def test_what_this_xla_does_not_know_is_left_out(monkeypatch):
    known = compiler.options()
    compiler._known.cache_clear()
    monkeypatch.setattr(compiler, '_CPU', compiler._CPU | {'xla_cpu_no_such_option': True})
    assert compiler.options() == known


def test_gpus_and_tpus_have_options_with_several_data_shards_only(monkeypatch):
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
    assert compiler.options() == {}
    asked = []
    monkeypatch.setattr(compiler, '_is_known', lambda option, device: asked.append(device) or True)
    for platform in ('gpu', 'tpu'):
        devices = np.array([Device(platform)])
        for shards, expected in ((1, {}), (2, compiler._SENT_EARLY[platform])):
            mesh = SimpleNamespace(devices=devices, shape={'data': shards, 'column': 1})
            assert compiler.options(mesh) == expected
    assert set(asked) == {Device('gpu'), Device('tpu')}


def test_this_xla_knows_the_options_of_gpus():
    """XLA has the options of GPUs in every build."""
    for name, value in compiler._SENT_EARLY['gpu'].items():
        assert compiler._is_known({name: value}, jax.devices()[0]), name


def test_convolutions_are_not_ynnpacks():
    x, kernel, bias = jnp.ones((4, 9, 9, 8)), jnp.ones((3, 3, 8, 16)), jnp.ones(16)
    run = jax.jit(lambda x: conv(x, kernel, bias, 1, (1, 1)), compiler_options=compiler.options())
    text = run.lower(x).compile().as_text()
    assert text and 'convolution(' in text and 'ynn_fusion' not in text
