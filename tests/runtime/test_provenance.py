import os
import shutil
import subprocess

import jax

from alexnet_jax.runtime import provenance


def test_the_commit_of_a_checkout_is_named(tmp_path):
    def git(*words: str) -> str:
        identity = ['-c', 'user.name=a', '-c', 'user.email=a@b']
        words = ('git', '-C', str(tmp_path), *identity, *words)
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()

    assert provenance.commit(tmp_path) is None
    git('init')
    (tmp_path / 'file').write_text('one')
    git('add', 'file')
    git('commit', '-m', 'one')
    git('tag', '-a', 'v1', '-m', 'v1')
    head = git('rev-parse', 'HEAD')
    assert provenance.commit(tmp_path) == head
    (tmp_path / 'file').write_text('two')
    assert provenance.commit(tmp_path) == f'{head}-dirty'
    (tmp_path / 'inside').mkdir()
    assert provenance.commit(tmp_path / 'inside') is None


def test_versions_and_devices_are_named():
    found = provenance.provenance()
    assert found['versions']['jax'] == jax.__version__
    assert {'alexnet_jax', 'pillow', 'simplejpeg', 'numpy'} <= found['versions'].keys()
    assert found['devices'] == f'{jax.device_count()} cpu'
    nproc = shutil.which('nproc')  # which macOS lacks
    cores = int(subprocess.check_output([nproc], env={})) if nproc else os.cpu_count()
    assert found['cores'] == cores
