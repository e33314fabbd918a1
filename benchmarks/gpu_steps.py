"""The parts of `gpu.py` that measure speed, each with the GPU to itself."""

import contextlib
import dataclasses
import functools
import json
import statistics
from collections.abc import Mapping

import contestants
import report
from contestants import Contestant, ContestantError, Spec
from gpu_parts import DETERMINISTIC, RESULTS, Place, with_flags

# Seconds that a contestant may take until its first steps.
COMPILING = 130
AUTOTUNING = 200  # PyTorch's max-autotune
OURS = 'alexnet_jax'
# No TensorFloat-32 in cuBLAS and cuDNN, whichever library calls them, nor in XLA's own kernels.
EXACT = {'JAX_DEFAULT_MATMUL_PRECISION': 'highest', 'NVIDIA_TF32_OVERRIDE': '0'}
# A training step of `paper`, every tensor read once by each consumer: products an image; bytes
# an image of normalization and pooling in bfloat16; bytes of the update, of all parameters.
FLOP, BYTES, UPDATE = 4.136e9, 3.63e6, 26 * 60_965_224


def floor(batch: int, flops: float, bandwidth: float) -> float:
    """Returns the images/s of a training step of `paper` that nothing but the device limits.

    Products take their time at `flops` FLOP/s, what lies between them at `bandwidth` bytes/s.
    """
    return batch / (batch * (FLOP / flops + BYTES / bandwidth) + UPDATE / bandwidth)


def ceilings(place: Place) -> None:
    """Measures a copy in memory and products of large matrices."""
    import jax
    import jax.numpy as jnp
    import timing

    device = jax.devices()[0]
    place.record('device', kind=device.device_kind, platform=device.platform)
    rates = {'copy_bytes_per_second': _copy_rate(2**20 if place.dry else 2**30)}
    side = 256 if place.dry else 8192
    square = jax.random.normal(jax.random.key(1), (side, side))
    for name, dtype, precision in (
        ('bfloat16', 'bfloat16', None),
        ('float32', 'float32', None),
        ('float32_highest', 'float32', 'highest'),
    ):
        multiply = jax.jit(functools.partial(jnp.matmul, precision=precision))
        placed = square.astype(dtype)
        run = timing.seconds_a_call(functools.partial(multiply, placed, placed))
        rates[f'{name}_flops'] = 2 * side**3 / statistics.median(report.in_turns({'': run}, 3)[''])
    place.record('ceilings', **rates)


def _copy_rate(numbers: int) -> float:
    """Returns the bytes/s, read and written, of a pass over 32-bit numbers."""
    import jax
    import timing

    x = jax.random.bits(jax.random.key(0), (numbers,), 'uint32')
    add = jax.jit(lambda x: x + 1)
    run = timing.seconds_a_call(lambda: add(x))
    return 2 * x.nbytes / statistics.median(report.in_turns({'copy': run}, 3)['copy'])


def measured_ceilings(place: Place) -> dict[str, float]:
    """Returns what `ceilings` has recorded; {} if nothing."""
    path = place.out / RESULTS
    lines = path.read_text().splitlines() if path.exists() else []
    found = [row for row in map(json.loads, lines) if row['record'] == 'ceilings']
    return found[-1] if found else {}


def side_by_side(
    place: Place,
    label: str,
    contestants: Mapping[str, tuple[Spec, dict[str, str]]],
    compiling: float = COMPILING,
) -> None:
    """Starts the contestants one after the other and lets them take turns.

    Each one's first rate is recorded when it has compiled, the medians at the end.
    """
    with contextlib.ExitStack() as stack:
        started: dict[str, Contestant] = {}
        for name, (spec, environment) in contestants.items():
            limit = min(compiling, place.left() - 15)
            if limit < 15:
                place.record(f'{label}: {name}', skipped='no time left')
                continue
            try:
                contestant = stack.enter_context(Contestant(spec, limit, environment))
                first = contestant.ask('step')
            except ContestantError as error:
                place.record(f'{label}: {name}', error=str(error), limit=limit)
                continue
            started[name] = contestant
            place.record(
                f'{label}: {name}',
                images_per_second=spec.batch / first['seconds'],
                loss=first['loss'],
                about=contestant.about,
                memory=contestant.ask('memory'),
            )
        if not started:
            return

        def rate(contestant: Contestant):
            return lambda: contestant.spec.batch / contestant.ask('step')['seconds']

        rounds = max(1, min(5, int((place.left() - 5) / (0.8 * len(started))) - 1))
        runs = {name: rate(contestant) for name, contestant in started.items()}
        rates = report.in_turns(runs, rounds, warmup=1)
    medians = {name: statistics.median(each) for name, each in rates.items()}
    place.record(label, rates=rates, medians=medians, **_compared(place, contestants, medians))


def _compared(
    place: Place, contestants: Mapping[str, tuple[Spec, dict[str, str]]], medians: dict[str, float]
) -> dict:
    """The ratios of ours to the others, and all rates' shares of the limit."""
    compared: dict = {}
    if OURS in medians:
        compared['ours_is_times'] = {
            name: medians[OURS] / each for name, each in medians.items() if name != OURS
        }
    limits = measured_ceilings(place)
    if not limits:
        return compared
    shares = {}
    for name, each in medians.items():
        spec, environment = contestants[name]
        exact = '_highest' if environment == EXACT else ''
        flops = limits[f'{spec.dtype}{exact}_flops']
        # In float32 what lies between the products has twice the bytes: its floor is a little high.
        shares[name] = each / floor(spec.batch, flops, limits['copy_bytes_per_second'])
    return compared | {'share_of_floor': shares}


def _specs(place: Place, batch: int, dtype: str) -> tuple[Spec, Spec, Spec]:
    """Ours, PyTorch as its users write it, and PyTorch compiled with the better normalization."""
    width, size = (place.width, 67) if place.dry else (1.0, 0)
    batch = 2 if place.dry else batch
    ours = Spec('jax', batch=batch, dtype=dtype, width=width, size=size)
    eager = dataclasses.replace(ours, library='torch', layout='channels_last')
    compiled = dataclasses.replace(eager, compiled=True, norm='hand_tuned')
    return ours, eager, compiled


def _bf16(place: Place, batch: int) -> None:
    ours, eager, _ = _specs(place, batch, 'bfloat16')
    found: dict[str, tuple[Spec, dict[str, str]]] = {OURS: (ours, {})}
    if contestants.has_torch():
        found['PyTorch channels last'] = (eager, {})
    side_by_side(place, f'bfloat16, batch {batch}', found)


def bf16_128(place: Place) -> None:
    """Times bfloat16 steps at batches of 128, beside PyTorch where it is installed."""
    _bf16(place, 128)


def bf16_1024(place: Place) -> None:
    """Times bfloat16 steps at batches of 1024, beside PyTorch where it is installed."""
    _bf16(place, 1024)


def bf16_4096(place: Place) -> None:
    """Times bfloat16 steps at batches of 4096, beside PyTorch where it is installed."""
    _bf16(place, 4096)


def compiled_128(place: Place) -> None:
    """Measures the step beside PyTorch's compiled one, which takes minutes to compile."""
    ours, _, compiled = _specs(place, 128, 'bfloat16')
    found: dict[str, tuple[Spec, dict[str, str]]] = {OURS: (ours, {})}
    if contestants.has_torch():
        compiled = dataclasses.replace(compiled, compiled=not place.dry)
        found['PyTorch max-autotune, norm by hand'] = (compiled, {})
    side_by_side(place, 'bfloat16, batch 128, compiled', found, AUTOTUNING)


def flag_128(place: Place) -> None:
    """Measures what a deterministic step costs, by either of XLA's flags."""
    ours, _, _ = _specs(place, 128, 'bfloat16')
    excluded = '--xla_gpu_exclude_nondeterministic_ops=true'
    side_by_side(place, 'deterministic, bfloat16, batch 128', {
        OURS: (ours, {}),
        'deterministic_ops': (ours, with_flags(DETERMINISTIC)),
        'exclude_nondeterministic_ops': (ours, with_flags(excluded)),
    })  # fmt: skip


def float32_128(place: Place) -> None:
    """Measures float32 with TensorFloat-32, the default, and without."""
    ours, eager, _ = _specs(place, 128, 'float32')
    found: dict[str, tuple[Spec, dict[str, str]]] = {
        OURS: (ours, {}),
        f'{OURS}, highest': (ours, EXACT),
    }
    if contestants.has_torch():
        found |= {
            'PyTorch channels last': (eager, {}),
            'PyTorch channels last, highest': (eager, EXACT),
        }
    side_by_side(place, 'float32, batch 128', found)
