"""The end of a child is reported in plain lines, whatever its cause; without JAX."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alexnet_jax.runtime import stop, supervisor
from alexnet_jax.runtime.supervisor import Signs

SUPERVISE = """
import sys
from alexnet_jax.runtime import command_line, supervisor
from alexnet_jax.runtime.joining import Joining
joining = Joining(2, 1, 'host:1', 5, 2)
sys.exit(command_line.run(lambda argv: supervisor.supervise('play', [], joining), []))
"""


@pytest.fixture
def play(tmp_path):
    """(the child's program) -> its supervisor, started; heartbeat 5 s."""
    started = []

    def play(program: str) -> subprocess.Popen:
        (tmp_path / 'play.py').write_text(
            'import os, signal, sys, time\nfrom alexnet_jax.runtime import heartbeat\nheartbeat.start()\n'
            f'print("ready", flush=True)\n{program}\n'
        )
        started.append(
            subprocess.Popen(
                [sys.executable, '-c', SUPERVISE],
                env=os.environ | {'PYTHONPATH': f'{tmp_path}:{os.getcwd()}'},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        assert started[-1].stdout.readline() == 'ready\n'
        return started[-1]

    yield play
    for process in started:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen) -> tuple[int, str]:
    error = process.communicate(timeout=30)[1]
    return process.returncode, error


GO_ON = 'The same command resumes from the last checkpoint\n'


@pytest.mark.parametrize(('program', 'status', 'error'), [
    ('sys.exit(0)', 0, ''),
    ('sys.exit(75)', 75, ''),
    ('print("error: no", file=sys.stderr); sys.exit(2)', 2, 'error: no\n'),
    ('heartbeat.slow(heartbeat.JOINING); os.abort()', 1,
     'error: process 1: another process was lost; this one was at: joining the other'
     f' processes. {GO_ON}'),
    ('heartbeat.slow(heartbeat.JOINING); time.sleep(2); os.abort()', 2,
     'error: process 1: the processes did not all meet at host:1 within 2 s; allowed: each of'
     ' them started, with the same --processes and --coordinator\n'),
    ('heartbeat.beat("step 3"); os.abort()', 1,
     f'error: process 1: another process was lost; this one was at: step 3. {GO_ON}'),
    ('heartbeat.slow("saving"); os.kill(os.getpid(), signal.SIGSEGV)', 1,
     f'error: process 1: it was ended by SIGSEGV, at: saving. {GO_ON}'),
    # What C++ libraries log is not for the user; what the program says is.
    ('print("one\\nF1123 23:30:08.740066    4657 client.h:80] Terminating\\n\\nRPC: x\\n'
     '    @ 0x7f\\nerror: two", file=sys.stderr)', 0, 'one\nerror: two\n'),
])  # fmt: skip
def test_how_a_child_ended(program, status, error, play):
    assert ended(play(program)) == (status, error)


def test_the_last_signs_of_a_child_that_has_ended_are_read():
    """However late its supervisor comes to read them."""
    ours, theirs = socket.socketpair()
    child = subprocess.Popen([sys.executable, '-c', ''])
    child.wait()
    theirs.send(b'?saving\n.step 3\n')
    signs = Signs(5)
    with ours, theirs:  # open still, as a process that the child started may have it
        assert supervisor._watch(child, ours, signs) == ''
    assert signs.last == 'step 3'


@pytest.mark.thorough
def test_a_child_that_stands_still_is_ended(play):
    begun = time.monotonic()
    status, error = ended(play('[heartbeat.beat(f"step {i}") or time.sleep(0.2) for i in range(5)]\n'
                               'time.sleep(100)'))  # fmt: skip
    assert status == 1
    assert error == (
        f'error: process 1: it or another one stood still for 5 s, at: step 4; so it was ended. {GO_ON}'
    )
    assert time.monotonic() - begun < 15


@pytest.mark.thorough
def test_a_child_that_is_frozen_is_ended_even_in_what_may_be_slow(play):
    status, error = ended(play('heartbeat.slow("saving"); os.kill(os.getpid(), signal.SIGSTOP)'))
    assert status == 1
    assert error == (
        f'error: process 1: it was frozen for 5 s, at: saving; so it was ended. {GO_ON}'
    )


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_request_to_stop_is_passed_on(number, play):
    process = play('signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n'
                   'print("listening", flush=True); time.sleep(100)')  # fmt: skip
    process.stdout.readline()
    process.send_signal(number)
    assert ended(process) == (75, '')


@pytest.mark.thorough
def test_a_second_request_ends_the_child_at_once(play):
    process = play('signal.signal(signal.SIGTERM, lambda *_: print("asked", flush=True))\n'
                   'print("listening", flush=True)\nwhile True: time.sleep(1)')  # fmt: skip
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == 'asked\n'
    process.send_signal(signal.SIGTERM)
    assert ended(process) == (1, '')


def test_a_second_request_may_interrupt_the_handler_of_the_first():
    received = []

    class Child:
        def send_signal(self, number):
            received.append(number)
            if len(received) == 1:
                signal.raise_signal(signal.SIGTERM)

    before = {number: signal.getsignal(number) for number in stop.SIGNALS}
    try:
        asked = supervisor._forward_signals(Child())
        signal.raise_signal(signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert received == [signal.SIGTERM, signal.SIGKILL]
    assert asked == [signal.SIGTERM] * 2


def test_a_terminal_that_is_closed_asks_once(play):
    """It may be said twice, to the child too."""
    process = play('signal.signal(signal.SIGTERM, lambda *_: print("asked", flush=True))\n'
                   'print("listening", flush=True)\nos.kill(os.getpid(), signal.SIGHUP)\n'
                   'for _ in range(3): time.sleep(0.5)\nsys.exit(75)')  # fmt: skip
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    assert process.stdout.readline() == 'asked\n'
    process.send_signal(signal.SIGHUP)
    assert ended(process) == (75, '')


def test_a_child_whose_supervisor_has_no_reader_is_not_held_up(play, tmp_path):
    """Though it writes more than a pipe takes."""
    process = play('time.sleep(0.5)\nfor _ in range(20_000): print("a line of text", file=sys.stderr)\n'
                   f'open({str(tmp_path / "end")!r}, "w")')  # fmt: skip
    process.stderr.close()
    assert process.wait(30) == 0
    assert (tmp_path / 'end').exists()


@pytest.mark.parametrize('unread', [False, True])
def test_a_child_does_not_outlive_its_supervisor(unread, play):
    process = play('print(os.getpid(), flush=True); time.sleep(100)')
    child = int(process.stdout.readline())
    if unread:
        process.send_signal(signal.SIGSTOP)
        time.sleep(1.5)  # a pulse comes meanwhile
    process.kill()
    for _ in range(200):
        if lives(child):
            time.sleep(0.05)
    assert not lives(child)


def lives(process: int) -> bool:
    """It may have ended and wait for whoever inherits it."""
    try:
        return ') Z ' not in Path(f'/proc/{process}/stat').read_text()
    except FileNotFoundError:
        return False


def test_until_a_step_was_timed_and_while_it_saves_silence_means_nothing(monkeypatch):
    now = 100.0
    monkeypatch.setattr(supervisor.time, 'monotonic', lambda: now)
    signs = Signs(heartbeat=10)
    for line, waits in [
        ('?compiling', 0), ('~', 50), ('.step 1', 50), ('~', 8), ('.step 2', 30), ('~', 0),
    ]:  # fmt: skip
        now += waits
        signs.take(line)
    assert signs.seconds_left == 10  # the pulse: 30 + 8 s more of a step would be fine
    now += 9
    signs.take('~')
    assert signs.seconds_left == 10
    now += 30
    signs.take('~')
    assert signs.seconds_left == pytest.approx(38 + 10 - 39)
    signs.take('?saving')
    now += 9
    assert signs.seconds_left == 1
