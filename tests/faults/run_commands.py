"""A prepared set and a run on it, the commands that read them, and what each command gave."""

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax import main
from alexnet_jax.data.prepare import engines
from alexnet_jax.data.prepare.make import Request, make_set
from alexnet_jax.data.prepare.shards import Encoding
from alexnet_jax.data.prepare.sources import open_source
from alexnet_jax.evaluation import __main__ as evaluation
from alexnet_jax.runtime.command_line import DONE
from tests import config_files
from tests.data.photographs import image_file, write_classes
from tests.faults.fuzz_settings import at_most
from tests.faults.run_changes import MODULE, RAN

SIZE, STEPS, MORE = 32, 4, 6
SECONDS = 120  # for a command; it takes one
LARGE = 1 << 24  # no file of a run is; made so, it is known by its size
TIMES = ('images_per_second', 'seconds_', 'tflops', 'mfu')  # numbers of a metrics row that differ


def make(folder: Path) -> Path:
    """The set and the run, in the place where every case is tried; a copy of them in `sound`, and
    another run on another set in `other`."""
    here = folder / 'here'
    for seed, name in ((7, 'other'), (0, 'sound')):
        write_classes(here / 'photos', 8 + seed, ('a', 'b', 'c'))
        spec = f'folder:{here}/photos'
        with contextlib.redirect_stdout(io.StringIO()):
            request = Request(spec, Encoding(SIZE, 'jpeg', 90), 0.25)
            make_set(request, here / 'set', lambda spec=spec: open_source(spec), engines.one_by_one)
        config = {
            'network.name': 'small', 'network.width': 0.5, 'data.source': spec, 'seed': seed,
            'data.dir': f'{here}/set', 'data.record_size': SIZE, 'data.batch_size': 4,
            'train.steps': STEPS, 'checkpoint.every_steps': 2, 'train.report': False,
            'train.log_to': (), 'data.threads': 0, 'eval.batch_size': 4,
        }  # fmt: skip
        config_files.with_values(here / 'config.py', config)
        for command in ('train', 'other eval'):
            assert do(command, here)[0] == DONE
        for place in (here, here / 'set', here / 'run'):
            (place / f'{MODULE}.py').write_text(f'open({str(here / RAN)!r}, "w")\n')
        shutil.copytree(here, folder / name)
        shutil.rmtree(here)
    (folder / 'image.png').write_bytes(image_file(4)[1])
    return folder


def arguments(command: str, here: Path) -> tuple[Any, list[str]]:
    """The program, and its command line."""
    run = str(here / 'run')
    to_train = ['--config', str(here / 'config.py'), '--workdir', run]
    return {
        'train': (main.main, to_train),
        'longer': (main.main, [*to_train, f'--config.train.steps={MORE}']),
        'eval': (main.main, ['--workdir', run, '--mode=eval']),
        'other eval': (
            main.main, ['--workdir', run, '--mode=eval', '--config.eval.views=10']),
        'predict': (main.main, ['--workdir', run, '--mode=predict', str(here.parent / 'image.png')]),
        'report': (main.main, ['--workdir', run, '--mode=report']),
        'features': (
            evaluation.main, ['features', run, '--activations=fc7/relu', f'--out={here}/features']),
        'tables': (evaluation.main, ['tables', run, f'--out={here}/tables']),
    }[command]  # fmt: skip


def do(command: str, here: Path, more: tuple[str, ...] = ()) -> tuple[int, str, str]:
    """Status, and what was printed to either stream; all of it by libraries, too."""
    program, words = arguments(command, here)
    with open(here.parent / 'out', 'w+') as out, open(here.parent / 'err', 'w+') as err:
        kept = os.dup(1), os.dup(2)
        sys.stdout.flush()
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        try:
            with at_most(SECONDS):
                status = program([*words, *more])
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number in (1, 2):
                os.dup2(kept[number - 1], number)
                os.close(kept[number - 1])
        return (
            status,
            (here.parent / 'out').read_text(errors='backslashreplace'),
            (here.parent / 'err').read_text(errors='backslashreplace'),
        )


def bring_back(folder: Path) -> Path:
    here = folder / 'here'
    shutil.rmtree(here, ignore_errors=True)
    shutil.copytree(folder / 'sound', here)
    return here


# What a command came to.


def found(command: str, here: Path, printed: str) -> dict[str, Any]:
    run = here / 'run'
    if command in ('train', 'longer'):
        steps = STEPS if command == 'train' else MORE
        resumed = re.search(r'^resuming after step (\d+)', printed, re.M)
        return {
            'step': steps, 'since': int(resumed[1]) if resumed else 0,
            'result': result(printed, run / 'eval/val-1.json'), 'rows': rows(run / 'metrics.jsonl'),
            'state': digests(run / f'checkpoints/{steps}/state'),
        }  # fmt: skip
    if command in ('eval', 'other eval'):
        path = Path(printed.strip().rpartition(' -> ')[2])
        tree = json.loads(path.read_text())
        return {'step': tree['step'], 'name': path.name, 'result': result(printed, path)}
    if command == 'predict':
        tree = json.loads((run / 'predict/predictions.json').read_text())
        return {'step': tree['step'], 'predictions': tree, 'printed': printed}
    if command == 'features':
        out = here / 'features'
        about = json.loads((out / 'about.json').read_text())
        arrays = {path.name: np.load(path).tolist() for path in sorted(out.glob('*.npy'))}
        ids = (out / 'ids.json').read_text()
        return {'step': about['step'], 'about': about, 'arrays': arrays, 'ids': ids}
    if command == 'tables':
        return {'step': None, 'lines': printed.splitlines()}
    page = (run / 'report/index.html').read_text()
    at = re.search(r'Step (\d+) of ', page)
    return {
        'step': at and int(at[1]), 'sections': dict(section(part) for part in page.split('<h2')),
        'numbers': digests(run / 'report', ('.csv', '.npz')), 'evaluations': evaluations(page),
    }  # fmt: skip


def section(text: str) -> tuple[str, str]:
    title = re.match(r'[^>]*>([^<]*)</h2>', text)
    return (title[1] if title else 'top'), text


def evaluations(page: str) -> list[str]:
    """Rows of the tables of results that were kept."""
    tables = re.findall(r'<table[^>]*><caption>Evaluations.*?</table>', page, re.S)
    return [row for table in tables for row in re.findall(r'<tr>.*?</tr>', table, re.S)]


def result(printed: str, path: Path) -> dict[str, Any]:
    said = [
        line.split(' -> ')[0]
        for line in printed.splitlines()
        if ' error' in line or '_error' in line
    ]
    tree = json.loads(path.read_text())
    tree.pop('sha256', None)
    classes = json.loads(path.with_name(f'{path.stem}-classes.json').read_text())
    classes.pop('sha256', None)
    return {'said': said[-1:], 'kept': tree, 'classes': classes}


def rows(path: Path) -> list[dict[str, Any]]:
    """Rows that are rows, without their times."""
    kept = []
    for line in path.read_text(errors='replace').splitlines():
        with contextlib.suppress(ValueError, RecursionError, AttributeError):
            row = {k: v for k, v in json.loads(line).items() if not k.startswith(TIMES)}
            kept.append(row)
    return kept


def digests(folder: Path, suffixes: tuple[str, ...] = ()) -> dict[str, str]:
    """Of files; an array's are those that are no dot files."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob('*'))
        if path.is_file() and (path.suffix in suffixes if suffixes else path.name[0].isdigit())
    }


def contents(top: Path) -> dict[str, Any]:
    """Every file, link, pipe and folder, by its place."""
    kept = {}
    for path in sorted(top.rglob('*')):
        name = str(path.relative_to(top))
        if path.is_symlink():
            kept[name] = ('link', os.readlink(path))
        elif path.is_dir():
            kept[name] = ('folder',)
        elif path.is_file():
            size = path.stat().st_size
            kept[name] = path.read_bytes() if size < LARGE else size
        else:
            kept[name] = ('pipe',)
    kept.pop('.lock', None)
    return kept
