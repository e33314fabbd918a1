"""What a command sets before JAX starts."""

import os
import subprocess
import sys


def test_compiled_programs_are_kept_where_caches_are(tmp_path):
    """In a process of its own: JAX reads the variable at its start."""
    code = (
        'from alexnet_jax.runtime import command_line; command_line.before_jax()\n'
        'import jax; print(jax.config.jax_compilation_cache_dir)'
    )
    env = {k: v for k, v in os.environ.items() if k != 'JAX_COMPILATION_CACHE_DIR'}
    env['XDG_CACHE_HOME'] = str(tmp_path)

    def folder(**more: str) -> str:
        run = subprocess.run([sys.executable, '-c', code], env=env | more, capture_output=True, text=True, check=True)  # fmt: skip
        return run.stdout.strip()

    assert folder().startswith(f'{tmp_path}/alexnet_jax/compiled-')
    assert folder(JAX_COMPILATION_CACHE_DIR=str(tmp_path / 'own')) == str(tmp_path / 'own')
