import jax
import pytest

from alexnet_jax.network import platforms


@pytest.mark.parametrize(('backend', 'traced_for', 'expected'), [
    ('cpu', '', 'default'), ('gpu', '', 'default'), ('tpu', '', 'tpu'),
    ('cpu', 'tpu', 'tpu'), ('tpu', 'gpu', 'default'), ('cpu', 'gpu', 'default'),
])  # fmt: skip
def test_the_form_is_that_of_the_target_or_of_the_backend(
    backend, traced_for, expected, monkeypatch
):
    monkeypatch.setattr(jax, 'default_backend', lambda: backend)
    with platforms.traced_for(traced_for):
        assert platforms.form(tpu=lambda: 'tpu', default=lambda: 'default')() == expected
    kinds = {'cpu': int, 'gpu': str, 'tpu': bool}
    assert platforms.form(tpu=bool, gpu=str, default=int) is kinds[backend]
