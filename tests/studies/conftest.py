import json

import pytest

from alexnet_jax.experiment import build, kept_config, results, trained, training_run
from alexnet_jax.runtime.errors import NotFiniteError
from alexnet_jax.studies import column_runs
from tests.studies.test_figure1 import write_rows


@pytest.fixture
def played(monkeypatch):
    """The folders of the runs that are trained; in its `lost`, the ends of those that reach NaN."""

    class Played(list):
        lost: tuple[str, ...] = ()

    calls = Played()

    def train(config, folder, stop_requested, reached=None):
        calls.append(str(folder))
        steps = build.clock(config, config['data.synthetic_examples']).steps
        write_rows(folder, config['data.synthetic_examples'], config['data.batch_size'],
                   [1 / step for step in range(1, steps + 1)])  # fmt: skip
        (folder / 'config.json').write_text(json.dumps(kept_config.to_tree(config)))
        if str(folder).endswith(calls.lost):
            raise NotFiniteError('the loss of step 1 is nan', 1)
        (folder / 'checkpoints' / str(steps)).mkdir(parents=True, exist_ok=True)
        (folder / 'eval').mkdir(exist_ok=True)
        kept = {
            'split': 'val', 'views': config['eval.views'], 'source': 'synthetic',
            'network': config['network.name'], 'step': steps, 'examples': 20, 'loss': 1.0,
            'top1_error': 1 / steps, 'top5_error': 0.0, 'top1_interval': [0, 1],
            'top5_interval': [0, 1],
        }  # fmt: skip
        path = folder / 'eval' / f'val-{config["eval.views"]}.json'
        path.write_text(json.dumps(kept))
        return True

    def measure_all(configs, folder, stop_requested):
        apart = {index: {'p': 0.5} for index in ('color', 'orientation')}
        measured = {'measures': {'top1 error': 0.1}, 'separation': apart, 'over_training': {}}
        return dict.fromkeys(configs, measured)

    def average(members, weights, out):
        return ', '.join(path.name for path, _ in members)

    monkeypatch.setattr(training_run, 'train', train)
    monkeypatch.setattr(column_runs, 'measure_all', measure_all)
    monkeypatch.setattr(trained, 'average', average)
    # Played, or else the members of an ensemble would be refused: each seed has images of its own.
    monkeypatch.setattr(results, 'set_of', lambda config: config['data.source'])
    monkeypatch.setattr('alexnet_jax.report.several.make', lambda folder: 'report')
    return calls
