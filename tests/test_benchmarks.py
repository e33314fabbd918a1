"""What our step is timed beside computes the same; what waits for a GPU runs without one."""

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.architectures import architecture
from tests.studies.test_figure1 import write_rows

CLASSES = 7
PATH = Path(__file__).parent.parent / 'benchmarks' / 'naive.py'


@pytest.fixture(scope='module')
def naive():
    spec = importlib.util.spec_from_file_location('naive', PATH)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def joined(layer: dict, shape: tuple[int, ...]) -> dict:
    """Kernels of two columns side by side; of the output layer, which has one bias for
    both, one above the other."""
    kernel, bias = layer['kernel'], layer['bias']
    if bias.ndim > 1:
        return {
            'kernel': jnp.concatenate(list(kernel), axis=-1).reshape(shape),
            'bias': bias.ravel(),
        }
    return {'kernel': kernel.reshape(shape), 'bias': bias}


@pytest.mark.slow
def test_the_naive_net_has_our_losses_and_gradients(naive):
    table = architecture('paper', 67, 0.125)
    net = AlexNet(table, CLASSES)
    images = 50 * np.random.default_rng(0).standard_normal((2, 67, 67, 3)).astype(np.float32)
    labels = np.array([1, 5])
    params = nn.unbox(jax.jit(net.init)(jax.random.key(0), images))['params']
    shapes = {name: layer['kernel'].shape for name, layer in naive.start(table, CLASSES)[0].items()}

    def join(params):
        return {name: joined(layer, shapes[name]) for name, layer in params.items()}

    def loss(logits):
        return -jnp.mean(jax.nn.log_softmax(logits)[np.arange(2), labels])

    def ours(params):
        return loss(net.apply({'params': params}, images)[0])

    def theirs(params):
        return loss(naive.forward(table, params, {}, images)[0])

    our_loss, our_slope = jax.jit(jax.value_and_grad(ours))(params)
    their_loss, their_slope = jax.jit(jax.value_and_grad(theirs))(join(params))
    np.testing.assert_allclose(our_loss, their_loss, rtol=1e-5)
    ours = join(our_slope)
    found, expected = (
        jax.tree.map(lambda x, own: x / (jnp.abs(own).max() + 1e-12), slope, ours)
        for slope in (their_slope, ours)
    )
    chex.assert_trees_all_close(found, expected, rtol=0, atol=1e-4)


@pytest.fixture
def gpu(monkeypatch):
    """The modules of `gpu.py`, by name."""
    monkeypatch.syspath_prepend(str(PATH.parent))
    return importlib.import_module


def run_gpu(out: Path, *words: str) -> list[dict]:
    """The results of a dry run."""
    command = [
        sys.executable, str(PATH.with_name('gpu.py')), '--out', str(out), '--dry-run', *words,
    ]  # fmt: skip
    variables = {name: value for name, value in os.environ.items() if name != 'XLA_FLAGS'}
    subprocess.run(command, check=True, env=variables, stdout=subprocess.DEVNULL)
    return [json.loads(line) for line in (out / 'gpu.jsonl').read_text().splitlines()]


def named(results: list[dict], name: str) -> dict:
    return next(result for result in results if result['record'] == name)


def test_the_floor_is_the_one_computed_by_hand(gpu):
    floors = gpu('step_time').FLOORS  # of a GPU with these two rates
    found = {batch: gpu('gpu_steps').floor(batch, 790e12, 4.3e12) for batch in floors}
    assert found == pytest.approx(floors, rel=5e-3)


def test_losses_are_compared_row_by_row(gpu):
    rows = [{'step': step, 'loss': 2.0} for step in (1, 2, 20)]
    other = [rows[0], {'step': 2, 'loss': 2.2}, {'step': 20, 'loss': 3.0}]
    found = gpu('gpu_training').compare_rows(rows, other)
    assert (found['first_unequal_step'], found['rows_equal']) == (2, False)
    upto = found['largest_relative_difference_of_loss_up_to_step']
    assert [upto[step] for step in (1, 10, 30)] == pytest.approx([0, 0.1, 0.5])
    assert gpu('gpu_training').compare_rows(rows, rows)['rows_equal']
    assert not gpu('gpu_training').compare_rows([], [])['rows_equal']  # nothing was compared


def test_figure1_is_read_while_it_trains(gpu, tmp_path):
    """Epochs of two batches of 128; the run is writing its fifth row."""
    place = gpu('gpu_parts').Place(tmp_path, tmp_path, 0.0, dry=True, images=None)
    run = gpu('gpu_training').Figure1Run(place, 'tanh', 0.003, None)
    assert run.curve() == []
    write_rows(tmp_path / 'figure1/tanh-0.003/tanh/rate-0.003/seed-0', 256, 128, [1, 0.8, 0.6, 0.4])
    with next(tmp_path.rglob('metrics.jsonl')).open('a') as file:
        file.write('{"split": "train", "step": 5, "ep')
    assert run.curve() == [
        (1.0, pytest.approx(0.9)),
        (1.5, pytest.approx(0.7)),
        (2.0, pytest.approx(0.5)),
    ]


@pytest.mark.parametrize('log', [
    '[gw3] [  1%] PASSED tests/a.py::test_b[x y] \n[gw0] [  2%] FAILED tests/a.py::test_c[x y] \n'
    'FAILED tests/a.py::test_c[x y] - assert 1 == 2\n',
    'tests/a.py::test_b[x y] PASSED   [ 50%]\ntests/a.py::test_c[x y] FAILED   [100%]\n',
])  # fmt: skip
def test_failed_tests_are_named(gpu, log):
    assert gpu('gpu_parts').outcomes(log) == {'passed': 1, 'failed': ['tests/a.py::test_c[x y]']}


def test_a_part_for_which_no_time_is_left_is_skipped(tmp_path):
    results = run_gpu(tmp_path, '--parts', 'ceilings,flag_128', '--seconds', '26')
    assert named(results, 'ceilings')['bfloat16_flops'] > 0
    assert named(results, 'part ceilings')['outcome'] == 'done'
    assert named(results, 'skipped')['parts'] == ['flag_128']


@pytest.mark.slow
def test_all_that_needs_a_gpu_runs_dry(tmp_path):
    results = run_gpu(tmp_path, '--seconds', '1200', '--stretch', '5')
    parts = [result for result in results if result['record'].startswith('part ')]
    assert len(parts) == 11
    assert {part['outcome'] for part in parts} == {'done'}
    for name in ('paper', 'krizhevsky2012', 'batchnorm227 training'):
        for precision in ('highest', 'default'):
            parity = named(results, f'parity {name}, precision {precision}')
            assert parity['worst_gradient'][1]['relative'] < 1e-5
    assert named(results, 'digits flag, killed')['killed_at'] >= 8
    same = named(results, 'digits: cpu and gpu')
    assert same['rows_equal']
    assert same['checkpoints_equal'] == [True] * 3
    assert named(results, 'figure1 relu-0.003')['lowest'] < 1
    assert named(results, 'bfloat16, batch 128')['medians']['alexnet_jax'] > 0


@pytest.mark.slow
def test_rows_stand_beside_pytorch_s(tmp_path):
    """Of a net with ReLU, pooling, normalization and dropout: each row has a time of both."""
    pytest.importorskip('torch')
    here = Path(__file__).parent.parent
    for name in (
        'layers_beside_pytorch.py',
        'layers.py',
        'report.py',
        'timing.py',
        'torch_nets.py',
    ):
        (tmp_path / name).symlink_to(here / 'benchmarks' / name)
    command = [sys.executable, str(tmp_path / 'layers_beside_pytorch.py')]
    command += ['--net=small', '--batch=2', '--rounds=2']
    printed = subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {'PYTHONPATH': str(here)},
    ).stdout
    result = json.loads((tmp_path / 'layers_beside_pytorch.json').read_text())
    package, pytorch = result['seconds'].values()
    assert list(package) == list(pytorch) and {'conv1 forward', 'fc8 backward'} <= package.keys()
    assert all(len(found[name]) == 2 and min(found[name]) > 0
               for found in (package, pytorch) for name in found)  # fmt: skip
    assert printed.count('\n| conv') > 10 and '| **all rows** |' in printed
