"""A run that lies in an object store, with its images: moto's server on the loopback."""

import concurrent.futures
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from alexnet_jax import load, main
from alexnet_jax.data.prepare import __main__ as prepare
from alexnet_jax.runtime import storage
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE
from alexnet_jax.runtime.storage.client import Store
from alexnet_jax.training import checkpoint_reader
from tests.data.photographs import write_classes

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
        if killed < 4:
            time.sleep(chance.uniform(0, 6))
        else:
            process.stdout.read()
        if process.poll() is None and killed < 4:
            process.kill()
            killed += 1
        elif process.wait() == 0:
            break
        process.wait()
        process.stdout.close()
    assert process.returncode == 0 and killed >= 2, (killed, seed)
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


@pytest.mark.thorough
def test_what_the_store_does_not_have_is_refused_before_training(s3, capsys, monkeypatch):
    words = ['--config', 'digits', '--config.data.dir']
    assert main.main([*words[:2], '--workdir', 's3://nowhere/run']) == BAD_INPUT
    expected = '--workdir s3://nowhere/run: The specified bucket does not exist'
    assert capsys.readouterr().err == f'error: {expected}\n'
    assert main.main([*words, 's3://bucket/nothing', '--workdir', 's3://bucket/run']) == BAD_INPUT
    assert 's3://bucket/nothing holds no dataset_info.json' in capsys.readouterr().err
    assert (
        prepare.main(['--source', 'folder:s3://bucket/nothing', '--out', 's3://bucket/set'])
        == BAD_INPUT
    )
    assert 'folder:s3://bucket/nothing: no such folder' in capsys.readouterr().err
    monkeypatch.setenv('AWS_ENDPOINT_URL', 'http://127.0.0.1:9')  # nobody is there
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    assert main.main([*words[:2], '--workdir', 's3://bucket/run']) == BAD_INPUT
    printed = capsys.readouterr().err
    assert 's3://bucket/run: listing: Could not connect to the endpoint' in printed
    assert printed.count('\n') == 1
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.thorough
def test_several_workers_read_images_from_the_store(s3, tmp_path, monkeypatch):
    import s3fs

    monkeypatch.setenv('ALEXNET_JAX_CACHE', str(tmp_path / 'cache'))
    images, url = tmp_path / 'images', 's3://bucket/photos/images'
    write_classes(images / 'train', 100, ('a', 'b'))
    write_classes(images / 'val', 5, ('a', 'b'))
    store = s3fs.S3FileSystem(skip_instance_cache=True)
    store.put(f'{images}/', f'{url}/', recursive=True)
    words = ['--size=16', '--workers=2']
    assert (
        prepare.main(['--source', f'folder:{images}', '--out', f'{tmp_path}/set', *words]) == DONE
    )
    assert prepare.main(['--source', f'folder:{url}', '--out', 's3://bucket/made', *words]) == DONE
    local = {path.name: path.read_bytes() for path in (tmp_path / 'set').glob('*.array_record-*')}
    assert len(local) == 3
    for name, content in local.items():
        assert store.cat_file(f'bucket/made/{name}') == content


@pytest.mark.thorough
def test_of_two_who_create_an_object_at_once_one_does(s3):
    stores = [Store('s3://bucket/owned') for _ in range(8)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda store: store.create('.owner.json', b'x'), stores))
    assert created.count(True) == 1


@pytest.mark.thorough
def test_a_store_that_hangs_for_a_while_loses_nothing(s3, tmp_path, monkeypatch):
    """Its server is halted while files are uploaded."""
    _, server = s3
    monkeypatch.setenv('ALEXNET_JAX_CACHE', str(tmp_path / 'one'))
    contents = {f'part{number}': os.urandom(1000) for number in range(30)}
    with storage.session():
        folder = storage.folder('s3://bucket/hangs', '--out')
        folder.mkdir()
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        server.send_signal(signal.SIGSTOP)
        threading.Timer(3, server.send_signal, [signal.SIGCONT]).start()
    monkeypatch.setenv('ALEXNET_JAX_CACHE', str(tmp_path / 'other'))
    with storage.session():
        folder = storage.folder('s3://bucket/hangs', '--out')
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == contents


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
    printed = done(
        elsewhere, 'train', '--config', 'digits', '--config.network.width=0.5', f'--config.start.from={RUN}',
        '--config.train.steps=1', f'--config.data.dir={SET}', '--noconfig.train.report',
        '--workdir', str(tmp_path / 'started'),
    )  # fmt: skip
    assert 'step 60' in printed  # of the run that it started from
    model, own = load('s3://bucket/net.safetensors'), load(local)
    image = np.zeros((32, 32, 3), np.uint8)
    np.testing.assert_array_equal(model(model.read(image))[0], own(own.read(image))[0])
