"""A real Slurm on this machine: one controller, and several daemons that each play a node.

Debian and Ubuntu: apt-get install slurm-wlm munge. Needs root, as daemons start tasks under the
user of a job, and the names of the nodes in /etc/hosts, where they are added and taken out again.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests import several

PROGRAMS = ('munged', 'slurmctld', 'slurmd', 'sbatch', 'scontrol', 'squeue')
HOSTS = Path('/etc/hosts')

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# cred_expire is also how long a job that is queued again has to wait.
AuthInfo=socket={folder}/munge.socket,cred_expire=3
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=12
SlurmctldTimeout=10
KillWait=30
OverTimeLimit=0
MinJobAge=3600
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=DEFAULT CPUs={cpus} RealMemory=1000 State=UNKNOWN
{nodes}
PartitionName=ordinary Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1 PreemptMode=REQUEUE GraceTime=30
PartitionName=urgent Nodes=ALL MaxTime=INFINITE PriorityTier=9 PreemptMode=OFF
"""


def missing() -> list[str]:
    """Returns what this machine lacks for a cluster."""
    lacks = [name for name in PROGRAMS if shutil.which(name, path=search_path()) is None]
    return lacks + ([] if os.geteuid() == 0 else ['root'])


def search_path() -> str:
    return f'{os.environ["PATH"]}:/usr/sbin:/sbin'


class Cluster:
    """A running cluster: its daemons, and commands for its controller."""

    def __init__(self, folder: Path, nodes: int, cpus: int):
        self.folder, self.names = folder, [f'alexnet-n{index}' for index in range(1, nodes + 1)]
        self.environment = os.environ | {
            'PATH': search_path(), 'SLURM_CONF': str(folder / 'slurm.conf'),
        }  # fmt: skip
        self.daemons: dict[str, subprocess.Popen] = {}
        (folder / 'state').mkdir()
        lines = [
            f'NodeName={name} NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1'
            f' Port={several.free_port()}'
            for name in self.names
        ]
        text = CONFIGURATION.format(
            host=socket.gethostname(), controller_port=several.free_port(), folder=folder,
            nodes='\n'.join(lines), cpus=cpus,
        )  # fmt: skip
        (folder / 'slurm.conf').write_text(text)
        key = folder / 'munge.key'
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)

    def start(self) -> None:
        munge = self.folder / 'munge'
        self._start(
            'munged', '--foreground', '--force', f'--socket={munge}.socket',
            f'--key-file={munge}.key', f'--pid-file={munge}.pid', f'--seed-file={munge}.seed',
            f'--log-file={munge}.log',
        )  # fmt: skip
        wait_until((self.folder / 'munge.socket').exists, 20, 'munged')
        self.start_controller()
        for name in self.names:
            self.start_node(name)
        self.wait_for_nodes()

    def start_controller(self) -> None:
        self._start('slurmctld', '-D')

    def start_node(self, name: str) -> None:
        (self.folder / f'spool-{name}').mkdir(exist_ok=True)
        self._start('slurmd', '-D', '-N', name, daemon=name)

    def wait_for_nodes(self) -> None:
        """Waits until all nodes are free."""

        def are_idle() -> bool:
            found = self.run('sinfo', '--noheader', '-N', '-p', 'ordinary', '-o', '%T', check=False)
            return found.split() == ['idle'] * len(self.names)

        wait_until(are_idle, 60, 'idle nodes')

    def run(self, *command: str, check: bool = True, **options) -> str:
        """Runs a command of Slurm's and returns its output."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60, **options
        )
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout.strip()

    def kill_daemon(self, name: str, number: int = signal.SIGKILL) -> None:
        """Sends a signal to a node's daemon (not to the tasks that it started), or another one."""
        self.daemons[name].send_signal(number)
        if number == signal.SIGKILL:
            self.daemons[name].wait()

    def state(self, job: str) -> str:
        """Returns a job's state, COMPLETED for instance."""
        return self._fact(job, 'JobState')

    def restarts(self, job: str) -> int:
        """Returns how often a job was queued again."""
        return int(self._fact(job, 'Restarts'))

    def exit_status(self, job: str) -> int:
        return int(self._fact(job, 'ExitCode').split(':')[0])

    def minutes_of(self, job: str) -> int:
        """Returns how long a job has run, in whole minutes."""
        hours, minutes, _ = self._fact(job, 'RunTime').split(':')
        return 60 * int(hours) + int(minutes)

    def wait_for(self, job: str, *states: str, seconds: float = 300) -> str:
        """Waits until a job is in one of the states, and returns that."""
        wait_until(lambda: self.state(job) in states, seconds, f'{job} in {states}')
        return self.state(job)

    def nodes_of(self, job: str) -> list[str]:
        """Returns the nodes that a job has, or had last."""
        found = self._fact(job, 'NodeList')
        if found in ('', '(null)'):
            return []
        return self.run('scontrol', 'show', 'hostnames', found).split()

    def wait_until_down(self, name: str) -> None:
        """Waits until the controller has given a node up."""

        def is_down() -> bool:
            return 'down' in self.run('sinfo', '--noheader', '-n', name, '-o', '%T')

        wait_until(is_down, 60, f'lost {name}')

    def stop(self) -> None:
        for daemon in reversed(self.daemons.values()):
            with contextlib.suppress(ProcessLookupError):
                daemon.send_signal(signal.SIGCONT)
                daemon.kill()
            daemon.wait()

    def _fact(self, job: str, name: str) -> str:
        for word in self.run('scontrol', 'show', 'job', job).split():
            if word.startswith(f'{name}='):
                return word.partition('=')[2]
        raise AssertionError(f'job {job} has no {name}')

    def _start(self, *command: str, daemon: str = '') -> None:
        name = daemon or command[0]
        with (self.folder / f'{name}.out').open('ab') as output:
            self.daemons[name] = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip


def wait_until(holds: Callable[[], bool], seconds: float, name: str) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f'no {name} within {seconds} s'
        time.sleep(0.2)


@contextlib.contextmanager
def running(folder: Path, nodes: int, cpus: int) -> Iterator[Cluster]:
    """Runs a cluster; its nodes' names resolve to this machine within."""
    cluster = Cluster(folder, nodes, cpus)
    with resolved(cluster.names):
        try:
            cluster.start()
            yield cluster
        finally:
            with contextlib.suppress(Exception):
                cluster.run('scancel', '--signal=KILL', '--full', '--user=root')
            with contextlib.suppress(Exception):
                cluster.run('scancel', '--user=root')
            cluster.stop()


@contextlib.contextmanager
def resolved(names: list[str]) -> Iterator[None]:
    """Lets names resolve to 127.0.0.1 within."""
    marked = _lines(names)
    before = HOSTS.read_text().rstrip('\n')
    HOSTS.write_text('\n'.join([before, *marked, '']))
    try:
        yield
    finally:
        kept = [line for line in HOSTS.read_text().splitlines() if line not in marked]
        HOSTS.write_text('\n'.join([*kept, '']))


@contextlib.contextmanager
def unresolved(names: list[str]) -> Iterator[None]:
    """Takes the names of `resolved` out of /etc/hosts within."""
    lines = _lines(names)
    before = HOSTS.read_text()
    HOSTS.write_text(
        ''.join(line for line in before.splitlines(True) if line.rstrip() not in lines)
    )
    try:
        yield
    finally:
        HOSTS.write_text(before)


def _lines(names: list[str]) -> list[str]:
    return [f'127.0.0.1 {name}  # test of Slurm' for name in names]
