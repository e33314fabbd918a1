"""Runs under AdamW: their state, resumed and on a mesh."""

from pathlib import Path

import jax
import numpy as np
import pytest

import alexnet_jax
from alexnet_jax import main
from alexnet_jax.network import device_mesh
from alexnet_jax.network.alexnet import AlexNet
from alexnet_jax.network.architectures import SMALL
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE
from alexnet_jax.training import checkpoint_reader, declared, step
from alexnet_jax.training.checkpoint import Checkpoints
from alexnet_jax.training.protocols import ADAMW, PROTOCOLS

pytestmark = pytest.mark.usefixtures('quickly')
NET = AlexNet(SMALL, 10)


def test_the_state_of_other_protocols_is_as_it_was():
    mesh = device_mesh.make_mesh()
    expected = declared.by_path(step.abstract_state(NET, mesh))
    for protocol in PROTOCOLS.values():
        found = declared.by_path(step.abstract_state(NET, mesh, protocol))
        kinds = {path[1] for path in found if path[0] == 'momentum'}
        assert kinds == ({'count', 'mu', 'nu'} if protocol is ADAMW else {'trace'})
        if protocol is not ADAMW:
            assert found.keys() == expected.keys()


def test_moments_lie_where_their_parameters_do():
    state = step.state_shardings(NET, device_mesh.make_mesh(2, 2), ADAMW)
    for moments in (state.momentum.mu, state.momentum.nu):
        assert jax.tree.leaves(moments) == jax.tree.leaves(state.params)


@pytest.mark.slow
def test_a_run_is_resumed_exactly_and_is_the_same_on_a_mesh(data_dir, tmp_path, capsys):
    """From a checkpoint after two of four steps; on four devices, and in two parts, to rounding."""

    def train(name: str, steps: int, *more: str) -> int:
        return main.main([
            '--config', 'digits', '--workdir', str(tmp_path / name), f'--config.train.steps={steps}',
            '--config.train.protocol=adamw', '--config.network.width=0.5', '--config.train.log_to=',
            f'--config.data.dir={data_dir}', '--noconfig.train.report', '--config.mesh.column=1',
            '--config.mesh.data=1', *more,
        ])  # fmt: skip

    def arrays(name: str) -> declared.Arrays:
        """Every array of the last state, the moments too."""
        folder = tmp_path / name / 'checkpoints'
        net = AlexNet(alexnet_jax.load(tmp_path / name).net.architecture, 10)
        checkpoints = Checkpoints(folder)
        like = step.abstract_state(net, device_mesh.make_mesh(), ADAMW)
        state = checkpoints.restore(checkpoint_reader.steps(folder)[-1], like)
        checkpoints.close()
        return declared.by_path(jax.device_get(state))

    assert train('whole', 4) == DONE
    assert train('parts', 2) == DONE
    assert train('parts', 4) == DONE
    whole, parts = arrays('whole'), arrays('parts')
    assert int(whole['momentum', 'count']) == 4
    for path, array in whole.items():
        np.testing.assert_array_equal(parts[path], array)
    assert train('mesh', 4, '--config.mesh.data=2', '--config.mesh.column=2',
                 '--config.train.micro_batches=2') == DONE  # fmt: skip
    for path, array in arrays('mesh').items():
        if path[0] == 'momentum':  # an update of AdamW has the sign of a gradient near 0, too
            np.testing.assert_allclose(array, whole[path], rtol=1e-2, atol=1e-5, err_msg=str(path))
    capsys.readouterr()
    assert train('whole', 5, '--config.train.protocol=paper') == BAD_INPUT
    assert "train.protocol was 'adamw', now 'paper'" in capsys.readouterr().err
    assert Path(tmp_path / 'whole' / 'checkpoints' / '4').is_dir()
