"""A trained net put to use from the command line: evaluated, averaged, its predictions
and features kept, images predicted."""

import json
import os
import shutil

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordReader
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

from alexnet_jax import load, main
from alexnet_jax.command_line import BAD_INPUT, DONE, FAULT
from alexnet_jax.data import augment
from alexnet_jax.errors import InputError
from alexnet_jax.evaluation import __main__ as evaluation
from alexnet_jax.evaluation import arrays
from tests import random_run
from tests.data.photographs import write_classes


@pytest.fixture(scope='module')
def runs(data_dir, tmp_path_factory):
    """Two workdirs of nets on the digits, half as wide."""
    folder = tmp_path_factory.mktemp('runs')
    settings = {'data.dir': data_dir, 'network.width': '0.5'}
    for seed in (0, 1):
        random_run.make(folder / str(seed), settings, seed)
    return folder


@pytest.fixture
def workdir(runs, tmp_path):
    return shutil.copytree(runs / '0', tmp_path / 'run')


def evaluated(workdir, *more: str) -> dict:
    assert main.main(['--workdir', str(workdir), '--mode=eval', *more]) == DONE
    views = 10 if '--config.eval.views=10' in more else 1
    return json.loads((workdir / 'eval' / f'test-{views}.json').read_text())


def refused(capsys, command, arguments) -> str:
    capsys.readouterr()
    assert command(arguments) == BAD_INPUT
    told = capsys.readouterr().err
    assert 1 <= len(told.splitlines()) <= 2
    return told


def test_ten_view_errors_are_those_of_the_saved_views(workdir, digits):
    result = evaluated(workdir, '--config.eval.views=10', '--config.eval.save=views')
    saved = arrays.read(workdir / 'eval' / 'test-10-predictions')
    views, labels = np.asarray(saved.array('views')), saved.labels
    assert views.shape == (300, 10, 10) and views.dtype == np.float32
    records = digits.splits['test']
    assert saved.ids == [records.read(row).id.decode() for row in range(300)]
    np.testing.assert_array_equal(labels, [records.read(row).label for row in range(300)])

    top1 = top5 = loss = 0
    for image, label in zip(views, labels, strict=True):
        mean = [sum(float(view[c]) for view in image) / 10 for c in range(10)]
        before = sum(other > mean[label] for other in mean)
        top1, top5 = top1 + (before >= 1), top5 + (before >= 5)
        loss -= np.log(mean[label])
    assert (result['top1_error'], result['top5_error']) == (top1 / 300, top5 / 300)
    assert result['loss'] == pytest.approx(loss / 300, rel=1e-5)
    assert 0.3 < result['top1_error'] < 1
    low, high = result['top1_interval']
    assert low < result['top1_error'] < high

    kept = saved.array('probabilities')
    assert kept.dtype == np.float16
    np.testing.assert_allclose(kept, views.mean(axis=1), rtol=1e-3, atol=1e-7)
    # Of one view, the middle.
    evaluated(workdir, '--config.eval.save=predictions')
    middle = arrays.read(workdir / 'eval' / 'test-1-predictions').array('probabilities')
    np.testing.assert_allclose(middle, views[:, 4], rtol=1e-3, atol=1e-7)


def test_errors_by_class_add_up(workdir):
    result = evaluated(workdir)
    told = json.loads((workdir / 'eval' / 'test-1-classes.json').read_text())
    assert [row['class'] for row in told['classes']] == [str(digit) for digit in range(10)]
    assert {row['examples'] for row in told['classes']} == {30}
    mean = np.mean([row['top1_error'] for row in told['classes']])
    assert mean == pytest.approx(result['top1_error'])
    assert sum(row['images'] for row in told['confusions']) == round(300 * result['top1_error'])


def test_any_mesh_evaluates_alike(workdir):
    alone = evaluated(workdir)
    for mesh in (['--config.mesh.data=4'], ['--config.mesh.data=2', '--config.mesh.column=2']):
        assert evaluated(workdir, *mesh) == alone


def test_an_ensemble_beside_its_members(runs, tmp_path, capsys):
    paths = [str(runs / '0'), str(runs / '1')]
    out = tmp_path / 'ensemble'
    assert evaluation.main(['ensemble', *paths, '--weights=1,3', '--out', str(out)]) == DONE
    printed = capsys.readouterr().out
    probabilities, labels = [], None
    told = json.loads((out / 'ensemble.json').read_text())
    for path, member in zip(paths, told['members'], strict=True):
        model, features = load(path), tmp_path / path[-1]
        arguments = ['features', path, '--activations=fc8', '--out', str(features)]
        assert evaluation.main(arguments) == DONE
        kept = arrays.read(features)
        labels = kept.labels
        exponentials = np.exp(kept.array('fc8').astype(np.float64))
        probabilities.append(exponentials / exponentials.sum(axis=1, keepdims=True))
        assert model.step == random_run.STEP
        assert member['top1_error'] == np.mean(probabilities[-1].argmax(axis=1) != labels)
        assert f'| {member["top1_error"]:.4f} [' in printed
    mean = (probabilities[0] + 3 * probabilities[1]) / 4
    assert told['together']['top1_error'] == np.mean(mean.argmax(axis=1) != labels)
    agree = np.mean(probabilities[0].argmax(axis=1) == probabilities[1].argmax(axis=1))
    np.testing.assert_allclose(told['agreement'], [[1, agree], [agree, 1]])
    assert 0 < agree < 1
    result = json.loads((out / 'eval' / 'test-1.json').read_text())
    assert result['top1_error'] == told['together']['top1_error']
    assert result['members'] == paths


def test_an_ensemble_of_saved_predictions(runs, tmp_path, capsys):
    folders = []
    for seed in ('0', '1'):
        workdir = shutil.copytree(runs / seed, tmp_path / seed)
        evaluated(workdir, '--config.eval.save=predictions')
        folders.append(workdir / 'eval' / 'test-1-predictions')
    out = tmp_path / 'ensemble'
    arguments = ['ensemble', *map(str, folders), '--out', str(out)]
    assert evaluation.main(arguments) == DONE
    saved = [arrays.read(folder) for folder in folders]
    mean = sum(np.asarray(one.array('probabilities'), np.float64) for one in saved)
    result = json.loads((out / 'eval' / 'test-1.json').read_text())
    assert result['top1_error'] == np.mean(mean.argmax(axis=1) != saved[0].labels)

    about = json.loads((folders[1] / 'about.json').read_text())
    for changes, message in (
        ({'classes': about['classes'][:9]}, 'holds probabilities of the shape (300, 10)'),
        ({'views': 10}, 'is of another views than'),
    ):
        (folders[1] / 'about.json').write_text(json.dumps(about | changes))
        assert message in refused(capsys, evaluation.main, arguments)
    (folders[1] / 'about.json').write_text('{}')
    assert 'does not tell its split in about.json' in refused(capsys, evaluation.main, arguments)
    (folders[1] / 'about.json').write_text(json.dumps(about))
    np.save(folders[1] / 'labels.npy', saved[1].labels + 1)
    assert 'holds labels beyond its 10 classes' in refused(capsys, evaluation.main, arguments)
    np.save(folders[1] / 'labels.npy', saved[1].labels)

    ids = saved[1].ids[::-1]
    (folders[1] / 'ids.json').write_text(json.dumps(ids))
    assert f'{folders[1]} is of other images than' in refused(capsys, evaluation.main, arguments)
    arguments = ['ensemble', str(folders[0]), '--weights=0', '--out', str(out)]
    assert "--weights is '0'" in refused(capsys, evaluation.main, arguments)
    arguments = ['ensemble', str(tmp_path), '--out', str(out)]
    assert f'{tmp_path} holds no' in refused(capsys, evaluation.main, arguments)


def test_the_paper_s_tables_beside_our_runs(workdir, tmp_path, capsys):
    one, ten = evaluated(workdir), evaluated(workdir, '--config.eval.views=10')
    out = tmp_path / 'tables'
    assert evaluation.main(['tables', str(workdir), '--out', str(out)]) == DONE
    page = capsys.readouterr().out
    assert page.strip().endswith((out / 'tables.md').read_text().strip())
    assert '| CNN | ILSVRC-2010, the paper | 10 | 0.375 | 0.170 |' in page
    assert '| 7 CNNs* | ILSVRC-2012, the paper | 10 | 0.367 | 0.154 | 0.153 |' in page
    for result in (one, ten):
        line = (
            f'| 1 CNN, small: {workdir} | digits | {result["views"]} | {result["top1_error"]:.4f} ['
        )
        assert line in page
    rows = json.loads((out / 'tables.json').read_text())
    assert [row['test_top5']['error'] for row in rows['Table 2'][-2:]] == [
        one['top5_error'], ten['top5_error'],
    ]  # fmt: skip
    arguments = ['tables', str(tmp_path), '--out', str(out)]
    assert 'holds no eval/SPLIT-VIEWS.json' in refused(capsys, evaluation.main, arguments)


def test_features_are_the_module_s_activations(workdir, tmp_path, digits, capsys):
    names = ['conv1/pool', 'fc7/relu']
    arguments = ['features', str(workdir), f'--activations={",".join(names)}']
    ours, records = tmp_path / 'ours', tmp_path / 'records'
    assert evaluation.main([*arguments, '--out', str(ours)]) == DONE
    views = ['--form=array_record', '--config.eval.views=10', '--out', str(records)]
    assert evaluation.main([*arguments, *views]) == DONE

    model = load(workdir)
    images = [digits.splits['test'].read(row) for row in range(300)]
    crops = np.stack([augment.center_crop(record.image, 28) for record in images])
    _, expected = model(crops)
    kept = arrays.read(ours)
    assert kept.ids == [record.id.decode() for record in images]
    for name in names:
        np.testing.assert_allclose(kept.array(name), expected[name], rtol=1e-4, atol=1e-5)

    reader = ArrayRecordReader(str(records / 'features.array_record'))
    assert reader.num_records() == 300
    shapes = json.loads((records / 'about.json').read_text())['activations']
    assert shapes['fc7/relu'] == [10, 256]
    for row in (0, 299):
        example = tf_example_pb2.Example.FromString(reader.read([row])[0])  # pyright: ignore
        feature = example.features.feature
        assert feature['id'].bytes_list.value[0] == images[row].id
        assert feature['label'].int64_list.value[0] == images[row].label
        for name in names:
            found = np.reshape(feature[name].float_list.value, shapes[name])
            np.testing.assert_allclose(found[4], expected[name][row], rtol=1e-4, atol=1e-5)

    arguments = ['features', str(workdir), '--activations=fc9', '--out', str(tmp_path / 'new')]
    assert "'fc9'; the nearest is fc" in refused(capsys, evaluation.main, arguments)
    assert not (tmp_path / 'new').exists()


def test_predictions_of_images_and_the_one_that_cannot_be_read(workdir, digits, tmp_path, capsys):
    files = []
    for row in (0, 7, 31):
        files.append(tmp_path / f'{row}.png')
        Image.fromarray(digits.splits['test'].read(row).image).save(files[-1])
    bad = tmp_path / 'bad.jpg'
    bad.write_bytes(b'\xff\xd8 no image')
    words = [*map(str, files[:2]), str(bad), str(files[2])]
    arguments = ['--workdir', str(workdir), '--mode=predict', '--config.eval.views=10', *words]
    assert main.main(arguments) == BAD_INPUT
    output = capsys.readouterr()
    assert output.err.splitlines() == [f'error: {bad} is no JPEG or PNG']

    told = json.loads((workdir / 'predict' / 'predictions.json').read_text())
    assert [row['image'] for row in told['images']] == words
    assert told['images'].pop(2) == {'image': str(bad), 'error': 'is no JPEG or PNG'}
    model = load(workdir)
    for file, row in zip(files, told['images'], strict=True):
        views = augment.ten_views(np.asarray(Image.open(file)), 28, mirror=False)
        logits = np.asarray(model(views)[0], np.float64)
        mean = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).mean(axis=0)
        ranked = sorted(range(10), key=lambda c: -mean[c])[:5]
        assert [entry['class'] for entry in row['predictions']] == [str(c) for c in ranked]
        for entry, label in zip(row['predictions'], ranked, strict=True):
            assert entry['probability'] == pytest.approx(mean[label], rel=1e-5)
            assert f'  {entry["probability"]:.4f}  {entry["name"]}\n' in output.out
    picture = Image.open(workdir / 'predict' / 'predictions.png')
    assert min(picture.size) > 200 and len(np.unique(np.asarray(picture))) > 50

    assert main.main([*arguments[:3], words[0]]) == DONE
    assert '--mode=predict needs images' in refused(capsys, main.main, arguments[:3])
    assert 'images go with --mode=predict' in refused(capsys, main.main, [*arguments[:2], words[0]])


def test_a_set_of_other_classes_is_refused(workdir, tmp_path, capsys):
    write_classes(tmp_path / 'images' / 'train', 2)
    write_classes(tmp_path / 'images' / 'val', 2)
    prepare = ['--source', f'folder:{tmp_path}/images', '--out', str(tmp_path / 'set'), '--size=32']
    from alexnet_jax.data import prepare as preparing

    assert preparing.main(prepare) == DONE
    arguments = [
        '--workdir', str(workdir), '--mode=eval', f'--config.data.source=folder:{tmp_path}/images',
        f'--config.data.dir={tmp_path}/set',
    ]  # fmt: skip
    told = refused(capsys, main.main, arguments)
    assert 'has 3 classes; the net has 10' in told
    # Other images of as many nameless classes are evaluated as they are.
    synthetic = ['--config.data.source=synthetic', '--config.data.synthetic_classes=10']
    arguments = ['--workdir', str(workdir), '--mode=eval', *synthetic]
    assert main.main(arguments) == DONE
    result = json.loads((workdir / 'eval' / 'val-1.json').read_text())
    assert (result['source'], result['examples']) == ('synthetic', 128)


def test_a_workdir_that_lacks_a_file_says_so(workdir, capsys):
    arguments = ['--workdir', str(workdir), '--mode=eval']
    assert 'eval.step is 7; ' in refused(capsys, main.main, [*arguments, '--config.eval.step=7'])
    (workdir / 'normalization.npz').write_bytes(b'no archive')
    assert 'normalization.npz cannot be used: BadZipFile' in refused(capsys, main.main, arguments)
    (workdir / 'model.json').unlink()
    assert 'model.json cannot be read: No such file' in refused(capsys, main.main, arguments)


def test_scores_that_are_not_finite_are_no_result(workdir, tmp_path, capsys):
    """Weights, mean and scale are; what comes of them is not."""
    path = workdir / 'normalization.npz'
    with np.load(path) as kept:
        np.savez(path, mean=kept['mean'], scale=np.full(3, 1e-38, np.float32))
    Image.fromarray(np.full((40, 40, 3), 200, np.uint8)).save(tmp_path / 'image.png')
    before = sorted(workdir.rglob('*'))
    features = ['--activations', 'fc7/relu', '--out', str(tmp_path / 'features')]
    for command, arguments in (
        (main.main, ['--workdir', str(workdir), '--mode=eval']),
        (main.main, ['--workdir', str(workdir), '--mode=eval', '--config.eval.save=predictions']),
        (main.main, ['--workdir', str(workdir), '--mode=predict', str(tmp_path / 'image.png')]),
        (evaluation.main, ['features', str(workdir), *features]),
        (evaluation.main, ['ensemble', str(workdir), '--out', str(tmp_path / 'ensemble')]),
    ):
        capsys.readouterr()
        assert command(arguments) == FAULT
        printed = capsys.readouterr()
        (line,) = printed.err.splitlines()
        assert 'are not finite numbers' in line and 'nan' not in printed.out
    assert sorted(path for path in workdir.rglob('*') if path.name != 'eval') == before
    assert not (tmp_path / 'features').exists()


def test_what_cannot_be_kept_is_printed(workdir, tmp_path, capsys):
    """As where the workdir is read-only."""
    error = evaluated(workdir)['top1_error']
    shutil.rmtree(workdir / 'eval')
    for name in ('eval', 'predict'):
        (workdir / name).write_text('in the way')
    capsys.readouterr()
    assert main.main(['--workdir', str(workdir), '--mode=eval']) == FAULT
    printed = capsys.readouterr()
    assert f'top1_error {error:.6f}' in printed.out and '->' not in printed.out
    assert 'eval/test-1.json' in printed.err and printed.err.count('\n') == 1

    Image.fromarray(np.full((40, 40, 3), 200, np.uint8)).save(tmp_path / 'image.png')
    arguments = ['--workdir', str(workdir), '--mode=predict', str(tmp_path / 'image.png')]
    assert main.main(arguments) == FAULT
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 6 and 'predictions.json' in printed.err
    assert printed.err.count('\n') == 1


def saved_arrays(folder):
    """Of two images."""
    with arrays.writing(folder, {'about': 1}, lambda made: arrays.ArrayWriter(made, 2)) as writer:
        writer.add(np.array([b'a', b'b']), np.array([0, 1]), {'x': np.ones((2, 3), np.float32)})
    return folder


def no_file(path, make=os.mkfifo):
    path.unlink()
    make(path)


@pytest.mark.parametrize(
    'damage',
    [
        *(lambda folder, name=name, make=make: no_file(folder / name, make)
          for name in ('ids.json', 'about.json', 'labels.npy', 'x.npy')
          for make in (os.mkfifo, os.mkdir)),
        lambda folder: (folder / 'ids.json').write_text('"ab"'),
        lambda folder: (folder / 'ids.json').write_text('{"a": 1, "b": 2}'),
        lambda folder: (folder / 'ids.json').write_text('["a", 1]'),
        lambda folder: (folder / 'ids.json').write_text('["a", NaN]'),
        lambda folder: (folder / 'about.json').write_text('[]'),
        lambda folder: np.save(folder / 'labels.npy', np.array([0.0, 1.0])),
        lambda folder: np.save(folder / 'labels.npy', np.array(['0', '1'])),
        lambda folder: np.save(folder / 'labels.npy', np.array([0, 1, 2])),
        lambda folder: np.save(folder / 'x.npy', np.ones((3, 3))),
        lambda folder: np.save(folder / 'x.npy', np.array(['a', 'b'])),
        lambda folder: np.save(folder / 'x.npy', np.array([1j, 2j])),
        lambda folder: np.save(folder / 'x.npy', np.array(1.0)),
        lambda folder: (folder / 'x.npy').write_bytes((folder / 'x.npy').read_bytes()[:-1]),
    ],
)  # fmt: skip
def test_arrays_that_are_something_else_are_refused_at_once(damage, tmp_path):
    folder = saved_arrays(tmp_path / 'arrays')
    np.testing.assert_array_equal(arrays.read(folder).array('x'), np.ones((2, 3)))
    damage(folder)
    with pytest.raises(InputError, match=str(folder)):
        arrays.read(folder).array('x')
