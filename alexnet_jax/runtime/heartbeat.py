"""Signs of life of a process that is watched over (`supervisor.py`); in any other, nothing.

A line a sign: '.' and what was just done, '?' and what is begun and may take long, or '~':
all that is known is that this process is not frozen.
"""

import contextlib
import os
import signal
import socket
import threading
import time

CHANNEL = 'ALEXNET_JAX_SUPERVISOR'  # in the environment: number of the socket to the supervisor

# Begun first of all; a child that is aborted in it has not met the others.
JOINING = 'joining the other processes'

PULSE = 1  # seconds

_channel: socket.socket | None = None


def start() -> None:
    """Begins to give signs of life, if a supervisor asked for them.

    This process ends when the supervisor does.
    """
    global _channel
    number = os.environ.pop(CHANNEL, None)  # not for processes that this one starts
    if number is None:
        return
    _channel = socket.socket(fileno=int(number))
    threading.Thread(target=_end_with_supervisor, args=(_channel,), daemon=True).start()
    threading.Thread(target=_pulse, daemon=True).start()
    # Ctrl-C and the end of a terminal reach every process of it: the supervisor passes them on as
    # SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def is_watched() -> bool:
    """Returns whether a supervisor reads this process's heartbeat."""
    return _channel is not None


def beat(done: str) -> None:
    """Reports that a step, a batch or the like is done.

    Such work does not take long, and comes again.
    """
    _send(f'.{done}\n')


def slow(begun: str) -> None:
    """Reports work that may take long, as compiling or saving.

    Until the next `beat`, silence means nothing.
    """
    _send(f'?{begun}\n')


def _send(line: str) -> None:
    if _channel is not None:
        # A supervisor that is stopped must not stop us: what does not fit is left out.
        with contextlib.suppress(OSError):
            _channel.send(line.encode(), socket.MSG_DONTWAIT)


def _pulse() -> None:
    while True:
        _send('~\n')
        time.sleep(PULSE)


def _end_with_supervisor(channel: socket.socket) -> None:
    # Nothing is ever sent: this returns when the other end is closed, or raises if signs of
    # life were left unread there.
    with contextlib.suppress(OSError):
        channel.recv(1)
    os._exit(1)
