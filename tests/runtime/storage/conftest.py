"""Stores to test with: fsspec's own in memory, and moto's server, a process of its own."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import pytest

from alexnet_jax.runtime.storage import client

URL = 'memory://bucket/run'


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv('ALEXNET_JAX_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(client, 'PATIENCE', 0)
    return tmp_path / 'cache'


@pytest.fixture(autouse=True)
def store():
    """What lies below URL, as a mapping from names to bytes."""
    files = fsspec.filesystem('memory')
    with contextlib.suppress(FileNotFoundError):
        files.rm('/bucket', recursive=True)
    return fsspec.get_mapper(URL)


@pytest.fixture(scope='module')
def s3():
    """Yields the environment that makes s3:// URLs mean a store on the loopback, with the bucket
    `bucket`; and the server's process."""
    pytest.importorskip('moto.server')
    s3fs = pytest.importorskip('s3fs')
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        port = listener.getsockname()[1]
    words = [sys.executable, '-m', 'moto.server', '-H', '127.0.0.1', '-p', str(port)]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    given = {
        'AWS_ENDPOINT_URL': f'http://127.0.0.1:{port}', 'AWS_ACCESS_KEY_ID': 'dummy',
        'AWS_SECRET_ACCESS_KEY': 'dummy', 'AWS_DEFAULT_REGION': 'us-east-1',
    }  # fmt: skip
    before = dict(os.environ)
    os.environ.update(given)
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(('127.0.0.1', port)) == 0:
                    break
            time.sleep(0.1)
        s3fs.S3FileSystem().mkdir('bucket')
        yield given, server
    finally:
        server.kill()
        server.wait()
        os.environ.clear()
        os.environ.update(before)
