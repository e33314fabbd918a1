"""Stopping on request."""

import contextlib
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Within it, SIGTERM and SIGINT only set a flag; yields the function that
    reads it. A second signal acts as it usually does."""
    requested = False
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore():
        for number, handler in before.items():
            signal.signal(number, handler)

    def request(number, frame):
        nonlocal requested
        requested = True
        restore()

    for number in before:
        signal.signal(number, request)
    try:
        yield lambda: requested
    finally:
        restore()
