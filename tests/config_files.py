"""Files of configurations, written for tests."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

HEAD = (
    'from alexnet_jax import default_config\n\n\ndef get_config():\n    config = default_config()\n'
)


def with_lines(path: Path, *lines: str) -> Path:
    """Writes a file whose `get_config` changes the defaults by these lines."""
    path.write_text(HEAD + ''.join(f'    {line}\n' for line in (*lines, 'return config')))
    return path


def with_values(path: Path, values: Mapping[str, Any]) -> Path:
    """Writes a file whose `get_config` sets these settings."""
    fields = {name.replace('start.from', "start['from']"): value for name, value in values.items()}
    return with_lines(path, *(f'config.{field} = {value!r}' for field, value in fields.items()))
