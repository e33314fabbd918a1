"""Jobs of launch/slurm.sh on a cluster of this machine, and what happens to their tasks."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests import several
from tests.launch.slurm_cluster import Cluster, wait_until

ROOT = Path(__file__).parents[2]
STEPS = 60
EVERY = 5  # steps between checkpoints


class Jobs:
    """Runs on the digits, each in a workdir of its own.

    cluster: where they run.
    folder: of their workdirs and output.
    data_dir: where the digits are prepared.
    """

    def __init__(self, cluster: Cluster, folder: Path, data_dir: str):
        self.cluster, self.folder, self._data_dir = cluster, folder, data_dir

    def arguments(self, name: str, steps: int = STEPS) -> list[str]:
        """Returns the arguments of the main command."""
        return [
            f'--config={ROOT}/configs/digits.py', f'--workdir={self.folder / name}',
            '--noconfig.train.report', f'--config.data.dir={self._data_dir}',
            '--config.network.width=0.5', f'--config.train.steps={steps}',
            f'--config.checkpoint.every_steps={EVERY}',
            '--heartbeat=10',
        ]  # fmt: skip

    def submit(
        self, name: str, *more: str, nodes: int = 2, tasks: int = 1, options: tuple = (),
        steps: int = STEPS, **environment: str,
    ) -> str:  # fmt: skip
        """Submits a job with `tasks` tasks a node; returns its number."""
        self.cluster.environment |= {
            'PYTHON': sys.executable, 'PYTHONPATH': str(ROOT), 'XLA_FLAGS': '', 'GRACE': '25',
        } | environment  # fmt: skip
        return self.cluster.run(
            'sbatch', '--parsable', f'--nodes={nodes}', f'--ntasks-per-node={tasks}',
            '--cpus-per-task=1', f'--output={self.folder / name}.out', *options,
            str(ROOT / 'launch/slurm.sh'), *self.arguments(name, steps), *more,
        )  # fmt: skip

    def wait_for_step(self, name: str, step: int) -> None:
        wait_until(
            lambda: any(row['step'] >= step for row in self.rows(name)),
            300,
            f'step {step} of {name}',
        )

    def rows(self, name: str) -> list[dict]:
        path = self.folder / name / 'metrics.jsonl'
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def output(self, name: str) -> str:
        path = self.folder / f'{name}.out'
        return path.read_text() if path.exists() else ''

    def checkpoints(self, name: str) -> list[int]:
        folder = self.folder / name / 'checkpoints'
        names = [path.name for path in folder.glob('*')] if folder.exists() else []
        return sorted(int(name) for name in names if name.isdecimal())


def processes_of(node: str, job: str = '') -> list[int]:
    """Returns the tasks of a node, their children and the daemons that look after them.

    Args:
      job: only those of this one.
    """
    found = []
    for path in Path('/proc').glob('[0-9]*/environ'):
        with contextlib.suppress(OSError):
            variables = path.read_bytes().split(b'\0')
            of_job = not job or f'SLURM_JOB_ID={job}'.encode() in variables
            if f'SLURMD_NODENAME={node}'.encode() in variables and of_job:
                found.append(int(path.parent.name))
    for line in subprocess.check_output(['ps', '-eo', 'pid=,args='], text=True).splitlines():
        pid, _, command = line.strip().partition(' ')
        if command.strip().startswith('slurmstepd') and int(pid) not in found:
            children = several.children_of(int(pid))
            if any(child in found for child in children):
                found.append(int(pid))
    return found


def tasks(job: str, index: int) -> list[int]:
    """Returns the supervisor of a job's task with this number; nothing if it has not started."""
    found = []
    for path in Path('/proc').glob('[0-9]*/environ'):
        with contextlib.suppress(OSError):
            variables = path.read_bytes().split(b'\0')
            command = (path.parent / 'cmdline').read_bytes()
            wanted = {f'SLURM_JOB_ID={job}'.encode(), f'SLURM_PROCID={index}'.encode()}
            pid = int(path.parent.name)
            is_command = wanted <= set(variables) and b'alexnet_jax.main' in command
            if is_command and several.children_of(pid):
                found.append(pid)
    return found


def lose_node(cluster: Cluster, name: str) -> None:
    """Kills a node's daemon with everything that it started, as a power failure would."""
    cluster.kill_daemon(name)
    send(processes_of(name), signal.SIGKILL)


def freeze_node(cluster: Cluster, name: str, number: int = signal.SIGSTOP) -> None:
    """Stops a node's daemon and everything that it started, or lets them go on with SIGCONT."""
    cluster.kill_daemon(name, number)
    send(processes_of(name), number)


def send(processes: list[int], number: int) -> None:
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


PARAMETERS = """
import sys, numpy, jax, alexnet_jax
params = alexnet_jax.load(sys.argv[1]).variables
leaves = {jax.tree_util.keystr(path): numpy.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(params)}
numpy.savez(sys.argv[2], **leaves)
"""


def parameters(workdir: Path) -> dict[str, np.ndarray]:
    """Returns the final parameters of a run, read by a process of its own."""
    kept = workdir / 'parameters.npz'
    subprocess.run([sys.executable, '-c', PARAMETERS, workdir, kept], check=True, cwd=ROOT)
    with np.load(kept) as arrays:
        return dict(arrays)
