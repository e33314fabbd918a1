"""Whatever is wrong with what comes from outside is refused in plain words, or it is taken
for what it is; never anything else."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from alexnet_jax import main
from alexnet_jax.data import image_set, set_files
from alexnet_jax.experiment import config_file, trained
from alexnet_jax.experiment.settings import SETTINGS, as_text
from alexnet_jax.runtime.command_line import BAD_INPUT
from alexnet_jax.runtime.errors import InputError, RecordError
from tests import config_files
from tests.faults import fuzz, fuzz_images, fuzz_sets, fuzz_settings, odd_values


@pytest.fixture(scope='module')
def output_text(tmp_path_factory) -> dict:
    """What came of all of them, made in one process with a home of its own."""
    folder = tmp_path_factory.mktemp('fuzz')
    command = [sys.executable, '-m', 'tests.faults.fuzz', str(folder)]
    environment = os.environ | {'HOME': str(folder), 'XLA_FLAGS': ''}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0 and 'Traceback' not in done.stderr, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.thorough
@pytest.mark.parametrize(('kind', 'taken', 'least'), [
    ('settings', 'accepted', 50), ('images', 'read', 50), ('sets', 'same', 10),
    ('checkpoints', 'read', 5),
])  # fmt: skip
def test_what_is_wrong_is_refused_or_does_no_harm(kind, taken, least, output_text):
    outcomes = output_text[kind]['outcomes']
    assert set(outcomes) == {'refused', taken}, outcomes
    assert sum(outcomes.values()) == fuzz.COUNTS[kind]
    assert outcomes['refused'] > fuzz.COUNTS[kind] / 2  # or too little was wrong with them
    assert outcomes[taken] > least  # or nothing was tried beyond the reading
    assert output_text[kind]['grown'] < 1 << 30


def test_images_of_strange_names_are_predicted_or_named(tmp_path, capsys, monkeypatch):
    """One bad file spoils nothing of the others; a pipe is not waited for."""
    monkeypatch.setattr(trained, 'open_model', lambda config, workdir: fuzz_images.constant_model())
    good = ['a\nb.png', '\x1b[31m.png', '\udcff.png', '$x$.png', 'ünï.png', '$.png', '-.png']
    bad = [f'{seed}.jpg' for seed in range(0, 100, 3)]
    for name in good:
        (tmp_path / name).write_bytes(fuzz_images.sound_files()[0])
    for seed, name in enumerate(bad):
        (tmp_path / name).write_bytes(fuzz_images.file_of(5 * seed + 4))  # no JPEG, no PNG
    os.mkfifo(tmp_path / 'pipe')
    workdir = tmp_path / 'r\udcffn'
    workdir.mkdir()
    bad += ['pipe', 'config.py', 'missing', 'n' * 300]
    values = {'network.name': 'small', 'data.record_size': fuzz_images.SIZE}
    config_files.with_values(tmp_path / 'config.py', values)
    options = ['--config', str(tmp_path / 'config.py'), '--workdir', str(workdir)]
    files = [str(tmp_path / name) for name in good + bad]
    with fuzz_settings.at_most(60):
        assert main.main([*options, '--mode=predict', *files]) == BAD_INPUT
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert len(lines) == len(bad) and 'Traceback' not in printed.err
    for name, line in zip(bad, lines, strict=True):
        assert line.startswith(f'error: {tmp_path / name} '), line
    assert all(line.isprintable() for line in printed.out.splitlines())
    kept = json.loads((workdir / 'predict' / 'predictions.json').read_text())
    assert [row['image'] for row in kept['images']] == files
    assert ['predictions' in row for row in kept['images']] == [True] * len(good) + [False] * len(
        bad
    )
    assert (workdir / 'predict' / 'predictions.png').stat().st_size > 1000


@pytest.mark.parametrize('name', fuzz_settings.NAMES)
def test_every_text_for_every_setting(name):
    taken = 0
    for text in (*odd_values.TEXTS, as_text(name, SETTINGS[name].default)):
        try:
            config = config_file.load(None, {name: text})
        except InputError as error:
            lines = str(error).split('\n')
            assert len(lines) <= 2 and all(line.isprintable() for line in lines), text
            assert len(str(error)) < 1000 and any(x in str(error) for x in SETTINGS), text
        else:
            assert fuzz_settings.fault_of(config) == '', text[:100]
            taken += 1
    assert taken


def test_a_config_is_python_and_nothing_else_that_python_can_run(tmp_path):
    with zipfile.ZipFile(tmp_path / 'my.py', 'w') as archive:
        archive.writestr('__main__.py', f'{config_files.HEAD}    return config')
    with pytest.raises(InputError, match='does not run'):
        config_file.load(str(tmp_path / 'my.py'), {})
    lines = 'from pathlib import Path', 'config.seed = len(Path(__file__).name)'
    config_files.with_lines(tmp_path / 'my.py', *lines)
    assert config_file.load(str(tmp_path / 'my.py'), {}).seed == 5


def test_numbers_that_no_run_could_count_to_are_refused():
    for name in ('train.steps', 'data.batch_size', 'schedule.patience'):
        with pytest.raises(InputError, match=f'{name} is 2147483648; .* at most 2147483647'):
            config_file.load(None, {name: str(2**31)})
    for name, most in {'schedule.drops': 30, 'data.threads': 1024, 'data.record_size': 4096,
                       'data.synthetic_classes': 1_000_000}.items():  # fmt: skip
        assert config_file.load(None, {name: str(most)})[name] == most
        with pytest.raises(InputError, match=f'{name} is {most + 1}; allowed: .* to {most}'):
            config_file.load(None, {name: str(most + 1)})


@pytest.fixture(scope='module')
def sound(tmp_path_factory) -> dict[str, Path]:
    return fuzz_sets.make_sets(tmp_path_factory.mktemp('sets'))


@pytest.fixture
def sets(sound, tmp_path) -> dict[str, Path]:
    """Copies, by encoding."""
    return {form: shutil.copytree(folder, tmp_path / form) for form, folder in sound.items()}


def test_every_bit_of_a_record_counts(sets):
    """Where the pixels lie as they are, nothing but a checksum can tell."""
    pixels, _, ids, *_ = fuzz_sets.read_all(sets['raw'])
    path = min(sets['raw'].glob('*train*'))
    content = path.read_bytes()
    first = content.find(pixels['train'][0].tobytes())
    assert first > 0
    for place in range(first, first + pixels['train'][0].nbytes, 97):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        records = image_set.open_set(sets['raw']).splits['train']
        with pytest.raises(RecordError, match=f'record 0 of {path} cannot be read'):
            records.read(0)
        assert records.read(1)[1:] == ids['train'][1]


def test_an_older_set_has_no_digests(sets):
    path = sets['jpeg'] / image_set.PREPARED
    about = json.loads(path.read_text())
    assert about.pop('digests').keys() == {
        'dataset_info.json', 'features.json', 'label.labels.txt', 'statistics.npz',
    }  # fmt: skip
    path.write_text(json.dumps(about))
    assert len(image_set.open_set(sets['jpeg']).splits['train']) == 150
    with np.load(sets['jpeg'] / set_files.STATISTICS) as arrays:
        statistics = dict(arrays)
    for name, values in statistics.items():
        for other in (values[:-1], values * np.nan, values.astype(int)):
            np.savez(sets['jpeg'] / set_files.STATISTICS, **statistics | {name: other})
            with pytest.raises(InputError, match=rf'cannot be read: .*{name} (of|has) '):
                image_set.open_set(sets['jpeg'])
