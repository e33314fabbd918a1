import jax
import jax.numpy as jnp
import pytest

from alexnet_jax.network import compiler
from alexnet_jax.network.convolution import conv


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


def test_elsewhere_than_on_a_cpu_nothing_is_told(monkeypatch):
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
    assert compiler.options() == {}


def test_convolutions_are_not_ynnpacks():
    x, kernel, bias = jnp.ones((4, 9, 9, 8)), jnp.ones((3, 3, 8, 16)), jnp.ones(16)
    run = jax.jit(lambda x: conv(x, kernel, bias, 1, (1, 1)), compiler_options=compiler.options())
    text = run.lower(x).compile().as_text()
    assert text and 'convolution(' in text and 'ynn_fusion' not in text
