"""The kernels, classes, columns and facts of a report, against cases worked out by hand."""

import base64
import csv
import html
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from alexnet_jax import load
from alexnet_jax.evaluation.selectivity import Separation
from alexnet_jax.evaluation.tally import Tally
from alexnet_jax.report import class_section, column_section, run_facts
from alexnet_jax.report.figures import confusion, kernels, page
from alexnet_jax.report.run_page import lead_sentences, set_name
from tests.report.conftest import ROWS
from tests.report.test_run_page import numbers
from tests.report.test_run_page import page as page_of


def plain(content: str) -> str:
    """Returns tables without the classes of their cells."""
    return re.sub('<td class="(?:number|long)">', '<td>', content)


COLORS = {'gray': (1, 1, 1), 'red': (1, 0, 0), 'none': (0, 0, 0), 'yellow': (-1, -1, 0)}


def test_a_sheet_shows_each_weight_and_gray_kernels_first():
    """Color indices: gray 0, yellow 1 − 4/3/2 = 1/3, red 1 − 1/3 = 2/3; a kernel of zeros has none."""
    names = ['red', 'none', 'gray', 'yellow']
    kernel = np.zeros((2, 2, 2, 3, 4))
    for place, name in enumerate(names):
        kernel[:, 0, 0, :, place] = COLORS[
            name
        ]  # one weight of four; the second column's are larger
    kernel[1] *= 7
    first, second = kernels.sheets(kernel)
    np.testing.assert_array_equal(first, second)  # each kernel has a scale of its own
    assert first.shape == (4, 13, 4)  # four of two pixels in a row, with a pixel between and around
    shown = [tuple(first[1, 1 + 3 * place, :3]) for place in range(4)]
    assert shown == [(255, 255, 255), (0, 0, 128), (255, 128, 128), (128, 128, 128)]
    np.testing.assert_array_equal(first[1:3, 2, :3], 128)  # the other weights are 0
    np.testing.assert_array_equal(first[2, 1, :3], 128)
    between = np.ones(13, bool)
    between[[1, 2, 4, 5, 7, 8, 10, 11]] = False
    np.testing.assert_array_equal(first[1:3, between, 3], 0)
    np.testing.assert_array_equal(first[1:3, ~between, 3], 255)


def test_a_sheet_is_enlarged_by_whole_numbers(random):
    """Of 13 pixels across each becomes 124 × 124: at least 1600 in all."""
    pixels = random.integers(0, 256, (4, 13, 4)).astype(np.uint8)
    source = re.search('base64,([^"]*)"', page.sheet(pixels, 'described', 'Column 1'))
    assert source
    large = np.asarray(Image.open(io.BytesIO(base64.b64decode(source[1]))))
    assert large.shape == (4 * 124, 13 * 124, 4)
    np.testing.assert_array_equal(large[62::124, 62::124], pixels)
    np.testing.assert_array_equal(large[:124, :124], np.broadcast_to(pixels[0, 0], (124, 124, 4)))


def test_kernels_of_two_columns_lie_beside_each_other(made):
    content = page_of(made)
    assert len(re.findall('alt="Column [12]: 8 kernels of conv1, 5×5 pixels."', content)) == 2
    assert not (made / 'report' / 'kernels.svg').exists()


def tally_of(confusions: dict[tuple[int, int], int], classes: int, images: int = 50) -> Tally:
    tally = Tally.zero(classes)
    tally.examples[:] = images
    for (label, _), times in confusions.items():
        tally.top1[label] += times
    tally.confusions.update(confusions)
    return tally


def test_of_many_classes_those_that_are_confused_most_are_shown():
    confusions = {(7, 3): 9, (3, 7): 8, (1, 2): 8, (5, 6): 7, (2, 9): 1}
    assert class_section.most_confused(confusions, 10, most=4) == [1, 2, 3, 7]
    assert class_section.most_confused(confusions, 10, most=5) == [
        1,
        2,
        3,
        7,
        9,
    ]  # no room for 5 and 6
    assert class_section.most_confused(confusions, 4, most=4) == [0, 1, 2, 3]


def test_the_confusions_of_many_classes_are_named(tmp_path, monkeypatch):
    """Of 200 classes four at most are drawn here, with their first names; sentences name the most
    frequent confusions, and the file has all."""
    drawn = {}
    draw = confusion.draw

    def keep(counts, totals, names, path):
        drawn.update(counts=counts, totals=totals, names=list(names))
        draw(counts, totals, names, path)

    monkeypatch.setattr(confusion, 'draw', keep)
    monkeypatch.setattr(confusion, 'MOST_CLASSES', 4)
    names = ('n03977966', 'n02123045', *(f'class {label}' for label in range(2, 200)))
    confusions = {(0, 1): 30, (1, 0): 20, (2, 3): 15, (3, 199): 2}
    tally = tally_of(confusions, 200)
    content = html.unescape(''.join(class_section.content(tmp_path, names, tally)))
    assert drawn['names'] == ['police van', 'tabby', 'class 2', 'class 3']
    np.testing.assert_array_equal(
        drawn['counts'], [[20, 30, 0, 0], [20, 30, 0, 0], [0, 0, 35, 15], [0, 0, 0, 48]]
    )
    assert list(drawn['totals']) == [50] * 4  # two of class 3 were predicted as 199
    assert re.findall('<li>(.*?)</li>', content) == [
        '30 images of class police van were predicted as tabby.',
        '20 images of class tabby were predicted as police van.',
        '15 images of class 2 were predicted as class 3.',
        '2 images of class 3 were predicted as class 199.',
    ]
    assert 'The figure has the 4 classes with the most frequent confusions, of 200,' in content
    assert (
        'The top-1 error is highest for police van (0.600) and lowest for 196 classes (0.000).'
        in content
    )
    assert (
        'the 10 classes with the highest errors and the 10 with the lowest errors, of 200.'
        in content
    )
    with (tmp_path / 'confusion.csv').open() as file:
        rows = {
            (row['class'], row['taken_for']): int(row['images']) for row in csv.DictReader(file)
        }
    assert rows['police van', 'tabby'] == 30 and rows['class 77', 'class 77'] == 50
    assert sum(rows.values()) == 200 * 50 and len(rows) == 200 + len(confusions)
    with (tmp_path / 'classes.csv').open() as file:
        ends = [(row['name'], float(row['top-1 error'])) for row in csv.DictReader(file)]
    assert ends[:5] == [
        ('police van', 0.6), ('tabby', 0.4), ('class 2', 0.3), ('class 3', 0.04), ('class 4', 0.0)
    ]  # fmt: skip
    assert [name for name, _ in ends[5:]] == [
        *(f'class {label}' for label in range(5, 10)), *(f'class {label}' for label in range(190, 200)),
    ]  # fmt: skip


def test_p_is_explained():
    found = {
        'color': Separation((0.3, 0.5), 0.2, 0.05, 0.0004),
        'orientation': Separation((0.3, 0.31), 0.01, 0.05, 0.0501),
        'nothing': Separation((np.nan, np.nan), np.nan, np.nan, np.nan),
    }
    text = column_section.about_p(found)
    assert text.startswith(
        'The columns differ in color, p = 0.0004. No evidence that the columns differ in orientation,'
        ' p = 0.05. The p-value is'
    )
    assert 'two columns at random, 9,999 times' in text
    assert text.endswith('p is below 0.05 in one of 20 cases.')


def test_cuts_are_explained():
    errors = {
        'whole net': 0.01, 'column 1 alone': 0.37, 'column 2 alone': 0.48,
        'no crossing at conv3': 0.6, 'no crossing at fc6': 0.2,
    }  # fmt: skip
    text = column_section.about_cuts(errors)
    assert text.startswith(
        'The top-1 error is 0.010 for the whole net, 0.370 for column 1 alone and 0.480 for column 2 alone.'
    )
    assert (
        'without the crossing at conv3 the error is 0.600, the highest error of all crossings.'
        in text
    )
    del errors['no crossing at fc6']
    assert 'conv3 the error is 0.600. The net' in column_section.about_cuts(errors)
    del errors['no crossing at conv3']
    assert 'crossing' not in column_section.about_cuts(errors)


def test_similarities_are_explained():
    text = column_section.about_similarity(
        [('conv1', 0.9, 0.8), ('conv2', 0.1, 0.7), ('fc6', 0.5, 0.6)]
    )
    assert text.startswith(
        'The outputs of the two columns are most similar at conv1 (CKA 0.90) and least similar at conv2'
        ' (CKA 0.10). They are less similar than random halves of the layer at conv2, fc6.'
    )
    text = column_section.about_similarity([('conv1', 0.9, 0.8)])
    assert text.startswith(
        'The CKA of the two columns is 0.90 at conv1. At no layer are they less similar'
    )


def test_neighbors_of_the_same_class_are_counted(made):
    rows = numbers(made, 'neighbors')
    alike = sum(row['image_class'] == row['neighbor_class'] for row in rows)
    have = 'has' if alike == 1 else 'have'
    assert f'{alike} of the 30 neighbors {have} the class of their image.' in page_of(made)
    strips = page_of(made).split('<ul class="strip">', 1)[1].split('</section>')[0]
    assert strips.count('<span class="right">') == alike
    assert strips.count('<span class="wrong">') == 30 - alike


@pytest.mark.parametrize(('kept', 'shown'), [
    ({'devices': '8 NVIDIA H100', 'platform': 'Linux'},
     [('hardware', '8 NVIDIA H100, Linux'), ('images per second (median)', '640 on 8 NVIDIA H100')]),
    ({'platform': 'Linux', 'cores': 16}, [('hardware', 'Linux, 16 CPU cores')]),
    ({'platform': 'Linux', 'cores': 'many'}, [('hardware', 'Linux')]),
    ({'platform': 'Linux'}, [('hardware', 'Linux'), ('images per second (median)', '640')]),
    ({}, [('images per second (median)', '640')]),
])  # fmt: skip
def test_the_rate_stands_beside_its_hardware(kept, shown, made, tmp_path):
    (tmp_path / 'config.json').write_text(json.dumps(kept))
    config = load(made).config
    content = ''.join(run_facts.content(tmp_path, config, 60, ROWS))
    for name, value in shown:
        assert f'<td>{name}</td><td>{value}</td>' in plain(content)
    assert ('<td>hardware</td>' in content) == bool(kept)
    # 60 steps of 64 images at 640 a second, and three validations of 1.5 seconds: 10.5 seconds.
    assert '<td>time of training and validation</td><td>0.2 minutes</td>' in content
    content = ''.join(run_facts.content(tmp_path, config, 60, []))
    assert 'images per second' not in content and ('<td>hardware</td>' in content) == bool(kept)


def test_operations_a_second_stand_beside_the_rate(made, tmp_path):
    """Medians of 1 to 5; what is no number is passed over."""
    (tmp_path / 'config.json').write_text('{"platform": "Linux"}')
    rows = [row | {'tflops': 12.34 * n, 'mfu': 0.101 * n} for n, row in enumerate(ROWS[:5], 1)]
    config = load(made).config
    content = ''.join(run_facts.content(tmp_path, config, 60, [*rows, ROWS[5] | {'mfu': 'high'}]))
    assert '<td>640, 37 TFLOP/s, 30.3 % of the peak</td>' in plain(content)


@pytest.mark.parametrize(('source', 'name'), [
    ('folder:/data/photos/tiny-imagenet-200', 'tiny-imagenet-200'), ('folder:photos/', 'photos'),
    ('tfds:cifar10', 'tfds:cifar10'), ('digits', 'digits'),
])  # fmt: skip
def test_a_title_names_the_folder_and_not_its_path(source, name):
    assert set_name(source) == name


def test_a_table_of_many_columns_names_each_cell():
    """For a phone, which shows a line a cell."""
    four, five = (page.table([f'<{i}>' for i in range(n)], [list(range(n))]) for n in (4, 5))
    assert 'data-name' not in four and '<table>' in four
    assert '<table class="wide">' in five
    assert '<table class="wide">' in page.table(['x' * 30, 'two ' + 'y' * 11], [[1, 2]])
    assert '<table>' in page.table(['x' * 30, 'two ' + 'y' * 10, '', ''], [[1, 2, 3, 4]])
    assert re.findall('data-name="([^"]*)">([0-9])', five) == [
        (f'&lt;{i}&gt;', str(i)) for i in range(5)
    ]


@pytest.mark.parametrize(
    ('parts', 'three'), [(1, False), (2, False), (3, True), (4, False), (6, True)]
)
def test_parts_leave_no_hole_in_a_row(parts, three):
    assert ('class="pair three"' in page.side_by_side(*['x'] * parts)) == three


@pytest.mark.parametrize(('cells', 'is_numeric'), [
    (['1,216', '12', '0.5'], True), ([0.5, None, '–'], True), ([None, ''], False), (['3.11.7'], False),
    (['12', '1 view'], False), (['1,2'], False),
])  # fmt: skip
def test_columns_of_numbers_are_aligned_at_the_right(cells, is_numeric):
    content = page.table(('a', 'b'), [('x', cell) for cell in cells])
    assert ('<th scope="col" class="number">b</th>' in content) == is_numeric
    assert content.count('<td class="number">') == (len(cells) if is_numeric else 0)


def test_a_unit_without_images_has_its_caption_next_to_its_ascent():
    picture = np.zeros((8, 8, 3), np.uint8), 'ascent'
    alone, pair = page.unit(picture, [], 'Unit 3'), page.unit(picture, [picture], 'Unit 3')
    assert '<ul>' not in alone and alone.endswith('</figcaption></div></figure>')
    assert '<ul>' in pair and '</div><figcaption>' in pair


def test_errors_are_sentences():
    tally = tally_of({(0, 1): 30}, 10)
    tally.losses.extend([0.5] * 500)
    assert lead_sentences(tally.scores(), '500 test images') == (
        'The most probable class is wrong for 30 of 500 test images: top-1 error 0.060 [0.042, 0.084].'
        ' The class is not among the five most probable classes for 0 images: top-5 error 0.000.'
    )  # Wilson's interval of 30 of 500
    two = tally_of({(0, 1): 1}, 2)
    assert 'five' not in lead_sentences(two.scores(), '100 test images')
