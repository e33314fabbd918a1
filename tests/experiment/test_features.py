"""Features of files, folders, lists and sets, from the command line and from Python."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import chex
import numpy as np
import pytest
from safetensors.numpy import load_file

from alexnet_jax import load
from alexnet_jax.evaluation import __main__ as evaluation
from alexnet_jax.evaluation import arrays, feature_parts
from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment import features, stimuli, trained
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE
from alexnet_jax.runtime.errors import InputError, StopRequestedError
from tests.data.photographs import image_file
from tests.experiment.trained_runs import refused

LAYERS = ('conv5/pool', 'fc7/relu', 'fc8')


@pytest.fixture(scope='module')
def run(runs):
    return runs / '0'


@pytest.fixture(scope='module')
def flat(tmp_path_factory):
    """Twenty images in a folder, with files beside them that are none."""
    top = tmp_path_factory.mktemp('flat')
    for number in range(20):
        suffix, content = image_file(number)
        (top / f'{number:02d}.{suffix}').write_bytes(content)
    for name in ('notes.md', '._00.png', '.hidden.jpg'):
        (top / name).write_bytes(b'none')
    return top


def keep(run, *words, layers=LAYERS) -> int:
    return evaluation.main(['features', str(run), *map(str, words), f'--layers={",".join(layers)}'])


@pytest.fixture
def nested(flat, tmp_path):
    """The same images in folders of three levels."""
    for number, path in enumerate(sorted(flat.glob('[0-9]*'))):
        place = tmp_path / 'nested' / f'a{number % 3}' / f'b{number % 2}' / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, place)
    return tmp_path / 'nested'


ALONE = """
import sys, numpy as np
from pathlib import Path
from alexnet_jax import load
from alexnet_jax.evaluation import arrays, feature_files

model = load(sys.argv[1])
for out, top in zip(sys.argv[2::2], sys.argv[3::2]):
    kept = arrays.read(Path(out))
    for row, name in enumerate(kept.ids):
        _, expected = model(model.read(Path(top) / name))
        for layer in kept.about['activations']:
            assert (kept.array(layer)[row] == np.asarray(expected[layer])[0]).all(), (name, layer)
"""


@pytest.mark.thorough
def test_features_are_the_model_s_image_by_image_to_the_bit(run, flat, nested, tmp_path):
    """Of a flat folder, of nested ones, and of a list; the model runs each image alone. With two
    threads: on more XLA may divide the sums of a single image among them."""
    names = sorted(path.name for path in flat.glob('[0-9]*'))
    (tmp_path / 'listed').mkdir()
    for name in names:
        os.link(flat / name, tmp_path / 'listed' / name)
    listed = tmp_path / 'listed' / 'list.txt'
    listed.write_bytes(('\ufeff' + '\r\n'.join(reversed(names)) + '\r\n\r\n').encode())
    environment = os.environ | {'XLA_FLAGS': '', 'PJRT_NPROC': '2'}
    pairs, orders = [], {}
    for word in (flat, nested, listed):
        out = tmp_path / 'out' / word.stem
        command = ['features', run, word, f'--layers={",".join(LAYERS)}', '--out', out]
        subprocess.run(
            [sys.executable, '-m', 'alexnet_jax', *map(str, command)], check=True, env=environment
        )
        pairs += [out, listed.parent if word == listed else word]
        kept = arrays.read(out)
        assert (kept.labels == -1).all()
        orders[word] = kept.ids
    assert orders[flat] == names
    assert orders[listed] == names[::-1]
    assert orders[nested] == sorted(orders[nested])
    assert sorted(Path(name).name for name in orders[nested]) == names
    command = [sys.executable, '-c', ALONE, *map(str, [run, *pairs])]
    subprocess.run(command, check=True, env=environment)


@pytest.mark.thorough
def test_the_model_s_own_method_gives_the_same(run, flat, tmp_path):
    model = load(run)
    found = stimuli.find([flat])
    assert keep(run, flat, f'--out={tmp_path / "out"}') == DONE
    kept = arrays.read(tmp_path / 'out')
    ours = model.features([one.path for one in found], LAYERS, batch=16)
    chex.assert_trees_all_equal(ours, {name: np.asarray(kept.array(name)) for name in LAYERS})
    crops = model.read([one.path for one in found])
    chex.assert_trees_all_equal(model.features(crops, LAYERS), ours)
    for pictures, layers in (('a.png', LAYERS), ([found[0].path], 'fc8')):
        with pytest.raises(InputError, match='allowed: a list of'):
            model.features(pictures, layers)
    with pytest.raises(InputError, match='the nearest is conv5/pool'):
        model.features([found[0].path], ['conv5/poll'])
    with pytest.raises(InputError, match='is empty'):
        model.features([], LAYERS)


@pytest.mark.thorough
def test_forms_types_and_pools(run, flat, tmp_path):
    layers = ('conv3', 'fc7/relu')
    assert keep(run, flat, f'--out={tmp_path / "whole"}', layers=layers) == DONE
    whole = arrays.read(tmp_path / 'whole')
    maps = np.asarray(whole.array('conv3'))
    with (tmp_path / 'whole' / 'ids.csv').open(newline='') as file:
        assert [*csv.reader(file)] == [
            ['row', 'id'],
            *([str(i), x] for i, x in enumerate(whole.ids)),
        ]

    more = ['--pool=mean', '--form=safetensors', '--type=float16']
    assert keep(run, flat, f'--out={tmp_path / "small"}', *more, layers=layers) == DONE
    small = load_file(tmp_path / 'small' / 'features.safetensors')
    assert small['conv3'].dtype == np.float16
    np.testing.assert_allclose(small['conv3'], maps.mean(axis=(1, 2)), rtol=2e-3, atol=1e-3)
    np.testing.assert_allclose(small['fc7/relu'], whole.array('fc7/relu'), rtol=2e-3, atol=1e-3)
    assert (small['labels'] == -1).all()

    assert keep(run, flat, f'--out={tmp_path / "most"}', '--pool=max', layers=layers) == DONE
    chex.assert_trees_all_equal(
        np.asarray(arrays.read(tmp_path / 'most').array('conv3')), maps.max(axis=(1, 2))
    )


@pytest.mark.thorough
def test_a_broken_image_stops_or_is_listed(run, nested, tmp_path, capsys):
    (nested / 'a1' / 'b0' / 'zz\nzz.png').write_bytes(b'no picture')
    out = tmp_path / 'out'
    assert keep(run, nested, f'--out={out}') == BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(
        'zz\\nzz.png is no JPEG or PNG; --skip_bad lists such images and continues'
    )
    assert not list(tmp_path.glob('out*'))  # it is in the first batch
    assert keep(run, nested, f'--out={out}', '--skip_bad') == DONE
    assert 'a1/b0/zz\\nzz.png is no JPEG or PNG' in capsys.readouterr().out
    kept = arrays.read(out)
    assert len(kept.ids) == 20
    assert kept.about['skipped'] == [['a1/b0/zz\nzz.png', 'is no JPEG or PNG']]
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith('.partial')] == []


def test_a_command_that_is_stopped_goes_on(run, flat, tmp_path):
    """Stopped after each batch of four: the same bytes as in one go."""
    model, config = trained.open_any(run, {'eval.batch_size': '4', 'data.threads': '0'})
    source = features.open_source([flat], config)
    request = features.Request(LAYERS)
    features.keep(model, source, config, request, tmp_path / 'once', 'npy')
    for _ in range(5):  # the last after the last batch
        with pytest.raises(StopRequestedError):
            features.keep(
                model, source, config, request, tmp_path / 'often', 'npy', lambda: True
            )  # fmt: skip
    features.keep(model, source, config, request, tmp_path / 'often', 'npy', lambda: True)
    assert content(tmp_path / 'often') == content(tmp_path / 'once')


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def command_for(run: Path, flat: Path, folder: Path, count: int) -> list[str]:
    """The command for `count` images in folder/many, links to the twenty of `flat`."""
    (folder / 'many').mkdir()
    paths = sorted(flat.glob('[0-9]*'))
    for number in range(count):
        path = paths[number % 20]
        os.link(path, folder / 'many' / f'{number:05d}{path.suffix}')
    return [
        sys.executable, '-m', 'alexnet_jax', 'features', str(run), str(folder / 'many'),
        f'--layers={",".join(LAYERS)}', '--config.eval.batch_size=4',
    ]  # fmt: skip


@pytest.mark.slow
def test_a_command_that_is_killed_ten_times_goes_on(run, flat, tmp_path):
    """Each time after its state was saved once more."""
    command = command_for(run, flat, tmp_path, 20_000)
    subprocess.run([*command, f'--out={tmp_path / "once"}'], check=True)
    for kill in range(10):
        before = images_done(tmp_path / 'often.partial')
        process = subprocess.Popen([*command, f'--out={tmp_path / "often"}'])
        while images_done(tmp_path / 'often.partial') == before:
            assert process.poll() is None, f'it ended before kill {kill}'
            time.sleep(0.01)
        time.sleep(0.07 * kill)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (tmp_path / 'often').exists()
    subprocess.run([*command, f'--out={tmp_path / "often"}'], check=True)
    assert content(tmp_path / 'often') == content(tmp_path / 'once')


@pytest.mark.thorough
def test_parts_come_to_the_same_folder(run, flat, tmp_path, capsys):
    """Stopped in the midst of a part, on several meshes, a broken image among them."""
    for path in flat.glob('[0-9]*'):
        os.link(path, tmp_path / path.name)
    (tmp_path / '03.png').unlink(missing_ok=True)
    (tmp_path / '03.png').write_bytes(b'no picture')
    model, config = trained.open_any(run, {'eval.batch_size': '4', 'data.threads': '0'})
    wide = configuration.changed(config, {'mesh.data': 2})
    source = features.open_source([tmp_path], config, skip_bad=True)
    request = features.Request(LAYERS)

    def keep(name: str, text: str = '', stop=lambda: False, config=config) -> str:
        part = feature_parts.parse(text) if text else None
        out = tmp_path / name
        return features.keep(model, source, config, request, out, 'safetensors', stop, part)

    printed = keep('once')
    keep('parts', '2/3')
    with pytest.raises(StopRequestedError):
        keep('parts', '0/3', lambda: True)
    assert '8 images' in keep('parts', '1/3', config=wide)
    assert not (tmp_path / 'parts').exists()
    assert keep('parts', '0/3') == printed.replace('once', 'parts')
    assert 'skipped: 03.png is no JPEG or PNG' in printed
    assert content(tmp_path / 'parts') == content(tmp_path / 'once')
    assert keep('parts', '1/3') == printed.replace('once', 'parts')  # all is there already
    assert not (tmp_path / 'parts.parts').exists()


@pytest.mark.thorough
def test_processes_that_share_the_images_are_killed_and_go_on(run, flat, tmp_path):
    command = command_for(run, flat, tmp_path, 1200)
    subprocess.run([*command, f'--out={tmp_path / "once"}'], check=True)

    def start(part: str) -> subprocess.Popen:
        return subprocess.Popen([*command, f'--out={tmp_path / "out"}', f'--part={part}'])

    first, second = start('0/2'), start('1/2')
    begun = tmp_path / 'out.parts' / '1-of-2.partial'
    while not images_done(begun):
        assert second.poll() is None, 'it ended before the kill'
        time.sleep(0.01)
    second.send_signal(signal.SIGKILL)
    second.wait()
    assert first.wait() == DONE
    assert 0 < images_done(begun) < 600
    assert not (tmp_path / 'out').exists()
    assert start('1/2').wait() == DONE
    assert content(tmp_path / 'out') == content(tmp_path / 'once')
    assert not (tmp_path / 'out.parts').exists()


def images_done(partial: Path) -> int:
    path = partial / 'state.json'
    return json.loads(path.read_text())['progress']['images'] if path.exists() else 0


@pytest.mark.parametrize(('words', 'says'), [
    (['nothing'], 'nothing: no such file or folder'),
    (['empty'], 'empty holds no JPEG or PNG files'),
    (['list.txt'], 'the list list.txt is empty'),
    (['a.png', 'a.png'], 'a.png occurs twice'),
    (['x' * 300], 'cannot be read: File name too long'),
    (['a\0b'], 'a\\x00b: no such file or folder'),
])  # fmt: skip
def test_images_that_cannot_be_found_are_named(words, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'list.txt').write_text('\n\n')
    (tmp_path / 'a.png').write_bytes(b'')
    with pytest.raises(InputError) as caught:
        stimuli.find(words)
    assert says in str(caught.value)


def test_ids_and_their_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('b/2.png', 'b/10.PNG', 'b/.cache/1.png', 'b/c/1.jpeg', 'a.jpg', 'b/text.txt'):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b'')
    Path('few.txt').write_text('b/2.png\n')
    assert [one.id for one in stimuli.find(['b'])] == ['10.PNG', '2.png', 'c/1.jpeg']
    assert [one.id for one in stimuli.find(['a.jpg', 'b', 'few.txt'])] == [
        'a.jpg', 'b/10.PNG', 'b/2.png', 'b/c/1.jpeg', 'few.txt/b/2.png',
    ]  # fmt: skip
    assert [one.path for one in stimuli.find(['few.txt'])] == [Path('b/2.png')]


def test_bad_requests_are_refused(run, flat, tmp_path, capsys):
    def message(*words, layers=LAYERS) -> str:
        command = ['features', str(run), *map(str, words), f'--layers={",".join(layers)}']
        return refused(capsys, evaluation.main, command)

    out = f'--out={tmp_path / "out"}'
    assert "'conv5/poll'; the nearest is conv5/pool" in message(flat, out, layers=['conv5/poll'])
    assert "'fc8' twice" in message(flat, out, layers=['fc8', 'fc8'])
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'notes.txt').touch()
    assert 'holds something else' in message(flat, f'--out={tmp_path / "mine"}')
    assert '--layers is empty' in message(flat, out, layers=['', ''])
    assert '--part I/N' in message(flat, out, '--processes=2')
    assert "--part is '2/2'" in message(flat, out, '--part=2/2')
    assert '--part is 0/2; allowed: at most 1 part for 20 images' in message(
        flat, out, '--part=0/2'
    )
    assert not list(tmp_path.glob('out*'))


@pytest.mark.thorough
def test_finished_features_are_not_replaced_by_others(run, flat, tmp_path, capsys):
    out = f'--out={tmp_path / "out"}'
    assert keep(run, flat, out, layers=['fc8']) == DONE
    before = content(tmp_path / 'out')
    command = ['features', str(run), str(flat), '--layers=fc7', out]
    assert 'is of another command: activations, layers differ' in refused(
        capsys, evaluation.main, command
    )
    assert content(tmp_path / 'out') == before
    assert keep(run, flat, out, layers=['fc8']) == DONE
    assert content(tmp_path / 'out') == before
