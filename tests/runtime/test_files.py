"""Files of strangers: pipes, bombs, and numbers that are none."""

import io
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import InputError

SHAPES = {'mean': ((3,), (8, 8, 3))}


def npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array, allow_pickle=True)
    return content.getvalue()


def archive(path: Path, content: bytes, name: str = 'mean.npy') -> Path:
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr(name, content)
    return path


def test_arrays_are_read(tmp_path, random):
    for mean in (random.normal(size=3), random.normal(size=(8, 8, 3)).astype(np.float32)):
        for order in 'CF':
            path = archive(tmp_path / 'a.npz', npy(np.asarray(mean, order=order)))
            np.testing.assert_array_equal(files.read_arrays(path, SHAPES)['mean'], mean)


def test_what_is_written_is_read(tmp_path, random):
    mean = random.normal(size=3)
    files.write_bytes(tmp_path / 'new' / 'a.npz', files.npz({'mean': mean}))
    np.testing.assert_array_equal(
        files.read_arrays(tmp_path / 'new' / 'a.npz', SHAPES)['mean'], mean
    )
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['a.npz']


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (npy(np.array([1.0, np.nan, 2.0])), 'mean has numbers that are not finite'),
        (npy(np.array([1.0, np.inf, 2.0])), 'mean has numbers that are not finite'),
        (npy(np.array(['a', 'b', 'c'])), 'mean has the type <U1; allowed: real numbers'),
        (npy(np.array([1j, 1, 2])), 'mean has the type complex128; allowed: real numbers'),
        (npy(np.array([True, False, True])), 'mean has the type bool; allowed: real numbers'),
        (npy(np.array([1, 'a', None], object)), 'mean has the type object; allowed: real numbers'),
        (npy(np.zeros(4)), r'mean has the shape (4,); allowed: (3,) or (8, 8, 3)'),
        (npy(np.zeros(3))[:-1], 'mean has another number of bytes than its header states'),
        (npy(np.zeros(3)) + b'0', 'mean has another number of bytes than its header states'),
        (b'', ''),
    ],
)
def test_other_arrays_are_refused(tmp_path, content, message):
    with pytest.raises(ValueError) as error:
        files.read_arrays(archive(tmp_path / 'a.npz', content), SHAPES)
    assert message in str(error.value)


def test_a_missing_array_and_no_archive_are_refused(tmp_path):
    path = archive(tmp_path / 'a.npz', npy(np.zeros(3)), 'scale.npy')
    with pytest.raises(ValueError, match='it has no array mean'):
        files.read_arrays(path, SHAPES)
    path.write_bytes(b'PK' + bytes(100))
    with pytest.raises(ValueError, match='BadZipFile'):
        files.read_arrays(path, SHAPES)


def bomb(path: Path, name: str, shape: str = '(3,)') -> None:
    """A file of a few megabytes that inflates to 3 gigabytes."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + '\n'
    with (
        zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as zipped,
        zipped.open(name, 'w', force_zip64=True) as member,
    ):
        member.write(b'\x93NUMPY\x01\x00' + len(header).to_bytes(2, 'little') + header.encode())
        for _ in range(192):
            member.write(bytes(2**24))


@pytest.mark.thorough
@pytest.mark.parametrize('shape', ['(3,)', '(402653184,)'])
def test_a_bomb_takes_no_memory(tmp_path, shape):
    bomb(tmp_path / 'a.npz', 'mean.npy', shape)
    program = (
        'from pathlib import Path; from alexnet_jax.runtime import files\n'
        f'try: files.read_arrays(Path({str(tmp_path / "a.npz")!r}), {SHAPES!r})\n'
        'except ValueError as error: print(error)\n'
        # Of this program alone; ru_maxrss may be that of the process that started it.
        'print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])'
    )
    run = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
    message, kilobytes = run.stdout.splitlines()
    assert 'mean has' in message
    assert int(kilobytes) < 300_000


@pytest.mark.parametrize(
    'read', [files.read_bytes, files.read_json, lambda p: files.read_arrays(p, SHAPES)]
)
def test_pipes_sockets_and_folders_are_refused_at_once(tmp_path, read):
    os.mkfifo(tmp_path / 'pipe')
    for path in (tmp_path / 'pipe', Path('/dev/zero'), tmp_path):
        with pytest.raises(OSError):
            read(path)


def test_a_large_file_is_refused(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text('"' + 'a' * 100 + '"')
    assert files.read_json(path, 102) == 'a' * 100
    with pytest.raises(ValueError, match='it has more than 101 bytes'):
        files.read_json(path, 101)


@pytest.mark.parametrize(
    'text',
    ['NaN', '[1, Infinity]', '{"a": -Infinity}', '[' * 100_000, '{', '\xff', '{"a": 1, "a": 1}'],
)
def test_what_is_not_json_is_refused(tmp_path, text):
    path = tmp_path / 'a.json'
    path.write_bytes(text.encode('latin-1'))
    with pytest.raises(ValueError):
        files.read_json(path)


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text(json.dumps('before'))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(OSError):
            files.write_bytes(path, bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    assert files.read_json(path) == 'before'
    assert [p.name for p in tmp_path.iterdir()] == ['a.json']


def test_a_link_is_replaced_and_not_written_through(tmp_path):
    (tmp_path / 'other').write_text('of somebody')
    for name in ('a.json', f'.a.json.{os.getpid()}.tmp'):
        (tmp_path / name).symlink_to(tmp_path / 'other')
    files.write_bytes(tmp_path / 'a.json', b'1')
    assert (tmp_path / 'other').read_text() == 'of somebody'
    assert (tmp_path / 'a.json').read_text() == '1' and not (tmp_path / 'a.json').is_symlink()


@pytest.mark.parametrize('order', 'CF')
def test_an_array_is_mapped(tmp_path, random, order):
    array = np.asarray(random.normal(size=(3, 4)), order=order)
    np.save(tmp_path / 'a.npy', array)
    np.testing.assert_array_equal(files.map_array(tmp_path / 'a.npy'), array)


def header(shape: str, kind: str = '<f8') -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + '\n'
    return b'\x93NUMPY\x01\x00' + len(text).to_bytes(2, 'little') + text.encode()


@pytest.mark.parametrize(
    'content',
    [
        header('(10000000000, 10000000000)') + bytes(64),
        header('(-1,)') + bytes(64),
        header('(8,)') + bytes(63),
        header('(8,)') + bytes(65),
        header('(0, 5)'),
        header('(1,)', '|O') + bytes(8),
        header('(1,)', '<c8') + bytes(8),
        header('(2,)', '<U1') + bytes(8),
        header('(' * 2000),
        b'PK\x03\x04' + bytes(100),
        b'\x93NUMPY\x09\x00' + bytes(100),
        b'',
    ],
)
def test_other_files_are_not_mapped(tmp_path, content):
    (tmp_path / 'a.npy').write_bytes(content)
    with pytest.raises(ValueError):
        files.map_array(tmp_path / 'a.npy')


def test_a_folder_takes_the_place_of_another_whole_or_not_at_all(tmp_path):
    place = tmp_path / 'report'
    for text in ('one', 'two'):
        with files.new_folder(place) as made:
            (made / 'index.html').write_text(text)
    with pytest.raises(KeyError), files.new_folder(place) as made:
        (made / 'index.html').write_text('three')
        raise KeyError
    assert (place / 'index.html').read_text() == 'two'
    assert [path.name for path in tmp_path.iterdir()] == ['report']


def test_a_folder_that_many_write_at_once_is_one_of_theirs(tmp_path):
    place, faults = tmp_path / 'report', []

    def write(number: int) -> None:
        try:
            for _ in range(20):
                with files.new_folder(place) as made:
                    for name in 'ab':
                        (made / name).write_text(str(number))
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == [] and [path.name for path in tmp_path.iterdir()] == ['report']
    assert (place / 'a').read_text() == (place / 'b').read_text()


def test_what_a_killed_process_left_is_removed_and_what_is_under_way_is_not(tmp_path):
    left, link = tmp_path / '.report.aa.tmp', tmp_path / '.report.bb.tmp'
    left.mkdir()
    (tmp_path / 'other').mkdir()
    link.symlink_to(tmp_path / 'other')
    for path in (left, link):
        os.utime(path, (0, 0), follow_symlinks=False)
    with files.new_folder(tmp_path / 'report') as slow:
        os.utime(slow, (0, 0))
        with files.new_folder(tmp_path / 'report'):
            assert slow.exists() and not left.exists()
        (slow / 'a').write_text('')
    assert (tmp_path / 'report' / 'a').exists() and (tmp_path / 'other').exists()


def test_the_sha256_of_a_file(tmp_path):
    (tmp_path / 'abc').write_bytes(b'abc')  # the example of FIPS 180-2
    digest = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
    assert files.sha256(tmp_path / 'abc') == digest


def test_a_folder_is_free_where_it_is_empty_or_ones_own(tmp_path):
    files.require_own_folder(tmp_path / 'new', 'about.json')
    (tmp_path / 'own').mkdir()
    files.require_own_folder(tmp_path / 'own', 'about.json')
    (tmp_path / 'own' / 'notes.txt').write_text('mine')
    for place in (tmp_path / 'own', tmp_path / 'own' / 'notes.txt'):
        with pytest.raises(InputError, match='is there and holds something else'):
            files.require_own_folder(place, 'about.json')
    (tmp_path / 'own' / 'about.json').touch()
    files.require_own_folder(tmp_path / 'own', 'about.json')
