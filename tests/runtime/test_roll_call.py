"""Processes wait for each other and report for whom; in threads, without JAX."""

import concurrent.futures
import errno
import json
import socket
import time

import pytest

from alexnet_jax.runtime import joining, roll_call
from alexnet_jax.runtime.errors import InputError
from alexnet_jax.runtime.joining import Joining
from alexnet_jax.runtime.roll_call import Patience, wait_for_all
from tests import several


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Reports are logged a tenth of a second apart."""
    monkeypatch.setattr(roll_call, 'SECONDS_BEFORE_FIRST_REPORT', 0.1)
    monkeypatch.setattr(roll_call, 'SECONDS_BETWEEN_REPORTS', 0.1)


class Run:
    """Processes of a run, each a thread; what they log and raise."""

    def __init__(self, count: int, timeout: int = 20):
        self.place, self.count, self.timeout = f'127.0.0.1:{several.free_port()}', count, timeout
        self.pool = concurrent.futures.ThreadPoolExecutor(16)
        self.lines: list[str] = []

    def start(self, index: int, count: int = 0) -> concurrent.futures.Future:
        process = Joining(count or self.count, index, self.place, 5, self.timeout)
        return self.pool.submit(wait_for_all, process, Patience(process, self.lines.append))

    def until(self, text: str) -> None:
        end = time.monotonic() + 10
        while not any(text in line for line in self.lines):
            assert time.monotonic() < end, self.lines
            time.sleep(0.01)

    def connect(self, content: bytes) -> socket.socket:
        """Opens a connection as a process would, or a stranger."""
        host, _, port = self.place.rpartition(':')
        end = time.monotonic() + 10
        while True:
            try:
                connection = socket.create_connection((host, int(port)), timeout=5)
                connection.sendall(content)
                return connection
            except ConnectionRefusedError:
                assert time.monotonic() < end
                time.sleep(0.01)


@pytest.mark.parametrize('order', [(0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)])
def test_all_return_when_the_last_has_come_and_the_port_is_free(order):
    run = Run(4)
    *early, last = order
    waiting = [run.start(index) for index in early]
    run.until('waiting for')
    assert not any(process.done() for process in waiting)
    waiting.append(run.start(last))
    for process in waiting:
        process.result(timeout=10)
    host, _, port = run.place.rpartition(':')
    with socket.socket() as listener:  # without SO_REUSEADDR
        listener.bind((host, int(port)))


def test_process_0_logs_which_are_missing_and_the_others_where_it_should_be():
    run = Run(4)
    waiting = [run.start(2)]
    run.until(f'process 2: waiting for the coordinator {run.place} (process 0): Connection refused')
    waiting.append(run.start(0))
    host = socket.gethostname()
    run.until(f'process 0: waiting for processes 1, 3 of 4 at {run.place} (came: 2 on {host}); ')
    waiting.append(run.start(1))
    run.until(f'waiting for process 3 of 4 at {run.place} (came: 1 on {host}, 2 on {host}); ')
    assert any(line.endswith(('19 s left', '20 s left')) for line in run.lines)
    for process in [*waiting, run.start(3)]:
        process.result(timeout=10)


def test_all_that_came_name_the_missing_at_the_end():
    run = Run(4, timeout=1)
    host = socket.gethostname()
    for process in [run.start(index) for index in (0, 2)]:
        with pytest.raises(InputError) as caught:
            process.result(timeout=10)
        assert (
            f'processes 1, 3 of 4 did not come to {run.place} within 1 s (came: 2 on {host});'
            ' allowed: each process started, with the same --processes and coordinator'
        ) in str(caught.value)


def test_a_coordinator_that_is_not_there_is_named():
    run = Run(2, timeout=1)
    with pytest.raises(InputError, match=r'did not answer within 1 s: Connection refused'):
        run.start(1).result(timeout=10)


@pytest.mark.parametrize(('index', 'count', 'line'), [
    (1, 3, 'a second process 1 came, from HOST; allowed: one of each number'),
    (2, 5, 'process 2 on HOST has --processes=5, process 0 3; allowed: the same number'),
])  # fmt: skip
def test_processes_that_do_not_go_together_end_all(index, count, line):
    run = Run(3)
    waiting = [run.start(0), run.start(1)]
    run.until('came: 1')
    waiting.append(run.start(index, count))
    for process in waiting:
        with pytest.raises(InputError) as caught:
            process.result(timeout=10)
        assert line.replace('HOST', socket.gethostname()) in str(caught.value)


@pytest.mark.parametrize('content', [
    b'GET / HTTP/1.1\r\n\r\n', b'[]\n', b'{"process": 1}\n', b'\xff\n', b'9' * 5000, b'',
    b'{"process": "a", "processes": 2, "host": "b"}\n',
])  # fmt: skip
def test_strangers_are_not_counted(content):
    run = Run(2)
    first = run.start(0)
    with run.connect(content):
        run.until('process 1 of 2')
        time.sleep(0.3)
        assert not first.done()
        run.start(1).result(timeout=10)
        first.result(timeout=10)


def test_a_process_that_ends_while_it_waits_may_come_again():
    run = Run(3)
    first = run.start(0)
    line = json.dumps({'process': 1, 'processes': 3, 'host': 'a'}).encode() + b'\n'
    with run.connect(line):
        run.until('process 2 of 3')
    run.until('processes 1, 2 of 3')
    for process in [run.start(1), run.start(2), first]:
        assert process.result(timeout=10) is None


def test_a_process_comes_again_to_a_process_0_that_was_started_again():
    run = Run(2)
    host, _, port = run.place.rpartition(':')
    with socket.create_server((host, int(port))) as before:
        second = run.start(1)
        connection, _ = before.accept()
        connection.recv(1000)
        connection.close()
    run.until('process 1: waiting for the coordinator')
    assert run.start(0).result(timeout=10) is None
    assert second.result(timeout=10) is None


@pytest.mark.parametrize('index', [0, 1])
def test_a_name_that_cannot_be_resolved_is_logged_at_once(index, monkeypatch):
    monkeypatch.setattr(roll_call, 'SECONDS_BEFORE_FIRST_REPORT', 60)
    run = Run(2, timeout=1)
    run.place = 'no-such-host.invalid:1234'
    waiting = run.start(index)
    run.until('the name no-such-host.invalid cannot be resolved (')
    with pytest.raises(InputError, match=r'cannot be resolved .* within 1 s; allowed: '):
        waiting.result(timeout=10)


@pytest.mark.parametrize('address', ['127.0.0.1', '::1'])
def test_hosts_with_either_address_meet(address, monkeypatch):
    """Process 0 of a run over several hosts listens on all addresses."""
    if address == '::1' and not has_address(address):
        pytest.skip('this machine has no IPv6')
    monkeypatch.setattr(roll_call, 'local_address', lambda joining: None)
    run = Run(2)
    port = run.place.rpartition(':')[2]
    waiting = run.start(0)
    run.place = f'[{address}]:{port}' if ':' in address else f'{address}:{port}'
    assert run.start(1).result(timeout=10) is None  # an error would be raised here
    assert waiting.result(timeout=10) is None


def test_a_machine_without_ipv6_listens_on_ipv4(monkeypatch):
    create, asked = socket.create_server, []

    def without(address, family=socket.AF_INET, **options):
        asked.append(family)
        if family == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, 'Cannot assign requested address')
        return create(address, family=family, **options)

    monkeypatch.setattr(socket, 'create_server', without)
    test_hosts_with_either_address_meet('127.0.0.1', monkeypatch)
    assert asked == [socket.AF_INET6, socket.AF_INET]


def test_processes_of_one_machine_meet_by_ipv6():
    if not has_address('::1'):
        pytest.skip('this machine has no IPv6')
    run = Run(2)
    run.place = run.place.replace('127.0.0.1', '[::1]')
    for process in [run.start(0), run.start(1)]:
        process.result(timeout=10)
    assert roll_call.local_address(Joining(2, 0, run.place, 5, 20)) == run.place


def has_address(address: str) -> bool:
    try:
        with socket.socket(socket.AF_INET6) as listener:
            listener.bind((address, 0))
    except OSError:
        return False
    return True


def test_a_port_that_is_taken_is_named():
    run = Run(2)
    host, _, port = run.place.rpartition(':')
    taken = pytest.raises(InputError, match=f'port {port} is not available: Address already')
    with socket.create_server((host, int(port))), taken:
        run.start(0).result(timeout=10)


@pytest.mark.parametrize(('nodes', 'host'), [  # the first line of `scontrol show hostnames NODES`
    ('n1', 'n1'), ('n1,n2', 'n1'), ('n[1-4]', 'n1'), ('n[008-012,3]', 'n008'),
    ('n[3,1-2],m7', 'n3'), ('r[1-2]n[04-07]', 'r1n04'), ('n[1-2]-ib,m1', 'n1-ib'),
    ('a1,n[1-2]', 'a1'),
])  # fmt: skip
def test_the_first_of_slurms_nodes(nodes, host):
    assert joining.first_host(nodes) == host


def test_a_slurm_task_knows_its_place(monkeypatch):
    for name in ('JAX_COORDINATOR_PORT', 'JAX_COORDINATOR_ADDRESS'):
        monkeypatch.delenv(name, raising=False)
    task = {'NTASKS': '8', 'PROCID': '3', 'JOB_ID': '70000', 'STEP_NODELIST': 'n[1-2]'}
    for name, text in task.items():
        monkeypatch.setenv(f'SLURM_{name}', text)
    port = 65535 - 2**12 + 1 + 70000 % 2**12  # JAX's own choice
    assert joining._slurm(30, 300) == Joining(8, 3, f'n1:{port}', 30, 300)
    monkeypatch.setenv('JAX_COORDINATOR_PORT', '77')
    assert joining._slurm(30, 300) == Joining(8, 3, 'n1:77', 30, 300)
    monkeypatch.delenv('SLURM_PROCID')
    assert joining._slurm(30, 300) is None
