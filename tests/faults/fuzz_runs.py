"""A prepared set and a finished run on it, of which somebody changed one file, and what the
commands make of them.

    python -m tests.faults.fuzz_runs FOLDER FIRST COUNT

makes the set and the run in FOLDER, changes a copy from each of COUNT seeds, FIRST the first, and
prints as JSON what was changed, what followed, by how many bytes the process grew, and how long it
took; each case is printed on stderr as it comes. A case is a file (`run_changes.PARTS`), a change that
suits it, and one command that reads it: train, train with more steps, eval, predict, features, report
or tables. Right is what the same command gives with the files as they were, bit for bit:

- what it printed, the results, predictions and features that it kept, the metrics rows, the state
  that a training that goes on saves, the numbers and sections of a report;
- or all that as of step 2, if the checkpoint of step 4 is damaged (a warning says so) or gone;
- or the same numbers as of another set, if prepared.json states another mirror or version;
- or, if config.json has other settings that decide no result, what these settings give.

Anything else must be status 1 or 2 and a few plain lines. What no checksum guards is left out
(docs/faults.md lists it), and so are files of a checkpoint with a manifest made anew for them
(`fuzz_checkpoints` has these).
"""

import json
import os
import re
import resource
import shutil
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment import kept_config
from alexnet_jax.runtime import command_line
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE, FAULT
from alexnet_jax.runtime.errors import InputError
from tests.faults import run_changes
from tests.faults.run_changes import PARTS, RAN
from tests.faults.run_commands import LARGE, MORE, STEPS, bring_back, contents, do, found, make

MOST_GROWN = 1 << 30
MOST_LINES, LONGEST = 4, 4010  # of an error
# Sections of a report that show what no checksum guards.
SHOWN_IN = {
    'metrics.jsonl': ('Training', 'Differences from the paper', 'Run'),
    'kernels': ('Columns',), 'config.json': ('Run',), 'results': ('Run',),
}  # fmt: skip
OF_OTHER_SET = (
    'top', 'Validation images', 'Nearest training images', 'Differences from the paper',
)  # fmt: skip
FIGURES = {'metrics.jsonl': ('errors', 'loss'), 'kernels': ('selectivity',)}  # and their numbers


class References:
    """What the commands give where nothing was changed: at the last step and the one before,
    and with other settings. Each is computed when it is needed first."""

    def __init__(self, folder: Path):
        self._folder, self._kept = folder, {}

    def of(self, command: str, step: int | None, more: tuple[str, ...] = ()) -> Any:
        """None if the command fails so."""
        key = command, step, more
        if key not in self._kept:
            here = bring_back(self._folder)
            if step == 2:
                shutil.rmtree(here / 'run/checkpoints/4')
            status, printed, _ = do(command, here, more)
            self._kept[key] = found(command, here, printed) if status == DONE else None
        return self._kept[key]


def same(one: Any, other: Any, close: bool) -> bool:
    """Whether two trees are equal; numbers nearly, if images were read in other batches."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k], close) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(lambda a, b: same(a, b, close), one, other))
    if close and isinstance(one, float) and isinstance(other, float):
        return bool(np.isclose(one, other, rtol=1e-4, atol=1e-6))
    return type(one) is type(other) and one == other


def settings_changed(here: Path, folder: Path) -> tuple[str, ...]:
    """Settings of config.json that are others, as on a command line."""
    try:
        changed = kept_config.read_workdir(here / 'run/config.json')
    except (InputError, OSError):
        return ()
    sound = kept_config.read_workdir(folder / 'sound/run/config.json')
    return tuple(
        f'--config.{name}={changed[name]}'
        for name in configuration.SETTINGS
        if changed[name] != sound[name]
    )


def parts_changed(here: Path, folder: Path) -> set[str]:
    """What is not as in the sound run: an exchange or another name changes more than one file."""
    sound = folder / 'sound'

    def differs(path: Path) -> bool:
        now = here / path.relative_to(sound)
        return (
            not now.is_file()
            or now.stat().st_size >= LARGE
            or now.read_bytes() != path.read_bytes()
        )

    return {part for part in PARTS if any(map(differs, run_changes.files_of(sound, part)))}


def fault_of_success(
    command: str,
    parts: set[str],
    came: Any,
    errors: str,
    more: tuple[str, ...],
    references: References,
) -> str:
    """What is wrong with status 0; '' for nothing."""
    if any(not line.startswith('warning: ') for line in errors.splitlines()):
        return f'status 0 and {errors[:500]!r}'
    own_set = parts & {'shard', 'prepared.json', 'TFDS files', 'statistics.npz', 'config.json'}
    if (
        command == 'eval'
        and own_set
        and not re.fullmatch(r'(train|val)-10?(-step-\d)?\.json', came['name'])
    ):
        return ''  # kept as of another set
    if command in ('train', 'longer', 'tables'):
        more = ()
    expected = references.of(command, came['step'], more)
    if expected is None:
        return f'status 0; the sound run fails with {more}'
    came, expected = dict(came), dict(expected)
    if own_set and 'about' in came:  # says of which set it is, and that is another
        came['about'] = came['about'] | {'data': expected['about'].get('data')}
    if 'rows' in came:
        compare_rows_after(came.pop('since') if 'metrics.jsonl' in parts else 0, came, expected)
    if 'lines' in came:  # a result that is gone is not in the table
        expected['lines'] = [line for line in expected['lines'] if line in came['lines']]
    if 'sections' in came:
        compare_shown(parts, came, expected)
    differ = [k for k in expected if not same(came.get(k), expected[k], bool(more))]
    return f'status 0 and other {differ}: {short(came, expected, differ)}' if differ else ''


def compare_rows_after(step: int, *trees: dict[str, Any]) -> None:
    for tree in trees:
        tree.pop('since', None)
        tree['rows'] = [row for row in tree['rows'] if row.get('step', 0) > step]


def compare_shown(parts: set[str], came: dict[str, Any], expected: dict[str, Any]) -> None:
    """Leaves what is to be the same in two reports: all but what shows a file without a checksum,
    the images if they could not be had, and results that were refused."""
    left_out = {section for part in parts for section in SHOWN_IN.get(part, ())}
    figures = tuple(figure for part in parts for figure in FIGURES.get(part, ()))
    if 'The net could not be evaluated: ' in came['sections']['top']:
        left_out |= {*came['sections'], *expected['sections']} - {'Net', 'Training', 'Run'}
        expected['numbers'] = {k: v for k, v in expected['numbers'].items() if k in came['numbers']}
        figures += ('units.',)  # which then has ascents alone
    if 'prepared.json' in parts and re.search(
        r'(validation|training) images? of folder:', came['sections']['top']
    ):
        left_out |= {*OF_OTHER_SET}  # they say so; the numbers are the same
    if 'results' in parts:
        expected['evaluations'] = [
            row for row in expected['evaluations'] if row in came['evaluations']
        ]
    for tree in (came, expected):
        tree['sections'] = {k: v for k, v in tree['sections'].items() if k not in left_out}
        tree['numbers'] = {
            k: v for k, v in tree['numbers'].items() if not k.startswith(figures or ('/',))
        }


def short(came: Any, expected: Any, differ: list[str]) -> str:
    parts = []
    for key in differ:
        one, other = came.get(key), expected[key]
        if isinstance(one, dict) and isinstance(other, dict):
            inner = [k for k in {*one, *other} if one.get(k) != other.get(k)]
            parts.append(f'{inner[:5]}: ' + '; '.join(
                f'{str(one.get(k))[:300]!r} for {str(other.get(k))[:300]!r}' for k in inner[:2]
            ))  # fmt: skip
        else:
            parts.append(f'{str(one)[:200]!r} for {str(other)[:200]!r}')
    return '; '.join(parts)


def fault_of_refusal(status: int, errors: str, here: Path, before: Any) -> str:
    """What is wrong with a refusal; '' for nothing."""
    lines = errors.splitlines()
    plain = (
        0 < len(lines) <= MOST_LINES
        and all(line.startswith(('error: ', 'warning: ', *command_line.COMMANDS)) for line in lines)
        and all(line.isprintable() and len(line) <= LONGEST for line in lines)
        and str(here) in errors
        and 'shows where' not in errors
    )
    if not plain:
        return f'status {status}: {errors[:900]!r}'
    after = contents(here / 'run')
    if status == BAD_INPUT:
        changed = [name for name in {*before, *after} if before.get(name) != after.get(name)]
    else:  # a training that met a broken record may have saved meanwhile; what was there stays
        changed = [
            name for name, content in before.items()
            if name.startswith('checkpoints/') and isinstance(content, bytes)
            and content not in (after.get(name), after.get(re.sub(r'/(\d+)/', r'/\1.damaged/', name, count=1)))
        ]  # fmt: skip
    return (
        f'status {status}, but {sorted(changed)[:5]} changed: {errors[:300]!r}' if changed else ''
    )


def case(seed: int) -> tuple[str, str, np.random.Generator]:
    """The part, the command and the random numbers of the change."""
    random = np.random.default_rng(seed)
    part = list(PARTS)[seed % len(PARTS)]
    return part, run_changes.some(PARTS[part][1], random), random


def outcome(folder: Path, seed: int, references: References) -> tuple[str, str]:
    """What was done, and 'right' or 'refused' if all is well, else what happened."""
    part, command, random = case(seed)
    here = bring_back(folder)
    path = run_changes.choose(here, part, random)
    change = run_changes.some(run_changes.forms_of(path, part), random)
    change(path, here, random)
    what = f'{part}, {change.__name__}, {command}'
    before = contents(here / 'run')
    more, parts = settings_changed(here, folder), parts_changed(here, folder)
    status, printed, errors = do(command, here)
    if (here / RAN).exists():
        return what, f'{seed} {path}: code was run'
    if status == DONE:
        came = found(command, here, printed)
        fault = fault_of_success(command, parts, came, errors, more, references)
        kind = 'right'
    elif status in (FAULT, BAD_INPUT):
        fault, kind = fault_of_refusal(status, errors, here, before), 'refused'
    else:
        fault, kind = f'status {status}', ''
    return what, f'{seed} {path.relative_to(here)}: {fault}' if fault else kind


def tally(folder: Path, seeds: range) -> dict[str, Any]:
    references, outcomes = References(folder), []
    for command in PARTS['config.json'][1]:  # all is compiled, or the growth would be that
        references.of(command, STEPS if command != 'longer' else MORE)
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    grown = 0
    for seed in seeds:
        started = time.monotonic()
        try:
            what, came = outcome(folder, seed, references)
        except BaseException:
            what, came = ', '.join(case(seed)[:2]), f'{seed}: {traceback.format_exc(limit=-3)}'
        now = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        if now - grown > MOST_GROWN // 4:
            came = f'{seed}: the process grew by {now - grown} bytes, {came}'
        grown = now
        outcomes.append((what, came))
        seconds = f'{time.monotonic() - started:.1f} s'
        print(seed, seconds, what, came, file=sys.stderr, flush=True)
    return {'outcomes': outcomes, 'grown': grown, 'seconds': round(time.monotonic() - begun, 1)}


def without_pictures() -> None:
    """Figures are made, but not drawn: that is nine tenths of the time of a report."""

    def savefig(self: Figure, fname: Any, **options: Any) -> None:
        fname.write(b'<svg><defs></defs></svg>')

    Figure.savefig = savefig


def run(folder: Path, first: int, count: int) -> None:
    os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
    command_line.before_jax()
    without_pictures()
    folder.mkdir(exist_ok=True)
    make(folder)
    here = folder / 'here'
    sys.path[:0] = [str(here), str(here / 'set'), str(here / 'run')]
    os.chdir(folder)
    print(json.dumps(tally(folder, range(first, first + count))))


if __name__ == '__main__':
    run(Path(sys.argv[1]).resolve(), int(sys.argv[2]), int(sys.argv[3]))
