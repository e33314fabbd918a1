"""Waits until all processes of a run have been started, and reports which are missing.

JAX waits without messages. Therefore process 0 first listens on the coordinator's port, and each
other process connects and sends its index. When all have connected, process 0 answers them and
closes the port, which JAX then uses. A line is a JSON object from a process, or the text '' (all
have connected) or a fault from process 0.
"""

import contextlib
import dataclasses
import json
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator

from alexnet_jax.runtime.errors import InputError, plain
from alexnet_jax.runtime.joining import Joining

SECONDS_BETWEEN_REPORTS = 15
SECONDS_BEFORE_FIRST_REPORT = 5
SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_FOR_ANSWER = 5  # additional wait of the other processes
LONGEST_LINE = 2000  # bytes


class Patience:
    """The remaining seconds to wait, with regular reports.

    log: prints a line.
    """

    def __init__(self, joining: Joining, log: Callable[[str], None] | None = None):
        self._name, self._log = joining.name, log or _log
        now = time.monotonic()
        self._end, self._next_report = now + joining.timeout, now + SECONDS_BEFORE_FIRST_REPORT

    @property
    def seconds_left(self) -> float:
        """Remaining seconds to wait."""
        return self._end - time.monotonic()

    def report(self, waiting_for: str, at_once: bool = False) -> None:
        """Logs the reason for waiting, at limited frequency."""
        now = time.monotonic()
        if at_once or now >= self._next_report:
            self._next_report = now + SECONDS_BETWEEN_REPORTS
            self._log(f'{self._name}: waiting for {waiting_for}; {self.seconds_left:.0f} s left')


@dataclasses.dataclass
class Member:
    """A connection to process 0: the process at its other end, once that has sent its line."""

    connection: socket.socket
    received: bytes = b''
    index: int | None = None
    host: str = ''
    fault: str = ''


def wait_for_all(joining: Joining, patience: Patience | None = None) -> None:
    """Waits until all processes have connected to the coordinator.

    Args:
      joining: with the coordinator, the number of processes, and which this is.

    Raises:
      InputError: the coordinator's name or port cannot be used, or not all processes connected in
        time; in all that did.
    """
    patience = patience or Patience(joining)
    _wait_for_name(joining, patience)
    if joining.index == 0:
        _gather(joining, patience)
    else:
        _come(joining, patience)


@contextlib.contextmanager
def reporting(joining: Joining, waiting_for: str) -> Iterator[None]:
    """Logs the reason for waiting regularly during the block."""
    patience, ended = Patience(joining), threading.Event()

    def report() -> None:
        while not ended.wait(SECONDS_BETWEEN_LOOKS):
            patience.report(waiting_for)

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def local_address(joining: Joining) -> str | None:
    """Returns the coordinator's address if all processes are on this machine, else None.

    With the address, process 0 listens on it alone; None stands for all addresses of the machine.
    """
    local = str(joining.coordinator).startswith(('127.', 'localhost:', '[::1]:'))
    return joining.coordinator if local else None


def _wait_for_name(joining: Joining, patience: Patience) -> None:
    """Returns when the coordinator's host has an address: in a cluster it may come late."""
    host, _ = _place(joining)
    reported = False
    while True:
        try:
            socket.getaddrinfo(host, None)
            return
        except (OSError, UnicodeError) as error:
            fault = f'the name {plain(host)} cannot be resolved ({_reason(error)})'
        if patience.seconds_left <= 0:
            raise InputError(
                f'{joining.name}: {fault} within {joining.timeout} s; allowed: a coordinator whose'
                ' name every host can resolve, or its address'
            )
        patience.report(f'the coordinator {joining.coordinator}: {fault}', at_once=not reported)
        reported = True
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _gather(joining: Joining, patience: Patience) -> None:
    """Process 0: accepts the others until all have connected, and answers them."""
    members: list[Member] = []
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(_listener(joining))
        selector = stack.enter_context(selectors.DefaultSelector())
        selector.register(listener, selectors.EVENT_READ)
        stack.callback(lambda: [member.connection.close() for member in members])
        while True:
            missing, present = _missing(joining, members), _present(members)
            fault = next((member.fault for member in members if member.fault), '')
            if not missing and not fault:
                break
            if patience.seconds_left <= 0 and not fault:
                fault = (
                    f'{_named(missing)} of {joining.count} did not come to {joining.coordinator}'
                    f' within {joining.timeout} s{present}; allowed: each process started, with the'
                    ' same --processes and coordinator'
                )
            if fault:
                _answer(members, fault)
                raise InputError(f'{joining.name}: {fault}')
            patience.report(
                f'{_named(missing)} of {joining.count} at {joining.coordinator}{present}'
            )
            _look(listener, selector, joining, members)
        _dismiss([member for member in members if member.index is not None])


def _look(
    listener: socket.socket,
    selector: selectors.DefaultSelector,
    joining: Joining,
    members: list[Member],
) -> None:
    """Takes new connections and what was received."""
    for key, _ in selector.select(SECONDS_BETWEEN_LOOKS):
        if key.fileobj is listener:
            connection, _ = listener.accept()
            connection.setblocking(False)
            members.append(Member(connection))
            selector.register(connection, selectors.EVENT_READ, members[-1])
        elif not _receive(key.data, joining, members):
            selector.unregister(key.fileobj)
            key.data.connection.close()
            members.remove(key.data)


def _dismiss(members: Collection[Member]) -> None:
    """Answers that all have come, and waits until the others have closed their connections: the
    end that closes last leaves the port free at once."""
    _answer(members, '')
    for member in members:
        member.connection.settimeout(SECONDS_FOR_ANSWER)
        with contextlib.suppress(OSError):
            member.connection.recv(1)


def _listener(joining: Joining) -> socket.socket:
    """Listens on the coordinator's address if it is local, else on all addresses, as JAX does:
    of IPv6 too where the machine has it."""
    host, port = _place(joining)
    six, four = socket.AF_INET6, socket.AF_INET
    try:
        # A socket of a run that has just ended may still hold the port.
        if local_address(joining):
            return socket.create_server((host, port), family=six if ':' in host else four)
        if _has_ipv6():
            return socket.create_server(('', port), family=six, dualstack_ipv6=True)
        return socket.create_server(('', port))
    except OSError as error:
        raise InputError(
            f'--coordinator is {joining.coordinator}, but port {port} is not available:'
            f' {error.strerror}'
        ) from error


def _has_ipv6() -> bool:
    """Returns whether a socket can listen on IPv4 and IPv6: a kernel may have IPv6 and no address."""
    if not socket.has_dualstack_ipv6():
        return False
    try:
        with socket.create_server(('', 0), family=socket.AF_INET6, dualstack_ipv6=True):
            return True
    except OSError:
        return False


def _receive(member: Member, joining: Joining, members: Collection[Member]) -> bool:
    """Reads from a connection; returns False if it must be dropped.

    That is a closed connection, or one whose text is not that of a process of a run.
    """
    try:
        received = member.connection.recv(LONGEST_LINE)
    except BlockingIOError:
        return True
    except OSError:
        return False
    member.received += received
    if not received or len(member.received) > LONGEST_LINE:
        return False
    if member.index is not None or b'\n' not in member.received:
        return True
    try:
        line = json.loads(member.received)
        index, count, host = int(line['process']), int(line['processes']), plain(line['host'], 100)
    except (ValueError, TypeError, KeyError):
        return False
    if count != joining.count:
        member.fault = (
            f'process {index} on {host} has --processes={count}, process 0 {joining.count};'
            ' allowed: the same number'
        )
    elif not 0 < index < count or index in {other.index for other in members}:
        member.fault = f'a second process {index} came, from {host}; allowed: one of each number'
    member.index, member.host = index, host
    return True


def _answer(members: Collection[Member], text: str) -> None:
    for member in members:
        with contextlib.suppress(OSError):
            member.connection.settimeout(SECONDS_FOR_ANSWER)
            member.connection.sendall(json.dumps(text).encode() + b'\n')


def _come(joining: Joining, patience: Patience) -> None:
    """Any process but 0: connects to it, again if it is lost, until it answers."""
    while True:
        try:
            with socket.create_connection(_place(joining), timeout=5) as connection:
                answer = _ask(connection, joining, patience)
            if answer:
                raise InputError(f'{joining.name}: {answer}')
            if answer is not None:
                return
            reason = 'it closed the connection'
        except OSError as error:
            reason = _reason(error)
        if patience.seconds_left <= 0:
            raise InputError(
                f'{joining.name}: --coordinator {joining.coordinator} did not answer within'
                f' {joining.timeout} s: {reason}; is process 0 started there?'
            )
        patience.report(f'the coordinator {joining.coordinator} (process 0): {reason}')
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _ask(connection: socket.socket, joining: Joining, patience: Patience) -> str | None:
    """Returns the answer of process 0; None if it was lost."""
    line = {'process': joining.index, 'processes': joining.count, 'host': socket.gethostname()}
    connection.sendall(json.dumps(line).encode() + b'\n')
    received = b''
    while not received.endswith(b'\n'):
        connection.settimeout(SECONDS_BETWEEN_LOOKS)
        try:
            content = connection.recv(LONGEST_LINE)
        except TimeoutError:
            if patience.seconds_left < -SECONDS_FOR_ANSWER:
                raise
            patience.report(f'the other processes, which process 0 at {joining.coordinator} counts')
            continue
        if not content or len(received) > LONGEST_LINE:
            return None
        received += content
    try:
        return plain(json.loads(received), LONGEST_LINE)
    except ValueError:
        return None  # another server


def _missing(joining: Joining, members: Collection[Member]) -> list[int]:
    come = {member.index for member in members}
    assert joining.count is not None
    return [index for index in range(1, joining.count) if index not in come]


def _named(indices: list[int]) -> str:
    if len(indices) == 1:
        return f'process {indices[0]}'
    text = ', '.join(map(str, indices[:10]))
    return f'processes {text}' + (f' and {len(indices) - 10} more' if len(indices) > 10 else '')


def _present(members: Collection[Member]) -> str:
    found = sorted((member.index, member.host) for member in members if member.index is not None)
    text = ', '.join(f'{index} on {host}' for index, host in found[:10])
    more = f' and {len(found) - 10} more' if len(found) > 10 else ''
    return f' (came: {text}{more})' if found else ''


def _place(joining: Joining) -> tuple[str, int]:
    host, _, port = str(joining.coordinator).rpartition(':')
    return host.strip('[]'), int(port)  # [::1]:8476


def _reason(error: Exception) -> str:
    return getattr(error, 'strerror', None) or str(error) or type(error).__name__


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
