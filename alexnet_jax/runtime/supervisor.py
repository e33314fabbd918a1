"""Supervises one process of a multi-process run.

JAX aborts a process whose peer was lost, with a stack trace, and does not end a process that hangs.
Therefore the command runs in a child process. This process, without JAX, reports in plain lines how
the child ended, and ends a child that is stuck.
"""

import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time

from alexnet_jax.runtime import heartbeat, stop
from alexnet_jax.runtime.command_line import BAD_INPUT, FAULT, STOPPED
from alexnet_jax.runtime.joining import Joining

GO_ON = 'The same command resumes from the last checkpoint'
LONGEST_SILENCE = 3600  # seconds, for a child that reported slow work
CPP_LOG = re.compile(r'[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ \S+:\d+\] ')


def supervise(module: str, argv: list[str], joining: Joining, debug: bool = False) -> int:
    """Runs `python -m module` in a child process and returns the resulting exit status.

    Stop signals are forwarded as SIGTERM; the second one kills the child. A child without a
    heartbeat for `joining.heartbeat` plus the longest step so far is considered stuck, and is
    ended.

    Args:
      debug: print the logs of JAX's libraries.
    """
    ours, theirs = socket.socketpair()
    child = subprocess.Popen(
        [sys.executable, '-m', module, *argv],
        env=os.environ | {heartbeat.CHANNEL: str(theirs.fileno())},
        pass_fds=[theirs.fileno()],
        stderr=None if debug else subprocess.PIPE,
        text=True,
        errors='replace',
    )
    theirs.close()
    passing = threading.Thread(target=_pass_on, args=(child,), daemon=True)
    passing.start()
    asked = _forward_signals(child)
    signs = Signs(joining.heartbeat, max(LONGEST_SILENCE, joining.timeout + 60))
    fault = _watch(child, ours, signs)
    if fault:
        child.kill()
    status = child.wait()
    passing.join(timeout=10)
    if not fault and status >= 0:
        return status
    if asked and status in (-signal.SIGTERM, -signal.SIGKILL):
        # Immediately: it was the second request, or the child did not handle signals yet.
        return STOPPED if status == -signal.SIGTERM else FAULT
    waited = signs.last == heartbeat.JOINING and signs.silence >= joining.timeout - 1
    apart = status == -signal.SIGABRT and waited
    message = fault or (_apart(joining) if apart else _end_message(-status, signs.last))
    print(f'error: {joining.name}: {message}', file=sys.stderr, flush=True)
    return BAD_INPUT if apart else FAULT


class Signs:
    """Deadline of the next heartbeat.

    longest_silence: time limit of slow work, in seconds.
    """

    def __init__(self, heartbeat: float, longest_silence: float = LONGEST_SILENCE):
        self.last = 'starting'
        self._longest_silence = longest_silence
        self._heartbeat, self._longest = heartbeat, 0.0
        self._at = self._any_at = time.monotonic()
        self._may_be_slow = True

    def take(self, line: str) -> None:
        """Takes a line of the child: '~' is its pulse, '?' begins one on slow work."""
        now, slow = time.monotonic(), line.startswith('?')
        self._any_at = now
        if line == '~':
            return
        if not slow and not self._may_be_slow:
            self._longest = max(self._longest, now - self._at)
        self._at, self._may_be_slow, self.last = now, slow, line[1:]

    @property
    def seconds_left(self) -> float:
        """Seconds until the child is considered stuck."""
        # The duration of a step is unknown before the first one is timed.
        timed = self._longest and not self._may_be_slow
        patience = self._heartbeat + self._longest if timed else self._longest_silence
        end = min(self._at + patience, self._any_at + self._heartbeat)
        return end - time.monotonic()

    @property
    def silence(self) -> float:
        """Seconds since the last heartbeat other than '~'."""
        return time.monotonic() - self._at

    def fault(self) -> str:
        """Describes why the child was ended, for a message."""
        frozen = time.monotonic() - self._any_at
        what = f'it or another one stood still for {self.silence:.0f} s'
        if frozen >= self._heartbeat:
            what = f'it was frozen for {frozen:.0f} s'
        return f'{what}, at: {self.last}; so it was ended. {GO_ON}'


def _watch(child: subprocess.Popen, channel: socket.socket, signs: Signs) -> str:
    """Waits until the child ends or is stuck; returns the fault, or ''."""
    with selectors.DefaultSelector() as selector:
        selector.register(channel, selectors.EVENT_READ)
        rest = ''
        while True:
            ended = child.poll() is not None  # before its last heartbeats are read
            if not ended and signs.seconds_left <= 0:
                return signs.fault()
            wait = 0.0 if ended else min(1.0, max(0.0, signs.seconds_left))
            if selector.select(wait):
                received = channel.recv(65536).decode()
                if not received:
                    return ''  # the child is about to end
                *lines, rest = (rest + received).split('\n')
                for line in lines:
                    signs.take(line)
            elif ended:
                return ''


def _forward_signals(child: subprocess.Popen) -> list[int]:
    """The signals forwarded from now on."""
    asked = []

    def forward(number, frame):
        if asked and number == signal.SIGHUP:
            return  # as in `stop`
        asked.append(number)  # first: the next signal may interrupt this very handler
        child.send_signal(signal.SIGTERM if len(asked) == 1 else signal.SIGKILL)

    for number in stop.stopping():
        signal.signal(number, forward)
    return asked


def _pass_on(child: subprocess.Popen) -> None:
    """Prints the child's own errors without logs of C++ libraries and their following lines."""
    if child.stderr is None:
        return
    in_log = False
    for line in child.stderr:
        in_log = bool(CPP_LOG.match(line)) or (in_log and not line.startswith(('error: ', 'warn')))
        if not in_log:
            sys.stderr.write(line)
            sys.stderr.flush()


def _apart(joining: Joining) -> str:
    where = f'at {joining.coordinator} ' if joining.coordinator else ''
    return (
        f'the processes did not all meet {where}within {joining.timeout} s; allowed: each of'
        ' them started, with the same --processes and --coordinator'
    )


def _end_message(number: int, last: str) -> str:
    if number == signal.SIGABRT:
        return f'another process was lost; this one was at: {last}. {GO_ON}'
    name = signal.Signals(number).name
    why = ', for want of memory perhaps' if number == signal.SIGKILL else ''
    return f'it was ended by {name}{why}, at: {last}. {GO_ON}'
