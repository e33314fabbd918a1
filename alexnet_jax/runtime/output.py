"""Output streams that tolerate a lost reader.

A pipe without a reader, a closed terminal and a full disk make every `print` raise an error. The
results of a run are in files: it must not end because its progress cannot be printed.
"""

import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Iterator

READER_GONE = (errno.EPIPE, errno.EIO)  # of a pipe, of a terminal
ESCAPE = 'backslashreplace'  # for a name that is not text, which must not end a run


class Descriptor(io.FileIO):
    """Writes to an open file descriptor, and drops text that cannot be written.

    fault: the last error; None: everything was written.
    """

    def __init__(self, number: int):
        super().__init__(number, 'w', closefd=False)
        self.fault: OSError | None = None

    def write(self, content) -> int:
        """Writes the text, or drops the rest of it; returns its length."""
        rest = memoryview(content).cast('B')
        length = len(rest)
        try:
            while rest:
                count = super().write(rest)
                if count is None:  # a descriptor that another program made non-blocking
                    select.select([], [self.fileno()], [])
                rest = rest[count or 0 :]
        except OSError as error:
            self.fault = error
        return length


@contextlib.contextmanager
def unbreakable() -> Iterator[Descriptor | None]:
    """Replaces sys.stdout and sys.stderr in the block by streams that tolerate a lost reader.

    They never raise an error for it. Yields the descriptor of sys.stdout; None: it is not a stream
    of the system, and is unchanged.
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
    """Returns the system's error for lost output.

    It is '' if none was lost, or if there is no reader any more.
    """
    sys.stdout.flush()
    fault = descriptor.fault if descriptor else None
    return '' if fault is None or fault.errno in READER_GONE else str(fault.strerror)


def write_at_once(text: str) -> None:
    """Writes to standard error without blocking; drops the text if there is no reader."""
    with contextlib.suppress(OSError):
        _, ready, _ = select.select([], [2], [], 0)
        if ready:
            os.write(2, text.encode())


def _open_closed() -> None:
    """Opens those of the first three descriptors that are closed. Otherwise a later file would get
    such a number, and the output of libraries would be written to it.
    """
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
