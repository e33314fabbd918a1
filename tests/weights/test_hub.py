"""`push` and `pull`, as commands: to a folder, and with huggingface_hub to a small imitation
of the Hub."""

import dataclasses
import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment import exchange, kept_config, loading
from alexnet_jax.experiment.model import Model
from alexnet_jax.weights import __main__ as weights
from tests.training.donors import model_of
from tests.weights import fake_hub, forms
from tests.weights.fake_hub import FakeHub

CLASSES = ('a cat', 'a döner', 'no\nthing')
NAME = 'someone/tiny-alexnet'
SEVERAL = """
import contextlib, io, json, sys, time
from alexnet_jax.weights.__main__ import main
time.sleep = lambda seconds: None
for argv in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        with contextlib.redirect_stderr(io.StringIO()) as err:
            status = main(argv)
    print(json.dumps([status, out.getvalue(), err.getvalue()]))
"""
with_library = pytest.mark.skipif(
    not importlib.util.find_spec('huggingface_hub'), reason='huggingface_hub is not installed'
)


@pytest.fixture(scope='module')
def tiny() -> Model:
    """A net that nobody has trained."""
    source = 'folder:/home/someone/photographs'
    made = model_of('small', 3, at_step=17, network__width='0.5', data__source=source)
    mean = np.random.default_rng(0).uniform(0, 255, (28, 28, 3)).astype(np.float32)
    return dataclasses.replace(made, classes=CLASSES, mirror=False, mean=mean)


@pytest.fixture(scope='module')
def workdir(tiny, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('model')
    exchange.write(folder / 'tiny.safetensors', tiny)
    exchange.import_file(folder / 'tiny.safetensors', folder / 'run')
    return folder / 'run'


@pytest.fixture
def hub():
    with FakeHub() as running:
        yield running


def normalization(of: Model) -> dict[str, np.ndarray]:
    return {'mean': of.mean, 'scale': of.scale}


def same(workdir: Path, tiny: Model) -> bool:
    """Whether the workdir's model is this one to the bit, but for where its images were."""
    found = loading.load(workdir)
    own = {'data.source': 'folder:photographs'}
    assert found.config == configuration.changed(kept_config.with_table(tiny.config), own)
    for name in ('net', 'classes', 'mirror', 'step'):
        assert getattr(found, name) == getattr(tiny, name), name
    assert forms.same(normalization(found), normalization(tiny))
    assert found.layers.keys() == tiny.layers.keys()
    return all(forms.same(found.layers[name], tiny.layers[name]) for name in tiny.layers)


def by_hub(address: str, home: Path, *argv: str) -> subprocess.CompletedProcess:
    """Python in a process of its own, where `address` is the Hub's."""
    settings = {
        'HF_ENDPOINT': address, 'HF_HOME': str(home), 'HF_TOKEN': fake_hub.TOKEN,
        'HF_HUB_DISABLE_XET': '1', 'HF_HUB_DISABLE_TELEMETRY': '1',
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, *argv], env=os.environ | settings,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def each_by_hub(address: str, home: Path, *commands: tuple) -> list[subprocess.CompletedProcess]:
    """Commands one after the other in one such process, where waiting takes no time."""
    argvs = [list(map(str, argv)) for argv in commands]
    done = by_hub(address, home, '-c', SEVERAL, json.dumps(argvs))
    assert done.returncode == 0 and done.stderr == '', done
    said = map(json.loads, done.stdout.splitlines())
    return [subprocess.CompletedProcess(a, *b) for a, b in zip(argvs, said, strict=True)]


def refusal(done) -> str:
    """What a command that was refused has said: one line."""
    assert done.returncode == 2 and not done.stdout, done
    assert done.stderr.startswith('error: ') and len(done.stderr.splitlines()) == 1, done.stderr
    assert len(done.stderr) < 400, done.stderr
    return done.stderr


@pytest.mark.thorough
@with_library
def test_there_and_back(hub, tiny, workdir, tmp_path):
    module = ('-m', 'alexnet_jax.weights')
    pushed = by_hub(hub.address, tmp_path, *module, 'push', str(workdir), f'hf:{NAME}')
    assert pushed.returncode == 0, pushed.stderr
    assert pushed.stdout.endswith(f'3 classes, step 17 -> {hub.address}/{NAME}\n')
    assert pushed.stderr == ''  # no bars
    files = hub.repositories[NAME]
    assert files.keys() == {'model.safetensors', 'README.md'}
    assert f'pull hf:{NAME} --workdir' in files['README.md'].decode()
    assert not any(b'/home/someone' in content for content in files.values())

    files |= {'config.py': b'raise SystemExit', 'pytorch_model.bin': b'\x80'}
    hub.requests.clear()
    to = ('--workdir', str(tmp_path / 'run'))
    pulled = by_hub(hub.address, tmp_path, *module, 'pull', f'hf:{NAME}', *to)
    assert pulled.returncode == 0, pulled.stderr
    assert pulled.stdout.endswith(f'-> {tmp_path / "run"}\n') and pulled.stderr == ''
    file = f'/{NAME}/resolve/main/model.safetensors'
    assert hub.requests == [f'HEAD {file}', f'GET {file}']
    assert same(tmp_path / 'run', tiny)


@with_library
def test_a_repository_that_is_there(hub, workdir, tmp_path):
    """A card that somebody has written stays. Other files are no model, others' no place."""
    hub.repositories |= {NAME: {'README.md': b'mine'}, 'someone/else': {'config.py': b''}}
    to = ('--workdir', tmp_path / 'run')
    pushed, *refused = each_by_hub(
        hub.address, tmp_path,
        ('push', workdir, f'hf:{NAME}'),
        ('pull', 'hf:someone/none', *to),
        ('pull', 'hf:someone/else', *to),
        ('push', workdir, 'hf:another/alexnet'),
        ('push', workdir, 'hf:some one/..'),
    )  # fmt: skip
    assert pushed.returncode == 0 and pushed.stderr == '', pushed
    assert hub.repositories[NAME].keys() == {'README.md', 'model.safetensors'}
    assert hub.repositories[NAME]['README.md'] == b'mine'
    for printed, words in zip(
        map(refusal, refused),
        (('someone/none', 'no such repository'), ('someone/else', 'no such file'),
         ('another/alexnet', 'HF_TOKEN'), ('some one/..', 'alphanumeric')),
        strict=True,
    ):  # fmt: skip
        assert all(word in printed for word in words), printed
    assert not (tmp_path / 'run').exists()


@pytest.mark.thorough
@with_library
def test_a_repository_stands_for_a_model(hub, tiny, workdir, tmp_path):
    content = (workdir.parent / 'tiny.safetensors').read_bytes()
    hub.repositories[NAME] = {'model.safetensors': content}
    out = tmp_path / 'out.safetensors'
    exported, imported = each_by_hub(
        hub.address, tmp_path,
        ('export', f'hf:{NAME}', '--out', out),
        ('import', f'hf:{NAME}', '--workdir', tmp_path / 'run'),
    )  # fmt: skip
    assert (exported.returncode, imported.returncode) == (0, 0), (exported, imported)
    assert f'-> {out}, ' in exported.stdout and same(tmp_path / 'run', tiny)
    assert forms.same(loading.load(out).layers['conv1'], tiny.layers['conv1'])


@with_library
def test_no_network(workdir, tmp_path):
    with socket.socket() as unheard:  # bound, so that nobody else listens there
        unheard.bind(('127.0.0.1', 0))
        address = f'http://127.0.0.1:{unheard.getsockname()[1]}'
        done = each_by_hub(
            address, tmp_path,
            ('pull', f'hf:{NAME}', '--workdir', tmp_path / 'run'),
            ('push', workdir, f'hf:{NAME}'),
        )  # fmt: skip
    for printed in map(refusal, done):
        assert 'refused' in printed and NAME in printed


@pytest.fixture
def command(capsys):
    def run(*argv: object) -> subprocess.CompletedProcess:
        status = weights.main(list(map(str, argv)))
        said = capsys.readouterr()
        return subprocess.CompletedProcess(argv, status, said.out, said.err)

    return run


def test_by_a_folder(command, tiny, workdir, tmp_path):
    done = command('push', workdir, tmp_path / 'a' / 'b')
    assert done.returncode == 0 and done.stdout.endswith(f'{tmp_path / "a" / "b"}\n'), done
    assert set(os.listdir(tmp_path / 'a' / 'b')) == {'model.safetensors', 'README.md'}
    assert str(tmp_path) not in (tmp_path / 'a' / 'b' / 'README.md').read_text()
    done = command('pull', tmp_path / 'a' / 'b', '--workdir', tmp_path / 'run')
    assert done.returncode == 0, done
    assert same(tmp_path / 'run', tiny)
    assert 'holds a run' in refusal(
        command('pull', tmp_path / 'a' / 'b', '--workdir', tmp_path / 'run')
    )


def test_a_folder_s_own_card_stays(command, workdir, tmp_path):
    (tmp_path / 'README.md').write_text('mine')
    done = command('push', workdir, tmp_path)
    assert done.returncode == 0 and f'{tmp_path}/README.md stays as it is' in done.stdout
    printed = refusal(command('push', workdir, tmp_path, '--license', 'mit'))
    assert f'--license is mit, but {tmp_path}/README.md is there' in printed
    assert (tmp_path / 'README.md').read_text() == 'mine'


@pytest.mark.parametrize('is_there', [True, False])
def test_a_card_that_is_a_link_out_of_the_folder_is_refused(is_there, command, workdir, tmp_path):
    target, folder = tmp_path / 'outside.md', tmp_path / 'model'
    folder.mkdir()
    (folder / 'README.md').symlink_to(target)
    if is_there:
        target.write_text('mine')
    printed = refusal(command('push', workdir, folder))
    assert f'{folder}/README.md is a link out of the folder' in printed
    assert os.listdir(folder) == ['README.md']
    assert target.exists() == is_there and (not is_there or target.read_text() == 'mine')
    # Links within the folder, and the folder itself, may be links.
    (folder / 'README.md').unlink()
    (folder / 'README.md').symlink_to('card.md')
    (tmp_path / 'link').symlink_to(folder)
    assert command('push', workdir, tmp_path / 'link').returncode == 0
    assert 'pull' in (folder / 'card.md').read_text()


def test_what_is_no_model(command, workdir, tmp_path):
    run = ('--workdir', tmp_path / 'run')
    assert 'model.safetensors: no such file' in refusal(command('pull', tmp_path, *run))
    (tmp_path / 'file').touch()
    assert 'cannot be written' in refusal(command('push', workdir, tmp_path / 'file'))
    assert command('push', workdir, tmp_path).returncode == 0
    file = tmp_path / 'model.safetensors'
    content = file.read_bytes()
    for lie in (
        (2**62).to_bytes(8, 'little') + content[8:],  # a header longer than the file
        content.replace(b'"F32"', b'"F64"', 1),  # numbers twice as large
        content[:-4],
        content[:-1] + b'\0',
        b'',
    ):
        file.write_bytes(lie)
        assert str(file) in refusal(command('pull', tmp_path, *run))
    assert not (tmp_path / 'run').exists()


def test_no_library_and_no_name(command, workdir, tmp_path, monkeypatch):
    run = ('--workdir', tmp_path / 'run')
    for name in ('tiny-alexnet', 'a/b/c', ''):
        assert 'hf:OWNER/NAME' in refusal(command('pull', f'hf:{name}', *run))
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    for argv in (('pull', f'hf:{NAME}', *run), ('push', workdir, f'hf:{NAME}')):
        done = command(*argv)
        assert done.returncode == 2 and done.stderr.endswith('\npip install huggingface_hub\n')
