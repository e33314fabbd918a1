"""Commands on trained nets, and nets whose weights were changed."""

import dataclasses
import json
import shutil

import jax
import numpy as np

from alexnet_jax import load, main
from alexnet_jax.experiment import exchange
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE


def evaluated(workdir, *more: str) -> dict:
    assert main.main(['--workdir', str(workdir), '--mode=eval', *more]) == DONE
    views = 10 if '--config.eval.views=10' in more else 1
    return json.loads((workdir / 'eval' / f'test-{views}.json').read_text())


def refused(capsys, command, arguments) -> str:
    capsys.readouterr()
    assert command(arguments) == BAD_INPUT
    printed = capsys.readouterr().err
    assert 1 <= len(printed.splitlines()) <= 2
    return printed


SYNTHETIC = ['--config.data.source=synthetic', '--config.data.synthetic_classes=10',
             '--config.data.synthetic_examples=200']  # fmt: skip


def change_weights(workdir, change) -> None:
    """Replaces the workdir's checkpoint by one of changed weights."""
    loaded = load(workdir)
    variables = jax.tree.map(np.copy, loaded.variables)
    change(variables['params'])
    shutil.rmtree(workdir)
    exchange.write_workdir(workdir, dataclasses.replace(loaded, variables=variables))


def make_nan(params) -> None:
    """Weights that are finite, and an output that is not."""
    params['fc8']['kernel'][:] = 3e38
