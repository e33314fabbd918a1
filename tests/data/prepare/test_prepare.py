"""The command, as a user runs it: what it makes, and what it cannot read."""

import dataclasses
import importlib.util
import json
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
from tests.data.photographs import photograph, save
from tests.data.prepare.preparing import assert_same_files, make, run, words
from tests.data.test_statistics import check_statistics


@pytest.mark.thorough
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
    out = make(folder, tmp_path / 'raw', encoding=Encoding(48, 'raw', 95))
    records = image_set.open_set(out).splits['val']
    original = open_source(f'folder:{folder}').splits['val']
    for row in (0, 30, 59):
        np.testing.assert_array_equal(records.read(row).image, original.square(row, 48, 10**6)[0])
    image = tfds.builder_from_directory(out).as_data_source('val')[7]['image']
    np.testing.assert_array_equal(image, records.read(7).image)


@pytest.mark.thorough
@pytest.mark.skipif(not importlib.util.find_spec('apache_beam'), reason='needs the extra beam')
def test_beam_makes_the_same_files(folder, whole, tmp_path):
    beam = '--beam_runner=DirectRunner'
    done = run(*words(folder, tmp_path / 'set', beam))
    assert done.returncode == 0, done.stderr
    assert_same_files(tmp_path / 'set', whole)
    (tmp_path / 'spoilt' / 'a').mkdir(parents=True)
    (tmp_path / 'spoilt' / 'b').mkdir()
    for name in ('a/1.jpg', 'b/1.jpg', 'b/2.jpg'):
        (tmp_path / 'spoilt' / name).write_bytes(save(photograph(1), 'JPEG'))
    (tmp_path / 'spoilt' / 'a' / '2.jpg').write_bytes(b'no image')
    spoilt = words(tmp_path / 'spoilt', tmp_path / 'out', '--val_fraction=0.5', beam)
    done = run(*spoilt)
    assert done.returncode == 2, done.stderr
    assert 'a/2.jpg is no JPEG or PNG' in done.stderr and 'Traceback' not in done.stderr
    done = run(*spoilt, '--beam_runner=Nonsense')
    assert done.returncode == 2 and '--beam_runner Nonsense' in done.stderr


def test_a_finished_set_stays_and_another_is_refused(folder, whole):
    before = {path.name: path.stat().st_mtime_ns for path in whole.iterdir()}
    same = words(folder, whole)
    done = run(*same)
    assert done.returncode == 0 and 'is prepared already' in done.stdout
    after = {path.name: path.stat().st_mtime_ns for path in whole.iterdir()}
    assert before == after
    done = run(*same, '--quality=80')
    assert done.returncode == 2
    assert 'holds a set prepared with' in done.stderr and '--quality=80' in done.stderr
    assert before == {path.name: path.stat().st_mtime_ns for path in whole.iterdir()}


def test_only_an_empty_folder_is_taken(folder, tmp_path):
    (tmp_path / 'thesis.txt').write_text('mine')
    with pytest.raises(InputError, match=r'is not empty: it holds thesis\.txt'):
        make(folder, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['thesis.txt']
    with pytest.raises(InputError, match=r'/dev/null/x.* cannot be written: Not a directory'):
        make(folder, Path('/dev/null/x'))


@pytest.mark.thorough
def test_images_that_cannot_be_read_are_named(spoilt, tmp_path):
    same = words(spoilt, tmp_path / 'set', '--val_fraction=0.2')
    done = run(*same)
    assert done.returncode == 2
    first, last = done.stderr.splitlines()
    assert 'spoilt/' in first and last.startswith('error: allowed: 0 such images; --skip_bad=N')
    done = run(*same, '--skip_bad=2')
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 4
    assert not image_set.is_whole(tmp_path / 'set')
    done = run(*same, '--skip_bad=3')
    assert done.returncode == 0, done.stderr
    left_out = [line for line in done.stdout.splitlines() if line.startswith('left out: ')]
    assert len(left_out) == 3 and '3 images left out' in done.stdout
    for part in ('a/004.png is no JPEG or PNG', 'b/000.jpeg cannot be read', 'b/001.jpeg has 1×1'):
        assert sum(part in line for line in left_out) == 1, part
    about = json.loads((tmp_path / 'set' / 'prepared.json').read_text())
    assert sum(about['counts'].values()) == 17 and len(about['skipped']) == 3


def test_labels_out_of_range_are_refused(tiny_set, tmp_path):
    source = open_source('tfds:tiny_set', data_dir=tiny_set)

    def two_classes():
        return dataclasses.replace(source, classes=('x', 'y'))

    request = Request('tfds:tiny_set', Encoding(48, 'jpeg', 95))
    with pytest.raises(InputError, match=r'train\[2\] has the label 2; allowed: 0 to 1'):
        make_set(request, tmp_path, two_classes, engines.one_by_one)


def test_a_tfds_set(tiny_set, tmp_path):
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


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        ((), '--source'),
        (('--source=digits', '--size=0'), "--size: '0'; allowed: a whole number from 1 to 4096"),
        (('--source=digits', '--val_fraction=1'), "--val_fraction: '1'; allowed: a number between"),
        (('--source=digits', '--encoding=webp'), 'webp'),
        (('--source=digits', '--resize=crop'), 'squash'),
        (('--source=digits', '--sise=3'), '--sise=3'),
        (('--source=mnist',), '--source mnist: allowed: digits, folder:PATH, tfds:'),
    ],
)
def test_a_bad_command_is_told_in_a_line(words, message, capsys, tmp_path):
    status = prepare.main([*words, f'--out={tmp_path}/set'])
    printed = capsys.readouterr().err
    assert status == 2 and message in printed and len(printed.splitlines()) == 1


def test_kept_statistics_of_the_digits(digits):
    records = digits.splits['train']
    images = np.stack([records.read(row).image for row in range(len(records))])
    check_statistics(images, digits.statistics)
