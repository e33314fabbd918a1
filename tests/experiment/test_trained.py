"""A trained net put to use from the command line: evaluated, averaged, its predictions
and features kept, images predicted."""

import contextlib
import csv
import json
import shutil

import chex
import jax
import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordReader
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

from alexnet_jax import load, main
from alexnet_jax.data import augment
from alexnet_jax.data.prepare import __main__ as prepare
from alexnet_jax.evaluation import __main__ as evaluation
from alexnet_jax.evaluation import arrays
from alexnet_jax.experiment import results
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE, FAULT
from alexnet_jax.training import step
from alexnet_jax.training.checkpoint import Checkpoints
from tests import random_run
from tests.data.photographs import write_classes
from tests.experiment.trained_runs import SYNTHETIC, change_weights, evaluated, make_nan, refused


def test_ten_view_errors_are_those_of_the_saved_views(workdir, digits):
    result = evaluated(workdir, '--config.eval.views=10', '--config.eval.save=views')
    saved = arrays.read(workdir / 'eval' / 'test-10-predictions')
    views, labels = np.asarray(saved.array('views')), saved.labels
    chex.assert_shape(views, (300, 10, 10))
    chex.assert_type(views, np.float32)
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

    kept, logarithms = saved.array('probabilities'), saved.array('log_probabilities')
    assert (kept.dtype, logarithms.dtype) == (np.float32, np.float32)
    np.testing.assert_allclose(kept, views.mean(axis=1), rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(np.exp(np.float64(logarithms)), kept, rtol=1e-5, atol=1e-12)
    assert (result['views'], result['distinct_views']) == (10, 5)  # digits are never mirrored
    # Of one view, the middle.
    evaluated(workdir, '--config.eval.save=predictions')
    middle = arrays.read(workdir / 'eval' / 'test-1-predictions').array('probabilities')
    np.testing.assert_allclose(middle, views[:, 4], rtol=1e-5, atol=1e-12)


def test_other_sets_and_steps_leave_the_run_s_own_result(workdir, capsys):
    """The same split and views: of another set, of two sizes of one, of an earlier step."""
    evaluate = ['--workdir', str(workdir), '--mode=eval', '--config.eval.split=val']
    assert main.main([*evaluate, '--config.eval.save=predictions']) == DONE
    (own,) = results.every(workdir)
    before = {path: path.read_bytes() for path in (workdir / 'eval').rglob('*.*') if path.is_file()}
    more = ['--config.data.synthetic_examples=300', '--config.eval.save=predictions']
    for arguments in (SYNTHETIC, [*SYNTHETIC, *more]):
        assert main.main([*evaluate, *arguments]) == DONE
    loaded = load(workdir)
    state = step.start_from(**jax.device_put(loaded.variables))
    with contextlib.closing(Checkpoints(workdir / 'checkpoints', 2)) as checkpoints:
        checkpoints.save(state.replace(step=state.step + 80))
        checkpoints.wait()
    assert main.main([*evaluate, '--config.eval.step=60']) == DONE
    assert f'eval/val-1-step-{random_run.STEP}.json' in capsys.readouterr().out
    assert main.main([*evaluate, '--config.eval.step=60', *SYNTHETIC]) == DONE
    assert {path: path.read_bytes() for path in before} == before
    found = [path.name for path in (workdir / 'eval').iterdir() if 'step' in path.name]
    assert len(found) == 4 and len(results.others(workdir)) == 4
    assert results.every(workdir) == [own]
    assert {row['source'] for row in results.others(workdir)} == {'digits', 'synthetic'}
    assert len(list((workdir / 'eval').glob('val-1-synthetic-*-predictions'))) == 1


def test_an_evaluation_in_bfloat16_stands_beside_float32_s(workdir, tmp_path, capsys):
    words = ['--workdir', str(workdir), '--mode=eval', '--config.eval.split=test']
    bfloat16 = [*words, '--config.eval.compute=bfloat16', '--config.eval.save=predictions']
    shutil.rmtree(workdir / 'eval', ignore_errors=True)
    assert main.main(bfloat16) == DONE
    line = capsys.readouterr().out.splitlines()[-1]
    assert line == 'in float32: no result of this step; --config.eval.compute=float32 computes it'
    assert main.main([*words, '--config.eval.save=predictions']) == DONE
    own = (workdir / 'eval' / 'test-1.json').read_bytes()
    float32 = capsys.readouterr().out.splitlines()[-1].removeprefix('test: ').split('  (')[0]
    assert main.main(bfloat16) == DONE
    assert f'in float32: {float32} -> ' in capsys.readouterr().out
    assert (workdir / 'eval' / 'test-1.json').read_bytes() == own
    (other,) = results.others(workdir)
    assert other['compute'] == 'bfloat16' and 'compute' not in results.read(workdir, 'test', 1)
    rough, exact = (
        np.asarray(
            arrays.read(workdir / 'eval' / f'test-1{which}-predictions').array('probabilities')
        )
        for which in ('-bfloat16', '')
    )
    assert 1e-6 < np.abs(rough - exact).max() < 0.05
    saved, out = workdir / 'eval' / 'test-1-bfloat16-predictions', tmp_path / 'out'
    assert evaluation.main(['ensemble', str(saved), '--out', str(out)]) == DONE
    together = json.loads((out / 'eval' / 'test-1-bfloat16.json').read_text())
    assert together['compute'] == 'bfloat16' and not (out / 'eval' / 'test-1.json').exists()
    (workdir / 'eval' / 'test-1.json').write_text('{}')
    assert main.main(bfloat16) == DONE
    assert 'test-1.json is not a result of an evaluation' in capsys.readouterr().out


@pytest.mark.parametrize(('source', 'name'), [
    ('folder:/a/../b c/é', '-folder_a_.._b_c_-'),
    ('folder:' + 'x' * 3000, '-folder_' + 'x' * 33 + '-'),
    ('tfds:imagenet2012:5.1.0', '-tfds_imagenet2012_5.1.0-'),
    ('folder:\udcff', '-folder_-'),
])  # fmt: skip
def test_names_of_other_sets_are_names_of_files(source, name):
    other = {'content': 'a'}
    found = results.which(None, source, other)
    assert found.startswith(name) and len(found) == len(name) + 8 and '/' not in found
    assert results.OTHER.fullmatch(f'test-10{found}.json')
    assert results.which(40, source, other) == f'-step-40{found}'
    assert results.which(None, source, {'content': 'b'}) != found
    assert results.which(None, source, None, 'bfloat16') == '-bfloat16'
    named = results.which(40, source, other, 'bfloat16')
    assert results.OTHER.fullmatch(f'test-10{named}.json')
    assert results.which(None, source, None) == '' and results.which(3, source, None) == '-step-3'


@pytest.mark.thorough
def test_a_set_is_known_by_its_images_and_not_by_its_place(tmp_path):
    """The run's own, moved: its result. Another of one source: a name of its own."""
    write_classes(tmp_path / 'images' / 'train', 4)
    write_classes(tmp_path / 'images' / 'val', 2)
    source = f'folder:{tmp_path}/images'
    words = ['--source', source, '--size=32', '--out']
    assert prepare.main([*words, str(tmp_path / 'set')]) == DONE
    settings = {'data.source': source, 'network.width': '0.5', 'data.dir': f'{tmp_path}/set'}
    workdir = random_run.make(tmp_path / 'run', settings, seed=0)
    shutil.copytree(tmp_path / 'set', tmp_path / 'moved')
    for path in (tmp_path / 'images' / 'val').rglob('001.*'):
        path.unlink()
    assert prepare.main([*words, str(tmp_path / 'other')]) == DONE
    for place in ('other', 'set', 'moved'):
        evaluate = ['--workdir', str(workdir), '--mode=eval']
        assert main.main([*evaluate, f'--config.data.dir={tmp_path}/{place}']) == DONE
    (own,), (other,) = results.every(workdir), results.others(workdir)
    assert (own['examples'], other['examples']) == (6, 3)
    assert own['set'] == other['set'] and own['data'] != other['data']


def test_nothing_is_kept_of_a_net_that_ended_in_nan(workdir, digits, tmp_path, capsys):
    change_weights(workdir, make_nan)
    capsys.readouterr()
    evaluate = ['--workdir', str(workdir), '--mode=eval']
    for arguments in (evaluate, [*evaluate, '--config.eval.save=predictions']):
        assert main.main(arguments) == FAULT
        (line,) = capsys.readouterr().err.splitlines()
        assert 'test: the loss is nan at step 60' in line
        assert not (workdir / 'eval' / 'test-1.json').exists()
    Image.fromarray(digits.splits['test'].read(0).image).save(tmp_path / 'image.png')
    predict = ['--workdir', str(workdir), '--mode=predict', str(tmp_path / 'image.png')]
    assert main.main(predict) == FAULT
    assert 'gives NaN or infinite values' in capsys.readouterr().err
    assert not (workdir / 'predict').exists()


@pytest.mark.thorough
def test_unmirrored_runs_see_no_mirror_images(data_dir, tmp_path, random):
    """Evaluated, predicted and as features: the five crops, twice. A set that allows mirror
    images, and a run that had none."""
    write_classes(tmp_path / 'images' / 'train', 12)
    write_classes(tmp_path / 'images' / 'val', 4)
    source = f'folder:{tmp_path}/images'
    place = str(tmp_path / 'set')
    assert prepare.main(['--source', source, '--out', place, '--size=32']) == DONE
    settings = {'data.source': source, 'data.dir': place, 'network.width': '0.5'}
    image = next((tmp_path / 'images' / 'val').rglob('*.*'))
    kept = {}
    for mirror, distinct in (('on', 10), ('off', 5)):
        workdir = tmp_path / mirror
        random_run.make(workdir, settings | {'data.mirror': mirror}, seed=0)
        views = '--config.eval.views=10'
        evaluate = ['--workdir', str(workdir), '--mode=eval', views, '--config.eval.save=views']
        assert main.main(evaluate) == DONE
        result = json.loads((workdir / 'eval' / 'val-10.json').read_text())
        assert (result['views'], result['distinct_views']) == (10, distinct)
        kept[mirror] = arrays.read(workdir / 'eval' / 'val-10-predictions').array('views')
        same = np.allclose(kept[mirror][:, :5], kept[mirror][:, 5:], atol=1e-6)
        assert same == (mirror == 'off')
        assert main.main(['--workdir', str(workdir), '--mode=predict', views, str(image)]) == DONE
        predictions = json.loads((workdir / 'predict' / 'predictions.json').read_text())
        assert predictions['distinct_views'] == distinct
        model = load(workdir)
        shown = model.read(image, 10)
        second = shown[:5, :, ::-1] if mirror == 'on' else shown[:5]
        np.testing.assert_array_equal(shown[5:], second)
        features = ['features', str(workdir), '--activations=fc8', views]
        assert evaluation.main([*features, '--out', str(tmp_path / f'features-{mirror}')]) == DONE
        about = arrays.read(tmp_path / f'features-{mirror}').about
        assert about['distinct_views'] == distinct
    np.testing.assert_allclose(kept['on'][:, :5], kept['off'][:, :5], atol=1e-6)
    text = results.views_text({'views': 10, 'distinct_views': 5})
    assert text == '5 views, none mirrored' and results.views_text({'views': 10}) == '10 views'


def test_any_mesh_evaluates_alike(workdir):
    alone = evaluated(workdir)
    for mesh in (['--config.mesh.data=4'], ['--config.mesh.data=2', '--config.mesh.column=2']):
        assert evaluated(workdir, *mesh) == alone


@pytest.mark.thorough
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
    found = {name: np.asarray(kept.array(name)) for name in names}
    expected = {name: expected[name] for name in names}
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-5)

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


@pytest.mark.thorough
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

    predictions = json.loads((workdir / 'predict' / 'predictions.json').read_text())
    assert [row['image'] for row in predictions['images']] == words
    with (workdir / 'predict' / 'predictions.csv').open(newline='') as file:
        ranked = [*csv.DictReader(file)]
    entries = [
        {'image': row['image'], 'rank': str(rank), 'class': entry['class'], 'name': entry['name']}
        for row in predictions['images']
        for rank, entry in enumerate(row.get('predictions', ()), start=1)
    ]
    probabilities = [float(row.pop('probability')) for row in ranked]
    assert ranked == entries
    assert probabilities[0] == pytest.approx(
        predictions['images'][0]['predictions'][0]['probability'], rel=1e-8
    )
    assert predictions['images'].pop(2) == {'image': str(bad), 'error': 'is no JPEG or PNG'}
    model = load(workdir)
    for file, row in zip(files, predictions['images'], strict=True):
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

    # Where no image can be read, what was predicted before stays.
    before = {path: path.read_bytes() for path in (workdir / 'predict').iterdir()}
    assert main.main([*arguments[:3], str(bad)]) == BAD_INPUT
    assert {path: path.read_bytes() for path in (workdir / 'predict').iterdir()} == before

    # A folder and a list of the images in it are these images.
    (tmp_path / 'few').mkdir()
    for file in files[:2]:
        shutil.copy(file, tmp_path / 'few')
    (tmp_path / 'list.txt').write_text(f'few/{files[1].name}\n')
    few = tmp_path / 'few'
    assert main.main([*arguments[:3], str(few), str(tmp_path / 'list.txt')]) == DONE
    predictions = json.loads((workdir / 'predict' / 'predictions.json').read_text())
    names = [files[0].name, files[1].name, files[1].name]
    assert [row['image'] for row in predictions['images']] == [str(few / name) for name in names]
    assert 'holds no JPEG' in refused(
        capsys, main.main, [*arguments[:3], str(workdir / 'checkpoints')]
    )

    assert main.main([*arguments[:3], words[0]]) == DONE
    assert '--mode=predict needs images' in refused(capsys, main.main, arguments[:3])
    assert 'images go with --mode=predict' in refused(capsys, main.main, [*arguments[:2], words[0]])


def test_a_set_of_other_classes_is_refused(workdir, tmp_path, capsys):
    write_classes(tmp_path / 'images' / 'train', 2)
    write_classes(tmp_path / 'images' / 'val', 2)
    words = ['--source', f'folder:{tmp_path}/images', '--out', str(tmp_path / 'set'), '--size=32']
    assert prepare.main(words) == DONE
    arguments = [
        '--workdir', str(workdir), '--mode=eval', f'--config.data.source=folder:{tmp_path}/images',
        f'--config.data.dir={tmp_path}/set',
    ]  # fmt: skip
    printed = refused(capsys, main.main, arguments)
    assert "has the class 'ant hill', which is none of the net's 10" in printed


def test_a_workdir_that_lacks_a_file_says_so(workdir, capsys):
    arguments = ['--workdir', str(workdir), '--mode=eval']
    assert 'eval.step is 7; ' in refused(capsys, main.main, [*arguments, '--config.eval.step=7'])
    (workdir / 'normalization.npz').write_bytes(b'no archive')
    assert 'normalization.npz cannot be used: ' in refused(capsys, main.main, arguments)
    (workdir / 'model.json').unlink()
    assert 'model.json cannot be' in refused(capsys, main.main, arguments)
