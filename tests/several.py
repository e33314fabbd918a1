"""The main command in several processes of this machine, as a launcher starts it."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

HEARTBEAT = 10  # seconds


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def started(
    count: int, arguments: Sequence[str], own: Sequence[Sequence[str]] = (), devices: int = 1
) -> Iterator[list[subprocess.Popen]]:
    """`count` processes; what is left of them at the end is killed.

    Args:
      own: further arguments of each process.
      devices: of each process.
    """
    environment = os.environ | {'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}'}
    environment.pop('PJRT_NPROC', None)  # the command's own business
    place = f'--coordinator=127.0.0.1:{free_port()}'
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, '-m', 'alexnet_jax.main', *arguments, place),
                *(f'--processes={count}', f'--process={index}', f'--heartbeat={HEARTBEAT}'),
                *(own[index] if own else ()),
            ],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(count)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()  # the child ends with its supervisor
            process.communicate()


def run(
    count: int, arguments: Sequence[str], own: Sequence[Sequence[str]] = (), devices: int = 1
) -> list[tuple[int, str, str]]:
    """Exit status, output and errors of each."""
    with started(count, arguments, own, devices) as processes:
        printed = [process.communicate(timeout=300) for process in processes]
        return [
            (process.returncode, *texts) for process, texts in zip(processes, printed, strict=True)
        ]


def children_of(pid: int) -> list[int]:
    """Of a supervisor: the process that it watches over."""
    try:
        children = Path(f'/proc/{pid}/task/{pid}/children').read_text()
    except FileNotFoundError:  # it has ended
        return []
    return [int(child) for child in children.split()]


def files(folder: Path) -> dict[str, bytes]:
    """Contents of the files of a folder, by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
