"""The report of a run: what it shows, against the same numbers had in another way."""

import csv
import html
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from alexnet_jax import load, main
from alexnet_jax.report.findings import search
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE
from alexnet_jax.training import kernel_history
from tests import random_run
from tests.report.conftest import ROWS, report

NO_IMAGES = '--config.data.source=folder:/gone'
HOSTILE = '<img src=x onerror=alert(1)>'


def numbers(workdir: Path, name: str) -> list[dict[str, str]]:
    with (workdir / 'report' / f'{name}.csv').open(newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def page(workdir: Path) -> str:
    return (workdir / 'report' / 'index.html').read_text(encoding='utf-8')


def middle(records, row: int) -> np.ndarray:
    return records.read(row).image[2:30, 2:30]


@pytest.mark.thorough
def test_neighbors_are_those_of_a_search_by_hand(made, digits):
    """Every training image through the net as a library gives it, every distance in NumPy."""
    model = load(made)

    def features(split: str) -> np.ndarray:
        records = digits.splits[split]
        images = np.stack([middle(records, row) for row in range(len(records))])
        return np.asarray(model(images)[1]['fc7/dropout'], np.float64)

    train, test = features('train'), features('test')
    ids = {records.read(row).id.decode(): row for records in [digits.splits['test']]
           for row in range(300)}  # fmt: skip
    found = numbers(made, 'neighbors')
    assert len(found) == 5 * 6
    for line in found:
        distances = np.linalg.norm(train - test[ids[line['image']]], axis=1)
        nearest = np.argsort(distances, kind='stable')[int(line['place']) - 1]
        record = digits.splits['train'].read(int(nearest))
        assert (line['neighbor'], line['neighbor_class']) == (record.id.decode(), str(record.label))
        assert float(line['distance']) == pytest.approx(distances[nearest], rel=1e-4)


def test_the_search_takes_ties_in_order_and_any_batches(random):
    rows = random.integers(0, 3, (40, 4)).astype(float)  # many are as far as others
    asked = random.normal(size=(3, 4)).round()
    expected = np.argsort(((rows[None] - asked[:, None]) ** 2).sum(-1), axis=1, kind='stable')[
        :, :6
    ]
    for size in (1, 7, 40):
        parts = [rows[first : first + size] for first in range(0, 40, size)]
        found = search(asked, (part for part in parts), [None] * 3)
        np.testing.assert_array_equal([[place for place, _ in line] for line in found], expected)
        # Of the rows themselves: all others, also those that are equal to it.
        own = [0, 7, 39]
        found = search(rows[own], (part for part in parts), own)
        for row, line in zip(own, found, strict=True):
            distances = ((rows - rows[row]) ** 2).sum(-1)
            distances[row] = np.inf
            nearest = np.argsort(distances, kind='stable')[:6]
            np.testing.assert_array_equal([place for place, _ in line], nearest)


def test_top_five_are_those_of_predict(made, digits, tmp_path, capsys):
    shown = numbers(made, 'images')
    names = list(dict.fromkeys(line['image'] for line in shown))
    assert len(names) == 8
    records = digits.splits['test']
    rows = {records.read(row).id.decode(): row for row in range(300)}
    files = []
    for number, name in enumerate(names):
        files.append(str(tmp_path / f'{number}.png'))
        Image.fromarray(records.read(rows[name]).image).save(files[-1])
    copy = shutil.copytree(made, tmp_path / 'copy')
    assert main.main(['--workdir', str(copy), '--mode=predict', *files]) == DONE
    predicted = json.loads((copy / 'predict' / 'predictions.json').read_text())['images']
    for name, image in zip(names, predicted, strict=True):
        lines = [line for line in shown if line['image'] == name]
        assert [line['taken_for'] for line in lines] == [p['class'] for p in image['predictions']]
        np.testing.assert_allclose(
            [float(line['probability']) for line in lines],
            [p['probability'] for p in image['predictions']], rtol=1e-4,
        )  # fmt: skip
        assert lines[0]['class'] == str(records.read(rows[name]).label)
        for line in lines:
            assert f'{float(line["probability"]):.3f}' in page(made)


@pytest.mark.thorough
def test_units_are_shown_their_largest_training_images(made, digits):
    """Of the 32 maps of conv5 eight, as many of each column, beside a sort of all images."""
    model, records = load(made), digits.splits['train']
    images = np.stack([middle(records, row) for row in range(len(records))])
    values = np.asarray(model(images)[1]['conv5/relu']).max(axis=(1, 2))
    lines = numbers(made, 'units')
    shown = list(dict.fromkeys(int(line['unit']) for line in lines))
    assert shown == [0, 5, 10, 15, 16, 21, 26, 31] and len(lines) == 8 * 9
    for unit in shown:
        rows = np.argsort(-values[:, unit], kind='stable')[:9]
        own = [line for line in lines if line['unit'] == str(unit)]
        assert [line['image'] for line in own] == [records.read(int(r)).id.decode() for r in rows]
        assert [float(line['value']) for line in own] == pytest.approx(values[rows, unit], rel=1e-4)
        assert float(own[0]['ascent_value']) > float(own[0]['ascent_start'])
        assert f'Image that maximizes unit {unit} of conv5/relu' in page(made)
    assert 'among 1,297 training images' in page(made)


def test_numbers_are_those_that_are_stored(made):
    kept = json.loads((made / 'eval' / 'test-1.json').read_text())
    by_class = json.loads((made / 'eval' / 'test-1-classes.json').read_text())
    wrong = round(kept['top1_error'] * 300)
    assert f'is wrong for {wrong} of 300 test images' in page(made)
    assert f'top-1 error {kept["top1_error"]:.3f}' in page(made)
    errors = {line['name']: float(line['top-1 error']) for line in numbers(made, 'classes')}
    assert errors == {row['class']: row['top1_error'] for row in by_class['classes']}
    assert list(errors.values()) == sorted(errors.values(), reverse=True)
    wrong = {(line['class'], line['taken_for']): int(line['images'])
             for line in numbers(made, 'confusion') if line['class'] != line['taken_for']}  # fmt: skip
    assert wrong == {
        (row['label'], row['taken_for']): row['images'] for row in by_class['confusions']
    }
    total = sum(int(line['images']) for line in numbers(made, 'confusion'))
    assert total == kept['examples']
    cuts = {line['name']: line for line in numbers(made, 'cuts')}
    assert float(cuts['whole net']['top-1 error']) == kept['top1_error']
    assert [float(cuts['whole net'][end]) for end in ('low', 'high')] == kept['top1_interval']
    assert cuts.keys() == {'whole net', 'column 1 alone', 'column 2 alone', 'no crossing at conv3',
                           'no crossing at fc6', 'no crossing at fc7'}  # fmt: skip


def test_mistakes_are_the_surest(made):
    """By the saved probabilities of every image."""
    from alexnet_jax.evaluation import arrays

    assert (
        main.main(['--workdir', str(made), '--mode=eval', '--config.eval.save=predictions']) == DONE
    )
    saved = arrays.read(made / 'eval' / 'test-1-predictions')
    probabilities = np.asarray(saved.array('probabilities'), np.float64)
    taken, surest = probabilities.argmax(axis=1), probabilities.max(axis=1)
    expected = np.sort(surest[taken != saved.labels])[::-1][:8]
    shown = [line for line in numbers(made, 'mistakes') if line['place'] == '1']
    np.testing.assert_allclose([float(line['probability']) for line in shown], expected, atol=1e-3)
    assert all(line['class'] != line['taken_for'] for line in shown)


def test_curves_are_the_rows_of_the_log(made):
    for figure, shown in (('errors', ('top1_error', 'top5_error')), ('loss', ('loss',))):
        points = numbers(made, figure)
        for line, split in (('training', 'train'), ('validation', 'val')):
            expected = [row for row in ROWS if row['split'] == split]
            found = [point for point in points if point['line'] == line]
            for name in ('epoch', *shown):
                np.testing.assert_allclose(
                    [float(p[name]) for p in found], [row[name] for row in expected]
                )


def test_kernels_and_their_indices_are_those_of_the_checkpoint(made):
    kernel = np.asarray(load(made).variables['params']['conv1']['kernel'])
    with np.load(made / 'report' / 'kernels.npz') as kept:
        np.testing.assert_array_equal(kept['kernels'], kernel.transpose(0, 4, 1, 2, 3))
    for line in numbers(made, 'selectivity'):
        one = kernel[int(line['column']) - 1, ..., int(line['kernel'])].astype(np.float64)
        gray = one @ np.ones(3) / 3**0.5
        share = 1 - (gray**2).sum() / (one**2).sum()
        assert float(line['color_index']) == pytest.approx(share, abs=1e-5)
    steps = {line['step'] for line in numbers(made, 'separation')}
    assert steps == {'0', '20', '40', '60'}  # not that of after the checkpoint


class Page(HTMLParser):
    """What a page would ask others for, runs, and leaves undescribed."""

    def __init__(self, content: str):
        super().__init__()
        self.asks, self.scripts, self.undescribed, self.ids = [], [], [], []
        self.feed(content)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.asks += [
            given[name] for name in ('src', 'srcset', 'poster', 'data') if given.get(name)
        ]
        self.asks += [given['href']] if tag == 'link' else []
        self.scripts += [tag] if tag in ('script', 'iframe', 'object', 'form') else []
        self.scripts += [name for name in given if name.startswith('on')]
        self.undescribed += [given] if tag == 'img' and not given.get('alt') else []
        self.ids += [given['id']] if 'id' in given else []


def assert_sound(content: str) -> None:
    found = Page(content)
    assert all(ask.startswith('data:') for ask in found.asks) and len(found.asks) > 1
    assert not found.scripts and not found.undescribed
    assert len(found.ids) == len(set(found.ids))
    assert not re.search(r'url\(|@import', content)
    assert len(content) < 10e6


def test_it_is_one_file_that_asks_for_nothing(made):
    assert_sound(page(made))
    links = set(re.findall(r'href="([^"#][^"]*)"', page(made))) - {'data:,'}
    assert {path.name for path in (made / 'report').iterdir()} >= links
    assert {'net.png', 'errors.csv', 'loss.svg', 'kernels.npz', 'cuts.svg'} <= links


def test_what_differs_from_the_paper_and_the_run_are_stated(made):
    content = page(made)
    for text in ('conv1.kernel', 'data.record_size', 'jax', 'SHA-256'):
        assert text in html.unescape(content), text
    manifest = json.loads((made / 'checkpoints' / '60' / 'manifest.json').read_text())
    assert all(file['sha256'] in content for file in manifest['files'].values())


@pytest.mark.thorough
def test_training_ends_with_a_report(data_dir, tmp_path, capsys):
    arguments = [
        '--config', 'configs/digits.py', '--workdir', str(tmp_path / 'run'),
        f'--config.data.dir={data_dir}', '--config.network.width=0.5', '--config.train.steps=3',
        '--config.eval.split=val',
    ]  # fmt: skip
    assert main.main(arguments) == DONE
    assert capsys.readouterr().out.splitlines()[-1] == f'report -> {tmp_path}/run/report/index.html'
    assert_sound(page(tmp_path / 'run'))
    assert 'validation images: top-1 error' in page(tmp_path / 'run')
    command = json.loads((tmp_path / 'run' / 'config.json').read_text())['command']
    assert 'python' in command and html.escape(command) in page(tmp_path / 'run')
    assert kernel_history.read(tmp_path / 'run' / 'kernels', 3).keys() == {0}


@pytest.fixture
def copied(made, tmp_path):
    copy = shutil.copytree(made, tmp_path / 'copy')
    shutil.rmtree(copy / 'report')
    return copy


def test_without_checkpoints_there_is_no_report(copied, capsys):
    shutil.rmtree(copied / 'checkpoints')
    capsys.readouterr()
    assert report(copied) == BAD_INPUT
    (errors,) = capsys.readouterr().err.splitlines()
    assert f'--workdir {copied} holds no checkpoints; train there first' in errors


def test_without_metrics_and_kernels_the_rest_is_shown(copied):
    (copied / 'metrics.jsonl').unlink()
    shutil.rmtree(copied / 'kernels')
    assert report(copied, NO_IMAGES) == DONE
    assert 'There is no log of the training' in page(copied)
    assert 'kernels.png' in page(copied) and 'separation.png' not in page(copied)


def test_a_half_written_log(copied):
    lines = (copied / 'metrics.jsonl').read_text().splitlines()
    broken = [*lines[:30], '{"split": "train", "step": 3', 'null', '{"split": "val"}', *lines[30:]]
    (copied / 'metrics.jsonl').write_text('\n'.join(broken) + '\n{"split": "tra')
    assert report(copied, NO_IMAGES) == DONE
    assert '4 lines of metrics.jsonl cannot be read and are skipped.' in page(copied)
    assert len(numbers(copied, 'loss')) == 63


def test_kernels_of_another_net_or_cut_short_are_left_out(copied):
    (copied / 'kernels' / '00000020.npy').write_bytes(b'\x93NUMPY')
    kernel_history.keep(copied / 'kernels', 40, np.ones((2, 3, 3, 3, 4)))
    np.save(copied / 'kernels' / '00000050.npy', np.full((2, 5, 5, 3, 8), 'text'))
    assert report(copied, NO_IMAGES) == DONE
    assert {line['step'] for line in numbers(copied, 'separation')} == {'0', '60'}


def test_images_that_cannot_be_had(copied, capsys):
    """A model that was brought from elsewhere, without its set."""
    assert report(copied, NO_IMAGES) == DONE
    assert 'the net could not be evaluated: folder:/gone' in capsys.readouterr().out
    content = page(copied)
    assert 'The net could not be evaluated: folder:/gone: no such folder' in content
    assert 'No training images are available.' in content
    assert 'No images are available to search for those' in content  # ascents alone
    assert len(numbers(copied, 'units')) == 8 and 'reliability.png' not in content
    assert 'Kernels of the first layer' in content and 'kernels.png' in content
    assert_sound(content)


@pytest.mark.thorough
def test_names_with_markup_are_shown_as_text(run):
    workdir = run((HOSTILE, '$a_b$ & "c"', '日本語\x07\ud800', ']]>', '</style><b>'), 60, 'small')
    assert report(workdir) == DONE
    content = page(workdir)
    assert_sound(content)
    assert HOSTILE not in content and html.escape(HOSTILE) in content
    assert '日本語' in content and '\x07' not in content and '</style><b>' not in content
    for path in (workdir / 'report').glob('*.svg'):
        ElementTree.parse(path)  # raises where a name has broken it
        assert '<img' not in path.read_text()


@pytest.mark.thorough
def test_one_class(run):
    workdir = run(('only',), 60, 'small')
    assert report(workdir) == DONE
    assert_sound(page(workdir))
    assert 'fc8: 1 class' in (workdir / 'report' / 'net.svg').read_text()
    assert 'All predictions are correct.' in page(workdir)


@pytest.mark.slow
def test_thousands_of_classes(data_dir, tmp_path):
    settings = {
        'data.source': 'synthetic', 'data.synthetic_classes': '3000', 'network.width': '0.5',
        'data.synthetic_examples': '200',
    }  # fmt: skip
    workdir = random_run.make(tmp_path / 'run', settings, seed=0)
    assert report(workdir) == DONE
    content = page(workdir)
    assert_sound(content)
    assert 'with the lowest errors, of' not in content and len(numbers(workdir, 'classes')) == 20
    assert 'classes with the most frequent confusions, of 3000' in content
