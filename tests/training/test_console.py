"""What is printed where there is no terminal."""

import pytest

from alexnet_jax.training import console
from alexnet_jax.training.console import Reporter


def row(step: int) -> dict:
    return {'split': 'train', 'step': step, 'epoch': step / 10, 'loss': 1.0, 'top1_error': 0.5,
            'top5_error': 0.25, 'images_per_second': 640.0}  # fmt: skip


def printed(capsys) -> list[int]:
    lines = capsys.readouterr().out.splitlines()
    return [int(line.split('step ')[1].split('/')[0]) for line in lines]


@pytest.mark.parametrize(('rows', 'first_step', 'expected'), [
    (range(1, 35), 0, [10, 20, 30]),
    (range(3, 45, 3), 0, [12, 21, 30, 42]),  # rows that come every three steps
    (range(16, 35), 15, [20, 30]),  # of a run that goes on after step 15
])  # fmt: skip
def test_a_line_every_so_many_steps(rows, first_step, expected, capsys):
    reporter = Reporter(100, first_step, print_every=10)
    for step in rows:
        reporter.train(row(step))
    assert printed(capsys) == expected


def test_a_line_about_every_ten_seconds(capsys, monkeypatch):
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr(console.time, 'monotonic', lambda: next(clock))
    reporter = Reporter(100, 0)
    for step in range(1, 12):
        reporter.train(row(step))
    steps = printed(capsys)
    assert 2 <= len(steps) <= 4


def test_validations_are_always_told_and_other_processes_say_nothing(capsys):
    Reporter(100, 0, print_every=50).evaluation(row(7) | {'split': 'val'})
    Reporter(100, 0, silent=True, print_every=1).train(row(8))
    (line,) = capsys.readouterr().out.splitlines()
    assert line == 'val    step 7  epoch 0.70  loss 1.0000  top1 0.5000  top5 0.2500'
