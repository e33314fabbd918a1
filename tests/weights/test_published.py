"""Weights by name: downloaded from a server on loopback, and used as files are."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from alexnet_jax import load
from alexnet_jax.experiment import donors, exchange
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE
from alexnet_jax.weights import __main__ as weights
from alexnet_jax.weights import published
from alexnet_jax.weights.download import Published
from tests.training.donors import model_of
from tests.weights import forms
from tests.weights.file_server import FileServer


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder of downloaded weights, not the user's own; the working folder is another."""
    monkeypatch.setenv('ALEXNET_CACHE', str(tmp_path / 'cache'))
    (tmp_path / 'here').mkdir()
    monkeypatch.chdir(tmp_path / 'here')
    return tmp_path / 'cache'


@pytest.fixture
def serve(monkeypatch):
    """Takes a name and the content of a file: from then on the name stands for it."""
    servers = []

    def run(name: str, content: bytes) -> FileServer:
        server = FileServer(content)
        servers.append(server.__enter__())
        one = Published(
            f'{server.address}/{published.PUBLISHED[name].name}',
            'sha1', hashlib.sha1(content).hexdigest(), len(content),
        )  # fmt: skip
        monkeypatch.setitem(published.PUBLISHED, name, one)
        return server

    yield run
    for server in servers:
        server.__exit__()


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    """A net that nobody has trained, and the content of its weight file."""
    made = model_of('small', 3, at_step=17, network__width='0.5')
    path = tmp_path_factory.mktemp('tiny') / 'tiny.safetensors'
    exchange.write(path, made)
    return made, path.read_bytes()


def test_a_name_is_downloaded_once_and_loaded(cache, serve, tiny):
    model, content = tiny
    server = serve('torchvision', content)
    for _ in range(2):
        found = load('torchvision')
        assert forms.same(found.layers['conv1'], model.layers['conv1']) and found.step == 17
    assert server.asked == ['']
    assert (cache / 'alexnet-owt-7be5be79.pth').read_bytes() == content
    donor = donors.read_donor(Path('torchvision'), cache / 'run')
    assert forms.same(donor.layers['fc8'], model.layers['fc8']) and server.asked == ['']


def test_a_path_of_that_name_goes_before_it(cache, serve, tiny, tmp_path, capsys):
    _, content = tiny
    server = serve('caffe', b'another')
    Path('caffe').write_bytes(content)
    assert load('caffe').step == 17 and server.asked == []
    said = capsys.readouterr().err
    assert said == f'caffe is read as the path {tmp_path}/here/caffe\n'
    Path('caffe').unlink()
    Path('caffe').mkdir()
    assert weights.main(['export', 'caffe', '--out', 'x.safetensors']) == BAD_INPUT
    assert 'caffe holds no checkpoints' in capsys.readouterr().err and server.asked == []
    assert published.local('./torchvision') == Path('torchvision')


@pytest.mark.thorough
def test_names_in_commands(cache, serve, capsys):
    """As torchvision's own state dict, of a narrow net."""
    arrays = forms.torchvision_arrays('torchvision', np.random.default_rng(0))
    server = serve('torchvision', save(arrays, {'format': 'pt'}))
    words = ['import', 'torchvision', '--workdir', 'run', '--config.network.width=0.125']
    assert weights.main([*words, '--config.network.input_size=95']) == DONE, capsys.readouterr()
    place = cache / 'alexnet-owt-7be5be79.pth'
    assert f'{place} does not state its preprocessing' in capsys.readouterr().out
    first = load('run').layers['conv1']['kernel']
    theirs = np.moveaxis(arrays['features.0.weight'], (0, 1), (3, 2))
    np.testing.assert_array_equal(np.asarray(first).reshape(theirs.shape), theirs)
    assert server.asked == ['']


@pytest.mark.parametrize('command', [
    ['import', 'caffenet', '--workdir', 'run'], ['export', 'caffenet', '--out', 'x.safetensors'],
    ['push', 'caffenet', 'folder'],
])  # fmt: skip
def test_without_a_network(command, cache, serve, capsys):
    server = serve('caffenet', b'')
    url = published.PUBLISHED['caffenet'].url
    server.__exit__()
    assert weights.main(command) == BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert url in line and f'put the file at {cache}/bvlc_reference_caffenet.caffemodel' in line
    assert not list(Path('.').iterdir())


def test_what_is_published():
    """torchvision's file is named after its SHA-256; Caffe states a SHA-1."""
    for name, one in published.PUBLISHED.items():
        assert re.fullmatch('[0-9a-f]{64}|[0-9a-f]{40}', one.digest), name
        assert len(one.digest) == 2 * hashlib.new(one.algorithm).digest_size
    torchvision = published.PUBLISHED['torchvision']
    assert torchvision.name == f'alexnet-owt-{torchvision.digest[:8]}.pth'


def test_where_weights_are_kept(monkeypatch, tmp_path):
    monkeypatch.delenv('ALEXNET_CACHE', raising=False)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert published.cache_folder() == tmp_path / 'alexnet_jax' / 'weights'
    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.setenv('HOME', '/home/someone')
    assert published.cache_folder() == Path('/home/someone/.cache/alexnet_jax/weights')
    monkeypatch.setenv('ALEXNET_CACHE', '~/mine')
    assert published.cache_folder() == Path('/home/someone/mine')
