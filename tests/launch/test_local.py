"""local.sh, with a stand-in for Python."""

import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.launch.stand_ins import LAUNCH, READY, WAIT, stand_in, starts, wait_for


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
