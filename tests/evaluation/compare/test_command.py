"""The commands rdm, rsa, cka and probe, from folders of features to files; and what they refuse."""

import json

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import pdist, squareform

from alexnet_jax import __main__ as commands
from alexnet_jax.evaluation.compare.__main__ import main, parse
from alexnet_jax.evaluation.compare.dissimilarity import METRICS
from alexnet_jax.evaluation.compare.rsa import CORRELATIONS
from alexnet_jax.runtime import memory
from alexnet_jax.runtime.command_line import BAD_INPUT, DONE
from tests.evaluation.compare.folders import write_features

pytestmark = pytest.mark.usefixtures('quickly')
IMAGES = 10


@pytest.fixture
def folder(tmp_path, random, monkeypatch):
    """F has two layers of ten images; G has one of them, and the images in another order."""
    monkeypatch.chdir(tmp_path)
    layers = {
        'conv5/pool': random.normal(size=(IMAGES, 2, 2, 3)).astype(np.float32),
        'fc7/relu': random.normal(size=(IMAGES, 5)).astype(np.float32),
    }
    write_features(tmp_path / 'F', layers, labels=[0, 1] * 5, classes=['cat', 'dog'], step=7)
    moved = random.permutation(IMAGES)
    ids = [f'image {n}' for n in moved]
    write_features(tmp_path / 'G', {'fc7/relu': layers['fc7/relu'][moved]}, ids)
    return tmp_path


def done(*words: str) -> None:
    assert main(list(words)) == DONE


def refused(capsys, *words: str) -> str:
    capsys.readouterr()
    assert main(list(words)) == BAD_INPUT
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_rdm_writes_a_matrix_with_ids(folder, capsys):
    done('rdm', 'F', '--layer=conv5/pool', '--metric=cosine', '--out=A')
    features = np.load('F/conv5_pool.npy').reshape(IMAGES, -1).astype(np.float64)
    np.testing.assert_allclose(np.load('A/rdm.npy'), squareform(pdist(features, 'cosine')))
    assert (folder / 'A/ids.csv').read_text().splitlines()[:2] == ['row,id', '0,image 0']
    about = json.loads((folder / 'A/about.json').read_text())
    assert (about['layer'], about['metric'], about['units']) == ('conv5/pool', 'cosine', 12)
    assert about['about_features']['step'] == 7
    assert set(about['sha256']) == {'rdm.npy', 'ids.csv', 'rdm.png'}
    assert capsys.readouterr().out == 'cosine of conv5/pool, 10 images -> A\n'
    assert commands.main(['rdm', 'G', '--out=B']) == DONE  # of one layer, by the one command


def test_a_matrix_is_not_replaced_by_another(folder, capsys):
    done('rdm', 'F', '--layer=conv5/pool', '--out=A')
    before = (folder / 'A/rdm.npy').read_bytes()
    said = refused(capsys, 'rdm', 'F', '--layer=fc7/relu', '--out=A')
    assert said.startswith('error: A is of another command: layer, units differ')
    assert (folder / 'A/rdm.npy').read_bytes() == before
    done('rdm', 'F', '--layer=conv5/pool', '--out=A')


def test_rdm_names_an_image_without_a_dissimilarity(folder, capsys):
    features = np.load('F/fc7_relu.npy')
    features[3] = 1
    write_features(folder / 'C', {'fc7/relu': features})
    done('rdm', 'C', '--out=A')
    said = (
        "correlation is not defined for 1 image, with features all the same; rows of NaN: 'image 3'"
    )
    assert said in capsys.readouterr().out
    assert json.loads((folder / 'A/about.json').read_text())['undefined'] == ['image 3']
    assert "most in row 3 ('image 3')" in refused(capsys, 'rsa', 'A', 'A')
    write_features(folder / 'Z', {'fc7/relu': np.zeros((4, 3), np.float32)})
    assert 'all 0; allowed: --metric=euclid' in refused(capsys, 'rdm', 'Z', '--metric=cosine', '--out=N')  # fmt: skip
    assert not (folder / 'N').exists()


def test_rsa_matches_images_by_id(folder, capsys):
    for name in 'FG':
        done('rdm', name, '--layer=fc7/relu', f'--out=rdm-{name}')
    done('rsa', 'rdm-F', 'rdm-G', '--bootstrap=20', '--permutations=99', '--out=found')
    printed = capsys.readouterr().out
    assert 'rdm-G is reordered' in printed
    assert 'spearman 1.0000 [1.0000, 1.0000] over 45 pairs of 10 images; p 0.01' in printed
    found = json.loads((folder / 'found/rsa.json').read_text())
    assert found['value'] == pytest.approx(1) and found['p'] == 0.01
    judged = squareform(np.arange(45.0))
    np.savetxt('judged.csv', judged, delimiter=',')
    done('rsa', 'rdm-F', 'judged.csv', '--correlation=kendall', '--permutations=0', '--bootstrap=0')
    tau = stats.kendalltau(squareform(np.load('rdm-F/rdm.npy')), np.arange(45)).statistic
    printed = capsys.readouterr().out
    assert f'kendall {tau:.4f} over 45 pairs of 10 images\n' in printed
    assert 'judged.csv has no ids' in printed


def test_cka_compares_layers_of_the_same_images(folder, capsys):
    done('cka', 'F', 'G', '--out=found')
    printed = capsys.readouterr().out
    assert 'G is reordered' in printed
    tree = json.loads((folder / 'found/cka.json').read_text())
    assert (tree['first_layers'], tree['second_layers']) == (
        ['conv5/pool', 'fc7/relu'],
        ['fc7/relu'],
    )
    assert tree['cka'][1][0] == pytest.approx(1) and abs(tree['cka'][0][0]) < 0.9
    assert printed.splitlines()[-2].split() == ['fc7/relu', '1.000']
    assert {path.suffix for path in (folder / 'found').iterdir()} == {
        '.json',
        '.csv',
        '.png',
        '.svg',
    }
    done('cka', 'F', 'F', '--layers=fc7/relu')
    assert capsys.readouterr().out.split() == ['fc7/relu', 'fc7/relu', '1.000']


@pytest.mark.thorough
def test_probe_takes_labels_of_the_folder_or_of_a_table(folder, random, capsys):
    values = random.normal(size=(60, 5)).astype(np.float32)
    labels = (values[:, 0] > 0).astype(int)
    labels[40:] = -1
    write_features(folder / 'P', {'fc7': values}, labels=labels, classes=['cat', 'dog'])
    done('probe', 'P', '--l2=0.01', '--out=found')
    assert 'P: 20 images without a label left out' in capsys.readouterr().out
    tree = json.loads((folder / 'found/probe.json').read_text())
    assert tree['classes'] == ['cat', 'dog'] and tree['l2'] == 0.01
    assert tree['training_images'] + tree['held_out_images'] == 40
    assert tree['error'] < 0.3 < tree['chance_error']

    lines = [f'image {n},{"up" if values[n, 1] > 0 else "down"}' for n in range(60)]
    (folder / 'labels.csv').write_text('\n'.join(['id,label', *lines]))
    names = [f'image {n}' for n in range(30)]
    write_features(folder / 'T', {'fc7': values[:30]}, names)
    done('probe', 'P', '--labels=labels.csv', '--l2=0.01', '--test=T', '--out=found')
    assert '30 ids of T also in P' in capsys.readouterr().out
    tree = json.loads((folder / 'found/probe.json').read_text())
    assert tree['classes'] == ['down', 'up'] and tree['shared_ids'] == 30
    assert (tree['training_images'], tree['held_out_images']) == (60, 30)


REFUSED = {
    'rdm F --out=N': '--layer is needed: F has conv5/pool, fc7/relu',
    'rdm F --layer=fc7 --out=N': "'fc7'; the nearest is fc7/relu; F has: conv5/pool, fc7/relu",
    'rdm F --layer=fc7/relu --metric=l2 --out=N': "invalid choice: 'l2'",
    'rdm F --layer=fc7/relu --out=F/about.json': '--out F/about.json is a file; allowed: a folder',
    'rdm F --layer=fc7/relu --out=F': 'F is there and holds something else',
    'rdm none --out=N': 'none holds no arrays of images',
    'rsa F/fc7_relu.npy F/fc7_relu.npy': 'has the shape (10, 5); allowed: [images, images]',
    'rsa F G': 'F cannot be read as a matrix',
    'rsa F G --bootstrap=-1': '--bootstrap is -1; allowed: whole numbers from 0',
    'rsa F G --seed=x': "invalid int value: 'x'",
    'cka F G --layers=fc6': "--layers has 'fc6'; the nearest is fc7/relu; the folders have: conv5/pool, fc7/relu",
    'cka F G --layers=conv5/pool': '--layers has no layer of one of the folders: fc7/relu',
    'probe G': 'labels.npy has no label for any image of G',
    'probe F --layer=fc7/relu --l2=0': '--l2 is 0.0; allowed: numbers from 1e-08 to 10000.0',
    'probe F --layer=fc7/relu --held_out=1': '--held_out is 1.0; allowed: numbers between 0 and 1',
    'probe F --layer=fc7/relu --held_out=0.5 --test=G': '--held_out does not go with --test',
    'probe F --layer=fc7/relu --labels=none.csv': '--labels none.csv cannot be read',
}


@pytest.mark.parametrize('command', REFUSED)
def test_what_is_refused(folder, capsys, command):
    assert REFUSED[command] in refused(capsys, *command.split())
    assert not (folder / 'N').exists()


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('name,label\na,b\n', "begins with 'name,label'; allowed: id,label"),
        ('id,label\nimage 0\n', "has the line 'image 0'; allowed: an id and a label"),
        ('id,label\nimage 0,a\nimage 0,b\n', "has the id 'image 0' twice"),
        ('id,label\nother,a\n', 'the table has no label for any image of F'),
        ('id,label\nimage 0,a\nimage 1,a\nimage 2,a\n', "there are 1: 'a'"),
    ],
)
def test_tables_of_labels_that_are_refused(folder, capsys, text, words):
    (folder / 'labels.csv').write_text(text)
    assert words in refused(capsys, 'probe', 'F', '--layer=fc7/relu', '--labels=labels.csv')


def test_features_that_are_refused(folder, capsys, random):
    values = random.normal(size=(4, 3)).astype(np.float32)
    values[2, 1] = np.nan
    write_features(folder / 'C', {'fc7': values})
    assert "image 'image 2' has features that are not finite" in refused(capsys, 'rdm', 'C', '--out=N')  # fmt: skip
    write_features(folder / 'D', {'fc7': values[:2]})
    assert 'D has 2 images; 3 at least' in refused(capsys, 'rdm', 'D', '--out=N')
    write_features(folder / 'E', {'fc7': values[:2]}, ['a', 'a'])
    assert "E has the id 'a' twice" in refused(capsys, 'rdm', 'E', '--out=N')
    said = refused(capsys, 'cka', 'F', 'C')
    assert (
        "F and C are not of the same images: 6 ids in F alone, such as 'image 4'; 0 ids in C"
        in said
    )
    (folder / 'E/features.array_record').touch()
    assert 'F cannot be read as a matrix: it holds features; rdm makes' in refused(
        capsys, 'rsa', 'F', 'F'
    )
    (folder / 'A').mkdir()
    assert 'A cannot be read as a matrix: ids.csv: No such file' in refused(capsys, 'rsa', 'A', 'A')
    (folder / 'G/features.safetensors').touch()
    assert 'G holds features.safetensors; keep' in refused(capsys, 'rdm', 'G', '--out=N')
    assert 'E holds features.array_record; keep the features with --form=npy' in refused(
        capsys, 'cka', 'E', 'E'
    )


@pytest.mark.parametrize(
    'command',
    ['rdm G --out=N', 'cka F G', 'probe F --layer=fc7/relu', 'rsa judged.npy judged.npy'],
)
def test_what_does_not_fit_into_the_memory_is_refused(folder, capsys, monkeypatch, command):
    np.save('judged.npy', squareform(np.arange(45.0)))
    monkeypatch.setattr(memory, 'available', lambda: 100)
    assert 'bytes of memory; available: 100 bytes' in refused(capsys, *command.split())


def test_every_metric_and_correlation_may_be_given():
    for metric in METRICS:
        assert parse(['rdm', 'F', '--out=N', f'--metric={metric}']).metric == metric
    for name in CORRELATIONS:
        assert parse(['rsa', 'A', 'B', f'--correlation={name}']).correlation == name
