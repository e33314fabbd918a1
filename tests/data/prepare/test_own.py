"""Sources of images from a file of the user's."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
from PIL import Image

from alexnet_jax import main
from alexnet_jax.data import image_set, own_source
from alexnet_jax.data.prepare import __main__ as prepare
from alexnet_jax.data.prepare import engines, sources, stored
from alexnet_jax.data.prepare.make import Request, make_set
from alexnet_jax.data.prepare.own import open_own
from alexnet_jax.data.prepare.shards import Encoding
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE
from alexnet_jax.runtime.errors import InputError
from tests.experiment import own_files

TEXT = '''
import numpy as np

from alexnet_jax.data.prepare.own import Images

CLASSES = ('dark', 'bright')


class Rows:
    """As a map-style data set: nothing is made before it is asked for."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, row):
        return np.full((40, 40, 3), row + 150 * (row % 2), np.uint8), row % 2


def SOURCE():
    return Images(CLASSES, Rows(20), val=Rows(4), mirror=False)
'''


@pytest.fixture
def file(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / 'mine.py'
    path.write_text(TEXT)
    return path


def make(spec: str, out: Path, engine=engines.one_by_one, **changes) -> Path:
    request = Request(spec, **{'encoding': Encoding(16, 'raw', 95)} | changes)
    return make_set(request, out, lambda: sources.open_source(spec), engine)


@pytest.mark.parametrize(
    ('source', 'own'),
    [('a.py:X', True), ('/a/b.py:X', True), ('folder:a.py:X', False), ('tfds:a.py:X', False),
     ('digits', False)],
)  # fmt: skip
def test_names(source, own):
    assert own_source.is_own(source) is own
    assert own_source.without_folder(source) == (Path(source).name if own else source)


def test_records_are_the_file_s_images(file, tmp_path):
    found = image_set.open_set(make(f'{file}:SOURCE', tmp_path / 'set'))
    assert found.classes == ('dark', 'bright') and found.mirror is False
    assert {split: len(records) for split, records in found.splits.items()} == {
        'train': 20, 'val': 4,
    }  # fmt: skip
    for row in range(20):
        record = found.splits['train'].read(row)
        assert record.label == row % 2 and record.id == b'train/%d' % row
        assert (record.image == row + 150 * (row % 2)).all()
    np.testing.assert_allclose(
        found.statistics.mean_image, np.mean([row + 150 * (row % 2) for row in range(20)])
    )
    assert found.identity['source'] == 'mine.py:SOURCE'


def test_kinds_of_images(file, tmp_path, random):
    """A path, bytes, a Pillow image, pixels, gray pixels: the same square."""
    pixels = random.integers(0, 256, (32, 32), dtype=np.uint8)
    Image.fromarray(pixels).save('image.png')
    file.write_text(
        'import numpy as np\nfrom PIL import Image\nfrom pathlib import Path\n'
        'from alexnet_jax.data.prepare.own import Images\n'
        "path = 'image.png'\npixels = np.asarray(Image.open(path))\n"
        'kinds = [path, Path(path), Path(path).read_bytes(), Image.open(path), pixels,\n'
        '         np.stack([pixels] * 3, -1)]\n'
        "def SOURCE():\n    return Images('ab', [(kind, np.int64(1)) for kind in kinds])\n"
    )
    originals = open_own(f'{file}:SOURCE').splits['train']
    assert originals.labels.tolist() == [1] * 6
    for row in range(6):
        image, label = originals.square(row, 32, 10**6)
        assert label == 1
        np.testing.assert_array_equal(image, np.stack([pixels] * 3, -1))


@pytest.mark.thorough
def test_several_processes_make_the_same_files(file, tmp_path):
    one, other = (
        make(f'{file}:SOURCE', tmp_path / name, engine)
        for name, engine in {
            'one': engines.one_by_one, 'other': lambda tasks: engines.in_processes(tasks, 2),
        }.items()
    )  # fmt: skip
    for path in one.glob('*array_record*'):
        assert path.read_bytes() == (other / path.name).read_bytes()


def test_validation_images_may_be_held_out(file, tmp_path, capsys):
    own_files.change(file, ', val=Rows(4)', '')
    words = ['--source', 'mine.py:SOURCE', '--out', 'set', '--size=16', '--workers=1']
    assert prepare.main(words) == BAD_INPUT
    error = capsys.readouterr().err
    assert 'has no images for validation' in error and '--val_fraction=0.1' in error
    assert prepare.main([*words, '--val_fraction=0.1']) == DONE
    held = image_set.open_set(tmp_path / 'set').splits['val']
    assert sorted(held.read(row).label for row in range(len(held))) == [0, 1]


def test_the_same_command_compares_the_file(file, capsys):
    words = ['--source', 'mine.py:SOURCE', '--out', 'set', '--size=16', '--workers=1']
    assert prepare.main(words) == DONE
    capsys.readouterr()
    assert prepare.main(words) == DONE
    assert 'its source has the same file, classes and lengths' in capsys.readouterr().out
    own_files.change(file, 'row + 150', 'row + 151')
    assert prepare.main(words) == BAD_INPUT
    assert 'whose images changed since' in capsys.readouterr().err
    file.unlink()
    assert prepare.main(words) == DONE
    assert 'its source was not looked at: no ' in capsys.readouterr().out


def test_a_begun_preparation_is_of_one_file(file):
    opened = open_own(f'{file}:SOURCE').splits['train']
    own_files.change(file, 'row + 150', 'row + 151')
    other = dataclasses.replace(
        opened, digest='0' * 16
    )  # as in another process, which has not run it
    with pytest.raises(InputError, match='has changed since the preparation began'):
        other.square(0, 16, 10**6)


BAD = [
    ('SOURCE()', 'SOURCES()', 'the file defines no SOURCE; the nearest is SOURCES'),
    ('SOURCE()', 'SOURCE(size)', r'SOURCE\(\) fails: line 1: TypeError: SOURCE\(\) missing 1 req'),
    ('def SOURCE', 'SOURCE = CLASSES\ndef OTHER', 'SOURCE is of type tuple; allowed: a function'),
    ('return Images(', 'return dict(x=', r'fails: line \d+: SyntaxError|does not run'),
    ('return Images(CLASSES', 'return (CLASSES', 'does not run: line 23: SyntaxError'),
    ('return Images', 'return list', r'SOURCE\(\) fails: line 23: TypeError'),
    ('return Images(CLASSES, Rows(20), val=Rows(4), mirror=False)', 'return 3', 'returns 3; allowed'),
    ("('dark', 'bright')", "('dark',)", r"classes is \('dark',\); allowed: at least 2 names"),
    ("('dark', 'bright')", '2', 'classes is 2; allowed: at least 2 names'),
    ("('dark', 'bright')", "('Dark', 'dark ')", "classes has 'dark ' twice"),
    ("('dark', 'bright')", "('a', 3)", 'classes has 3; allowed: texts'),
    ("('dark', 'bright')", "('a', 'b\\n')", 'allowed: texts of printable'),
    ('Rows(20)', 'iter([])', 'train is <list_iterator .*; allowed: a sequence'),
    ('Rows(20), val=Rows(4)', 'None', 'SOURCE: train, val, test are None; allowed: images of at l'),
    ('Rows(20), val=Rows(4)', 'val=3', 'val is 3; allowed: a sequence'),
    ('Rows(20)', '[]', 'train is empty; allowed: at least 1 image'),
    ('mirror=False', 'mirror=0', 'mirror is 0; allowed: True or False'),
    ('mirror=False', 'miror=False', r'line 23: TypeError: .*miror'),
]  # fmt: skip


@pytest.mark.parametrize(('old', 'new', 'message'), BAD)
def test_sources_that_cannot_be(file, old, new, message):
    own_files.change(file, old, new)
    with pytest.raises(InputError, match=message) as caught:
        sources.open_source('mine.py:SOURCE')
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('row % 2\n\n\ndef', '"bright"\n\n\ndef', "SOURCE train/0 has the label 'bright'; allowed"),
        (', row % 2\n', '\n', r'SOURCE train/0 is array.*; allowed: \(image, label\)'),
        ('np.full(', 'str(', r'SOURCE: train/0 fails: line 19: TypeError'),
        ('np.uint8), row', 'np.uint8).tolist(), row', r'train/0 has the image \[.*allowed: a path'),
        ('row % 2\n\n\ndef', '7\n\n\ndef', 'train/0 has the label 7; allowed: 0 to 1'),
        ('(40, 40, 3)', '(4, 4, 3)', 'mine.py:SOURCE train/0 '),
    ],
)  # fmt: skip
def test_images_that_cannot_be(file, tmp_path, old, new, message):
    own_files.change(file, old, new)
    with pytest.raises(InputError, match=message):
        make(f'{file}:SOURCE', tmp_path / 'set')
    assert not (tmp_path / 'set').exists()


@pytest.mark.parametrize(
    ('name', 'reason'),
    [('gone.png', 'cannot be read: No such file or directory'), ('text.png', 'is no JPEG or PNG'),
     ('small.png', 'has 4×4 pixels; allowed: at least 8 a side')],
)  # fmt: skip
def test_an_image_file_that_cannot_be_read_is_named(file, tmp_path, name, reason):
    Path('text.png').write_text('text')
    Image.new('RGB', (4, 4)).save('small.png')
    own_files.change(file, 'np.full((40, 40, 3), row + 150 * (row % 2), np.uint8)', f"'{name}'")
    with pytest.raises(InputError) as caught:
        make(f'{file}:SOURCE', tmp_path / 'set')
    first = str(caught.value).splitlines()[0]
    assert first == f'{file}:SOURCE train/0 has the image {name}, which {reason}'
    assert not (tmp_path / 'set').exists()


@pytest.mark.parametrize('splits', [('test',), ('val',), ('val', 'test')])
def test_a_source_without_training_images(file, tmp_path, capsys, splits):
    given = ', '.join(f'{split}=Rows(4)' for split in splits)
    own_files.change(file, 'Rows(20), val=Rows(4)', given)
    spec = f'{file}:SOURCE'
    words = ['--source', spec, '--out', str(tmp_path / 'set'), '--size=16', '--workers=1']
    assert prepare.main([*words, '--val_fraction=0.1']) == BAD_INPUT
    assert f'--val_fraction is 0.1, but {spec} has no training images' in capsys.readouterr().err
    assert prepare.main([*words, '--encoding=raw']) == DONE
    assert 'no training images: a set to evaluate on' in capsys.readouterr().out
    images = image_set.open_set(tmp_path / 'set')
    assert {name: len(rows) for name, rows in images.splits.items()} == dict.fromkeys(splits, 4)
    # The rows are 0, 151, 2 and 153, the same in each split.
    np.testing.assert_allclose(images.statistics.mean_image, (0 + 151 + 2 + 153) / 4, rtol=1e-12)
    with pytest.raises(
        InputError, match=f'has no training images, only {" and ".join(splits)}: nets'
    ):
        stored.prepare_own(spec, 16, str(tmp_path / 'sets'), 'center_square', print)
    assert not (tmp_path / 'sets').exists()


def test_no_such_file(tmp_path):
    with pytest.raises(InputError, match=r'the source .*none\.py:SOURCE: no such file'):
        sources.open_source(f'{tmp_path}/none.py:SOURCE')


def test_the_page_s_source_is_prepared_when_training_starts(tmp_path, monkeypatch, capsys):
    """With records of the images that scikit-learn gives, and the file is not needed again."""
    monkeypatch.chdir(tmp_path)
    own_files.write(tmp_path)
    stored.prepare_own('mydata.py:SOURCE', 32, 'sets', 'center_square', print)
    assert 'preparing ' in capsys.readouterr().out
    found = stored.of_source('mydata.py:SOURCE', 32, 'sets')
    pixels, labels = sklearn.datasets.load_digits(return_X_y=True)
    read = [found.splits['test'].read(row) for row in range(297)]
    assert [record.label for record in read] == labels[1500:].tolist()
    image = read[5].image.astype(float).mean(axis=-1)
    small = image.reshape(8, 4, 8, 4).mean(axis=(1, 3))
    assert np.corrcoef(small.ravel(), pixels[1505])[0, 1] > 0.98
    (tmp_path / 'mydata.py').unlink()
    stored.prepare_own('mydata.py:SOURCE', 32, 'sets', 'center_square', print)
    assert stored.of_source('mydata.py:SOURCE', 32, 'sets').identity == found.identity
    (tmp_path / 'mydata.py').write_text('SOURCE = 1')
    with pytest.raises(InputError, match=r'has changed since .* was prepared of it'):
        stored.prepare_own('mydata.py:SOURCE', 32, 'sets', 'center_square', print)


@pytest.mark.thorough
def test_a_run_whose_source_was_moved(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    own_files.write(tmp_path)
    Path('moved').mkdir()

    def train(steps: int, source: str) -> int:
        return main.main([
            '--config', 'digits', '--workdir', 'run', f'--config.data.source={source}',
            '--config.data.dir=sets', '--config.network.name=mynet.py:NET',
            f'--config.train.steps={steps}', '--config.train.log_to=', '--noconfig.train.report',
        ])  # fmt: skip

    assert train(1, 'mydata.py:SOURCE') == DONE
    kept = json.loads(Path('run/config.json').read_text())['data']['source']
    assert kept == f'{tmp_path}/mydata.py:SOURCE'
    shutil.move('mydata.py', 'moved')
    assert train(2, 'moved/mydata.py:SOURCE') == DONE
    capsys.readouterr()
    own_files.change(Path('moved/mydata.py'), 'rows[:1200]', 'rows[:1100]')
    shutil.rmtree('sets')
    assert train(3, 'moved/mydata.py:SOURCE') == BAD_INPUT
    error = capsys.readouterr().err
    assert 'splits of the set were train 1200' in error and 'now train 1100' in error
