"""What is known of the machine's memory."""

import os

import pytest

from alexnet_jax.runtime import memory
from alexnet_jax.runtime.errors import InputError


def test_available_is_what_the_system_states(tmp_path, monkeypatch):
    stated = tmp_path / 'meminfo'
    stated.write_text('MemTotal:  8 kB\nMemAvailable:    5 kB\nHugePages_Total:   0\n')
    monkeypatch.setattr(memory, 'MEMINFO', stated)
    assert memory.available() == 5 * 1024
    memory.require(5 * 1024, 'this')
    with pytest.raises(
        InputError, match='this needs 5,121 bytes of memory; available: 5,120 bytes'
    ):
        memory.require(5 * 1024 + 1, 'this')
    whole = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    for text in ('MemTotal: 8 kB\n', 'nothing\n'):
        stated.write_text(text)
        assert memory.available() == whole
    stated.unlink()
    assert memory.available() == whole
