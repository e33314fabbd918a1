"""Sets of some of a net's classes, or of all in another order, found by name."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from alexnet_jax import load, main
from alexnet_jax.data import class_names
from alexnet_jax.data.prepare import __main__ as prepare
from alexnet_jax.evaluation import __main__ as evaluation
from alexnet_jax.evaluation import arrays
from alexnet_jax.experiment.shared_classes import shared_classes
from alexnet_jax.runtime.command_line import DONE
from alexnet_jax.runtime.errors import InputError
from tests.experiment.trained_runs import refused

IMAGENET = class_names.imagenet_classes()


@pytest.mark.parametrize(('theirs', 'columns', 'rule'), [
    (('n02123045', 'n01440764'), (281, 0), "2 of the net's 1000 classes, found by name"),
    (('tabby, tabby cat', 'tench, Tinca tinca'), (281, 0), 'found by WordNet id or English name'),
    (('Tabby_cat', ' TENCH '), (281, 0), "2 of the net's 1000 classes, found by WordNet"),
    (('maillot', 'maillot, tank suit', 'n01440764'), (638, 639, 0), '3 of the'),
    (('0', '999', '10'), (0, 999, 10), "found by their number among ImageNet's classes"),
    (IMAGENET[::-1], tuple(range(1000))[::-1], "the net's 1000 classes in another order, found by name"),
])  # fmt: skip
def test_classes_of_imagenet_are_found(theirs, columns, rule):
    shared = shared_classes(IMAGENET, theirs, 'folder:SET')
    assert shared is not None and shared.columns == columns and rule in shared.rule


def test_identifiers_are_found_in_a_net_whose_classes_have_english_names():
    shared = shared_classes(('zebra', 'tench', 'tabby'), ('n02123045', 'zebra'), 'folder:SET')
    assert shared is not None and shared.columns == (2, 0)


def test_the_same_classes_are_left_as_they_are():
    assert shared_classes(IMAGENET, IMAGENET, 'x') is None
    assert shared_classes(('a', 'b'), ('class 0', 'class 1'), 'x') is None


@pytest.mark.parametrize(('ours', 'theirs', 'message'), [
    (IMAGENET, ('tabby', 'tenca'), r"has the class 'tenca', which is none of the net's 1000; the nearest is 'tench"),
    (('cat', 'dog'), ('cat', 'bog'), r"'bog', which is none of the net's 2; the nearest is 'dog'"),
    (IMAGENET, ('tabby', 'n02123045'), r"has the classes 'tabby' and 'n02123045', which are one class"),
    (IMAGENET, ('crawfish', 'tabby'), r"has the class 'crawfish', which is none"),  # of two classes
    (IMAGENET, ('0', '1000'), r"has the class '0', which is none"),
    (('class 0', 'class 1', 'class 2'), ('class 0', 'class 1'), 'has 2 classes; the net has 3'),
    (('class 0', 'class 1', 'class 2'), ('cat', 'dog'), 'has 2 classes; the net has 3'),
])  # fmt: skip
def test_what_the_net_lacks_is_named(ours, theirs, message):
    with pytest.raises(InputError, match=message) as caught:
        shared_classes(ours, theirs, 'folder:SET')
    assert str(caught.value).startswith('data.source folder:SET has ')


@pytest.fixture
def some_digits(digits, tmp_path):
    """A set of the digits 7, 1 and 8 with test images alone; returns the settings for it."""
    records = digits.splits['test']
    for row in range(120):
        record = records.read(row)
        if record.label in (1, 7, 8):
            folder = tmp_path / 'images' / 'test' / str(record.label)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(record.image).save(folder / f'{row:03d}.png')
    source, out = f'folder:{tmp_path}/images', tmp_path / 'set'
    words = ['--source', source, '--out', str(out), '--size=32', '--encoding=raw', '--workers=1']
    assert prepare.main(words) == DONE
    return [f'--config.data.source={source}', f'--config.data.dir={out}']


def test_logits_are_restricted_to_the_classes_of_the_set(workdir, digits, some_digits, capsys):
    before = {path: path.read_bytes() for path in workdir.rglob('*') if path.is_file()}
    words = ['--workdir', str(workdir), '--mode=eval', *some_digits]
    assert main.main([*words, '--config.eval.save=predictions', '--config.eval.top_k=2']) == DONE
    rule = "3 of the net's 10 classes, found by name"
    assert f'classes: {rule}' in capsys.readouterr().out.splitlines()
    (path,) = (workdir / 'eval').glob('test-1-folder_*[0-9a-f].json')
    result = json.loads(path.read_text())
    assert result['class_rule'] == rule and result['net_labels'] == [1, 7, 8]
    assert result['class_count'] == 3

    model, records = load(workdir), digits.splits['test']
    rows = [row for row in range(120) if records.read(row).label in (1, 7, 8)]
    rows.sort(key=lambda row: (str(records.read(row).label), row))
    images = np.stack([records.read(row).image[2:30, 2:30] for row in rows])
    logits = np.asarray(jax.jit(lambda model, images: model(images)[0])(model, images), float)
    errors, thirds, loss, gaps = 0, 0, 0.0, np.zeros(15)
    for row, values in zip(rows, logits, strict=True):
        three, label = [values[1], values[7], values[8]], (1, 7, 8).index(records.read(row).label)
        errors += int(np.argmax(three)) != label
        thirds += int(np.argmin(three)) == label
        confidence = max(np.exp(three) / np.exp(three).sum())
        gaps[int(np.ceil(confidence * 15)) - 1] += confidence - (np.argmax(three) == label)
        loss += np.log(sum(np.exp(x - three[label]) for x in three))
    assert (result['examples'], result['top1_error']) == (len(rows), errors / len(rows))
    assert result['loss'] == pytest.approx(loss / len(rows), rel=1e-5)
    assert 0 < errors < len(rows) and result['top2_error'] == thirds / len(rows)
    assert result['calibration_error'] == pytest.approx(np.abs(gaps).sum() / len(rows), abs=1e-6)
    kept = arrays.read(path.with_name(f'{path.stem}-predictions'))
    assert kept.about['classes'] == ['1', '7', '8'] and kept.about['net_labels'] == [1, 7, 8]
    np.testing.assert_allclose(kept.array('probabilities').sum(axis=1), 1, rtol=1e-6)
    for old, content in before.items():
        assert old.read_bytes() == content  # the run's own results among them


@pytest.mark.thorough
def test_ensembles_and_features_of_some_classes(runs, some_digits, tmp_path):
    members = [str(runs / '0'), str(runs / '1')]
    assert (
        evaluation.main(['ensemble', *members, '--out', str(tmp_path / 'e'), *some_digits]) == DONE
    )
    (path,) = (tmp_path / 'e' / 'eval').glob('test-1.json')
    result = json.loads(path.read_text())
    assert result['class_rule'] == "3 of the net's 10 classes, found by name"
    words = ['features', members[0], '--activations=fc8', '--out', str(tmp_path / 'f')]
    assert evaluation.main([*words, *some_digits]) == DONE
    kept = arrays.read(tmp_path / 'f')
    assert kept.array('fc8').shape == (len(kept.ids), 10) and set(kept.labels) == {0, 1, 2}
    assert kept.about['classes'] == ['1', '7', '8']


def test_training_on_a_set_without_training_images_is_refused(some_digits, tmp_path, capsys):
    words = ['--config', 'configs/digits.py', '--workdir', str(tmp_path / 'run'), *some_digits]
    printed = refused(capsys, main.main, words)
    assert printed == (
        f'error: data.source folder:{tmp_path}/images has no training images, only test: nets are'
        ' evaluated on it (--mode=eval)\n'
    )
    assert not (tmp_path / 'run').exists()


OWN = """
import numpy as np

from alexnet_jax.data.prepare.own import Images


def SOURCE():
    kept = np.load('test.npz')
    return Images('0123456789', test=list(zip(kept['images'], kept['labels'])), mirror=False)
"""


@pytest.fixture
def own_digits(digits, tmp_path, monkeypatch):
    """The digits' test images as an own source, which has no others; returns the settings for it."""
    monkeypatch.chdir(tmp_path)
    records = [digits.splits['test'].read(row) for row in range(300)]
    images = np.stack([record.image for record in records])
    np.savez('test.npz', images=images, labels=[record.label for record in records])
    Path('own.py').write_text(OWN)
    words = ['--source=own.py:SOURCE', '--out=set', '--size=32', '--encoding=raw', '--workers=1']
    assert prepare.main(words) == DONE
    return ['--config.data.source=own.py:SOURCE', '--config.data.dir=set']


def test_an_own_source_of_test_images_is_evaluated_on(workdir, own_digits, capsys):
    """The same images as the run's own, and so the same errors."""
    words = ['--workdir', str(workdir), '--mode=eval']
    assert main.main(words) == DONE
    assert main.main([*words, *own_digits]) == DONE
    own = json.loads((workdir / 'eval' / 'test-1.json').read_text())
    (path,) = (workdir / 'eval').glob('test-1-_*[0-9a-f].json')
    other = json.loads(path.read_text())
    assert other['source'].endswith('own.py:SOURCE') and other['data']['splits'] == 'test 300'
    for name in ('examples', 'top1_error', 'top5_error', 'loss'):
        assert other[name] == own[name], name
    capsys.readouterr()
    words = ['--config', 'digits', '--workdir', 'new', *own_digits]
    assert refused(capsys, main.main, words) == (
        f'error: data.source {Path.cwd()}/own.py:SOURCE has no training images, only test: nets are evaluated on'
        ' it (--mode=eval)\n'
    )
    assert not Path('new').exists()


@pytest.mark.thorough
def test_features_of_an_own_source_of_test_images(runs, own_digits, digits):
    words = ['features', str(runs / '0'), '--activations=fc8', '--out', 'f', *own_digits]
    assert evaluation.main(words) == DONE
    kept = arrays.read(Path('f'))
    labels = [digits.splits['test'].read(row).label for row in range(300)]
    assert list(kept.labels) == labels and kept.ids[7] == 'test/7'
    assert kept.array('fc8').shape == (300, 10)


def test_a_split_that_the_set_lacks_is_named(workdir, some_digits, capsys):
    words = ['--workdir', str(workdir), '--mode=eval', *some_digits, '--config.eval.split=train']
    assert "eval.split is 'train'; folder:" in refused(capsys, main.main, words)
