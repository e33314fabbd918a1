"""A run with its report."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from alexnet_jax import load, main
from alexnet_jax.data.image_set import SomeRecords
from alexnet_jax.experiment import build
from alexnet_jax.runtime.command_line import DONE
from alexnet_jax.training import kernel_history
from tests import random_run


def report(workdir: Path, *more: str) -> int:
    return main.main(['--workdir', str(workdir), '--mode=report', *more])


def row(split: str, step: int, **more: float) -> dict:
    return {
        'split': split, 'step': step, 'epoch': step / 20, 'loss': 2.0 / step,
        'top1_error': 1 / step, 'top5_error': 0.5 / step, **more,
    }  # fmt: skip


ROWS = [
    row(
        'train', step, learning_rate=0.01 if step < 40 else 0.001, images_per_second=640.0,
        seconds_input=0.0,
    )
    for step in range(1, 61)
] + [row('val', step, seconds_evaluation=1.5) for step in (20, 40, 60)]  # fmt: skip


@pytest.fixture(scope='session')
def made(data_dir, tmp_path_factory):
    """A workdir of half the digits' net, as a run leaves it, with its report."""
    workdir = tmp_path_factory.mktemp('report') / 'run'
    random_run.make(workdir, {'data.dir': data_dir, 'network.width': '0.5'}, seed=0)
    (workdir / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in ROWS))
    kernel = np.asarray(load(workdir).variables['params']['conv1']['kernel'])
    for step in (0, 20, 40, 60, 80):  # the last is of a step that no checkpoint has
        kernel_history.keep(workdir / 'kernels', step, kernel * (1 + step))
    assert main.main(['--workdir', str(workdir), '--mode=eval']) == DONE
    assert report(workdir) == DONE
    return workdir


@pytest.fixture
def run(digits, data_dir, tmp_path, monkeypatch):
    """Makes a workdir of a net on some digits, as many images a split, under other names."""

    def make(names: tuple[str, ...], images: int = 40, net: str = 'patterns_one_column') -> Path:
        splits = {}
        for split, records in digits.splits.items():
            rows = [row for row in range(len(records)) if records.read(row).label < len(names)]
            splits[split] = SomeRecords(records, rows[:images])
        shown = dataclasses.replace(digits, classes=names, splits=splits)
        monkeypatch.setattr(
            build,
            'open_images',
            lambda config: dataclasses.replace(shown, identity={'source': config['data.source']}),
        )
        settings = {'network.name': net, 'network.width': '0.5', 'data.dir': data_dir}
        return random_run.make(tmp_path / 'run', settings, seed=0)

    return make
