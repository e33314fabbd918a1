"""Stopping on request."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator

from alexnet_jax.runtime import output

# SIGHUP: the terminal was closed. The shell and the system each send it, so a second one has no
# effect.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
AT_ONCE = 1  # the exit status

_requested: threading.Event | None = None


def stopping() -> list[signal.Signals]:
    """Returns the signals that request a stop of this process."""
    nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [number for number in SIGNALS if number != signal.SIGHUP or not nohup]


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Yields a function that returns whether a stop was requested.

    In the block, a first SIGTERM, SIGINT or SIGHUP only sets a flag. A second SIGTERM or SIGINT
    ends the process at once, even during a long compilation. A SIGHUP that is ignored at the start
    (nohup) stays ignored. A nested block is the same as the outer one.
    """
    global _requested
    if _requested is not None:
        yield _requested.is_set
        return
    _requested = threading.Event()
    received, wake = socket.socketpair()
    wake.setblocking(False)
    before = {number: signal.getsignal(number) for number in stopping()}
    listener = threading.Thread(target=_listen, args=(received, _requested), daemon=True)
    listener.start()
    # Python runs handlers only between two steps of the main thread's own, maybe minutes later.
    # What wakes the listener is written by the system itself, at once.
    woken_before = signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    for number in before:
        signal.signal(number, lambda number, frame: None)
    try:
        yield _requested.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(woken_before)
        wake.close()  # the listener ends
        listener.join()
        received.close()
        _requested = None


def _listen(received: socket.socket, requested: threading.Event) -> None:
    while numbers := received.recv(1):
        if numbers[0] not in SIGNALS:
            continue
        if requested.is_set() and numbers[0] != signal.SIGHUP:
            # No stream is flushed: the main thread may hold it, and wait for its reader.
            output.write_at_once('error: stopped by the second request; saved files are intact\n')
            os._exit(AT_ONCE)
        requested.set()
