"""Command-line options by which one of several processes finds the others."""

import argparse
import dataclasses
import os
import re
import socket

from alexnet_jax.runtime.errors import InputError, shown

LONGEST = 86400  # seconds


@dataclasses.dataclass(frozen=True)
class Joining:
    """How a process finds the others.

      count, index, coordinator: number of processes, index of this one, and HOST:PORT of process 0;
      None: JAX finds them, in Kubernetes and on a TPU.
    heartbeat: seconds without a heartbeat after which a process is considered lost.
    timeout: seconds to wait for the other processes at the start.
    """

    count: int | None
    index: int | None
    coordinator: str | None
    heartbeat: int
    timeout: int

    @property
    def name(self) -> str:
        """Of this process, in messages."""
        return f'process {socket.gethostname() if self.index is None else self.index}'


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of several processes to a command line."""
    group = parser.add_argument_group('several processes, each with the same command (launch/)')
    group.add_argument(
        '--processes',
        metavar='N',
        help='number of processes; auto under Slurm, Kubernetes or on a TPU',
    )
    group.add_argument('--process', type=int, metavar='I', help='index of this process, from 0')
    group.add_argument('--coordinator', metavar='HOST:PORT', help='address of process 0')
    group.add_argument(
        '--heartbeat', type=int, default=30, metavar='SECONDS',
        help='heartbeat timeout of a process, after which all processes end (30)',
    )  # fmt: skip
    group.add_argument(
        '--join_timeout', type=int, default=300, metavar='SECONDS',
        help='time limit for all processes to join (300)',
    )  # fmt: skip


def read(options: argparse.Namespace) -> Joining | None:
    """Returns the values of the options of `add_options`; None if there is one process.

    Raises:
      InputError: the options are not allowed, or conflict.
    """
    for option, least in (('heartbeat', 5), ('join_timeout', 1)):
        value = getattr(options, option)
        if not least <= value <= LONGEST:
            raise InputError(f'--{option} is {value}; allowed: from {least} to {LONGEST} seconds')
    found = (options.process, options.coordinator)
    waits = (options.heartbeat, options.join_timeout)
    if options.processes in (None, 'auto'):
        if found != (None, None):
            raise InputError('--process and --coordinator go with --processes=N')
        if options.processes is None:
            return None
        return _slurm(*waits) or Joining(None, None, None, *waits)
    if not re.fullmatch(r'[1-9]\d{0,5}', options.processes):
        raise InputError(
            f'--processes is {shown(options.processes)}; allowed: a whole number from 1 on, or auto'
        )
    if None in found:
        raise InputError('--processes=N needs --process=I and --coordinator=HOST:PORT too')
    count, (index, coordinator) = int(options.processes), found
    if not 0 <= index < count:
        raise InputError(f'--process is {index}; allowed: from 0 to {count - 1}')
    host, _, port = coordinator.rpartition(':')
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise InputError(f'--coordinator is {shown(coordinator)}; allowed: HOST:PORT')
    return Joining(count, index, coordinator, *waits)


def _slurm(heartbeat: int, timeout: int) -> Joining | None:
    """Returns the index of a task in its Slurm step, with the same coordinator as JAX, from the
    environment variables of srun; None outside of Slurm.
    """
    found = os.environ
    try:
        count, index = int(found['SLURM_NTASKS']), int(found['SLURM_PROCID'])
        port = found.get('JAX_COORDINATOR_PORT') or 61440 + int(found['SLURM_JOB_ID']) % 4096
        host = first_host(found['SLURM_STEP_NODELIST'])
    except (KeyError, ValueError):
        return None
    address = found.get('JAX_COORDINATOR_ADDRESS') or f'{host}:{port}'
    return Joining(count, index, address, heartbeat, timeout)


def first_host(nodes: str) -> str:
    """Returns the first of Slurm's list of nodes: 'r1n04' of 'r1n[04-07,9],r2n1'."""
    first = re.split(r',(?![^\[]*\])', nodes)[0]
    return re.sub(r'\[([^],-]*)[^]]*\]', r'\1', first)
