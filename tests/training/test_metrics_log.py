import json
import os
import tracemalloc

import pytest

from alexnet_jax.runtime.errors import InputError
from alexnet_jax.training.metrics_log import MetricsLog, read


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


def test_a_validation_that_comes_again_is_dropped(tmp_path):
    """Stopped in it, a run was saved before it."""
    path, rows = tmp_path / 'metrics.jsonl', [(1, 'train'), (2, 'train'), (2, 'val'), (3, 'train')]
    text = ''.join(json.dumps({'split': split, 'step': step}) + '\n' for step, split in rows)
    path.write_text(text)
    MetricsLog(path, 2, validated=True).close()
    assert steps(path) == rows[:3]
    MetricsLog(path, 2, validated=False).close()
    assert steps(path) == rows[:2]


WHOLE = {'split': 'val', 'step': 1, 'epoch': 1.0, 'loss': 1.0, 'top1_error': 0.5, 'top5_error': 0.1}
TRAIN = WHOLE | {'split': 'train', 'learning_rate': 0.1, 'images_per_second': 9.0}


@pytest.mark.parametrize('line', [
    b'',
    b'null',
    b'[]',
    b'3',
    b'"split"',
    b'{"split": "val"}',
    b'[' * 60_000,
    b'{' + b' ' * 10**7,
    b'\xff\xfe',
    *(
        json.dumps(TRAIN | changes).encode()
        for changes in (
            {'step': 1.5}, {'step': '1'}, {'step': True}, {'step': None}, {'split': 'x'}, {'split': 3},
            {'split': []}, {'loss': float('nan')}, {'loss': 10**400}, {'loss': 'x'}, {'epoch': []},
            {'top1_error': float('inf')}, {'learning_rate': None}, {'seconds_save': 'x'},
            {'seconds_evaluation': float('nan')},
        )
    ),
], ids=lambda line: line[:40])  # fmt: skip
def test_lines_that_are_no_rows_are_counted(line, tmp_path):
    path = tmp_path / 'metrics.jsonl'
    sound = [json.dumps(row).encode() for row in (TRAIN, WHOLE)]
    path.write_bytes(b'\n'.join([sound[0], line, sound[1], b'']))
    assert read(path) == ([TRAIN, WHOLE], 1)
    MetricsLog(path, 1).close()  # a run goes on
    assert {(1, 'train'), (1, 'val')} <= set(steps(path))


def test_a_giant_line_takes_no_memory(tmp_path):
    path = tmp_path / 'metrics.jsonl'
    with path.open('wb') as file:
        file.truncate(2**27)  # of zeros, of which the disk holds none
        file.seek(0, os.SEEK_END)
        file.write(b'\n' + json.dumps(WHOLE).encode() + b'\n')
    tracemalloc.start()
    assert read(path) == ([WHOLE], 1)
    MetricsLog(path, 1).close()
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()
    assert steps(path) == [(1, 'val')]


@pytest.mark.parametrize('make', [os.mkfifo, os.mkdir, lambda path: os.symlink(path, path)])
def test_something_else_in_its_place_is_refused(make, tmp_path):
    path = tmp_path / 'metrics.jsonl'
    make(path)
    for read_it in (read, lambda path: MetricsLog(path, 3)):
        with pytest.raises(InputError, match=r'metrics\.jsonl cannot be read'):
            read_it(path)
    assert [path.name for path in tmp_path.iterdir()] == ['metrics.jsonl']


def test_what_is_not_json_is_not_written(tmp_path):
    log = MetricsLog(tmp_path / 'metrics.jsonl', 0)
    with pytest.raises(ValueError):
        log.write(WHOLE | {'loss': float('nan')})
    log.close()
    assert (tmp_path / 'metrics.jsonl').read_text() == ''
