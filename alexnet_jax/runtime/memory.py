"""Checks the memory of the machine before a large array is allocated.

Linux grants more memory than exists, and kills the process that uses it.
"""

import os
from pathlib import Path

from alexnet_jax.runtime.errors import InputError

MEMINFO = Path('/proc/meminfo')


def available() -> int:
    """Returns the bytes that can be allocated without swapping.

    If the system does not report it, it is the total memory.
    """
    try:
        lines = dict(line.split(':', 1) for line in MEMINFO.read_text().splitlines())
        return int(lines['MemAvailable'].split()[0]) * 1024
    except (OSError, ValueError, KeyError, IndexError):
        return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')


def require(needed: int, purpose: str) -> None:
    """Checks that this number of bytes is available.

    Raises:
      InputError: they are not; the message states both numbers.
    """
    free = available()
    if needed > free:
        raise InputError(f'{purpose} needs {needed:,} bytes of memory; available: {free:,} bytes')
