"""Configurations and command lines with something wrong in them, and what the main command
makes of them: it stops where training would begin."""

import contextlib
import io
import json
import os
import signal
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from alexnet_jax import main
from alexnet_jax.data import synthetic
from alexnet_jax.data.prepare import stored
from alexnet_jax.experiment import build, config_file, donors, kept_config, training_run
from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment.defaults import Config
from alexnet_jax.experiment.settings import SETTINGS, as_text
from alexnet_jax.experiment.workdir import refuse_other
from alexnet_jax.report import run_page
from tests.config_files import with_lines
from tests.faults.odd_values import FILES, JSON_VALUES, LITERALS, OPTIONS, PATHS, TEXTS
from tests.weights.mutations import damaged, some

Random = np.random.Generator

SECONDS = 30  # more is a hang
MOST_LINES, LONGEST = 8, 1500  # of an error
LARGEST_BUILT = 300  # pixels: larger images are not made here

NAMES = sorted(SETTINGS)
NAMED = ('--config', '--workdir')  # settings named on the command line, and files


# A command line, and what its refusal may name beside a setting.
Case = tuple[list[str], tuple[str, ...]]


def quick(random: Random) -> list[str]:
    """Settings of which nothing takes long."""
    size = int(random.integers(32, 64))
    return ['--config.network.name=small', f'--config.data.record_size={size}']


def sound_text(name: str, random: Random) -> str:
    """Returns a value that is allowed, if others go with it, or is close to one that is."""
    setting = SETTINGS[name]
    match setting.default:
        case bool():
            return some(('true', 'false', 'off'), random)
        case int():
            return str(some((0, 1, setting.default, random.integers(2, 5000), 2**31 - 1), random))
        case float():
            return repr(float(random.uniform(0, 2)))
        case default:
            return some((as_text(name, default), *setting.rule.names), random)


def text_for(name: str, random: Random) -> str:
    match random.integers(6):
        case 0 | 1 | 2:
            return sound_text(name, random)
        case 3:
            return damaged(sound_text(name, random).encode() or b'0', random)[:50].decode('latin-1')
        case _:
            return some(TEXTS, random)


def some_settings(here: Path, random: Random) -> Case:
    """One, or several, some of them twice."""
    names = [some(NAMES, random) for _ in range(some((1, 1, random.integers(2, 7)), random))]
    names += names[: random.integers(2)]
    given = [f'--config.{name}={text_for(name, random)}' for name in names]
    return [*base(here, random), *given], ()


def unknown_setting(here: Path, random: Random) -> Case:
    name = damaged(some(NAMES, random).encode(), random)[:60].decode('latin-1').replace('=', '')
    return [*base(here, random), f'--config.{name}=1'], ('unknown', name)


def setting_in_a_file(here: Path, random: Random) -> Case:
    field = some(NAMES, random).replace('start.from', "start['from']")
    with_lines(here / 'config.py', f'config.{field} = {some(LITERALS, random)}')
    return ['--config', str(here / 'config.py'), *quick(random)], ()


def strange_file(here: Path, random: Random) -> Case:
    path, content = here / 'config.py', some(FILES, random)
    match random.integers(8):
        case 0:
            path = Path(some(PATHS, random))
        case 1:
            path.mkdir()
        case 2:
            os.mkfifo(path)
        case 3:
            with zipfile.ZipFile(path, 'w') as archive:
                archive.writestr('__main__.py', content)
        case 4:
            sound = Path(__file__).parents[2] / 'configs' / 'digits.py'
            path.write_bytes(damaged(sound.read_bytes(), random))
        case _:
            path.write_bytes(content)
    return ['--config', str(path), *quick(random)], ('--config', 'setting')


def options(here: Path, random: Random) -> Case:
    argv, names = base(here, random), []
    for _ in range(random.integers(1, 4)):
        option, name = some(OPTIONS, random)
        argv.insert(random.integers(len(argv) + 1), option)
        names.append(name)
    return argv, (*names, *NAMED, 'argument')  # one may have eaten another


def strange_paths(here: Path, random: Random) -> Case:
    config = ['--config.network.name=small', '--config.data.record_size=40']
    given = [f'{name}={some(PATHS, random)}' for name in NAMED[: random.integers(1, 3)]]
    given += [f'--mode={some(("train", "eval", "predict"), random)}']
    images = [some(PATHS, random)] * (given[-1] == '--mode=predict')
    with_lines(here / 'config.py')
    return ['--config', str(here / 'config.py'), *config, *given, *images], (*NAMED, 'image')


def damaged_json(here: Path, random: Random) -> Case:
    """A workdir whose config.json was modified."""
    sound = config_file.load(None, {'network.name': 'small', 'data.record_size': '40'})
    tree = kept_config.to_tree(sound) | {'versions': {'jax': '0'}, 'processes': 1}
    content = json.dumps(tree, indent=2).encode()
    match random.integers(6):
        case 0:
            content = json.dumps(with_other_value(tree, random)).encode()
        case 1:
            content = json.dumps(with_other_value(with_other_value(tree, random), random)).encode()
        case 2:
            deep = int(random.choice([900, 100_000]))
            content = some((b'[' * deep, b'{"seed":' * deep, b'[' * deep + b']' * deep), random)
        case 3:
            odd = b'', b'null', b'[]', b'7', b'"x"', b'{}', b'\xff', b'9' * 5000, b'{"seed": 1e999}'
            content = some(odd, random)
        case _:
            content = damaged(content, random)
    workdir = here / 'run'
    workdir.mkdir()
    (workdir / 'config.json').write_bytes(content)
    mode = some((['--mode=train'], ['--mode=eval'], ['--mode=predict', 'x.png']), random)
    return ['--workdir', str(workdir), *mode], (str(workdir),)


def with_other_value(tree: dict[str, Any], random: Random) -> dict[str, Any]:
    """One setting of another value, name or kind, or a whole group of them."""
    group, _, name = some(NAMES, random).partition('.')
    tree = {key: dict(value) if isinstance(value, dict) else value for key, value in tree.items()}
    value = some(JSON_VALUES, random)
    if not name or random.integers(4) == 0 or not isinstance(tree.get(group), dict):
        return tree | {group: value}
    tree[group][name] = value
    if random.integers(4) == 0:
        tree[group][name + 'x'] = tree[group].pop(name)
    return tree


def base(here: Path, random: Random) -> list[str]:
    """A sound command line."""
    with_lines(here / 'sound.py')
    return ['--config', str(here / 'sound.py'), '--workdir', str(here / 'run'), *quick(random)]


FORMS = (
    some_settings, some_settings, some_settings, some_settings, unknown_setting, setting_in_a_file,
    setting_in_a_file, strange_file, options, strange_paths, damaged_json, damaged_json,
)  # fmt: skip


def fault_of(config: Config) -> str:
    """What is wrong with an accepted configuration: it is valid, and comes back from JSON."""
    for name, value in configuration.flat(config).items():
        if type(value) is not type(SETTINGS[name].default):
            return f'{name} {value!r}'
    tree = json.loads(json.dumps(kept_config.to_tree(config), allow_nan=False))
    faults, again = configuration.validate(config), configuration.flat(kept_config.of_tree(tree))
    return '' if not faults and again == configuration.flat(config) else f'{faults} {tree}'


def outcome(here: Path, seed: int) -> str:
    """'accepted' or 'refused' if all is well, else what happened."""
    random = np.random.default_rng(seed)
    form: Callable[[Path, Random], Case] = FORMS[seed % len(FORMS)]
    argv, names = form(here, random)
    before = contents()
    status, printed, accepted = told_of(argv)
    where = f'{form.__name__} {seed} {[a[:80] for a in argv]}'
    if contents() != before:
        return f'{where} wrote {set(contents()) - set(before)}'
    if status == 0:
        fault = fault_of(accepted[-1]) if accepted else 'nothing'
        return f'{where} accepted {fault[:300]}' if fault else 'accepted'
    lines = printed.splitlines()
    plain = (
        0 < len(lines) <= MOST_LINES
        and all(line.startswith('error: ') and len(line) <= LONGEST for line in lines)
        and all(line.isprintable() for line in lines)
        and 'Traceback' not in printed
        and any(name and name in printed for name in (*names, *NAMES))
    )
    return 'refused' if status == 2 and plain else f'{where} {status}: {printed[:600]!r}'


def contents() -> dict[str, tuple[int, int]]:
    """Of the current folder and all below: sizes and times."""
    found = list(Path('.').rglob('*'))
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


def told_of(argv: list[str]) -> tuple[int, str, list[Config]]:
    """Exit status, what was printed of errors, and the configurations that were accepted."""
    stdout = io.TextIOWrapper(io.BytesIO(), 'utf-8')
    stderr = io.TextIOWrapper(io.BytesIO(), 'utf-8', errors='backslashreplace')
    with (
        stopped_before_training() as accepted,
        at_most(SECONDS),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        status = main.main(argv)
        stdout.flush()
        stderr.flush()
    return status, stderr.buffer.getvalue().decode(), accepted


@contextlib.contextmanager
def stopped_before_training() -> Iterator[list[Config]]:
    """Within, a run ends when all that it needs is there; configurations that came so far."""
    accepted: list[Config] = []

    def train(config, workdir, stop_requested, reached=None):
        refuse_other(workdir, config)
        if config.start['from']:
            donors.read_donor(Path(config.start['from']), workdir)
        if config.data.source == 'digits':  # would be prepared now
            stored.find('digits', config.data.record_size, config.data.dir or None)
        elif config.data.record_size <= LARGEST_BUILT:
            built = build.build(config)
            build.held_out_split(config, built.images)
        accepted.append(config)
        return True

    def supervise(module, argv, joining, debug):
        accepted.append(main.settings(*main.parse(argv)))
        return 0

    with (
        mock.patch.object(training_run, 'train', train),
        mock.patch.object(run_page, 'make', lambda *given: ''),
        mock.patch.object(main.supervisor, 'supervise', supervise),
        mock.patch.object(synthetic, 'SAMPLE', 1),
    ):
        yield accepted


class HangError(BaseException):
    """No `Exception`: nothing that is tried here is to take it for one of its own."""


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    def end(*_):
        raise HangError(f'took more than {seconds} s')

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
