"""A lost reader of the output ends no command."""

import io
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from alexnet_jax.runtime import command_line, output
from alexnet_jax.runtime.command_line import DONE, FAULT
from alexnet_jax.runtime.stop import stop_requests
from alexnet_jax.training.console import Reporter

MANY = 5000  # lines; more than any buffer takes


def gone() -> int:
    """A pipe whose reader has ended."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def closed_terminal() -> int:
    terminal, ours = pty.openpty()
    os.close(terminal)
    return ours


STREAMS = {
    'reader gone': gone,
    'terminal gone': closed_terminal,
    'disk full': lambda: os.open('/dev/full', os.O_WRONLY),
    'closed': lambda: None,
}


def talkative(argv) -> int:
    """Prints by every way that the package has."""
    reporter = Reporter(10, 0, print_every=1)
    for number in range(MANY):
        print('a line', number, flush=number % 2 == 0)
        print('an error', number, file=sys.stderr)
    reporter.print_line('said')
    reporter.evaluation(
        {'split': 'val', 'step': 1, 'epoch': 1.0, 'loss': 1.0, 'top1_error': 0.5, 'top5_error': 0.1}
    )
    reporter.close()
    sys.stdout.flush()
    return DONE


def streams(monkeypatch, name: str, number: int | None, **how) -> None:
    stream = None if number is None else open(number, 'w', **how)  # noqa: SIM115
    monkeypatch.setattr(sys, name, stream)


@pytest.mark.parametrize('prints', [False, True])
@pytest.mark.parametrize('how', [{}, {'buffering': 1}])
@pytest.mark.parametrize('lost', STREAMS)
def test_a_command_goes_on_without_its_display(lost, how, prints, monkeypatch):
    streams(monkeypatch, 'stdout', STREAMS[lost](), **how)
    streams(monkeypatch, 'stderr', STREAMS[lost](), **how)
    status = command_line.run(talkative, [], prints)
    assert status == (FAULT if prints and lost == 'disk full' else DONE)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.close()  # nothing is left in it that could not be written


@pytest.mark.parametrize(('prints', 'kind'), [(False, 'warning'), (True, 'error')])
def test_a_full_disk_is_named(prints, kind, monkeypatch, capfd):
    streams(monkeypatch, 'stdout', STREAMS['disk full']())
    streams(monkeypatch, 'stderr', os.dup(2))
    command_line.run(lambda argv: print('a table') or DONE, [], prints)
    expected = f'{kind}: what was printed could not all be written: No space left on device\n'
    assert capfd.readouterr().err == expected


def test_all_is_written_to_a_reader_that_is_slow(monkeypatch):
    """Though somebody has made the pipe non-blocking."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    found = []

    def read():
        while content := os.read(reader, 7000):
            found.append(content)
            time.sleep(0.0005)

    thread = threading.Thread(target=read)
    thread.start()
    streams(monkeypatch, 'stdout', writer)
    assert command_line.run(lambda argv: print('\n'.join(map(str, range(50_000)))) or DONE, []) == 0
    sys.stdout.close()
    thread.join()
    assert b''.join(found).decode().split() == [str(number) for number in range(50_000)]


def test_streams_in_memory_are_left_alone(capsys):
    before = sys.stdout
    assert command_line.run(lambda argv: print(sys.stdout is before) or DONE, []) == DONE
    assert capsys.readouterr().out == 'True\n' and sys.stdout is before


def run(command: str) -> subprocess.CompletedProcess:
    command = command.replace('python', sys.executable)
    return subprocess.run(['bash', '-c', command], capture_output=True, text=True, timeout=60)


def test_what_only_prints_ends_quietly_when_nobody_reads():
    done = run('python -m alexnet_jax.network | head -n1; echo ${PIPESTATUS[0]}')
    assert done.stdout.splitlines()[1:] == ['0'] and done.stderr == ''
    done = run('python -m alexnet_jax.network >/dev/full')
    assert done.returncode == FAULT and done.stderr.count('\n') == 1
    assert 'No space left on device' in done.stderr


def test_files_are_not_opened_in_place_of_closed_streams(tmp_path):
    """What a library prints would be written into them; children have the streams too."""
    program = (
        'import os, subprocess, sys; from alexnet_jax.runtime import command_line\n'
        'def command(argv):\n'
        f'    file = open({str(tmp_path / "file")!r}, "w")\n'
        '    os.write(1, b"out"); os.write(2, b"error"); print("p"); print("e", file=sys.stderr)\n'
        '    return 10 + (file.fileno() > 2) + subprocess.call(["sh", "-c", "echo x && echo y >&2"])\n'
        'sys.exit(command_line.run(command, []))'
    )
    (tmp_path / 'program.py').write_text(program)
    assert run(f'PYTHONPATH=. python {tmp_path}/program.py <&- >&- 2>&-').returncode == 11
    assert Path(tmp_path / 'file').read_text() == ''


def test_the_last_word_waits_for_nobody():
    """As at a second request to stop: standard error is a pipe that nobody reads."""
    program = (
        'import os; from alexnet_jax.runtime import output\n'
        'os.set_blocking(2, False)\n'
        'try:\n  while os.write(2, bytes(4096)): pass\n'
        'except BlockingIOError: os.set_blocking(2, True)\n'
        'output.write_at_once("text"); print("ended")'
    )
    with subprocess.Popen(
        [sys.executable, '-c', program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.read() == b'ended\n'
    reader, writer = os.pipe()
    kept = os.dup(2)
    os.dup2(writer, 2)
    try:
        output.write_at_once('text\n')
    finally:
        os.dup2(kept, 2)
    assert os.read(reader, 100) == b'text\n'


def test_a_closed_terminal_asks_once_to_stop():
    """It may be said twice; a process started with nohup is not asked."""
    with stop_requests() as requested:
        assert not requested()
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGHUP)
        deadline = time.monotonic() + 10
        while not requested():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.1)
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_requests() as requested:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.1)
            assert not requested()
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize('in_memory', [False, True])
def test_a_name_that_is_no_text_is_escaped(in_memory, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), 'utf-8', line_buffering=True)
    if not in_memory:
        stream = open(os.dup(1), 'w', encoding='utf-8')  # noqa: SIM115
    monkeypatch.setattr(sys, 'stdout', stream)
    assert command_line.run(lambda argv: print(os.fsdecode(b'\xff')) or DONE, []) == DONE
