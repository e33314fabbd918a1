"""Every net learns digits, reduced, under its own protocol."""

import json
from pathlib import Path

import pytest

from alexnet_jax import main
from alexnet_jax.experiment import config_file

CONFIGS = [path for path in sorted(Path('configs').glob('*.py')) if 'digits' not in path.name]


@pytest.mark.slow
@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_loss_falls(path, tmp_path, data_dir):
    """Nets for photographs a quarter as wide on crops of 59 pixels, and no end but that of
    the epochs. In small batches a few epochs are steps enough; but nets with biases of 1
    and a std of 0.01 lose fc7 in them (docs/LOG.md), and take long to leave ln(10)."""
    config = config_file.load(str(path), {'data.source': 'digits'})
    arguments = [
        '--config', str(path), '--workdir', str(tmp_path / 'run'), '--config.data.source=digits',
        f'--config.data.dir={data_dir}', '--config.train.steps=0',
        '--noconfig.train.report',
    ]  # fmt: skip
    if path.stem in ('imagenet', 'paper_lrn_across', 'caffenet', 'conv5_192'):
        arguments += [
            '--config.train.epochs=90', '--config.schedule.patience=90',
            '--config.data.batch_size=128',
        ]  # fmt: skip
    else:
        arguments += ['--config.train.epochs=16', '--config.data.batch_size=32']
    if config['data.record_size'] == 256:
        arguments += [
            '--config.data.record_size=64', '--config.network.input_size=59',
            '--config.network.width=0.25',
        ]  # fmt: skip
    # Rates that are meant for batches a hundred times as large and more.
    smaller = {'batchnorm227': 2, 'alexnet_bn': 1}
    if path.stem in smaller:
        arguments.append(f'--config.optimizer.learning_rate={smaller[path.stem]}')
    assert main.main(arguments) == main.DONE
    lines = (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()
    losses = [row['loss'] for row in map(json.loads, lines) if row['split'] == 'val']
    print(path.stem, [round(loss, 3) for loss in losses])
    assert losses[-1] < 0.9 * losses[0]
