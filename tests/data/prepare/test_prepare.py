"""The command, as a user runs it: what it makes, and what becomes of it when it is
killed, stopped, starved of disk space or given what it cannot read."""

import dataclasses
import filecmp
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from alexnet_jax.data import image_set
from alexnet_jax.data.prepare import __main__ as prepare
from alexnet_jax.data.prepare import engines, stored
from alexnet_jax.data.prepare.make import Request, make_set
from alexnet_jax.data.prepare.shards import Encoding
from alexnet_jax.data.prepare.sources import open_source
from alexnet_jax.runtime.errors import InputError
from tests.data.photographs import photograph, save, write_classes
from tests.data.prepare.test_sources import tiny_set  # noqa: F401 (a fixture)
from tests.data.test_statistics import check_statistics

COMMAND = [sys.executable, '-m', 'alexnet_jax.data.prepare']


def run(*words, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*COMMAND, *map(str, words)], capture_output=True, text=True, timeout=120, **options
    )


def make(source: str, out: Path, form: str = 'jpeg', engine=engines.one_by_one, **options) -> Path:
    encoding = Encoding(48, form, 95)
    fraction = options.pop('val_fraction', 0.0)
    request = Request(source, encoding, fraction)
    return make_set(
        request, out, lambda: open_source(source, **options.pop('where', {})), engine, **options
    )


def assert_same_files(one: Path, other: Path) -> None:
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    _, different, strange = filecmp.cmpfiles(one, other, names, shallow=False)
    assert not different and not strange


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """600 training and 60 validation images of all kinds: five shards and one."""
    top = tmp_path_factory.mktemp('folder')
    write_classes(top / 'train', 200)
    write_classes(top / 'val', 20)
    return top


@pytest.fixture(scope='module')
def whole(folder, tmp_path_factory) -> Path:
    """The set made of `folder` by one process, undisturbed."""
    out = tmp_path_factory.mktemp('whole') / 'set'
    assert (
        run('--source', f'folder:{folder}', '--out', out, '--size=48', '--workers=1').returncode
        == 0
    )
    return out


def test_what_tfds_reads_is_what_was_in_the_folder(whole, folder):
    builder = tfds.builder_from_directory(whole)
    assert builder.info.features['label'].names == ['ant hill', 'bee', 'çà']
    records = builder.as_data_source('train')
    assert len(records) == 600 and len(builder.as_data_source('val')) == 60
    for row in (0, 127, 128, 599):
        record = records[row]
        assert record['label'] == row // 200
        file = folder / record['id'].decode()
        assert file.stem == f'{row % 200:03d}'
        ground = Image.new('RGB', Image.open(file).size, 'white')
        original = Image.open(file).convert('RGBA')
        ground.paste(original, mask=original)
        side = min(ground.size)
        left, top = ((extent - side) / 2 for extent in ground.size)
        box = (left, top, left + side, top + side)
        expected = np.asarray(ground.resize((48, 48), Image.Resampling.BICUBIC, box=box), int)
        assert np.abs(record['image'] - expected).mean() < 6  # JPEG of quality 95


def test_statistics_are_those_of_the_stored_training_images(whole):
    images = image_set.open_set(whole)
    records = images.splits['train']
    check_statistics(np.stack([records.read(row).image for row in range(600)]), images.statistics)
    about = json.loads((whole / 'prepared.json').read_text())
    assert about['counts'] == {'train': 600, 'val': 60} and about['skipped'] == []


def test_what_we_read_is_what_tfds_reads(whole):
    ours, theirs = image_set.open_set(whole), tfds.builder_from_directory(whole)
    for split in ('train', 'val'):
        source = theirs.as_data_source(split)
        for row in range(0, len(source), 17):
            record = ours.splits[split].read(row)
            np.testing.assert_array_equal(record.image, source[row]['image'])
            assert (record.label, record.id) == (source[row]['label'], source[row]['id'])


def test_raw_records_are_the_pixels_themselves(folder, tmp_path):
    out = make(f'folder:{folder}', tmp_path / 'raw', 'raw')
    records = image_set.open_set(out).splits['val']
    original = open_source(f'folder:{folder}').splits['val']
    for row in (0, 30, 59):
        np.testing.assert_array_equal(records.read(row).image, original.square(row, 48, 10**6)[0])
    image = tfds.builder_from_directory(out).as_data_source('val')[7]['image']
    np.testing.assert_array_equal(image, records.read(7).image)


def test_several_processes_make_the_same_files(folder, whole, tmp_path):
    done = run(
        '--source', f'folder:{folder}', '--out', tmp_path / 'set', '--size=48', '--workers=3'
    )
    assert done.returncode == 0, done.stderr
    assert '660 images' in done.stdout and '600 train, 60 val' in done.stdout
    assert_same_files(tmp_path / 'set', whole)


@pytest.mark.skipif(not importlib.util.find_spec('apache_beam'), reason='needs the extra beam')
def test_beam_makes_the_same_files(folder, whole, tmp_path):
    beam = ('--source', f'folder:{folder}', '--size=48', '--beam_runner=DirectRunner')
    done = run(*beam, '--out', tmp_path / 'set')
    assert done.returncode == 0, done.stderr
    assert_same_files(tmp_path / 'set', whole)
    (tmp_path / 'spoilt' / 'a').mkdir(parents=True)
    (tmp_path / 'spoilt' / 'b').mkdir()
    for name in ('a/1.jpg', 'b/1.jpg', 'b/2.jpg'):
        (tmp_path / 'spoilt' / name).write_bytes(save(photograph(1), 'JPEG'))
    (tmp_path / 'spoilt' / 'a' / '2.jpg').write_bytes(b'no image')
    spoilt = (
        f'--source=folder:{tmp_path}/spoilt',
        '--val_fraction=0.5',
        '--beam_runner=DirectRunner',
    )
    done = run(*spoilt, '--out', tmp_path / 'out')
    assert done.returncode == 2, done.stderr
    assert 'a/2.jpg is no JPEG or PNG' in done.stderr and 'Traceback' not in done.stderr
    done = run(*spoilt, '--out', tmp_path / 'out', '--beam_runner=Nonsense')
    assert done.returncode == 2 and '--beam_runner Nonsense' in done.stderr


def test_a_finished_set_stays_and_another_is_refused(folder, whole):
    before = {path.name: path.stat().st_mtime_ns for path in whole.iterdir()}
    same = ('--source', f'folder:{folder}', '--out', whole, '--size=48')
    done = run(*same)
    assert done.returncode == 0 and 'is prepared already' in done.stdout
    after = {path.name: path.stat().st_mtime_ns for path in whole.iterdir()}
    assert before == after
    done = run(*same, '--quality=80')
    assert done.returncode == 2
    assert 'holds a set prepared with' in done.stderr and '--quality=80' in done.stderr
    assert before == {path.name: path.stat().st_mtime_ns for path in whole.iterdir()}


def kill_and_finish(folder: Path, out: Path, seconds: float, workers: int) -> bool:
    """Whether the kill came before the end."""
    words = [*COMMAND, '--source', f'folder:{folder}', '--out', str(out), '--size=48']
    words.append(f'--workers={workers}')
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    process.kill()
    killed = process.wait() == -signal.SIGKILL
    if killed and not image_set.is_whole(out):
        with pytest.raises(Exception):  # noqa: B017 (TFDS has many)
            tfds.builder_from_directory(out)
        assert stored.find(f'folder:{folder}', 48, str(out)) is None
    assert subprocess.run(words, capture_output=True, timeout=120).returncode == 0
    return killed


def check_killed_often(folder: Path, whole: Path, top: Path, times: int) -> None:
    random = np.random.default_rng(0)
    begun = time.monotonic()
    run('--source', f'folder:{folder}', '--out', top / 'timed', '--size=48')
    full = time.monotonic() - begun
    killed = 0
    for number in range(times):
        out = top / str(number)
        workers = 1 + number % 2
        killed += kill_and_finish(folder, out, random.uniform(0.2, 1.0) * full, workers)
        assert_same_files(out, whole)
    assert killed >= times / 2


def test_killed_and_run_again_it_makes_the_same_files(folder, whole, tmp_path):
    check_killed_often(folder, whole, tmp_path, 6)


@pytest.mark.slow
def test_killed_twenty_times(folder, whole, tmp_path):
    check_killed_often(folder, whole, tmp_path, 20)


@pytest.mark.parametrize('moved', range(6))
def test_ended_among_its_last_moves_it_is_not_taken_for_whole(
    moved, folder, whole, tmp_path, monkeypatch
):
    """The files beside the shards are put in place one by one, TFDS's own last."""
    replace, moves = os.replace, []

    def replace_some(source, target):
        if Path(source).parent.name == 'final':
            if len(moves) == moved:
                raise KeyboardInterrupt
            moves.append(target)
        replace(source, target)

    out = tmp_path / 'set'
    monkeypatch.setattr(os, 'replace', replace_some)
    if moved < 5:
        with pytest.raises(KeyboardInterrupt):
            make(f'folder:{folder}', out)
        assert not image_set.is_whole(out)
    monkeypatch.undo()
    make(f'folder:{folder}', out)
    assert_same_files(out, whole)


@pytest.mark.parametrize('seconds', [0.0, 0.15, 0.4])
@pytest.mark.parametrize('how', [signal.SIGTERM, signal.SIGINT])
def test_stopped_it_says_so_and_goes_on(how, seconds, folder, whole, tmp_path):
    """SIGTERM to the main process, or Ctrl-C, which all processes hear."""
    words = [*COMMAND, '--source', f'folder:{folder}', '--out', str(tmp_path / 'set'), '--size=48']
    process = subprocess.Popen(
        [*words, '--workers=2'], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    begun = tmp_path / 'set' / '.preparing' / 'plan.json'
    while not begun.exists():
        time.sleep(0.01)
    time.sleep(seconds)
    (os.kill if how == signal.SIGTERM else os.killpg)(process.pid, how)
    _, told = process.communicate(timeout=30)
    # On a quick machine it may have come to its end.
    assert (process.returncode, told) in [(75, 'stopped; the same command goes on\n'), (0, '')]
    assert seconds or process.returncode == 75
    assert run(*words[3:]).returncode == 0
    assert_same_files(tmp_path / 'set', whole)


def test_a_begun_preparation_of_another_kind_is_refused(folder, tmp_path):
    def engine(tasks):
        yield from engines.one_by_one(tasks[:2])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(f'folder:{folder}', tmp_path / 'set', engine=engine)
    with pytest.raises(
        InputError, match=r'begun preparation of another kind: encoding was jpeg, now raw'
    ):
        make(f'folder:{folder}', tmp_path / 'set', 'raw')
    plan = tmp_path / 'set' / '.preparing' / 'plan.json'
    older = json.loads(plan.read_text())
    assert older.pop('resize') == 'center_square'
    plan.write_text(json.dumps(older))  # begun when there was no other
    said, done = [], []

    def counting(tasks):
        done.extend(tasks)
        return engines.one_by_one(tasks)

    make(f'folder:{folder}', tmp_path / 'set', engine=counting, say=said.append)
    assert said[0] == 'going on: 2 of 6 shards are there' and len(done) == 4


def test_only_an_empty_folder_is_taken(folder, tmp_path):
    (tmp_path / 'thesis.txt').write_text('mine')
    with pytest.raises(InputError, match=r'is not empty: it holds thesis\.txt'):
        make(f'folder:{folder}', tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['thesis.txt']
    with pytest.raises(InputError, match=r'/dev/null/x.* cannot be written: Not a directory'):
        make(f'folder:{folder}', Path('/dev/null/x'))


@pytest.fixture
def spoilt(tmp_path) -> Path:
    """20 images in two classes, three of them broken."""
    write_classes(tmp_path / 'spoilt', 10, ('a', 'b'))
    (tmp_path / 'spoilt' / 'a' / '004.png').write_bytes(b'GIF89a no image')
    truncated = tmp_path / 'spoilt' / 'b' / '000.jpeg'
    truncated.write_bytes(truncated.read_bytes()[:-50])
    (tmp_path / 'spoilt' / 'b' / '001.jpeg').write_bytes(save(Image.new('RGB', (1, 1)), 'JPEG'))
    return tmp_path / 'spoilt'


def test_images_that_cannot_be_read_are_named(spoilt, tmp_path):
    words = (
        f'--source=folder:{spoilt}',
        '--val_fraction=0.2',
        f'--out={tmp_path}/set',
        '--size=48',
    )
    done = run(*words)
    assert done.returncode == 2
    first, last = done.stderr.splitlines()
    assert 'spoilt/' in first and last.startswith('error: allowed: 0 such images; --skip_bad=N')
    done = run(*words, '--skip_bad=2')
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 4
    assert not image_set.is_whole(tmp_path / 'set')
    done = run(*words, '--skip_bad=3')
    assert done.returncode == 0, done.stderr
    left_out = [line for line in done.stdout.splitlines() if line.startswith('left out: ')]
    assert len(left_out) == 3 and '3 images left out' in done.stdout
    for part in ('a/004.png is no JPEG or PNG', 'b/000.jpeg cannot be read', 'b/001.jpeg has 1×1'):
        assert sum(part in line for line in left_out) == 1, part
    about = json.loads((tmp_path / 'set' / 'prepared.json').read_text())
    assert sum(about['counts'].values()) == 17 and len(about['skipped']) == 3


def test_labels_out_of_range_are_refused(tiny_set, tmp_path):  # noqa: F811
    source = open_source('tfds:tiny_set', data_dir=tiny_set)

    def two_classes():
        return dataclasses.replace(source, classes=('x', 'y'))

    request = Request('tfds:tiny_set', Encoding(48, 'jpeg', 95))
    with pytest.raises(InputError, match=r'train\[2\] has the label 2; allowed: 0 to 1'):
        make_set(request, tmp_path, two_classes, engines.one_by_one)


def test_a_tfds_set(tiny_set, tmp_path):  # noqa: F811
    done = run(
        '--source=tfds:tiny_set', f'--data_dir={tiny_set}', f'--out={tmp_path}/set', '--size=48'
    )
    assert done.returncode == 0, done.stderr
    assert 'tfds:tiny_set: 12 train, 5 val' in done.stdout
    folder = stored.find('tfds:tiny_set', 48, str(tmp_path))
    assert folder == stored.find('tfds:tiny_set/1.2.0', 48, str(tmp_path)) == tmp_path / 'set'
    images = image_set.open_set(folder)
    assert images.classes == ('x', 'y', 'z')
    assert [images.splits['val'].read(row).label for row in range(5)] == [0, 1, 2, 0, 1]


def test_a_full_disk_is_told_and_nothing_is_lost(folder, whole, tmp_path):
    """A limit on the size of a file stands for the disk: the first two shards fit."""
    code = (
        'import resource, runpy, signal, sys\n'
        'signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n'
        'resource.setrlimit(resource.RLIMIT_FSIZE, (2**18, 2**18))\n'
        "sys.argv[0] = 'prepare'\n"
        "runpy.run_module('alexnet_jax.data.prepare', run_name='__main__')\n"
    )
    words = [
        '--source',
        f'folder:{folder}',
        '--out',
        str(tmp_path / 'set'),
        '--size=48',
        '--workers=1',
    ]
    done = subprocess.run([sys.executable, '-c', code, *words], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert 'cannot be written' in done.stderr and len(done.stderr.splitlines()) == 1
    assert run(*words).returncode == 0
    assert_same_files(tmp_path / 'set', whole)


def test_two_at_once(folder, whole, tmp_path):
    words = [*COMMAND, '--source', f'folder:{folder}', '--out', str(tmp_path / 'set'), '--size=48']
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum('is prepared already' in text for text in told) == 1
    assert_same_files(tmp_path / 'set', whole)


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        ((), '--source'),
        (('--source=digits', '--size=0'), "--size: '0'; allowed: a whole number from 1 to 4096"),
        (('--source=digits', '--val_fraction=1'), "--val_fraction: '1'; allowed: a number between"),
        (('--source=digits', '--encoding=webp'), 'webp'),
        (('--source=digits', '--resize=crop'), 'squash'),
        (('--source=digits', '--sise=3'), '--sise=3'),
        (('--source=mnist',), '--source mnist: allowed: digits, folder:PATH or tfds:'),
    ],
)
def test_a_bad_command_is_told_in_a_line(words, message, capsys, tmp_path):
    status = prepare.main([*words, f'--out={tmp_path}/set'])
    told = capsys.readouterr().err
    assert status == 2 and message in told and len(told.splitlines()) == 1


# Digits, prepared by the main command itself


def test_kept_statistics_of_the_digits(digits):
    records = digits.splits['train']
    images = np.stack([records.read(row).image for row in range(len(records))])
    check_statistics(images, digits.statistics)


def test_a_folder_that_cannot_be_written_is_named():
    with pytest.raises(InputError, match=r'/dev/null/nowhere'):
        stored.digits(32, '/dev/null/nowhere')


def test_two_processes_may_prepare_at_once(tmp_path):
    code = f'from alexnet_jax.data.prepare import stored; print(len(stored.digits(32, {str(tmp_path)!r}).splits["train"]))'
    both = [
        subprocess.Popen(
            [sys.executable, '-c', code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert out.split() == [b'1297'], err


def test_nothing_is_left_running(folder, tmp_path):
    """Workers end with a main process that was killed."""
    words = [*COMMAND, '--source', f'folder:{folder}', '--out', str(tmp_path / 'set'), '--size=48']
    process = subprocess.Popen([*words, '--workers=2'], stdout=subprocess.DEVNULL)
    while len(children(process.pid)) < 2:
        time.sleep(0.01)
    workers = children(process.pid)
    process.kill()
    process.wait()
    end = time.monotonic() + 10
    while any(Path(f'/proc/{worker}').exists() for worker in workers):
        assert time.monotonic() < end
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]
    except FileNotFoundError:
        return []


# Continued with other options


@pytest.fixture
def begun(folder, tmp_path):
    """Begins a preparation and ends after two shards: the shards' bytes, and what goes on."""

    def begin(**options) -> dict[str, bytes]:
        def engine(tasks):
            yield from engines.one_by_one(tasks[:2])
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            make_set(
                dataclasses.replace(request_of(folder), **options), tmp_path / 'set',
                lambda: open_source(f'folder:{folder}'), engine,
            )  # fmt: skip
        return {path.name: path.read_bytes() for path in (tmp_path / 'set').glob('*record*')}

    return begin


def request_of(folder) -> Request:
    return Request(f'folder:{folder}', Encoding(48, 'jpeg', 95))


@pytest.mark.parametrize(('changes', 'message'), [
    ({'max_pixels': 10**6}, 'max_pixels was 50000000, now 1000000'),
    ({'encoding': Encoding(48, 'jpeg', 80)}, 'quality was 95, now 80'),
    ({'encoding': Encoding(47, 'jpeg', 95)}, 'size was 48, now 47'),
    ({'encoding': Encoding(48, 'raw', 95)}, 'encoding was jpeg, now raw'),
    ({'encoding': Encoding(48, 'jpeg', 95, 'squash')}, 'resize was center_square, now squash'),
])  # fmt: skip
def test_a_begun_preparation_is_not_continued_with_other_options(
    changes, message, begun, folder, tmp_path
):
    kept = begun()
    other = dataclasses.replace(request_of(folder), **changes)
    with pytest.raises(InputError, match=message):
        make_set(
            other, tmp_path / 'set', lambda: open_source(f'folder:{folder}'), engines.one_by_one
        )
    assert {path.name: path.read_bytes() for path in (tmp_path / 'set').glob('*record*')} == kept


def test_another_share_held_out_is_another_preparation(tmp_path):
    write_classes(tmp_path / 'images', 5)
    spec = f'folder:{tmp_path}/images'

    def engine(_):
        raise KeyboardInterrupt

    def prepare_with(fraction, engine):
        request = Request(spec, Encoding(16, 'raw', 95), fraction)
        make_set(request, tmp_path / 'set', lambda: open_source(spec), engine)

    with pytest.raises(KeyboardInterrupt):
        prepare_with(0.2, engine)
    with pytest.raises(InputError, match=r"options was .*'val_fraction': 0\.2.*, now .*0\.4"):
        prepare_with(0.4, engines.one_by_one)
    prepare_with(0.2, engines.one_by_one)
    with pytest.raises(InputError, match=r'holds a set prepared with .* now asked for: .*=0\.4'):
        prepare_with(0.4, engines.one_by_one)


def test_a_preparation_begun_by_an_older_version_begins_anew(begun, folder, whole, tmp_path):
    """Its shards have no digests, and were maybe made of other pixels."""
    begun()
    work = tmp_path / 'set' / '.preparing'
    plan = json.loads((work / 'plan.json').read_text())
    for name in ('max_pixels', 'originals', 'classes', 'pixels', 'where'):
        del plan[name]
    (work / 'plan.json').write_text(json.dumps(plan))
    for note in work.glob('*array_record*.json'):
        about = json.loads(note.read_text())
        del about['digest']
        note.write_text(json.dumps(about))
    done = []

    def counting(tasks):
        done.extend(tasks)
        return engines.one_by_one(tasks)

    make(f'folder:{folder}', tmp_path / 'set', engine=counting)
    assert len(done) == 6
    assert_same_files(tmp_path / 'set', whole)


@pytest.mark.parametrize('content', ['[]', '{', 'null', '"x"', ''])
@pytest.mark.parametrize('name', ['plan.json', 'note'])
def test_broken_notes_of_a_begun_preparation(name, content, begun, folder, whole, tmp_path):
    begun()
    work = tmp_path / 'set' / '.preparing'
    if name == 'plan.json':
        (work / name).write_text(content)
        with pytest.raises(InputError, match=r'plan\.json cannot be read: .*; remove '):
            make(f'folder:{folder}', tmp_path / 'set')
    else:
        next(work.glob('*array_record*.json')).write_text(content)
        make(f'folder:{folder}', tmp_path / 'set')
        assert_same_files(tmp_path / 'set', whole)


def test_a_set_that_leaves_images_out_is_not_one_that_leaves_none(spoilt, tmp_path):
    source = f'folder:{spoilt}'
    make(source, tmp_path / 'set', val_fraction=0.2, max_bad=3)
    with pytest.raises(InputError, match='holds a set that leaves out 3 images; --skip_bad is 0'):
        make(source, tmp_path / 'set', val_fraction=0.2)
    make(source, tmp_path / 'set', val_fraction=0.2, max_bad=7)


# A source that changed, a refusal, a picture in two splits


@pytest.fixture
def small(tmp_path) -> Path:
    """A set of 8 training and 4 other images, beside their folder."""
    write_classes(tmp_path / 'photos' / 'train', 4, ('a', 'b'))
    write_classes(tmp_path / 'photos' / 'val', 2, ('x', 'y', 'a', 'b'))  # other images than those
    for name in 'xy':
        shutil.rmtree(tmp_path / 'photos' / 'val' / name)
    assert again(tmp_path) == 0
    return tmp_path


def again(top: Path, *more: str) -> int:
    words = [f'--source=folder:{top}/photos', f'--out={top}/set', '--size=24', '--workers=1']
    return prepare.main([*words, *more])


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def add_image(train: Path) -> None:
    (train / 'a' / 'new.png').write_bytes(save(photograph(5), 'PNG'))


def grow_image(train: Path) -> None:
    with open(train / 'a' / '000.jpeg', 'ab') as file:
        file.write(b'0')


def add_stray(train: Path) -> None:
    (train / 'stray.png').write_bytes(save(photograph(5), 'PNG'))


@pytest.mark.parametrize(('change', 'reason'), [
    (add_image, 'whose images changed since'),
    (lambda train: (train / 'a' / '000.jpeg').unlink(), 'whose images changed since'),
    (lambda train: (train / 'a' / '000.jpeg').rename(train / 'b' / 'x.jpeg'), 'whose images changed since'),
    (grow_image, 'whose images changed since'),
    (add_stray, 'which cannot be opened any more: .*stray.png lies in no class folder'),
])  # fmt: skip
def test_a_set_whose_source_changed_is_not_taken_for_it(change, reason, small, capsys):
    kept = content_of(small / 'set')
    capsys.readouterr()
    assert again(small) == 0
    assert 'set is prepared already; its source has the same files' in capsys.readouterr().out
    change(small / 'photos' / 'train')
    assert again(small) == 2
    (line,) = capsys.readouterr().err.splitlines()
    named = f'--out {small}/set holds a set of folder:{small}/photos, '
    assert re.search(f'{re.escape(named)}{reason}; take another --out, or remove it and run', line)
    assert content_of(small / 'set') == kept


def test_a_set_whose_source_is_gone_stays(small, capsys):
    kept = content_of(small / 'set')
    (small / 'photos').rename(small / 'elsewhere')
    capsys.readouterr()
    assert again(small) == 0
    said = f'set is prepared already; its source was not looked at: no {small}/photos'
    assert said in capsys.readouterr().out
    # Nor is anything lost of one that is damaged, and could not be made again.
    (small / 'set' / 'statistics.npz').unlink()
    assert again(small) == 2
    told = capsys.readouterr().err
    assert 'is not whole (statistics.npz is missing), and folder:' in told
    assert told.endswith('no such folder\n')
    assert content_of(small / 'set').keys() == kept.keys() - {'statistics.npz'}


def test_a_source_of_tfds_is_not_opened_again(tiny_set, tmp_path, capsys):  # noqa: F811
    words = ['--source=tfds:tiny_set', f'--out={tmp_path}/set', '--size=24', '--workers=1']
    assert prepare.main([*words, f'--data_dir={tiny_set}']) == 0
    capsys.readouterr()
    assert prepare.main([*words, f'--data_dir={tmp_path}/nowhere']) == 0
    assert 'is prepared already; its source was not looked at\n' in capsys.readouterr().out


def test_relative_folders_of_tfds_are_kept_absolute(tiny_set, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(Path(tiny_set).parent)
    words = ['--source=tfds:tiny_set', f'--out={tmp_path}/set', '--size=24', '--workers=1']
    assert prepare.main([*words, f'--data_dir={Path(tiny_set).name}']) == 0
    about = json.loads((tmp_path / 'set' / 'prepared.json').read_text())
    assert about['where'] == {'data_dir': str(tiny_set)}


@pytest.mark.parametrize('there', ['nothing', 'an empty folder', 'a damaged set'])
@pytest.mark.parametrize('fault', ['no validation', 'a bad image', 'no classes', 'no folder'])
def test_a_refused_preparation_leaves_nothing(fault, there, small):
    shutil.rmtree(small / 'set')
    if there == 'an empty folder':
        (small / 'set').mkdir()
    elif there == 'a damaged set':
        assert again(small) == 0
        (small / 'set' / 'dataset_info.json').unlink()
    photos = small / 'photos'
    if fault == 'no validation':
        shutil.rmtree(photos / 'val')
    elif fault == 'a bad image':
        (photos / 'train' / 'a' / '000.jpeg').write_bytes(b'no image')
        for shard in (small / 'set').glob('*.array_record*'):
            shard.unlink()
    else:
        shutil.rmtree(photos / 'train' if fault == 'no classes' else photos)
    deep = small / 'deep'
    before = sorted(small.rglob('*'))
    assert again(small) == 2
    assert again(small, f'--out={deep}/er/set') == 2
    assert sorted(small.rglob('*')) == before


def test_a_refused_preparation_keeps_its_shards(tmp_path):
    write_classes(tmp_path / 'photos' / 'train', 100, ('a', 'b'))
    write_classes(tmp_path / 'photos' / 'val', 2, ('a', 'b'))
    (tmp_path / 'photos' / 'train' / 'b' / '099.png').write_bytes(b'no image')
    (tmp_path / 'photos' / 'train' / 'b' / '098.png').unlink(missing_ok=True)
    assert again(tmp_path) == 2
    shards = [path for path in (tmp_path / 'set').iterdir() if 'train' in path.name]
    assert len(shards) == 1 and (tmp_path / 'set' / '.preparing' / 'plan.json').exists()


@pytest.mark.parametrize('sign', ['\n', '\x1b', '\u2028'])
def test_a_folder_whose_set_could_not_be_opened_is_refused(sign, small, capsys):
    name = f'one{sign}two'
    (small / 'photos').rename(small / name)
    before = sorted(small.rglob('*'))
    source = f'--source=folder:{small}/{name}'
    assert prepare.main([source, f'--out={small}/other', '--size=24', '--workers=1']) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert 'the path holds a character that cannot be printed; rename that folder' in line
    (small / 'link').symlink_to(small / name)
    assert prepare.main([f'--source=folder:{small}/link', f'--out={small}/other']) == 2
    (small / 'link').unlink()
    words = ['--source=digits', f'--out={small}/other', '--size=24', '--workers=1']
    assert prepare.main([*words, f'--data_dir={small}/{name}']) == 2
    assert '--data_dir is ' in capsys.readouterr().err
    assert sorted(small.rglob('*')) == before


def test_a_picture_in_two_splits_is_named(small, capsys):
    train, val = small / 'photos' / 'train', small / 'photos' / 'val'
    shutil.copytree(val, small / 'photos' / 'test')
    assert again(small, f'--out={small}/one') == 0
    (line,) = warnings_in(capsys.readouterr().out)
    first = sorted(path.name for path in (val / 'a').iterdir())[0]
    expected = f'4 images of test are also in val: test/a/{first} is val/a/{first}, ...'
    assert line == f'warning: {expected}'
    shutil.rmtree(small / 'photos' / 'test')
    shutil.copy(train / 'b' / '001.jpeg', val / 'a' / 'x.jpeg')  # with another label
    shutil.copy(train / 'b' / '001.jpeg', train / 'a' / 'y.jpeg')  # twice in one split: no matter
    assert again(small, f'--out={small}/two', '--workers=2') == 0
    (line,) = warnings_in(capsys.readouterr().out)
    assert line.startswith('warning: 1 image of val is also in train: val/a/x.jpeg is train/')
    assert not line.endswith('...')


def warnings_in(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if line.startswith('warning: ')]


def test_one_is_no_plural(small, capsys):
    for old in (small / 'photos' / 'train' / 'a').iterdir():
        old.write_bytes(b'no image')
    shutil.rmtree(small / 'photos' / 'train' / 'b')
    (small / 'photos' / 'train' / 'b').mkdir()
    (small / 'photos' / 'train' / 'b' / 'x.png').write_bytes(save(photograph(5), 'PNG'))
    for old in sorted((small / 'photos' / 'train' / 'a').iterdir())[1:]:
        old.unlink()
    shutil.rmtree(small / 'set')
    assert again(small, '--skip_bad=1') == 0
    assert '\n1 image left out\n' in capsys.readouterr().out
    assert again(small) == 2
    assert 'holds a set that leaves out 1 image; --skip_bad is 0' in capsys.readouterr().err
