"""Standard output and error that a lost reader does not break.

A pipe whose reader has ended, a closed terminal and a full disk make every `print` raise. What a
run computes is in files: it must not end because nobody sees its progress.
"""

import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Iterator

READER_GONE = (errno.EPIPE, errno.EIO)  # of a pipe, of a terminal
ESCAPE = 'backslashreplace'  # for a name that is no text, which ends no run


class Descriptor(io.FileIO):
    """Writes to an open file descriptor, and drops what the system refuses.

    fault: the last error; None: everything was written.
    """

    def __init__(self, number: int):
        super().__init__(number, 'w', closefd=False)
        self.fault: OSError | None = None

    def write(self, content) -> int:
        """Writes all of it, or drops the rest; returns its length."""
        rest = memoryview(content).cast('B')
        length = len(rest)
        try:
            while rest:
                count = super().write(rest)
                if count is None:  # a descriptor that others have made non-blocking
                    select.select([], [self.fileno()], [])
                rest = rest[count or 0 :]
        except OSError as error:
            self.fault = error
        return length


@contextlib.contextmanager
def unbreakable() -> Iterator[Descriptor | None]:
    """Replaces sys.stdout and sys.stderr within by streams that survive a lost reader.

    They never raise for want of it. Yields the descriptor of sys.stdout. None: it is no stream of
    the system, and is left alone.
    """
    before = sys.stdout, sys.stderr
    _open_closed()
    sys.stdout, sys.stderr = _replaced(before[0], 1), _replaced(before[1], 2)
    out, within = _descriptor(sys.stdout), (sys.stdout, sys.stderr)
    try:
        yield out
    finally:
        for stream in within:
            stream.flush()
        sys.stdout, sys.stderr = before


def fault_of(descriptor: Descriptor | None) -> str:
    """Returns why output was lost, in the system's words.

    It is '' if none was, or if nobody reads it any more.
    """
    sys.stdout.flush()
    fault = descriptor.fault if descriptor else None
    return '' if fault is None or fault.errno in READER_GONE else str(fault.strerror)


def write_at_once(text: str) -> None:
    """Writes to standard error without waiting: not at all if nobody reads it."""
    with contextlib.suppress(OSError):
        _, ready, _ = select.select([], [2], [], 0)
        if ready:
            os.write(2, text.encode())


def _open_closed() -> None:
    """Opens those of the first three descriptors that are closed. A file opened later would get
    such a number, and what libraries print would be written into it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            os.set_inheritable(opened, True)


def _replaced(stream, number: int):
    if stream is None:  # it was closed when Python started
        stream = open(number, 'w', closefd=False)  # noqa: SIM115
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    try:
        descriptor = Descriptor(stream.fileno())
    except (OSError, ValueError):  # of a test, in memory
        stream.reconfigure(errors=ESCAPE)
        return stream
    stream.flush()
    return io.TextIOWrapper(
        descriptor if stream.write_through else io.BufferedWriter(descriptor),  # pyright: ignore[reportArgumentType]
        stream.encoding,
        ESCAPE,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _descriptor(stream) -> Descriptor | None:
    buffer = getattr(stream, 'buffer', None)
    raw = getattr(buffer, 'raw', buffer)
    return raw if isinstance(raw, Descriptor) else None
