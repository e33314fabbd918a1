"""The sdist and the wheel made of it, away from the repository."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import alexnet_jax
from tests.experiment import own_files

ROOT = Path(__file__).parents[1]
KEPT_OUT = ('.*', '__pycache__', 'runs', 'build', 'dist', '*.egg-info')
# Files of the sdist's tests that read configs/, docs/, launch/, benchmarks/ and the package.
OF_SDIST = (
    'tests/test_structure.py', 'tests/test_commands.py', 'tests/launch/test_local.py',
    'tests/experiment/test_config_file.py', 'tests/network/test_shapes.py', 'tests/studies/test_tables.py',
)  # fmt: skip


def run(*words: object, cwd: Path, **environment: str) -> str:
    own = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    done = subprocess.run(
        list(map(str, words)), cwd=cwd, env=own | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope='module')
def built(tmp_path_factory) -> Path:
    """A folder with the sdist and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp('packaging')
    ignored = shutil.ignore_patterns(*KEPT_OUT)
    shutil.copytree(ROOT, folder / 'source', ignore=ignored)
    for hidden in ('.ci', '.github'):
        shutil.copytree(ROOT / hidden, folder / 'source' / hidden)
    run(sys.executable, '-m', 'build', '--outdir', folder, folder / 'source', cwd=folder)
    return folder


@pytest.fixture(scope='module')
def environment(built) -> Path:
    """A new environment with the wheel; what it depends on comes from the one that runs."""
    folder = built / 'environment'
    run(sys.executable, '-m', 'venv', folder, cwd=built)
    python = folder / 'bin' / 'python'
    site = run(python, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))', cwd=built)
    Path(site.strip(), 'others.pth').write_text(sysconfig.get_path('purelib') + '\n')
    (wheel,) = built.glob('*.whl')
    run(python, '-m', 'pip', 'install', '-q', '--no-deps', wheel, cwd=built)
    place = run(python, '-c', 'import alexnet_jax; print(alexnet_jax.__file__)', cwd=built)
    assert Path(place).is_relative_to(folder)
    return folder


@pytest.mark.slow
def test_the_wheel_holds_configurations_types_and_the_license(built):
    (wheel,) = built.glob('*.whl')
    names = set(zipfile.ZipFile(wheel).namelist())
    configs = {f'alexnet_jax/configs/{path.name}' for path in (ROOT / 'configs').glob('*.py')}
    assert configs | {'alexnet_jax/py.typed', 'alexnet_jax/studies/figure1.py'} <= names
    assert any(name.endswith('/licenses/LICENSE') for name in names)
    assert not [name for name in names if name.startswith(('tests/', 'benchmarks/', 'configs/'))]


@pytest.mark.slow
def test_the_commands_run_away_from_the_repository(environment, tmp_path):
    def alexnet(*words: object) -> str:
        return run(environment / 'bin' / 'alexnet-jax', *words, cwd=tmp_path, HOME=str(tmp_path))

    assert alexnet('--version').startswith('alexnet_jax 0.')
    assert 'digits' in alexnet('configs')
    workdir = ('--workdir', 'runs/digits')
    alexnet('train', '--config', 'digits', *workdir, '--config.train.steps=20')
    rows = (tmp_path / 'runs/digits/metrics.jsonl').read_text().splitlines()
    assert [row['step'] for row in map(json.loads, rows) if row['split'] == 'train'][-1] == 20
    assert json.loads((tmp_path / 'runs/digits/config.json').read_text())['commit'] is None
    assert 'top1_error' in alexnet('eval', *workdir)
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / 'image.png')
    assert 'image.png' in alexnet('predict', *workdir, 'image.png')
    alexnet('report', *workdir)
    assert 'conv1' in alexnet('nets', 'small')
    module = run(environment / 'bin' / 'python', '-m', 'alexnet_jax', '--version', cwd=tmp_path)
    assert module.startswith('alexnet_jax 0.')


OWN_PARTS = {
    'mynet.py': '--config.network.name=mynet.py:NET',
    'myrecipe.py': '--config.train.protocol=myrecipe.py:PROTOCOL --config.network.width=0.5',
    'mydata.py': '--config.data.source=mydata.py:SOURCE --config.network.width=0.5',
}


@pytest.mark.slow
@pytest.mark.parametrize('name', OWN_PARTS)
def test_own_parts_from_an_empty_folder(environment, tmp_path, name):
    """The examples of docs/own_parts.md: trained, the file removed, resumed, evaluated, exported."""
    folder = tmp_path / 'empty'
    folder.mkdir()
    text = own_files.examples()[name]
    assert text.count('\n') <= 12
    (folder / name).write_text(text)

    def alexnet(words: str) -> str:
        command = environment / 'bin' / 'alexnet-jax'
        return run(command, *words.split(), cwd=folder, HOME=str(tmp_path))

    alexnet(
        f'train --config digits {OWN_PARTS[name]} --config.train.steps=3 --config.train.log_to='
        ' --noconfig.train.report --workdir run'
    )
    (folder / name).unlink()
    assert 'resuming after step 3' in alexnet('train --workdir run --config.train.steps=4')
    assert 'test: top1_error' in alexnet('eval --workdir run')
    assert 'report ->' in alexnet('report --workdir run')
    alexnet('weights export run --out own.safetensors')
    (tmp_path / 'elsewhere').mkdir()
    moved = (folder / 'own.safetensors').rename(tmp_path / 'elsewhere' / 'own.safetensors')
    loaded, trained = alexnet_jax.load(moved), alexnet_jax.load(folder / 'run')
    assert loaded.net.architecture == trained.net.architecture and loaded.step == 4
    images = np.arange(28 * 28 * 3, dtype=np.uint8).reshape(1, 28, 28, 3)
    np.testing.assert_array_equal(loaded(images)[0], trained(images)[0])
    alexnet(f'weights import {moved} --workdir {tmp_path}/imported')


@pytest.mark.slow
def test_the_sdist_passes_its_tests(built):
    (sdist,) = built.glob('*.tar.gz')
    with tarfile.open(sdist) as archive:
        archive.extractall(built / 'sdist', filter='data')
    (folder,) = (built / 'sdist').iterdir()
    tests = {path.relative_to(ROOT) for path in ROOT.glob('tests/**/*.py')}
    assert tests == {path.relative_to(folder) for path in folder.glob('tests/**/*.py')}
    words = (sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', *OF_SDIST)
    assert ' passed' in run(*words, cwd=folder, PYTHONPATH=str(folder))
