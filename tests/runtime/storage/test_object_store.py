"""A run that lies in an object store, with its images: moto's server on the loopback."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from alexnet_jax import load
from alexnet_jax.training import checkpoint_reader

SHORT = (
    '--config', 'digits', '--config.network.width=0.5', '--config.train.steps=60',
    '--config.checkpoint.every_steps=4',
)  # fmt: skip
RUN, SET = 's3://bucket/runs/digits', 's3://bucket/sets/digits'


def begun(machine: Path, *words: str) -> subprocess.Popen:
    """Begins a command on a machine, which is a folder: its home and its cache."""
    machine.mkdir(exist_ok=True)
    env = dict(os.environ, ALEXNET_JAX_CACHE=str(machine), XLA_FLAGS='')
    return subprocess.Popen(
        [sys.executable, '-m', 'alexnet_jax', *words], env=env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def done(machine: Path, *words: str) -> str:
    process = begun(machine, *words)
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    return printed


def rows(text: str) -> list[dict]:
    """Returns rows of metrics.jsonl without what depends on the time."""
    timed = ('images_per_second', 'tflops', 'mfu')
    return [
        {name: x for name, x in json.loads(line).items() if not name.startswith('seconds_') and name not in timed}
        for line in text.splitlines()
    ]  # fmt: skip


@pytest.mark.slow
def test_a_run_in_an_object_store_is_killed_and_goes_on(s3, tmp_path):
    import s3fs

    seed = int(os.environ.get('ALEXNET_TEST_SEED', time.time_ns() % 10**6))
    chance = random.Random(seed)
    store = s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)
    done(
        tmp_path / 'first',
        'prepare',
        '--source',
        'digits',
        '--size',
        '32',
        '--encoding',
        'raw',
        '--out',
        SET,
    )
    train = ('train', *SHORT, f'--config.data.dir={SET}')
    local = tmp_path / 'undisturbed'
    done(tmp_path / 'local', *train, '--workdir', str(local))
    killed = 0
    for attempt in range(40):
        # On the same machine, whose copy may be behind; or on another one, that has none.
        machine = tmp_path / ('same' if chance.random() < 0.5 else f'machine-{attempt}')
        process = begun(machine, *train, '--workdir', RUN)
        assert process.stdout
        line = ''
        while process.poll() is None and not line.startswith(('training:', 'resuming')):
            line = process.stdout.readline()
        if killed < 6:
            time.sleep(chance.uniform(0, 6))
        else:
            process.stdout.read()
        if process.poll() is None and killed < 6:
            process.kill()
            killed += 1
        elif process.wait() == 0:
            break
        process.wait()
        process.stdout.close()
    assert process.returncode == 0 and killed >= 3, (killed, seed)
    kept = store.cat_file('bucket/runs/digits/metrics.jsonl').decode()
    assert rows(kept) == rows((local / 'metrics.jsonl').read_text()), seed
    fetched = tmp_path / 'fetched'
    store.get('bucket/runs/digits/', str(fetched), recursive=True)
    layers, step, _ = checkpoint_reader.read_layers(fetched / 'checkpoints')
    expected, last, _ = checkpoint_reader.read_layers(local / 'checkpoints')
    assert step == last == 60
    for layer, parts in expected.items():
        for part, array in parts.items():
            np.testing.assert_array_equal(layers[layer][part], array)
    assert not store.exists('bucket/runs/digits/.owner.json')
    _used_elsewhere(tmp_path, store, local)


def _used_elsewhere(tmp_path: Path, store, local: Path) -> None:
    """Evaluates, reports and reads the run on a machine that has nothing of it."""
    elsewhere = tmp_path / 'elsewhere'
    done(elsewhere, 'eval', '--workdir', RUN, '--config.eval.split=train')
    done(tmp_path / 'local', 'eval', '--workdir', str(local), '--config.eval.split=train')
    result = json.loads(store.cat_file('bucket/runs/digits/eval/train-1.json'))
    expected = json.loads((local / 'eval' / 'train-1.json').read_text())
    assert result['top1_error'] == expected['top1_error'] and result['loss'] == expected['loss']
    store.rm('bucket/runs/digits/report', recursive=True)
    done(tmp_path / 'more', 'report', '--workdir', RUN)
    assert store.exists('bucket/runs/digits/report/index.html')
    features = 's3://bucket/features'
    done(elsewhere, 'features', RUN, '--layers', 'fc7/relu', '--out', features)
    done(tmp_path / 'more', 'rdm', features, '--layer', 'fc7/relu', '--out', 's3://bucket/rdm')
    assert store.find('bucket/rdm')
    done(elsewhere, 'weights', 'export', RUN, '--out', 's3://bucket/net.safetensors')
    model, own = load('s3://bucket/net.safetensors'), load(local)
    image = np.zeros((32, 32, 3), np.uint8)
    np.testing.assert_array_equal(model(model.read(image))[0], own(own.read(image))[0])
