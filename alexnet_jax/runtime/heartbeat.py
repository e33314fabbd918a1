"""Heartbeats of a supervised process (`supervisor.py`); in other processes they do nothing.

One line per heartbeat: '.' and the finished work, '?' and the started work that may take long, or
'~', which only shows that this process is not frozen.
"""

import contextlib
import os
import signal
import socket
import threading
import time

CHANNEL = 'ALEXNET_JAX_SUPERVISOR'  # in the environment: number of the socket to the supervisor

# The first work; a child that is aborted in it has not joined the others.
JOINING = 'joining the other processes'

PULSE = 1  # seconds

_channel: socket.socket | None = None


def start() -> None:
    """Starts the heartbeat if there is a supervisor.

    This process ends when the supervisor does.
    """
    global _channel
    number = os.environ.pop(CHANNEL, None)  # not for processes that this one starts
    if number is None:
        return
    _channel = socket.socket(fileno=int(number))
    threading.Thread(target=_end_with_supervisor, args=(_channel,), daemon=True).start()
    threading.Thread(target=_pulse, daemon=True).start()
    # Ctrl-C and the end of a terminal reach all its processes: the supervisor forwards them as
    # SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def is_watched() -> bool:
    """Returns whether a supervisor reads this process's heartbeat."""
    return _channel is not None


def beat(done: str) -> None:
    """Reports that a step, a batch or the like is done.

    Such work is short and repeated.
    """
    _send(f'.{done}\n')


def slow(begun: str) -> None:
    """Reports work that may take long, such as compiling or saving.

    Until the next `beat`, silence is not a fault.
    """
    _send(f'?{begun}\n')


def _send(line: str) -> None:
    if _channel is not None:
        # A stopped supervisor must not block this process: lines that do not fit are dropped.
        with contextlib.suppress(OSError):
            _channel.send(line.encode(), socket.MSG_DONTWAIT)


def _pulse() -> None:
    while True:
        _send('~\n')
        time.sleep(PULSE)


def _end_with_supervisor(channel: socket.socket) -> None:
    # Nothing is ever sent: this returns when the other end is closed, or raises if unread
    # heartbeats are left.
    with contextlib.suppress(OSError):
        channel.recv(1)
    os._exit(1)
