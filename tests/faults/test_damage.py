"""Checkpoints with flipped bits, cut short, emptied, with files gone: no silent difference."""

import json
import random as python_random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from alexnet_jax.runtime.command_line import BAD_INPUT, DONE
from alexnet_jax.runtime.errors import InputError
from alexnet_jax.training import checkpoint_reader
from alexnet_jax.training.checkpoint_reader import newest_intact, read_layers
from tests.faults import driver


@pytest.fixture(scope='module')
def folder(undisturbed, tmp_path_factory) -> Path:
    """Checkpoints to be damaged and mended again."""
    folder = tmp_path_factory.mktemp('damaged') / 'checkpoints'
    shutil.copytree(undisturbed / 'checkpoints', folder)
    assert len(checkpoint_reader.steps(folder)) == 3
    return folder


def files(folder: Path) -> list[Path]:
    """All files of the last checkpoint."""
    last = folder / str(checkpoint_reader.steps(folder)[-1])
    return sorted(path for path in last.rglob('*') if path.is_file())


def flipped(content: bytes, random: python_random.Random) -> bytes:
    changed = bytearray(content)
    changed[random.randrange(len(content))] ^= 1 << random.randrange(8)
    return bytes(changed)


def assert_reported(folder: Path, path: Path) -> None:
    """Checks that the damage of a file is reported, with both steps, or makes no difference."""
    *_, before, last = checkpoint_reader.steps(folder)
    found, output_text = newest_intact(folder)
    if found == last:
        # White space in the manifest, which is its own guard.
        assert path.name == 'manifest.json' and output_text == []
        return
    (line,) = output_text
    assert found == before
    assert f'checkpoint {last} is damaged: {path}' in line and f'step {before} is used' in line
    with pytest.raises(InputError, match=f'checkpoint {last} is damaged'):
        read_layers(folder, last)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ('damage', 'count'),
    [
        (flipped, 200),
        (lambda content, random: content[: random.randrange(len(content))], 50),
        (lambda content, random: content + b'\0', 20),
        (lambda content, random: bytes(len(content)), 20),
    ],
    ids=['flipped bits', 'truncations', 'appended', 'zeros'],
)
def test_seeded_damage(damage, count, folder):
    random, paths = (
        python_random.Random(count),
        [path for path in files(folder) if path.stat().st_size],
    )
    for number in range(count):
        # Each file in turn, and as often one by its share of the bytes.
        sizes = [path.stat().st_size for path in paths]
        path = paths[number // 2 % len(paths)] if number % 2 else random.choices(paths, sizes)[0]
        content = path.read_bytes()
        path.write_bytes(changed := damage(content, random))
        if changed != content:
            assert_reported(folder, path)
        path.write_bytes(content)
    assert newest_intact(folder) == (checkpoint_reader.steps(folder)[-1], [])


def test_each_file_removed_and_emptied(folder):
    for path in files(folder):
        content = path.read_bytes()
        if content:
            path.write_bytes(b'')
            assert_reported(folder, path)
        path.unlink()
        assert_reported(folder, path)
        path.write_bytes(content)


@pytest.mark.thorough
def test_a_run_goes_on_from_the_one_before_and_says_so(undisturbed, data_dir, tmp_path):
    """And comes to the same end; the damaged one is kept for whoever wants to look."""
    shutil.copytree(undisturbed, run := tmp_path / 'run')
    *_, before, last = checkpoint_reader.steps(run / 'checkpoints')
    next(path for path in files(run / 'checkpoints') if path.stat().st_size > 9999).write_bytes(
        b'?'
    )
    evaluation = [sys.executable, '-m', 'alexnet_jax.main', '--workdir', str(run), '--mode=eval']
    output_text = subprocess.run(evaluation, capture_output=True, text=True)
    assert output_text.returncode == DONE and f'checkpoint {last} is damaged' in output_text.stderr
    assert json.loads((run / 'eval' / 'test-1.json').read_text())['step'] == before

    output = tmp_path / 'printed'
    assert driver.run(driver.command(run, data_dir), output) == DONE
    printed = output.read_text()
    assert f'resuming after step {before}:' in printed
    assert f'warning: checkpoint {last} is damaged: {run}' in printed
    shutil.rmtree(run / 'checkpoints' / f'{last}.damaged')
    driver.assert_same_run(run, undisturbed)


def test_none_whole_is_refused(undisturbed, data_dir, tmp_path):
    shutil.copytree(undisturbed, run := tmp_path / 'run')
    for step in checkpoint_reader.steps(run / 'checkpoints'):
        (run / 'checkpoints' / str(step) / 'manifest.json').unlink()
    before = sorted(run.rglob('*'))
    output = tmp_path / 'printed'
    assert driver.run(driver.command(run, data_dir), output) == BAD_INPUT
    first, second = output.read_text().splitlines()
    assert 'no checkpoint in' in first and first.count('manifest.json is missing') == 3
    assert 'a new run in another --workdir' in second
    assert sorted(run.rglob('*')) == before  # nothing is lost
