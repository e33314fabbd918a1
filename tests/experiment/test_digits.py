"""The main job as the README has it: real images, held-out error."""

import json

import pytest

from alexnet_jax import main


@pytest.mark.slow
@pytest.mark.parametrize(('seed', 'most'), [(0, 0.02), (1, 0.03), (2, 0.03), (3, 0.03), (4, 0.03)])
def test_held_out_error(seed, most, tmp_path, data_dir):
    arguments = [
        '--config', 'configs/digits.py', '--workdir', str(tmp_path / 'run'),
        f'--config.data.dir={data_dir}', f'--config.seed={seed}',
        '--noconfig.train.report',
    ]  # fmt: skip
    assert main.main(arguments) == main.DONE
    result = json.loads((tmp_path / 'run' / 'eval' / 'test-1.json').read_text())
    assert result['examples'] == 300
    assert result['top1_error'] <= most
