"""Programs for accelerators that are not at hand: lowered for all platforms, compiled where the
compiler is installed."""

import dataclasses
import importlib.util
import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jax
import pytest

from alexnet_jax.experiment import config_file
from alexnet_jax.experiment.ahead_of_time import __main__ as command
from alexnet_jax.experiment.ahead_of_time import (
    default_meshes,
    estimates,
    program_report,
    programs,
)
from alexnet_jax.experiment.defaults import default_config
from alexnet_jax.network import device_mesh, platforms
from alexnet_jax.network.architectures import ARCHITECTURES, architecture
from alexnet_jax.network.chips import Chip
from alexnet_jax.network.communication import parameters_held, step_traffic
from alexnet_jax.network.shapes import layer_shapes
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE

# By the forms that are traced.
PLATFORMS = {'gpu': ('cpu', 'cuda'), 'tpu': ('tpu',)}
PRODUCTS = re.compile(r'stablehlo\.(?:dot_general|convolution).*')


def lowered(
    name: str, program: str, forms: str, precision: str = 'default', evaluated_in: str = 'float32'
) -> str:
    """StableHLO of a program of a net, for batches of 8 images."""
    config = default_config()
    config.network.name = name
    config.network.precision = precision
    config.data.batch_size = 8
    config.eval.batch_size = 8
    config.eval.compute = evaluated_in
    net, mesh = programs.net_of(config, 10), device_mesh.make_mesh(1, 1)
    with platforms.traced_for(forms):
        ((_, _, traced),) = programs.TRACE[program](config, net, mesh).values()
    return traced.lower(lowering_platforms=PLATFORMS[forms]).as_text()


# Of nets for photographs and the paper's, ablations differ in parts that other nets have.
ABLATIONS = ('paper_', 'photographs_', 'patterns_')


def cases() -> Iterator[Any]:
    """Every net's training and evaluation; a prediction is the program of an evaluation, for fewer
    images."""
    for name in ARCHITECTURES:
        mark = pytest.mark.slow if name.startswith(ABLATIONS) else pytest.mark.thorough
        for program in ('train', 'eval'):
            yield pytest.param(name, program, marks=mark)
    yield pytest.param('paper', 'predict', marks=pytest.mark.thorough)


@pytest.mark.parametrize(('name', 'program'), cases())
def test_every_net_is_lowered_for_every_platform(name, program):
    for forms in PLATFORMS:
        assert PRODUCTS.search(lowered(name, program, forms))


@pytest.mark.parametrize('precision', ['default', 'high', 'highest'])
def test_products_have_the_precision_asked_for_and_evaluations_the_highest(precision):
    def kinds(program: str) -> set[str]:
        text = lowered('small', program, 'tpu', precision)
        return {
            kind
            for product in PRODUCTS.findall(text)
            for kind in re.findall(r'\b(DEFAULT|HIGHEST|HIGH)\b', product)
        }

    assert kinds('eval') == kinds('predict') == {'HIGHEST'}
    # Sums for biases and over the maps of a window are exact whatever the setting.
    assert kinds('train') == {precision.upper(), 'HIGHEST'}


def test_evaluations_are_in_the_type_asked_for():
    for evaluated_in, types in (('float32', {'f32'}), ('bfloat16', {'bf16'})):
        text = lowered('small', 'eval', 'gpu', evaluated_in=evaluated_in)
        convolutions = [line for line in text.splitlines() if 'stablehlo.convolution' in line]
        assert {re.findall(r'(\w+)>$', line)[0].split('x')[-1] for line in convolutions} == types


@pytest.mark.parametrize(('text', 'says'), [
    ('tpu:v5e', 'allowed for v5e: 2 sides, as in tpu:v5e:2x2'),
    ('tpu:v5p:2x2', 'allowed for v5p: 3 sides, as in tpu:v5p:2x2x1'),
    ('tpu:v5e:32x16', 'of up to 256 chips'),
    ('tpu:v5e:0x2', '2 sides'),
    ('tpu:v7:2x2', 'the nearest is tpu:v5e:2x2'),
    ('gpu:h100:9', 'allowed: from 1 to 8 devices'),
    ('cpu:0', 'allowed: from 1 to 64 devices'),
    ('', 'allowed: tpu:v4:2x2x1'),
])  # fmt: skip
def test_a_target_that_cannot_be_is_refused(text, says, capsys):
    assert command.main(['--config', 'digits', f'--target={text}']) == BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: --target is '{text}'")
    assert says in line


@pytest.mark.parametrize(('words', 'says'), [
    (['--programs=trian'], 'the nearest is train'),
    (['--classes=1'], '--classes is 1; allowed: from 2'),
    (['--target=cpu:5', '--config.mesh.column=2'], 'has no mesh of the 5 devices of --target 5 CPU'),
])  # fmt: skip
def test_a_bad_request_is_refused(words, says, capsys):
    assert command.main(['--config', 'digits', '--target=cpu:2', *words]) == BAD_INPUT
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(('words', 'classes'), [
    (['digits'], 10), (['patterns'], 16), (['imagenet'], 1000), (['digits', '--classes=7'], 7),
    (['imagenet', '--config.data.source=synthetic', '--config.data.synthetic_classes=5'], 5),
])  # fmt: skip
def test_classes_are_those_of_the_set(words, classes):
    _, request = command.parse(['--target=cpu:2', '--config', *words])
    assert request.classes == classes


def test_programs_are_named_once():
    words = ['--config', 'digits', '--target=cpu:2', '--programs', 'eval, train,eval']
    assert command.parse(words)[1].programs == ['eval', 'train']


def test_idle_devices_are_counted():
    words = ['--config', 'imagenet', '--target=gpu:h100', '--config.data.batch_size=126']
    _, request = command.parse(words)
    assert request.target.chip is not None
    lines = program_report._default_meshes(request, 'bfloat16', request.target.chip)
    idle = {int(words[0]): words[5:] for words in map(str.split, lines[2:-1])}
    assert idle == {1: [], 4: [], 8: ['1', 'idle'], 64: ['1', 'idle'], 256: ['4', 'idle']}


def compiled(*words: str) -> str:
    """What the command prints, in a process of its own: JAX starts for the target."""
    run = subprocess.run(
        [sys.executable, '-m', 'alexnet_jax', 'compile', *words], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert run.returncode == DONE, run.stderr
    return run.stdout


@pytest.mark.thorough
def test_a_program_s_figures_are_printed():
    """Against the table: products of 64 images of the digits' net, and its parameters twice."""
    found = compiled('--config=digits', '--target=cpu:2', '--classes=10')
    assert '2 CPU devices: mesh 1×2' in found
    net = architecture('small')
    rows = layer_shapes(net, 10)
    forward = 2 * 64 * sum(row.multiply_adds for row in rows) / 2 / 1e9  # of one column
    (train, evaluation, _) = (float(x) for x in re.findall(r'([\d.]+) GFLOP', found))
    assert 0.8 * forward < evaluation < 1.2 * forward  # places beyond the edges are not counted
    assert 2 * forward < train < 3.5 * forward
    held = parameters_held(net, 10, 2)
    (arguments, *_) = (float(x) for x in re.findall(r'arguments ([\d.]+)', found))
    batch = 64 * 3 * 28 * 28
    assert arguments == pytest.approx((2 * 4 * held + batch) / 1e6, abs=0.2)
    lines = [line.split() for line in found.splitlines()]
    (column,) = (words for words in lines[:12] if words[:2] == ['column', 'total'])
    least = sum(x.sent for x in step_traffic(net, 10, (1, 2), 64))
    assert column[-2] == f'{least:,.0f}'
    assert column[-1] == '1.0000'


@pytest.mark.thorough
def test_a_step_in_parts_is_a_part_and_the_update():
    """Four parts of the 64 images on 2×2 devices: 8 images a device, at 4 bytes an activation."""
    found = compiled(
        '--config=digits', '--target=cpu:4', '--programs=train', '--config.train.micro_batches=4'
    )  # fmt: skip
    part, update = found.split('train, the update')
    assert 'train, a part of 4: 16 images' in part
    maps = 4 * 8 * (7 * 7 * 32 + 3 * 3 * 32 + 256)  # conv3, fc6 and fc7 read the other column's
    lines = [line.split() for line in part.splitlines()]
    (gathers,) = (words for words in lines if words[:2] == ['column', 'all-gather'])
    assert gathers[4:] == [f'{maps:,}', f'{maps:,}', '1.0000']
    assert not any(words[:2] == ['data', 'all-reduce'] and '1,431' in words for words in lines)
    (sums,) = (
        words
        for words in map(str.split, update.splitlines())
        if words[:2] == ['data', 'all-reduce']
    )
    held = 4 * parameters_held(architecture('small'), 10, 2)
    assert sums[4:] == [f'{held:,}', f'{held:,}', '1.0000']


@pytest.mark.thorough
def test_evaluations_send_maps_and_logits():
    """64 images on each of two data shards, 10 classes."""
    found = compiled('--config=digits', '--target=cpu:4', '--programs=eval')
    lines = [line.split() for line in found.splitlines()]
    ratios = {tuple(words[:2]): words[4:] for words in lines if words[:1] in (['column'], ['data'])}
    assert ratios['data', 'all-gather'] == ['2,560', '2,560', '1.0000']
    assert ratios['column', 'total'][-1] == '1.0000'


@pytest.mark.thorough
def test_batches_are_doubled():
    """On a chip with the memory for 128 images."""
    config = config_file.load('digits', {})
    net, mesh = programs.net_of(config, 10), device_mesh.make_mesh(1, 1)
    tried = [*itertools.islice(programs.with_larger_batches(config, net, mesh), 3)]
    assert [images for images, _ in tried] == [64, 128, 256]
    needed = [estimates.memory(found.compiled).total for _, (found,) in tried if found.compiled]
    chip = Chip({}, needed[1], 1, 1)
    assert [found.fits(chip) for _, (found,) in tried] == [True, True, False]
    lines = [program_report.batch(images, step, chip) for images, step in tried]
    assert lines[1:] == [
        f'  128 images: {needed[1] / 1e6:.1f} MB, 100% of the chip: fits',
        f'  256 images: {needed[2] / 1e6:.1f} MB, {needed[2] / needed[1]:.0%} of the chip: does not fit',
    ]  # fmt: skip
    refused = dataclasses.replace(tried[0][1][0], compiled=None, refusal='too large')
    assert (
        program_report.batch(64, [refused], chip)
        == '  64 images: does not fit (according to the compiler)'
    )


@pytest.mark.skipif(bool(importlib.util.find_spec('libtpu')), reason='libtpu is installed')
def test_a_missing_compiler_is_named(capsys):
    assert command.main(['--config', 'digits', '--target=tpu:v5e:2x2']) == BAD_INPUT
    first, second = capsys.readouterr().err.splitlines()
    assert '--target is v5e 2x2, whose compiler is not installed' in first
    assert second == f"pip install 'jax[tpu]=={jax.__version__}'"


def test_default_meshes_by_hand():
    """A chip of 100 FLOP/s, 52 bytes/s of memory and 4 bytes/s of links; torchvision's net."""
    chip = Chip({'default': 100.0}, 1, 52, 4)
    net = architecture('torchvision')
    rows = default_meshes.table(net, 1000, 8, 'gather', 1, chip, 'default', (1, 2))
    shapes = layer_shapes(net, 1000)
    forward = sum(row.multiply_adds for row in shapes)
    products = 2 * (3 * forward - shapes[0].multiply_adds) * 8 / 100
    parameters = sum(row.parameters for row in shapes)
    update = parameters / 2
    assert rows[0].computing == pytest.approx(products + update)
    assert rows[0].sending == 0
    assert rows[1].mesh == (2, 1)
    assert rows[1].computing == pytest.approx(products / 2 + update)
    sent = 4 * (parameters + 4) / 4  # 2 · (n − 1) / n = 1 of float32 gradients and four scores
    assert rows[1].sending == pytest.approx(sent)
    whole = (products + update) / (products / 2 + update + sent) / 2
    assert rows[1].efficiency == pytest.approx(whole)
    net = architecture('paper')  # conv3, fc6 and fc7 read all, and there are 1,000 logits
    chip = Chip({'bfloat16': 1e30}, 1, 1e30, 4)
    _, row = default_meshes.table(net, 1000, 8, 'gather', 1, chip, 'bfloat16', (1, 2))
    assert row.mesh == (1, 2)
    numbers = 2 * (13 * 13 * 128 + 6 * 6 * 128 + 2048)
    assert row.sending == pytest.approx(8 * (2 * numbers + 4 * 1000) / 4)
    assert default_meshes.most_useful_devices(rows) == (2 if whole >= 0.5 else 1)


# Of the training step in bfloat16 with libtpu 0.0.42.1, at a batch of 128 a chip: million cycles and
# MB of temporary memory, a little above what they were.
AT_MOST = {
    ('paper', '1x1'): (20.5, 690), ('batchnorm227', '1x1'): (29.5, 475),
    ('torchvision', '1x1'): (14.6, 330), ('krizhevsky2012', '1x1'): (25.1, 995),
    ('paper', '2x2'): (19.5, 1160), ('batchnorm227', '2x2'): (32.0, 1450),
}  # fmt: skip


def compiled_step(target: str, net: str, batch_size: int, *words: str) -> str:
    return compiled(
        f'--target={target}', '--programs=train', f'--config.network.name={net}',
        '--config.network.compute=bfloat16', f'--config.data.batch_size={batch_size}', *words,
    )  # fmt: skip


def share_sent_early(found: str) -> float:
    """The percentage of gradient bytes, as the command prints it."""
    (share,) = re.findall(r'before the last backward convolution: ([\d.]+)%', found)
    return float(share)


def over_the_least(found: str) -> list[float]:
    """Bytes of each mesh axis over the least."""
    return [float(ratio) for ratio in re.findall(r'(?:column|data) +total .* ([\d.]+)\n', found)]


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec('libtpu'), reason='libtpu is not installed')
@pytest.mark.parametrize(('net', 'chips'), AT_MOST)
def test_tpu_programs_are_no_larger(net, chips):
    found = compiled_step(f'tpu:v5e:{chips}', net, 128 if chips == '1x1' else 512)
    patterns = (r'([\d.]+) million cycles', r'temporary ([\d.,]+)')
    for pattern, most in zip(patterns, AT_MOST[net, chips], strict=True):
        (number,) = re.findall(pattern, found)
        assert float(number.replace(',', '')) <= most
    if chips != '1x1':
        assert share_sent_early(found) >= 90
        assert max(over_the_least(found)) <= 1.01


@pytest.mark.slow
@pytest.mark.skipif(
    not importlib.util.find_spec('jax_cuda12_plugin'), reason='no compiler for GPUs'
)
@pytest.mark.parametrize(('data', 'column', 'convolutions', 'fusions'), [
    (4, 1, 23, 180), (2, 2, 14, 145),
])  # fmt: skip
def test_gpu_programs_send_gradients_early(data, column, convolutions, fusions):
    mesh = (f'--config.mesh.data={data}', f'--config.mesh.column={column}')
    found = compiled_step('gpu:h100:4', 'paper', 512, *mesh)
    assert f'kernels: {convolutions} convolutions, 9 products, ' in found
    (counted,) = re.findall(r'([\d]+) fusions', found)
    assert int(counted) <= fusions
    assert share_sent_early(found) >= 90
    assert max(over_the_least(found)) <= 1.01


@pytest.mark.slow
@pytest.mark.skipif(
    not importlib.util.find_spec('jax_cuda12_plugin'), reason='no compiler for GPUs'
)
def test_the_largest_batch_is_the_last_before_one_that_does_not_fit():
    found = compiled(
        '--config=imagenet', '--target=gpu:h100', '--programs=train', '--largest_batch',
        '--config.data.batch_size=4096',
    )  # fmt: skip
    *fitting, last = found.split('until one does not fit\n')[1].splitlines()
    assert [line.split()[0] for line in fitting] == [f'{4096 * 2**n}' for n in range(len(fitting))]
    assert fitting
    assert all(line.endswith(': fits') for line in fitting)
    assert 'does not fit' in last
