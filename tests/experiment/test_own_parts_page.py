"""docs/own_parts.md as a reader follows it: from an empty folder, with processes of its own."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import alexnet_jax
from tests.experiment import own_files

SHORT = (
    '--config.train.steps=3 --config.data.dir=sets --config.train.log_to= --noconfig.train.report'
)
COMMANDS = {
    'mynet.py': '--config.network.name=mynet.py:NET',
    'myrecipe.py': '--config.train.protocol=myrecipe.py:PROTOCOL --config.network.width=0.5',
    'mydata.py': '--config.data.source=mydata.py:SOURCE --config.network.width=0.5',
}


def run(folder: Path, module: str, words: str) -> str:
    """Runs a command in a folder, as of an installed package; returns what it prints."""
    environment = os.environ | {'PYTHONPATH': str(Path(alexnet_jax.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, '-m', module, *words.split()],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.thorough
@pytest.mark.parametrize('name', COMMANDS)
def test_an_example_from_an_empty_folder(tmp_path, name):
    """Trained, its file removed, resumed, evaluated, exported and loaded."""
    folder = tmp_path / 'empty'
    folder.mkdir()
    text = own_files.examples()[name]
    assert text.count('\n') <= 12
    (folder / name).write_text(text)
    main = 'alexnet_jax.main'
    run(folder, main, f'--config digits {COMMANDS[name]} {SHORT} --workdir run')
    (folder / name).unlink()
    assert 'resuming after step 3' in run(folder, main, '--workdir run --config.train.steps=4')
    assert 'test: top1_error' in run(folder, main, '--workdir run --mode=eval')
    assert 'report ->' in run(folder, main, '--workdir run --mode=report')
    run(folder, 'alexnet_jax', 'weights export run --out own.safetensors')
    (tmp_path / 'elsewhere').mkdir()
    moved = (folder / 'own.safetensors').rename(tmp_path / 'elsewhere' / 'own.safetensors')
    loaded, trained = alexnet_jax.load(moved), alexnet_jax.load(folder / 'run')
    assert loaded.net.architecture == trained.net.architecture and loaded.step == 4
    images = np.arange(28 * 28 * 3, dtype=np.uint8).reshape(1, 28, 28, 3)
    np.testing.assert_array_equal(loaded(images)[0], trained(images)[0])
    run(tmp_path / 'elsewhere', 'alexnet_jax', 'weights import own.safetensors --workdir imported')
