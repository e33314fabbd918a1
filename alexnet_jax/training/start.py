"""Initial values from another run (§6: the six-convolution net began from one that
knew 22,000 classes)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from alexnet_jax.errors import InputError, shown
from alexnet_jax.training import checkpoint
from alexnet_jax.training.step import TrainState
from alexnet_jax.weights import files


def read(source: Path) -> files.Layers:
    """Parameters and moving statistics by layer, of a workdir (its last checkpoint), of
    one of its checkpoints (WORKDIR/checkpoints/STEP) or of a .safetensors file.

    Raises:
      InputError: it is none of these, or cannot be read.
    """
    try:
        source.stat()
    except FileNotFoundError:
        pass  # told below, or by its reader
    except OSError as error:
        raise InputError(f'start.from is {shown(str(source))}: {error.strerror}') from error
    if source.suffix == '.safetensors':
        return files.read(source)
    if (source / 'checkpoints').is_dir():
        return checkpoint.read_layers(source / 'checkpoints')[0]
    if source.parent.name == 'checkpoints' and source.name.isdecimal() and source.is_dir():
        return checkpoint.read_layers(source.parent, int(source.name))[0]
    raise InputError(
        f'start.from is {shown(str(source))}; allowed: a workdir with checkpoints, one of them'
        ' (WORKDIR/checkpoints/STEP), or a .safetensors file'
    )


def take(
    state: TrainState, found: files.Layers, named: Sequence[str], source: Path
) -> tuple[TrainState, str]:
    """The state with the values of some layers from `found`, and a line of what was
    taken and what was not.

    Args:
      named: the layers to take; none: all that both have.

    Raises:
      InputError: a named layer is not in `found`; a layer has other shapes there.
    """
    taken, left = [], []
    params, stats = dict(state.params), dict(state.batch_stats)
    for layer in sorted(params):
        if named and layer.removesuffix('_norm') not in named:
            left.append(f'{layer} (not asked for)')
        elif layer not in found and layer not in named:
            left.append(f'{layer} (not there)')
        else:
            own = dict(params[layer]) | dict(stats.get(layer, {}))
            _require_same_shapes(layer, own, found.get(layer, {}), source)
            params[layer] = _placed(params[layer], found[layer])
            if layer in stats:
                stats[layer] = _placed(stats[layer], found[layer])
            taken.append(layer)
    if not taken:
        there = ', '.join(sorted(found)) or 'nothing'
        raise InputError(
            f'start.from is {str(source)!r}, which has no layer of the net; has: {there}'
        )
    told = f'from {source}: took {", ".join(taken)}; not taken: {", ".join(left) or "none"}'
    return state.replace(params=params, batch_stats=stats), told


def _placed(own: Any, values: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """`values` of the parts that are there, each where the net's own lies."""
    return {
        part: jax.device_put(np.asarray(values[part], array.dtype), array.sharding)
        for part, array in own.items()
    }


def _require_same_shapes(
    layer: str, own: dict[str, Any], values: dict[str, np.ndarray], source: Path
) -> None:
    for part, array in own.items():
        there = values[part].shape if part in values else 'not there'
        if there != array.shape:
            raise InputError(
                f'{layer}/{part} is {there} in start.from {source} and {array.shape} in the net;'
                ' name the layers to take without it in start.layers'
            )
