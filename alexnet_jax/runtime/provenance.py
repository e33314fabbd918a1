"""Provenance of a run: versions, source, machine."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

# These must be equal in all processes of a run.
LIBRARIES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'tensorflow-datasets')
PIXELS = ('numpy', 'pillow', 'simplejpeg')  # these decode images
SECONDS = 10  # time limit of git


def provenance() -> dict[str, Any]:
    """Returns versions, the commit of the source, Python, platform, devices and CPU cores, as JSON."""
    import jax  # not before its environment is set

    devices = jax.devices()
    return {
        'versions': {name: metadata.version(name) for name in ('alexnet_jax', *LIBRARIES, *PIXELS)},
        'commit': commit(Path(__file__).parents[2]),
        'python': platform.python_version(),
        'platform': platform.platform(),
        'devices': f'{len(devices)} {devices[0].device_kind}',
        'cores': len(os.sched_getaffinity(0))
        if hasattr(os, 'sched_getaffinity')
        else os.cpu_count(),
    }


def commit(folder: Path) -> str | None:
    """Returns the commit of a git checkout, with -dirty if files differ from it.

    It is None for a folder that is not the top of one, such as that of an installed package.
    """
    if not (folder / '.git').exists():
        return None
    # Without locks, so that git does not write to the checkout.
    command = 'git --no-optional-locks describe --always --dirty --abbrev=40 --exclude=*'
    try:
        done = subprocess.run(
            command.split(), cwd=folder, capture_output=True, text=True, timeout=SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
