import json

from alexnet_jax.training.metrics_log import MetricsLog


def steps(path) -> list[tuple[int, str]]:
    return [(row['step'], row['split']) for row in map(json.loads, path.read_text().splitlines())]


def test_rows_after_the_checkpoint_are_written_again(tmp_path):
    path = tmp_path / 'metrics.jsonl'
    log = MetricsLog(path, 0)
    for number in range(1, 6):
        log.write({'split': 'train', 'step': number})
        if number in (3, 5):
            log.write({'split': 'val', 'step': number})
    log.write({'split': 'test', 'step': 5})
    log.close()
    with path.open('a') as file:
        file.write('{"split": "train", "st')  # killed while it wrote

    MetricsLog(path, 5).close()
    assert steps(path) == [
        (1, 'train'), (2, 'train'), (3, 'train'), (3, 'val'), (4, 'train'), (5, 'train'), (5, 'val'),
    ]  # fmt: skip
    log = MetricsLog(path, 3)
    log.write({'split': 'train', 'step': 4})
    log.close()
    assert steps(path) == [(1, 'train'), (2, 'train'), (3, 'train'), (3, 'val'), (4, 'train')]
    with path.open('a') as file:
        file.write('{"split": "train", "step": 3}')  # whole, it seems, but cut before its end
    MetricsLog(path, 3).close()
    assert len(steps(path)) == 4
    MetricsLog(path, 0).close()
    assert path.read_text() == ''
